"""What training was asked for, and the plan that follows from it and from the photos."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from samesight.data.photos import PhotoOptions
from samesight.data.prepare import SplitOptions
from samesight.errors import InputError
from samesight.pictureoptions import PictureOptions
from samesight.training.augment import AugmentOptions

__all__ = ["Phase", "Plan", "TrainConfig", "make_plan"]

SAMPLERS = ("balanced", "none")
DEVICES = ("auto", "cpu", "cuda")
PARTS = ("head", "last-block", "all")
OPTIMISERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "step", "constant")
AMPS = ("auto", "off", "bfloat16", "float16")

# Defaults, each in this one place; docs/training.md has the sources.
BATCH = 32
LR = {"adamw": 1e-3, "sgd": 1e-2}  # of the head; AdamW's own default
SCRATCH_LR = {"adamw": 1e-3, "sgd": 1e-1}  # of networks without pretrained weights
MOMENTUM = 0.9
HEAD_AGAIN_SHARE = 0.3  # of LR, for the head while the backbone learns: it is nearly there already
BACKBONE_SHARE = 0.1  # of LR, where BatchNorm keeps the scale of what flows through
PLAIN_BACKBONE_SHARE = 0.1  # of LR, without BatchNorm (SqueezeNet, VGG, transformers)
BLOCK_SHARE = 1.0  # of LR, for the last block alone: what comes before it cannot be spoilt
BLOCK_STEPS = 72  # with fewer, the last block's rate is as much lower: the first ones would upset it
LABEL_SMOOTHING = 0.1  # https://arxiv.org/abs/1512.00567
WEIGHT_DECAY = {"adamw": 0.01, "sgd": 5e-4}  # not on biases and norms
CLIP_NORM = 1.0
WARM_UP = 0.1  # of each phase's steps
STEP_FACTOR = 0.1
IMBALANCE = 1.5  # from this ratio of the largest class to the smallest on, the sampler balances
CACHED_HEAD_EPOCHS = 20  # an epoch over features that are computed once costs next to nothing
MOST_HEAD_EPOCHS = 60  # of few photos
HEAD_STEPS = 120  # batches, as far as these epochs give them: with fewer the head is not done
HEAD_EPOCHS = 2
BLOCK_VIEWS = 3  # random ones of each photo, kept as what flows into the last block, beside inference's
LEAST_BLOCK_VIEWS = 2
BLOCK_LIMIT_BYTES = 1 << 30  # of one run's kept views
CHEAP_SHARE = 1 / 3  # of the network's work: a last block with more of it is not trained before everything
NORM_STEPS = 1000  # with fewer steps of fine-tuning, BatchNorm keeps the statistics it was pretrained with
NORM_MOMENTUM = 0.1  # of BatchNorm's running statistics: PyTorch's default
AVERAGE_SHARE = 0.1  # of the phase's steps: how far back the averaged weights look


@dataclass(frozen=True)
class TrainConfig:
    """What the user asked for; None where the choice is left to `make_plan`."""

    photos: str | None
    model: str = "mobilenet_v2"
    out: Path | None = None
    weights: str | None = None
    model_options: Mapping[str, str] = field(default_factory=dict)
    pictures: PictureOptions = field(default_factory=PictureOptions)
    photo_options: PhotoOptions = field(default_factory=PhotoOptions)
    split: SplitOptions = field(default_factory=SplitOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    offline: bool = False
    train: str = "all"
    epochs: int | None = None
    head_epochs: int | None = None
    batch: int | None = None
    accumulate: int = 1
    train_size: int | None = None  # pixels of the shorter side
    optimizer: str = "adamw"
    lr: float | None = None
    schedule: str = "cosine"
    step_every: int | None = None  # epochs, of the schedule "step"
    weight_decay: float | None = None
    layer_decay: float = 1.0
    label_smoothing: float = LABEL_SMOOTHING
    clip: float = CLIP_NORM  # 0: off
    average: bool = True
    amp: str = "auto"
    patience: int | None = None
    seed: int = 42
    sampler: str | None = None
    class_weights: bool = False
    target: float | None = None
    resume: bool = False
    threads: int | None = None
    device: str = "auto"
    tensorboard: bool = False

    def __post_init__(self) -> None:
        _at_least("--epochs", self.epochs, 0)
        _at_least("--head-epochs", self.head_epochs, 0)
        _at_least("--batch", self.batch, 1)
        _at_least("--accumulate", self.accumulate, 1)
        _at_least("--train-size", self.train_size, 8)
        _at_least("--step-every", self.step_every, 1)
        _at_least("--patience", self.patience, 1)
        _at_least("--threads", self.threads, 1)
        if not 0 <= self.seed < 2**31:
            raise InputError("--seed is a whole number from 0 to 2147483647", found=self.seed)
        if self.lr is not None and not 0 < self.lr < 10:
            raise InputError("--lr is a small positive number", found=self.lr, fix="--lr 0.001")
        if self.target is not None and not 0 < self.target <= 1:
            raise InputError("--target is an accuracy from 0 to 1", found=self.target, fix="--target 0.8")
        if not 0 <= self.label_smoothing < 1:
            raise InputError("--label-smoothing is a share from 0 to below 1", found=self.label_smoothing)
        if not 0 < self.layer_decay <= 1:
            raise InputError("--layer-decay is a factor above 0, at most 1", found=self.layer_decay)
        for option, number in (("--weight-decay", self.weight_decay), ("--clip", self.clip)):
            if number is not None and not 0 <= number < math.inf:
                raise InputError(f"{option} is a number from 0 on", found=number)
        _one_of("--train", self.train, PARTS)
        _one_of("--optimizer", self.optimizer, OPTIMISERS)
        _one_of("--schedule", self.schedule, SCHEDULES)
        _one_of("--amp", self.amp, AMPS)
        _one_of("--sampler", self.sampler, SAMPLERS)
        _one_of("--device", self.device, DEVICES)
        if self.step_every is not None and self.schedule != "step":
            raise InputError("--step-every belongs to a schedule in steps", fix="--schedule step")
        if self.class_weights and self.sampler == "balanced":
            raise InputError(
                "a balanced sampler and class weights would each make up for the imbalance, so twice over",
                fix="only one of --sampler balanced and --class-weights",
            )

    def to_json(self) -> dict[str, Any]:
        """Everything that shapes the result, as JSON; not where it goes, nor whether it is resumed."""
        value = asdict(self)
        for name in ("out", "resume", "target", "offline", "photo_options", "split"):
            del value[name]
        value["photo_options"] = self.photo_options.to_json()
        value["split"] = asdict(self.split)
        return value

    def given(self) -> list[str]:
        """The names of the settings that differ from their defaults, so were chosen by the user."""
        plain = TrainConfig(photos=None)
        return [f.name for f in fields(self) if getattr(self, f.name) != getattr(plain, f.name)]


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with one set of trained parameters and one schedule."""

    name: str  # "head", "last-block" or "all"
    epochs: int
    lr: float  # the head's, at its peak
    backbone_lr: float  # 0: frozen


@dataclass(frozen=True)
class Plan:
    """Every number that training uses; recorded in run.json."""

    phases: tuple[Phase, ...]
    batch: int
    sampler: str
    class_weights: tuple[float, ...] | None
    frozen_statistics: bool = False  # of BatchNorm, in every phase
    train_size: tuple[int, int] | None = None  # width and height, where they are not those of inference
    accumulate: int = 1
    optimizer: str = "adamw"
    schedule: str = "cosine"
    step_every: int | None = None
    layer_decay: float = 1.0
    label_smoothing: float = LABEL_SMOOTHING
    weight_decay: float = WEIGHT_DECAY["adamw"]
    clip_norm: float = CLIP_NORM
    warm_up: float = WARM_UP
    average: bool = False  # of the weights, in the phases after the head's
    block_views: int = 0  # of each training photo, kept for the last block; 0: it learns from fresh ones
    patience: int | None = None

    @property
    def epochs(self) -> int:
        """The number of epochs of all phases."""
        return sum(phase.epochs for phase in self.phases)

    def end_of(self, phase: Phase) -> int:
        """The number of epochs at the end of `phase`."""
        return sum(one.epochs for one in self.phases[: self.phases.index(phase) + 1])

    def at(self, epoch: int) -> tuple[Phase, int]:
        """The phase that `epoch` (from 0) is in, and the epoch within it."""
        for phase in self.phases:
            if epoch < phase.epochs:
                return phase, epoch
            epoch -= phase.epochs
        raise IndexError(epoch)

    def to_json(self) -> dict[str, Any]:
        """The plan as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class NetworkFacts:
    """What the plan needs to know of the network."""

    pretrained: bool
    has_batch_norm: bool
    head_can_be_cached: bool
    size: tuple[int, int]  # width and height of its pictures at inference
    block_values: int = 0  # that flow into its last block for a photo; 0: they cannot be kept
    block_share: float = 1.0  # of its multiply-accumulates, that are in the last block and after


def make_plan(config: TrainConfig, counts: Sequence[int], network: NetworkFacts) -> Plan:
    """The plan for `counts[i]` training photos of class i."""
    photos = sum(counts)
    views = _block_views(config, photos, network)
    batch = BATCH if config.batch is None else config.batch
    if network.pretrained:
        phases = _pretrained_phases(config, photos, batch, network, views)
    else:
        phases = _scratch(config, photos)
    kept = tuple(phase for phase in phases if phase.epochs)
    if not kept:
        raise InputError("there are no epochs to train", fix="--epochs 3")
    sampler = config.sampler
    if sampler is None:
        imbalanced = max(counts) >= IMBALANCE * min(counts)
        sampler = "balanced" if imbalanced and not config.class_weights else "none"
    weights = tuple(photos / (len(counts) * count) for count in counts) if config.class_weights else None
    epochs = max((phase.epochs for phase in kept if phase.name != "head"), default=0)
    decay = WEIGHT_DECAY[config.optimizer] if config.weight_decay is None else config.weight_decay
    step_every = config.step_every
    if config.schedule == "step" and step_every is None:
        step_every = max(1, epochs // 3)
    return Plan(
        kept,
        batch,
        sampler,
        weights,
        frozen_statistics=network.pretrained and math.ceil(photos / batch) * epochs < NORM_STEPS,
        train_size=_train_size(config, network),
        accumulate=config.accumulate,
        optimizer=config.optimizer,
        schedule=config.schedule,
        step_every=step_every,
        layer_decay=config.layer_decay,
        label_smoothing=config.label_smoothing,
        weight_decay=decay,
        clip_norm=config.clip,
        average=config.average,
        block_views=views if any(phase.name == "last-block" for phase in kept) else 0,
        patience=config.patience,
    )


def _pretrained_phases(
    config: TrainConfig, photos: int, batch: int, network: NetworkFacts, block_views: int
) -> list[Phase]:
    """The head, then what else is to learn (https://arxiv.org/abs/2202.10054).

    Where views are kept for the last block, it learns before everything does, unless epochs were asked for.
    """
    lr = LR[config.optimizer] if config.lr is None else config.lr
    batches = math.ceil(photos / batch)
    cheap = _cached_head_epochs(batches) if network.head_can_be_cached else HEAD_EPOCHS
    head_epochs = config.head_epochs
    if config.train == "head":
        if config.epochs is not None and head_epochs is not None:
            raise InputError("with --train head both would be the epochs of the head", fix="no --head-epochs")
        if head_epochs is None:
            head_epochs = cheap if config.epochs is None else config.epochs
        return [Phase("head", head_epochs, lr, 0.0)]
    phases = [Phase("head", cheap if head_epochs is None else head_epochs, lr, 0.0)]
    epochs = config.epochs
    is_derived = epochs is head_epochs is None and network.block_share <= CHEAP_SHARE
    if block_views and (config.train == "last-block" or is_derived):
        block_epochs = _block_epochs(photos) if epochs is None else epochs
        share = BLOCK_SHARE * min(1.0, block_epochs * batches / BLOCK_STEPS)
        phases.append(Phase("last-block", block_epochs, lr * HEAD_AGAIN_SHARE, lr * share))
    if config.train == "all" or not block_views:
        share = BACKBONE_SHARE if network.has_batch_norm else PLAIN_BACKBONE_SHARE
        epochs = _fine_tuning_epochs(photos) if epochs is None else epochs
        phases.append(Phase(config.train, epochs, lr * HEAD_AGAIN_SHARE, lr * share))
    return phases


def _block_views(config: TrainConfig, photos: int, network: NetworkFacts) -> int:
    """How many random views of each photo are kept for the last block: few enough to fit; 0 for none."""
    is_mixed = config.augment.mixup or config.augment.cutmix  # pictures are mixed, not what flows within
    if not network.block_values or is_mixed or _train_size(config, network):
        return 0
    room = BLOCK_LIMIT_BYTES // (2 * photos * network.block_values) - 1
    return min(BLOCK_VIEWS, room) if room >= LEAST_BLOCK_VIEWS else 0


def _scratch(config: TrainConfig, photos: int) -> list[Phase]:
    if config.head_epochs:
        raise InputError("an untrained network has no phase for its head alone", fix="no --head-epochs")
    if config.train != "all":
        raise InputError(
            "an untrained network has to learn in all its layers", found=f"--train {config.train}",
            fix="--train all, or --weights with trained ones",
        )  # fmt: skip
    lr = SCRATCH_LR[config.optimizer] if config.lr is None else config.lr
    epochs = _scratch_epochs(photos) if config.epochs is None else config.epochs
    return [Phase("all", epochs, lr, lr)]


def _train_size(config: TrainConfig, network: NetworkFacts) -> tuple[int, int] | None:
    """The (width, height) of training pictures where they differ from those of inference."""
    shorter = min(network.size)
    if config.train_size is None or config.train_size == shorter:
        return None
    width, height = (round(side * config.train_size / shorter) for side in network.size)
    return width, height


def _cached_head_epochs(batches: int) -> int:
    """20 to 60: 64 photos in two batches give 60 epochs, 160 give 24."""
    return min(MOST_HEAD_EPOCHS, max(CACHED_HEAD_EPOCHS, math.ceil(HEAD_STEPS / batches)))


def _fine_tuning_epochs(photos: int) -> int:
    """3 to 20: few photos are seen more often; 345 photos give 6 epochs, 2,100 give 3."""
    return min(20, max(3, round(120 / math.sqrt(photos))))


def _block_epochs(photos: int) -> int:
    """4 to 8: 600 photos give 8 epochs, 2,100 give 4."""
    return min(8, max(4, round(200 / math.sqrt(photos))))


def _scratch_epochs(photos: int) -> int:
    """10 to 60: 216 photos give 41 epochs."""
    return min(60, max(10, round(600 / math.sqrt(photos))))


def _at_least(option: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise InputError(f"{option} is too small", expected=f"at least {least}", found=value)


def _one_of(option: str, value: str | None, words: Sequence[str]) -> None:
    if value is not None and value not in words:
        raise InputError(f"{option} is none of its words", expected=" or ".join(words), found=value)
