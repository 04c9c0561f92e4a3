"""What an epoch of a phase is made of: which module learns, from which batches, measured on which.

In the head phase the backbone is frozen, so what the head sees is computed once where the head can be told
apart; otherwise, and in the other phase, the whole network runs on freshly augmented photos.
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
from samesight.training.dataset import Part, Parts, View, batches, epoch_order, plain_order
from samesight.training.features import (
    LIMIT_BYTES,
    HeadInput,
    backbone_hash,
    features_of,
    find_head_input,
    kept_features,
    mixed,
)
from samesight.training.parallel import ALONE, Ranks

__all__ = ["Stage", "StageOptions", "make_stage"]

Batches = Iterator[tuple[Tensor, Tensor]]
HEAD_VIEWS = 2  # of each training photo, for the cached head: as inference sees it, and one random view
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
        size = (HEAD_VIEWS * len(parts.train) + len(parts.val)) * (source.width if source else 0) * 4
        if source is not None and size <= LIMIT_BYTES:
            return _cached_stage(source, parts, options)
    return _whole_stage(network, parts, options)


def _whole_stage(network: nn.Module, parts: Parts, options: StageOptions) -> Stage:
    def train(epoch: int) -> Batches:
        view = parts.train.augmented(options.augmentation, options.seed, epoch)
        return batches(parts.train, view, _order(parts, options, epoch), options.threads, options.ranks)

    def val() -> Batches:
        order = plain_order(len(parts.val), options.batch, options.ranks)
        return batches(parts.val, parts.val.kept_view, order, options.threads)

    return Stage(network, _steps(parts, options), train, val, is_shared=True)


def _cached_stage(source: HeadInput, parts: Parts, options: StageOptions) -> Stage:
    # One size for what is cached: the head has to do on inference's features.
    augmentation = Augmentation(options.augmentation.spec, options.augmentation.options)
    random_view = parts.train.augmented(augmentation, options.seed, VIEW_EPOCH)
    described = json.dumps([asdict(augmentation.options), options.seed])
    views = [
        _features(source, parts.train, parts.train.view, "plain", options),
        _features(source, parts.train, random_view, described, options),
    ]
    val_features = [_features(source, parts.val, parts.val.kept_view, "plain", options)]

    def train(epoch: int) -> Batches:
        random = torch.Generator().manual_seed(options.seed * 1_000_003 + epoch)
        return mixed(views, parts.train.targets, _order(parts, options, epoch), random)

    def val() -> Batches:
        order = plain_order(len(parts.val), options.batch)
        return mixed(val_features, parts.val.targets, order, torch.Generator())

    return Stage(source.head, _steps(parts, options), train, val, is_shared=False)


def _features(source: HeadInput, part: Part, view: View, described: str, options: StageOptions) -> Tensor:
    """The features of a part's photos by `view`, in order; from the disk if they were computed before."""
    words = [backbone_hash(source), json.dumps(part.spec.to_json()), described, *part.hashes]
    key = hashlib.sha256("\n".join(words).encode()).hexdigest() if part.hashes else None

    def compute() -> Tensor:
        order = plain_order(len(part), options.batch, options.ranks)
        pictures = track(batches(part, view, order, options.threads), "computing features", total=len(order))
        return options.ranks.whole(features_of(source, pictures, options.device))

    return kept_features(options.ranks, key, compute)


def _order(parts: Parts, options: StageOptions, epoch: int) -> list[list[int]]:
    return epoch_order(
        parts.train, options.batch, options.sampler, options.seed, epoch, classes=len(parts.labels)
    )


def _steps(parts: Parts, options: StageOptions) -> int:
    return -(-len(parts.train) // options.batch)
