"""What an epoch of a phase is made of: which module learns, from which batches, measured on which.

In the head phase the backbone is frozen, so what the head sees is computed once where the head can be told
apart; otherwise, and in the other phase, the whole network runs on freshly augmented photos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samesight.progress import track
from samesight.training.augment import Augmentation
from samesight.training.config import Phase
from samesight.training.dataset import Parts, batches, epoch_order, plain_order
from samesight.training.features import LIMIT_BYTES, HeadInput, features_of, find_head_input, mixed

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


@dataclass(frozen=True)
class Stage:
    """One phase, ready to run."""

    forward: nn.Module
    steps: int  # an epoch
    train: Callable[[int], Batches]  # the training batches of an epoch
    val: Callable[[], Batches]


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
        return batches(parts.train, view, _order(parts, options, epoch), options.threads)

    def val() -> Batches:
        order = plain_order(len(parts.val), options.batch)
        return batches(parts.val, parts.val.kept_view, order, options.threads)

    return Stage(network, _steps(parts, options), train, val)


def _cached_stage(source: HeadInput, parts: Parts, options: StageOptions) -> Stage:
    order = plain_order(len(parts.train), options.batch)
    random_view = parts.train.augmented(options.augmentation, options.seed, VIEW_EPOCH)
    views = [
        features_of(
            source, _tracked(batches(parts.train, view, order, options.threads), order), options.device
        )
        for view in (parts.train.view, random_view)
    ]
    val_order = plain_order(len(parts.val), options.batch)
    seen = batches(parts.val, parts.val.kept_view, val_order, options.threads)
    val_features = [features_of(source, seen, options.device)]

    def train(epoch: int) -> Batches:
        random = torch.Generator().manual_seed(options.seed * 1_000_003 + epoch)
        return mixed(views, parts.train.targets, _order(parts, options, epoch), random)

    def val() -> Batches:
        return mixed(val_features, parts.val.targets, val_order, torch.Generator())

    return Stage(source.head, _steps(parts, options), train, val)


def _tracked(pictures: Batches, order: list[list[int]]) -> Batches:
    return track(pictures, "computing features", total=len(order))


def _order(parts: Parts, options: StageOptions, epoch: int) -> list[list[int]]:
    return epoch_order(
        parts.train, options.batch, options.sampler, options.seed, epoch, classes=len(parts.labels)
    )


def _steps(parts: Parts, options: StageOptions) -> int:
    return -(-len(parts.train) // options.batch)
