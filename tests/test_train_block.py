"""The last block learns from views that are computed once: the same network, the plan, the way back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from samesight.data.prepare import prepare  # noqa: E402
from samesight.models import create, read_checkpoint  # noqa: E402
from samesight.preprocess import Preprocess  # noqa: E402
from samesight.training import AugmentOptions, TrainConfig, open_run, train  # noqa: E402
from samesight.training.augment import Augmentation  # noqa: E402
from samesight.training.blocks import blocks_of, first_of_last_block, last_block  # noqa: E402
from samesight.training.config import NetworkFacts, Phase, Plan, make_plan  # noqa: E402
from samesight.training.cut import find_block_input  # noqa: E402
from samesight.training.dataset import open_parts  # noqa: E402
from samesight.training.loop import measure  # noqa: E402
from samesight.training.optimise import freeze  # noqa: E402
from samesight.training.parallel import Ranks  # noqa: E402
from samesight.training.stage import StageOptions, make_stage  # noqa: E402

CPU = torch.device("cpu")
SPEC = Preprocess(resize=40, crop=(32, 32))
FACTS = NetworkFacts(
    True, has_batch_norm=True, head_can_be_cached=True, size=(224, 224), block_values=7840, block_share=0.2
)


def settled(model: str, size: int = 64) -> Any:
    """A network with random weights whose BatchNorm knows its inputs, so that signals reach the end."""
    torch.manual_seed(0)
    network = create(model, 5)
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.randn(8, 3, size, size))
    return network.eval()


@pytest.mark.row("T1")
@pytest.mark.parametrize("model", ["small", "resnet18", "mobilenet_v2", "densenet121"])
def test_the_rest_of_a_cut_network_gives_its_logits(model: str) -> None:
    network = settled(model)
    block = find_block_input(network, model, (64, 64))
    assert block is not None
    pictures = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        values = block(pictures)
        assert tuple(values.shape[1:]) == block.shape
        assert torch.allclose(block.rest(values), network(pictures), rtol=1e-5, atol=1e-6)
    assert 0 < block.share < 1
    learnt = {id(network.get_parameter(name)) for name in last_block(network, model)}
    assert learnt <= {id(p) for p in block.rest.parameters()}  # the very same, not copies


@pytest.mark.row("T1")
def test_a_network_is_cut_behind_more_than_a_chain() -> None:
    """A transformer's class token lies beside its modules; GoogLeNet changes pictures before its first."""
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    transformer = VisionTransformer(
        32, 8, num_layers=5, num_heads=2, hidden_dim=64, mlp_dim=128, num_classes=5
    )
    torch.nn.init.normal_(transformer.heads.head.weight)
    for network, model in ((transformer.eval(), "vit_b_16"), (create("googlenet", 5).eval(), "googlenet")):
        block = find_block_input(network, model, (32, 32))
        assert block is not None
        pictures = torch.randn(3, 3, 32, 32)
        with torch.no_grad():
            assert torch.allclose(block.rest(block(pictures)), network(pictures), rtol=1e-5, atol=1e-6)
        learnt = {id(network.get_parameter(name)) for name in last_block(network, model)}
        assert learnt <= {id(p) for p in block.rest.parameters()}
        freeze(network, model, Phase("last-block", 1, 1e-3, 1e-3), Plan((), 4, "none", None))
        own = {n: m for n, m in block.rest.named_modules() if list(m.parameters(recurse=False))}
        assert any(module.training for module in own.values())
        assert all(module is network.get_submodule(name) for name, module in own.items())


@pytest.mark.row("T1")
def test_arguments_that_are_not_given_do_not_hinder_a_cut() -> None:
    class Asked(torch.nn.Module):  # type: ignore[misc]
        """A parameter beside the modules, and a mask that is looked at behind the cut, as timm's have."""

        def __init__(self) -> None:
            super().__init__()
            self.token = torch.nn.Parameter(torch.ones(4, 1, 1))
            self.first, self.last = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 4, 5, padding=2)
            self.head = torch.nn.Linear(4, 2)

        def forward(self, x: Any, mask: Any = None) -> Any:
            x = self.last(self.first(x) + self.token)
            return self.head((x if mask is None else x * mask).mean((2, 3)))

    network = Asked().eval()
    block = find_block_input(network, "Asked", (8, 8))
    assert block is not None
    pictures = torch.randn(3, 3, 8, 8)
    assert torch.allclose(block.rest(block(pictures)), network(pictures), rtol=1e-5, atol=1e-6)


@pytest.mark.row("T1")
def test_the_last_block_is_small_beside_a_large_classifier() -> None:
    """MobileNetV3's classifier holds a third of its parameters, and yet its features are many blocks."""
    network = create("mobilenet_v3_small", 5)
    assert len(blocks_of(network, "mobilenet_v3_small")) > 10
    assert first_of_last_block(network, "mobilenet_v3_small") == "features.11"


@pytest.mark.row("T1")
def test_a_network_that_cannot_be_cut_is_left_whole() -> None:
    class Around(torch.nn.Module):  # type: ignore[misc]
        """What came first is added again at the end."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 4, 5, padding=2)
            self.head = torch.nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            early = self.first(x)
            return self.head((self.last(early) + x.mean()).mean((2, 3)))

    assert find_block_input(Around().eval(), "Around", (8, 8)) is None


@pytest.mark.row("T1")
def test_kept_views_are_those_of_the_network(photo_folder: Path) -> None:
    """Validation logits by what was kept are the network's, but for the rounding to float16."""
    prepared = prepare(photo_folder)
    parts = open_parts(prepared.photos, prepared.split, SPEC)
    network = settled("small", 32)
    block = find_block_input(network, "small", (32, 32))
    phases = {name: Phase(name, 1, 1e-3, 1e-3) for name in ("head", "last-block", "all")}
    plan = Plan(tuple(phases.values()), 4, "none", None)
    options = StageOptions(Augmentation(SPEC), 1, 4, "none", 2, CPU, block=block, block_views=2)
    logits = {}
    for name, phase in phases.items():
        freeze(network, "small", phase, plan)
        stage = make_stage(network, parts, phase, options)
        logits[name] = measure(stage.forward, stage.val(), CPU).logits
        assert sum(len(targets) for _, targets in stage.train(0)) == len(parts.train)
    assert torch.allclose(logits["head"], logits["all"], atol=5e-3)
    assert torch.allclose(logits["last-block"], logits["all"], atol=5e-3)
    alone = [pictures for pictures, _ in make_stage(network, parts, phases["last-block"], options).train(3)]
    halves = []
    for rank in (0, 1):
        shared = replace(options, ranks=_Pretended(rank, 2, rank))
        halves.append([p for p, _ in make_stage(network, parts, phases["last-block"], shared).train(3)])
    for whole, even, odd in zip(alone, *halves, strict=True):
        assert torch.equal(whole[0::2], even)
        assert torch.equal(whole[1::2], odd)


class _Pretended(Ranks):
    """One of several processes, whose features the cache has already."""

    is_first = True  # which alone reads the cache, and gives it to the others

    def given(self, value: Any) -> Any:
        return value

    def whole(self, rows: Any) -> Any:
        raise AssertionError("what is kept was computed again")


@pytest.mark.row("T1")
def test_plan_trains_the_last_block_first_where_that_is_cheap() -> None:
    def names(facts: NetworkFacts = FACTS, counts: int = 100, **settings: Any) -> list[str]:
        plan = make_plan(TrainConfig(photos="x", **settings), [counts] * 4, facts)
        assert (plan.block_views > 0) == ("last-block" in [phase.name for phase in plan.phases])
        return [phase.name for phase in plan.phases]

    assert names() == ["head", "last-block", "all"]
    assert names(train="head") == ["head"]
    assert names(train="last-block") == ["head", "last-block"]
    assert names(epochs=3) == ["head", "all"]  # who says how long everything learns has a plan already
    assert names(head_epochs=3) == ["head", "all"]
    assert names(train="last-block", epochs=3) == ["head", "last-block"]
    assert names(replace(FACTS, block_share=0.6)) == ["head", "all"]
    assert names(replace(FACTS, block_values=0)) == ["head", "all"]
    assert names(augment=AugmentOptions(mixup=0.2)) == ["head", "all"]
    assert names(train_size=160) == ["head", "all"]
    assert names(counts=100_000) == ["head", "all"]  # they would not fit
    views = [make_plan(TrainConfig("x"), [n] * 4, FACTS).block_views for n in (100, 4000, 5000, 8000)]
    assert views == [3, 3, 2, 0]


@pytest.mark.row("T1")
def test_few_photos_have_more_epochs_of_the_head_and_a_lower_rate_of_the_block() -> None:
    def plan(photos: int, **settings: Any) -> tuple[int, float]:
        head, block, *_ = make_plan(TrainConfig(photos="x", **settings), [photos // 2] * 2, FACTS).phases
        assert (head.name, block.name) == ("head", "last-block")
        return head.epochs, block.backbone_lr

    epochs, rates = zip(*map(plan, (12, 64, 128, 190, 288, 2000)), strict=True)
    assert epochs == (60, 60, 30, 20, 20, 20)
    assert rates == pytest.approx((8e-3 / 72, 16e-3 / 72, 32e-3 / 72, 48e-3 / 72, 1e-3, 1e-3))
    assert plan(64, batch=8)[0] == 20, "smaller batches are more steps"


@pytest.mark.row("T1")
def test_only_the_last_block_changes_and_the_same_seed_gives_the_same(digits: Path, tmp_path: Path) -> None:
    def config(name: str, **more: Any) -> TrainConfig:
        settings: dict[str, Any] = {"model": "small", "augment": AugmentOptions(flip=False), "threads": 1}
        return TrainConfig(photos=str(digits), out=tmp_path / name, **settings, **more)

    train(config("first", epochs=2, lr=3e-3))
    weights = str(tmp_path / "first/checkpoints/best.pth")
    states = []
    for name in ("a", "b"):
        train(config(name, weights=weights, train="last-block", epochs=3))
        states.append(read_checkpoint(tmp_path / name / "checkpoints/best.pth"))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert open_run(tmp_path / "a").value["derived"]["block_views"] == 3
    before = read_checkpoint(Path(weights))
    changed = {name for name in before if not torch.equal(before[name], states[0][name])}
    learns = last_block(create("small", 10), "small") | {"head.weight", "head.bias"}
    assert "features.12.weight" in changed
    assert changed <= learns


@pytest.mark.row("T1")
def test_three_phases_and_the_way_back_after_a_stop(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped within the last block's phase and at its end: to the same end as if never stopped."""
    import sys

    def config(name: str, **more: Any) -> TrainConfig:
        settings: dict[str, Any] = {"model": "small", "augment": AugmentOptions(flip=False), "threads": 1}
        return TrainConfig(photos=str(digits), out=tmp_path / name, **settings, **more)

    train(config("first", epochs=2, lr=3e-3))
    weights = str(tmp_path / "first/checkpoints/best.pth")
    whole = train(config("whole", weights=weights))
    value = open_run(tmp_path / "whole").value["derived"]
    assert [phase["name"] for phase in value["phases"]] == ["head", "last-block", "all"]
    block_end = value["phases"][0]["epochs"] + value["phases"][1]["epochs"]
    module = sys.modules["samesight.training.train"]
    write = module.write_history
    for stop in (block_end - 2, block_end):

        def write_then_stop(folder: Path, history: list[Any], stop: int = stop) -> None:
            write(folder, history)
            if len(history) == stop:
                raise KeyboardInterrupt

        out = tmp_path / f"parts{stop}"
        with monkeypatch.context() as patch:
            patch.setattr(module, "write_history", write_then_stop)
            with pytest.raises(KeyboardInterrupt):
                train(config(out.name, weights=weights))
        resumed = train(TrainConfig(photos=None, out=out, resume=True))
        assert resumed.test_accuracy == whole.test_accuracy
        for name, tensor in read_checkpoint(tmp_path / "whole/checkpoints/best.pth").items():
            assert torch.equal(tensor, read_checkpoint(out / "checkpoints/best.pth")[name])
