"""The pieces of training: what is drawn, how photos are changed and kept, how fast is learnt."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_photos import write_photo

torch = pytest.importorskip("torch")

from samesight.data.prepare import prepare  # noqa: E402
from samesight.errors import InputError, PhotosError  # noqa: E402
from samesight.models import create, replace_head  # noqa: E402
from samesight.preprocess import Preprocess, preprocess, read_photo  # noqa: E402
from samesight.training.augment import Augmentation, AugmentOptions  # noqa: E402
from samesight.training.config import NetworkFacts, Phase, Plan, TrainConfig, make_plan  # noqa: E402
from samesight.training.dataset import Cache, Part, Parts, batches, epoch_order, open_parts, plain_order  # noqa: E402
from samesight.training.features import find_head_input  # noqa: E402
from samesight.training.loop import Learner, learn, measure  # noqa: E402
from samesight.training.memory import kept_memory  # noqa: E402
from samesight.training.optimise import freeze, hasten_statistics, make_optimiser, set_rates  # noqa: E402
from samesight.training.stage import StageOptions, make_stage  # noqa: E402
from samesight.training.state import State  # noqa: E402

SPEC = Preprocess(resize=40, crop=(32, 32))
PLAN = Plan((Phase("head", 1, 1e-3, 0.0), Phase("all", 2, 1e-3, 3e-4)), 8, "none", None)


@pytest.fixture
def parts(photo_folder: Path) -> Parts:
    prepared = prepare(photo_folder)
    return open_parts(prepared.photos, prepared.split, SPEC)


def fake_part(counts: list[int]) -> Part:
    """A part without files: for what only counts."""
    targets = tuple(label for label, count in enumerate(counts) for _ in range(count))
    names = tuple(map(str, range(len(targets))))
    return Part(names, tuple(map(Path, names)), targets, SPEC, Cache())


@pytest.mark.row("D3")
@pytest.mark.parametrize("label", ["new\nline", "\x1b[2J", "x" * 300])
def test_a_label_that_no_bundle_could_hold_is_refused_before_training(tmp_path: Path, label: str) -> None:
    table = io.StringIO()
    rows = [(f"{number}.png", ("plain", label * 2)[number % 2]) for number in range(8)]
    csv.writer(table).writerows([("filename", "label"), *rows])
    for name, _ in rows:
        write_photo(tmp_path / name)
    (tmp_path / "labels.csv").write_text(table.getvalue(), newline="")
    prepared = prepare(tmp_path)
    with pytest.raises(PhotosError, match="cannot stand in a bundle") as caught:
        open_parts(prepared.photos, prepared.split, SPEC)
    assert "--label-style trim" in str(caught.value)


@pytest.mark.row("D4")
def test_balanced_sampler_makes_classes_equally_likely() -> None:
    part = fake_part([200, 120, 80, 50, 30])
    drawn: Counter[int] = Counter()
    for epoch in range(20):
        order = epoch_order(part, 32, "balanced", 42, epoch, 5)
        assert sum(map(len, order)) == len(part)
        drawn.update(part.targets[index] for indices in order for index in indices)
    assert sum(drawn.values()) == 20 * 480
    for label in range(5):
        assert abs(drawn[label] / (20 * 480) - 0.2) < 0.02


@pytest.mark.row("D4")
def test_plain_sampler_shows_each_photo_once() -> None:
    part = fake_part([20, 13])
    first, again, other = (epoch_order(part, 32, "none", 1, epoch, 2) for epoch in (0, 0, 1))
    assert first == again != other
    assert sorted(index for indices in first for index in indices) == list(range(33))
    assert [len(indices) for indices in first] == [17, 16]  # never a last batch of one


@pytest.mark.row("D3")
def test_validation_photos_are_never_augmented(parts: Parts) -> None:
    """The validation batches of both phases are inference's own tensors, bit by bit, in every epoch."""
    network = create("small", 3).eval()
    options = StageOptions(Augmentation(SPEC), 1, 4, "none", 2, torch.device("cpu"))
    expected = np.stack([preprocess(read_photo(path), SPEC) for path in parts.val.paths])
    stage = make_stage(network, parts, PLAN.phases[1], options)
    for _ in range(2):
        seen = torch.cat([pictures for pictures, _ in stage.val()]).numpy()
        assert np.array_equal(seen, expected)
    trained_on = np.concatenate([pictures.numpy() for pictures, _ in stage.train(0)])
    plain = [preprocess(read_photo(path), SPEC) for path in parts.train.paths]
    assert not any(np.array_equal(a, b) for a in trained_on for b in plain)


@pytest.mark.row("T1")
def test_cached_head_gives_the_network_s_own_logits(parts: Parts) -> None:
    network = create("small", 3).eval()
    options = StageOptions(Augmentation(SPEC), 1, 4, "none", 2, torch.device("cpu"))
    cached = make_stage(network, parts, PLAN.phases[0], options)
    whole = make_stage(network, parts, PLAN.phases[1], options)
    assert cached.forward is network.head
    device = torch.device("cpu")
    a, b = measure(cached.forward, cached.val(), device), measure(whole.forward, whole.val(), device)
    assert torch.equal(a.targets, b.targets)
    assert torch.allclose(a.logits, b.logits, atol=1e-5)


@pytest.mark.row("T1")
@pytest.mark.parametrize(
    ("model", "can"), [("small", True), ("mobilenet_v2", True), ("resnet18", True), ("squeezenet1_1", False)]
)
def test_which_heads_can_be_cached(model: str, can: bool) -> None:
    assert (find_head_input(create(model, 5).eval(), (64, 64)) is not None) == can


def test_threads_and_memory_change_nothing(parts: Parts) -> None:
    order = plain_order(len(parts.train), 4)
    seen = []
    for threads, limit in ((1, 0), (3, 1 << 30), (2, 20_000)):
        part = replace(parts.train, cache=Cache(limit))
        for _ in range(2):
            view = part.augmented(Augmentation(SPEC), 3, 1)
            seen.append(torch.cat([pictures for pictures, _ in batches(part, view, order, threads)]))
        assert part.cache.used_bytes <= limit
    assert all(torch.equal(seen[0], other) for other in seen[1:])


@pytest.mark.row("D3")
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    seed=st.integers(0, 2**31),
    squash=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_augmented_views_have_the_size_and_only_the_photo_s_colours(
    width: int, height: int, seed: int, squash: bool
) -> None:
    spec = Preprocess(resize=(24, 16), crop=None) if squash else Preprocess(resize=32, crop=(24, 16))
    random = np.random.default_rng(seed)
    pixels = random.integers(60, 90, (height, width, 3), dtype=np.uint8)
    make = Augmentation(spec)
    view = make(pixels, np.random.default_rng(seed))
    assert view.shape == (16, 24, 3)
    assert view.flags.c_contiguous
    assert view.min() >= pixels.min()
    assert view.max() <= pixels.max()
    assert np.array_equal(view, make(pixels, np.random.default_rng(seed)))


def test_flip_can_be_turned_off() -> None:
    ramp = np.repeat(np.arange(0, 250, 5, dtype=np.uint8)[None, :, None], 50, 0).repeat(3, 2)
    for flip, wanted in ((True, {True, False}), (False, {True})):
        make = Augmentation(SPEC, AugmentOptions(flip=flip))
        views = [make(ramp, np.random.default_rng(seed)) for seed in range(20)]
        assert {bool(view[0, 0, 0] < view[0, -1, 0]) for view in views} == wanted
        assert len(make.describe()) == 1 + flip


@pytest.mark.row("T1")
def test_rates_warm_up_and_fall_to_zero() -> None:
    network = create("small", 3)
    freeze(network, "small", PLAN.phases[1], PLAN)
    optimiser = make_optimiser(network, "small", PLAN.phases[1], PLAN)
    rates = [set_rates(optimiser, step, 100, PLAN) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == pytest.approx(1e-3)
    assert np.argmax(rates) in (9, 10)
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[-1] < 1e-6
    by_peak = {group["peak"] for group in optimiser.param_groups}
    assert by_peak == {1e-3, 3e-4}
    for group in optimiser.param_groups:
        decays = {p.ndim > 1 for p in group["params"]}
        assert decays == {group["weight_decay"] > 0}
    counted = sum(p.numel() for group in optimiser.param_groups for p in group["params"])
    assert counted == sum(p.numel() for p in network.parameters())


@pytest.mark.row("T1")
def test_frozen_backbone_is_in_evaluation_mode() -> None:
    network = create("small", 3)
    freeze(network, "small", PLAN.phases[0], PLAN)
    assert not any(module.training for module in network.modules())
    assert [n for n, p in network.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]
    freeze(network, "small", PLAN.phases[1], PLAN)
    assert all(p.requires_grad for p in network.parameters())
    assert network.training
    freeze(network, "small", PLAN.phases[1], replace(PLAN, frozen_statistics=True))
    still = {type(module).__name__ for module in network.modules() if not module.training}
    assert still == {"BatchNorm2d"}
    measure(network, [(torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]))], torch.device("cpu"))
    assert {type(module).__name__ for module in network.modules() if not module.training} == still


def test_slow_running_statistics_follow_within_the_run() -> None:
    slow, usual = torch.nn.BatchNorm1d(2, momentum=0.0003), torch.nn.BatchNorm1d(2)
    cumulative = torch.nn.BatchNorm1d(2, momentum=None)
    network = torch.nn.Sequential(slow, usual, cumulative).train()
    hasten_statistics(network, 200)
    assert (usual.momentum, cumulative.momentum) == (0.1, None)
    for _ in range(200):
        network(torch.randn(64, 2, generator=torch.Generator().manual_seed(1)) * 3 + 5)
    assert torch.allclose(slow.running_mean, torch.tensor(5.0), atol=0.5)
    assert torch.allclose(slow.running_var, torch.tensor(9.0), atol=2.5)
    hasten_statistics(network, 100_000)
    assert slow.momentum == 1 / 20


@pytest.mark.row("T1")
def test_plan_follows_photos_and_network() -> None:
    pretrained = NetworkFacts(True, has_batch_norm=True, head_can_be_cached=True, size=(224, 224))
    config = TrainConfig(photos="x")
    plan = make_plan(config, [160, 96, 64, 40, 24], pretrained)
    assert [phase.name for phase in plan.phases] == ["head", "all"]
    assert plan.sampler == "balanced"
    assert plan.phases[1].backbone_lr < plan.phases[1].lr <= plan.phases[0].lr
    assert make_plan(config, [100, 100], pretrained).sampler == "none"
    few, many = make_plan(config, [20, 20], pretrained), make_plan(config, [9000, 9000], pretrained)
    assert few.phases[1].epochs > many.phases[1].epochs
    scratch = make_plan(config, [100, 100], replace(pretrained, pretrained=False))
    assert [phase.name for phase in scratch.phases] == ["all"]
    assert scratch.at(0) == (scratch.phases[0], 0)
    assert PLAN.at(2) == (PLAN.phases[1], 1)
    with pytest.raises(IndexError):
        PLAN.at(3)
    with pytest.raises(InputError, match="no epochs"):
        make_plan(TrainConfig(photos="x", epochs=0, head_epochs=0), [4, 4], pretrained)


@pytest.mark.row("T1")
@pytest.mark.parametrize(
    ("accuracy", "loss", "photos", "better"),
    [
        (0.95, 0.9, 1000, True),
        (0.85, 0.1, 1000, False),
        (0.87, 0.2, 40, True),  # one photo fewer of 40, a lower loss
        (0.91, 0.4, 40, False),
        (1.0, 0.4, 10, False),  # one photo more of 10, a higher loss
        (0.8, 0.2, 10, True),  # one photo fewer
        (0.90, 0.31, 1000, True),  # as good as equal: the newer one
        (0.90, 0.32, 1000, False),
        (None, None, 0, True),
    ],
)
def test_best_epoch_by_accuracy_and_by_loss_where_that_cannot_tell(
    accuracy: float | None, loss: float | None, photos: int, better: bool
) -> None:
    state = State(epoch=5, best_epoch=4, best_accuracy=0.9, lowest_loss=0.3)
    assert state.take_if_better(accuracy, loss, photos) == better
    assert state.best_epoch == (5 if better else 4)
    assert State().take_if_better(accuracy, loss, photos)


def test_losses_as_good_as_equal_do_not_add_up() -> None:
    state = State()
    taken = [state.take_if_better(0.9, loss, 100) for loss in (0.30, 0.31, 0.32, 0.29, 0.30)]
    assert taken == [True, True, False, True, True]
    assert state.lowest_loss == 0.29


def test_memory_is_given_back_after_training() -> None:
    with kept_memory():
        assert float(torch.ones(1 << 20).sum()) == 1 << 20
    with pytest.raises(ValueError, match="stop"), kept_memory():
        raise ValueError("stop")


def test_training_that_diverges_is_stopped() -> None:
    network = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW([{"params": list(network.parameters()), "peak": 1.0}])
    learner = Learner(network, optimiser, PLAN, 1, torch.device("cpu"))
    with pytest.raises(InputError, match="no longer a number"):
        learn(learner, [(torch.full((2, 2), math.nan), torch.tensor([0, 1]))], 0, 1, lambda _: None)


def test_outputs_in_a_tuple_are_learnt_from() -> None:
    with torch.device("cpu"):
        network = create("googlenet", 10, options={"aux_logits": "true"})
    replace_head(network, "googlenet", 2)
    network.train()
    optimiser = torch.optim.AdamW([{"params": list(network.parameters()), "peak": 1e-4}])
    learner = Learner(network, optimiser, PLAN, 1, torch.device("cpu"))
    seen = learn(learner, [(torch.randn(2, 3, 96, 96), torch.tensor([0, 1]))], 0, 1, lambda _: None)
    assert seen.photos == 2
