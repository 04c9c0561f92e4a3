"""What users may choose about training: each choice does what it says, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="training needs the train extra")

from samesight.errors import InputError  # noqa: E402
from samesight.models import create  # noqa: E402
from samesight.preprocess import Preprocess  # noqa: E402
from samesight.training import AugmentOptions, TrainConfig, open_run, train  # noqa: E402
from samesight.training.augment import Augmentation  # noqa: E402
from samesight.training.average import Average  # noqa: E402
from samesight.training.blocks import blocks_of, last_block  # noqa: E402
from samesight.training.colour import OTHERS, POLICIES, SIGNED, _changed, apply_policy  # noqa: E402
from samesight.training.config import NetworkFacts, Phase, Plan, make_plan  # noqa: E402
from samesight.training.features import backbone_hash, find_head_input  # noqa: E402
from samesight.training.loop import Learner, learn, steps_of  # noqa: E402
from samesight.training.mixing import mix  # noqa: E402
from samesight.training.network import fitting_memory_format  # noqa: E402
from samesight.training.optimise import freeze, make_optimiser, set_rates  # noqa: E402
from samesight.training.state import epochs_without_gain, read_last  # noqa: E402

SPEC = Preprocess(resize=40, crop=(32, 32))
CPU = torch.device("cpu")
PLAN = Plan((Phase("all", 2, 1e-3, 3e-4),), 8, "none", None)


def photo(seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.mark.row("D3")
@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        AugmentOptions,
        crop=st.sampled_from(["resized", "padded", "none"]),
        flip=st.booleans(),
        vertical_flip=st.booleans(),
        color_jitter=st.tuples(*[st.floats(0, 1)] * 3, st.floats(0, 0.5)),
        policy=st.sampled_from(["none", *POLICIES]),
        erasing=st.floats(0, 1),
    ),
    st.integers(0, 2**32 - 1),
    st.sampled_from([None, (24, 24)]),
)
def test_any_options_give_a_view_of_the_size_that_the_seed_decides(
    options: AugmentOptions, seed: int, size: tuple[int, int] | None
) -> None:
    make, pixels = Augmentation(SPEC, options, size), photo()
    views = [make(pixels, np.random.default_rng(seed)) for _ in range(2)]
    assert views[0].shape == (*(size or (32, 32)), 3)
    assert views[0].dtype == np.uint8
    np.testing.assert_array_equal(views[0], views[1])
    assert len(make.describe()) == (
        (options.crop != "none") + options.flip + options.vertical_flip + (options.policy != "none")
        + any(options.color_jitter) + bool(options.erasing)
    )  # fmt: skip


@pytest.mark.row("D3")
def test_no_changes_give_what_inference_sees() -> None:
    from samesight.preprocess import resize

    plain = Augmentation(SPEC, AugmentOptions(crop="none", flip=False))
    np.testing.assert_array_equal(plain(photo(), np.random.default_rng(0)), resize(photo(), SPEC))


@pytest.mark.row("D3")
@pytest.mark.parametrize("policy", POLICIES)
def test_policies_draw_every_change_and_none_only_sometimes(policy: str) -> None:
    smooth = (
        np.linspace(0, 200, 32 * 32 * 3).reshape(32, 32, 3) + 40 * (np.arange(32) % 5 == 0)[:, None]
    ).astype(np.uint8)
    views = [apply_policy(smooth, policy, np.random.default_rng(seed)) for seed in range(40)]
    changed = sum(not np.array_equal(view, smooth) for view in views)
    assert 20 <= changed <= 40
    from PIL import Image

    from samesight.training.colour import LARGEST

    for name in (*SIGNED, *OTHERS):
        view = np.array(_changed(Image.fromarray(smooth), name, 0.9, -1.0, LARGEST[policy]))
        assert view.shape == smooth.shape
        assert np.array_equal(view, smooth) == (name == "identity"), name


@pytest.mark.row("D3")
def test_colour_jitter_keeps_within_its_amounts() -> None:
    grey = np.full((8, 8, 3), 100, np.uint8)
    make = Augmentation(SPEC, AugmentOptions(crop="none", flip=False, color_jitter=(0.2, 0, 0, 0)))
    means = [make(grey, np.random.default_rng(seed)).mean() for seed in range(50)]
    assert min(means) >= 79
    assert max(means) <= 121
    assert max(means) - min(means) > 25


@pytest.mark.row("D3")
def test_mixing_keeps_the_shares_that_it_tells() -> None:
    pictures = torch.stack([torch.full((3, 10, 10), float(value)) for value in range(4)])
    for alphas in ((0.4, 0.0), (0.0, 1.0), (0.4, 1.0)):
        for seed in range(10):
            mixed, others, kept = mix(pictures, alphas, np.random.default_rng(seed))
            wanted = kept * torch.arange(4.0) + (1 - kept) * others
            assert torch.allclose(mixed.mean((1, 2, 3)), wanted.float(), atol=1e-4)


@pytest.mark.row("T1")
@pytest.mark.parametrize(
    ("model", "first"),
    [
        ("resnet18", "layer4.0.conv1.weight"),
        ("mobilenet_v2", "features.15.conv.0.0.weight"),
        ("regnet_x_400mf", "trunk_output.block4.block4-3.f.a.0.weight"),
        ("densenet121", "features.denseblock3.denselayer1.norm1.weight"),
        ("convnext_tiny", "features.5.0.layer_scale"),
    ],
)
def test_last_block_of_each_family(model: str, first: str) -> None:
    network = create(model, 10)
    names = last_block(network, model)
    assert next(name for name, _ in network.named_parameters() if name in names) == first
    everything = [name for block in blocks_of(network, model) for name in block]
    assert len(everything) == len(set(everything))
    assert len(everything) == sum(1 for _ in network.parameters()) - 2  # the head's weight and bias


@pytest.mark.row("T1")
def test_last_block_learns_and_what_is_before_it_does_not() -> None:
    network = create("resnet18", 4)
    freeze(network, "resnet18", Phase("last-block", 1, 1e-3, 1e-4), PLAN)
    learning = {name.partition(".")[0] for name, p in network.named_parameters() if p.requires_grad}
    assert learning == {"layer4", "fc"}
    assert network.layer4[0].bn1.training
    assert not network.layer3[0].bn1.training


@pytest.mark.row("T1")
def test_rates_fall_from_block_to_block_by_the_layer_decay() -> None:
    network = create("resnet18", 4)
    phase = Phase("all", 1, 1e-3, 1e-4)
    freeze(network, "resnet18", phase, PLAN)
    optimiser = make_optimiser(network, "resnet18", phase, replace(PLAN, layer_decay=0.5))
    rate = {id(p): group["peak"] for group in optimiser.param_groups for p in group["params"]}
    found = [rate[id(network.get_parameter(name))] for name in (
        "fc.weight", "layer4.0.conv1.weight", "layer3.0.conv1.weight", "layer1.0.conv1.weight"
    )]  # fmt: skip
    assert found == pytest.approx([1e-3, 1e-4, 5e-5, 1.25e-5])


@pytest.mark.row("T1")
def test_schedules() -> None:
    network = torch.nn.Linear(2, 2)

    def rates(schedule: str) -> list[float]:
        plan = replace(PLAN, schedule=schedule, step_every=2, warm_up=0.0)
        optimiser = torch.optim.SGD([{"params": list(network.parameters()), "peak": 1.0}])
        return [set_rates(optimiser, step, 60, plan, epochs=6) for step in range(60)]

    assert rates("constant") == [1.0] * 60
    assert rates("step") == pytest.approx([1.0] * 20 + [0.1] * 20 + [0.01] * 20)
    assert rates("cosine")[30] == pytest.approx(0.5, abs=0.03)


class _Pairs:
    """Batches of two numbers and their class, always the same."""

    def __init__(self, size: int) -> None:
        random = torch.Generator().manual_seed(3)
        self.x, self.y = torch.randn(24, 2, generator=random), torch.arange(24) % 2
        self.size = size

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        yield from zip(self.x.split(self.size), self.y.split(self.size), strict=True)


@pytest.mark.row("T1")
def test_accumulated_batches_are_one_large_one() -> None:
    weights = []
    for size, accumulate in ((8, 1), (4, 2), (2, 4)):
        torch.manual_seed(0)
        network = torch.nn.Linear(2, 2)
        optimiser = torch.optim.SGD([{"params": list(network.parameters()), "peak": 0.5}])
        learner = Learner(network, optimiser, replace(PLAN, accumulate=accumulate), 1, CPU)
        learn(learner, _Pairs(size), 0, 24 // size, lambda _: None)
        weights.append(network.weight.detach())
    assert steps_of(12, replace(PLAN, accumulate=5)) == 3
    assert torch.allclose(weights[0], weights[1], atol=1e-6)
    assert torch.allclose(weights[0], weights[2], atol=1e-6)


@pytest.mark.row("T1")
def test_average_follows_the_weights_and_steps_aside() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(0.0)
    average = Average(network, steps=100)
    assert average.decay == pytest.approx(0.9)
    for step in range(100):
        network.weight.data.fill_(float(step))
        average.update(step)
    assert 88 < float(average.values["weight"]) < 95  # about ten steps behind
    with average.in_place():
        assert torch.equal(network.weight, average.values["weight"])
    assert torch.equal(network.weight, torch.tensor([[99.0]]))
    again = Average(network, 100, average.values)
    assert torch.equal(again.values["weight"], average.values["weight"])


class Viewing(torch.nn.Module):
    """A network whose `.view` breaks on channels_last."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(*[torch.nn.Conv2d(3, 3, 3, padding=1) for _ in range(10)])
        self.head = torch.nn.Linear(3 * 8 * 8, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.body(x).view(len(x), -1))


@pytest.mark.row("T1")
def test_channels_last_only_where_the_network_bears_it() -> None:
    network = Viewing().eval()
    assert fitting_memory_format(network, (8, 8)) is torch.contiguous_format
    assert all(p.is_contiguous() and p.grad is None for p in network.parameters())
    network = create("mobilenet_v2", 3).eval()
    assert fitting_memory_format(network, (64, 64)) is torch.channels_last
    assert network.features[0][0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.row("T1")
def test_training_pictures_of_another_size() -> None:
    facts = NetworkFacts(True, has_batch_norm=True, head_can_be_cached=True, size=(448, 224))

    def size(config: TrainConfig) -> tuple[int, int] | None:
        return make_plan(config, [100, 100], facts).train_size

    config = TrainConfig(photos="x")
    assert size(config) is None
    assert size(replace(config, train_size=224)) is None
    assert size(replace(config, train_size=112)) == (224, 112)


@pytest.mark.row("T1")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train": "tail"}, "--train"),
        ({"layer_decay": 0.0}, "--layer-decay"),
        ({"label_smoothing": 1.0}, "--label-smoothing"),
        ({"accumulate": 0}, "--accumulate"),
        ({"step_every": 3}, "--schedule step"),
        ({"clip": -1.0}, "--clip"),
        ({"amp": "float8"}, "--amp"),
        ({"patience": 0}, "--patience"),
    ],
)
def test_wrong_choices_name_their_option(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        TrainConfig(photos="x", **options)


@pytest.mark.row("D3")
@pytest.mark.parametrize(
    "options", [{"color_jitter": (2.0, 0, 0, 0)}, {"erasing": 2.0}, {"mixup": -1.0}, {"policy": "magic"}]
)
def test_wrong_augmentation_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        AugmentOptions(**options)


def tiny(digits: Path, out: Path, **more: Any) -> TrainConfig:
    given = {"model": "small", "threads": 1, "epochs": 2, "augment": AugmentOptions(flip=False), **more}
    return TrainConfig(photos=str(digits), out=out, **given)


@pytest.mark.row("T1", "D3", "D4")
def test_the_sources_own_way_of_training(digits: Path, tmp_path: Path) -> None:
    """SGD with steps, colour, erasing, flips, accumulation, bfloat16: recorded."""
    augment = AugmentOptions(
        crop="padded",
        vertical_flip=True,
        color_jitter=(0.2, 0.2, 0.2, 0.1),
        erasing=0.25,
        mixup=0.2,
        cutmix=1.0,
    )
    result = train(
        tiny(
            digits, tmp_path / "run", augment=augment, optimizer="sgd", schedule="step", step_every=1,
            accumulate=2, amp="bfloat16", clip=0.0, average=False, class_weights=True, tensorboard=True,
        )
    )  # fmt: skip
    value = open_run(tmp_path / "run").value
    assert value["derived"]["optimizer"] == "sgd"
    assert value["derived"]["amp"] == "bfloat16"
    assert len(value["derived"]["augmentation"]) == 7
    assert value["settings"]["augment"]["color_jitter"] == [0.2, 0.2, 0.2, 0.1]
    assert result.epochs == 2
    assert list((tmp_path / "run/tensorboard").glob("events.*"))


@pytest.mark.row("T1")
def test_patience_ends_training_and_is_told(digits: Path, tmp_path: Path) -> None:
    result = train(tiny(digits, tmp_path / "run", epochs=30, lr=1e-9, patience=2))
    assert result.epochs < 30
    assert epochs_without_gain(read_last(tmp_path / "run/checkpoints/last.pth").history) == 2
    again = train(TrainConfig(photos=None, out=tmp_path / "run", resume=True))
    assert again == result


@pytest.mark.row("T1")
def test_features_are_computed_once_and_again_for_other_weights(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import samesight.training.stage as stage

    monkeypatch.setenv("SAMESIGHT_CACHE", str(tmp_path / "cache"))
    train(tiny(digits, tmp_path / "first", epochs=1))
    calls = []
    real = stage.features_of

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return real(*arguments)

    monkeypatch.setattr(stage, "features_of", counted)
    weights = str(tmp_path / "first/checkpoints/best.pth")
    results = [
        train(tiny(digits, tmp_path / name, weights=weights, train="head", epochs=3, **more))
        for name, more in (("a", {}), ("b", {}), ("c", {"label_smoothing": 0.0}))
    ]
    assert len(calls) == 3  # two views of the training photos, one of the inner validation part
    assert results[0].test_accuracy == results[1].test_accuracy
    assert open_run(tmp_path / "a").value["derived"]["phases"][0]["name"] == "head"
    broken = next((tmp_path / "cache/features").glob("*.npy"))
    broken.write_bytes(broken.read_bytes()[:50])
    train(tiny(digits, tmp_path / "d", weights=weights, train="head", epochs=1))
    assert len(calls) == 4
    network = create("small", 10).eval()
    source = find_head_input(network, (32, 32))
    assert source is not None
    before = backbone_hash(source)
    network.head.weight.data.add_(1)
    assert backbone_hash(source) == before
    next(network.parameters()).data.add_(1)
    assert backbone_hash(source) != before
