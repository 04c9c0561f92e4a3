"""What an epoch of a phase is made of: which module learns, from which batches, measured on which.

In the head phase the backbone is frozen, so what the head sees is computed once where the head can be told
apart. So is what the last block sees, where the plan keeps views for it; the head then learns from the same
ones. Otherwise, and where everything learns, the whole network runs on freshly augmented photos.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from samesight.progress import track
from samesight.training.augment import Augmentation
from samesight.training.config import Phase
from samesight.training.cut import BlockInput
from samesight.training.dataset import Part, Parts, View, batches, epoch_order, plain_order
from samesight.training.features import (
    LIMIT_BYTES,
    HeadInput,
    Source,
    backbone_hash,
    features_of,
    find_head_input,
    kept_features,
    mixed,
)
from samesight.training.parallel import ALONE, Ranks

__all__ = ["Stage", "StageOptions", "make_stage"]

Batches = Iterator[tuple[Tensor, Tensor]]
HEAD_VIEWS = 1  # random views of each training photo for the cached head, beside inference's own
VIEW_EPOCH = 1_000_000  # numbers the random views of the head phase, away from any epoch


@dataclass(frozen=True)
class StageOptions:
    """How photos become batches."""

    augmentation: Augmentation
    seed: int
    batch: int
    sampler: str
    threads: int
    device: torch.device
    ranks: Ranks = ALONE
    block: BlockInput | None = None  # what is kept for the last block and the head; None: nothing is
    block_views: int = 0  # random ones of each training photo


@dataclass(frozen=True)
class Kept:
    """Features that were computed once: of the training photos by each view, and of the validation photos."""

    train: tuple[Tensor, ...]  # (n, ...); the first by inference's own view
    val: Tensor


@dataclass(frozen=True)
class Stage:
    """One phase, ready to run."""

    forward: nn.Module
    steps: int  # an epoch
    train: Callable[[int], Batches]  # the training batches of an epoch; this process's share of each
    val: Callable[[], Batches]  # this process's share
    is_shared: bool  # whether processes share the batches out; a head on cached features is too quick to


def make_stage(network: nn.Module, parts: Parts, phase: Phase, options: StageOptions) -> Stage:
    """The stage of `phase`; for a head whose input can be cached, this computes it."""
    if phase.name == "head":
        source = find_head_input(network, options.augmentation.spec.size)
        if source is not None and options.block is not None:
            kept = _kept(options.block, parts, options, options.block_views)
            return _kept_stage(source.head, _further(options.block, source, kept, options), parts, options)
        size = ((1 + HEAD_VIEWS) * len(parts.train) + len(parts.val)) * (source.width if source else 0) * 4
        if source is not None and size <= LIMIT_BYTES:
            return _kept_stage(source.head, _kept(source, parts, options, HEAD_VIEWS), parts, options)
    if phase.name == "last-block" and options.block is not None:
        kept = _kept(options.block, parts, options, options.block_views)
        return _kept_stage(options.block.rest, kept, parts, options, is_shared=True)
    return _whole_stage(network, parts, options)


def _whole_stage(network: nn.Module, parts: Parts, options: StageOptions) -> Stage:
    def train(epoch: int) -> Batches:
        view = parts.train.augmented(options.augmentation, options.seed, epoch)
        return batches(parts.train, view, _order(parts, options, epoch), options.threads, options.ranks)

    def val() -> Batches:
        order = plain_order(len(parts.val), options.batch, options.ranks)
        return batches(parts.val, parts.val.kept_view, order, options.threads)

    return Stage(network, _steps(parts, options), train, val, is_shared=True)


def _kept_stage(
    forward: nn.Module, kept: Kept, parts: Parts, options: StageOptions, *, is_shared: bool = False
) -> Stage:
    """`forward` learns from what was computed once."""
    ranks = options.ranks if is_shared else ALONE

    def train(epoch: int) -> Batches:
        random = torch.Generator().manual_seed(options.seed * 1_000_003 + epoch)
        return mixed(kept.train, parts.train.targets, _order(parts, options, epoch), random, ranks)

    def val() -> Batches:
        order = plain_order(len(parts.val), options.batch, ranks)
        return mixed([kept.val], parts.val.targets, order, torch.Generator())

    return Stage(forward, _steps(parts, options), train, val, is_shared)


def _kept(source: Source, parts: Parts, options: StageOptions, random_views: int) -> Kept:
    # One size for what is kept: the head has to do on inference's features.
    augmentation = Augmentation(options.augmentation.spec, options.augmentation.options)
    views = [_features(source, parts.train, parts.train.view, "plain", options)]
    for number in range(random_views):
        view = parts.train.augmented(augmentation, options.seed, VIEW_EPOCH + number)
        described = json.dumps([asdict(augmentation.options), options.seed, number])
        views.append(_features(source, parts.train, view, described, options))
    return Kept(tuple(views), _features(source, parts.val, parts.val.kept_view, "plain", options))


def _further(block: BlockInput, source: HeadInput, kept: Kept, options: StageOptions) -> Kept:
    """What the head is given where the last block is given what was kept."""
    head = HeadInput(block.rest, source.head, source.width)

    def through(values: Tensor) -> Tensor:
        pieces = ((piece.float(), piece) for piece in values.split(options.batch))
        return features_of(head, pieces, len(values), options.device)

    return Kept(tuple(through(values) for values in kept.train), through(kept.val))


def _features(source: Source, part: Part, view: View, described: str, options: StageOptions) -> Tensor:
    """The features of a part's photos by `view`, in order; from the disk if they were computed before."""
    words = [backbone_hash(source), json.dumps(part.spec.to_json()), described, *part.hashes]
    key = hashlib.sha256("\n".join(words).encode()).hexdigest() if part.hashes else None

    def compute() -> Tensor:
        order = plain_order(len(part), options.batch, options.ranks)
        count = sum(map(len, order))
        pictures = track(batches(part, view, order, options.threads), "computing features", total=len(order))
        return options.ranks.whole(features_of(source, pictures, count, options.device))

    return kept_features(options.ranks, key, compute)


def _order(parts: Parts, options: StageOptions, epoch: int) -> list[list[int]]:
    return epoch_order(
        parts.train, options.batch, options.sampler, options.seed, epoch, classes=len(parts.labels)
    )


def _steps(parts: Parts, options: StageOptions) -> int:
    return -(-len(parts.train) // options.batch)
