"""Training, validation and held-out photos as tensors, decoded in threads a little ahead of the network.

Everything random is drawn from (seed, epoch, place in the epoch), so that neither the number of threads nor
an interruption changes what a network is shown.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samesight.bundle import strictjson
from samesight.bundle.format import MAX_LABEL
from samesight.data.photos import Photos
from samesight.data.split import Split
from samesight.errors import BundleInvalid, PhotoError, PhotosError
from samesight.preprocess import Preprocess, decode, normalise, read_photo, resize, resize_exact
from samesight.training.augment import Augmentation
from samesight.training.parallel import ALONE, Ranks

__all__ = ["Cache", "Part", "Parts", "batches", "epoch_order", "open_parts", "plain_order"]

KEPT_SHARE = 1.25  # training photos are kept this much larger than inference resizes them, for the crops
CACHE_LIMIT_BYTES = 2 << 30
AHEAD = 3  # batches that are made before they are wanted

View = Callable[[int, int], NDArray[np.uint8]]
"""From a photo's index and its place in the epoch to its pixels of the network's size."""


@dataclass
class Cache:
    """Pixels kept in memory while they fit; what does not is made again each time, with the same result."""

    limit_bytes: int = CACHE_LIMIT_BYTES
    used_bytes: int = 0
    pixels: dict[Path, NDArray[np.uint8]] = field(default_factory=dict)

    def get(self, path: Path, make: Callable[[Path], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """What `make(path)` gives, from memory if it was made before and kept."""
        found = self.pixels.get(path)
        if found is None:
            found = make(path)
            if self.used_bytes + found.nbytes <= self.limit_bytes:
                self.used_bytes += found.nbytes
                self.pixels[path] = found
        return found


@dataclass(frozen=True)
class Part:
    """The photos of one part of the split."""

    names: tuple[str, ...]
    paths: tuple[Path, ...]
    targets: tuple[int, ...]
    spec: Preprocess
    cache: Cache
    hashes: tuple[str, ...] = ()  # of the photos' files, SHA-256

    def __len__(self) -> int:
        return len(self.names)

    def view(self, index: int, place: int = 0) -> NDArray[np.uint8]:
        """Photo `index` exactly as inference sees it: (h, w, 3) uint8, never augmented."""
        return resize(_decoded(self.paths[index]), self.spec)

    def kept_view(self, index: int, place: int = 0) -> NDArray[np.uint8]:
        """The same as `view`, kept in memory."""
        return self.cache.get(self.paths[index], lambda path: resize(_decoded(path), self.spec))

    def augmented(self, augmentation: Augmentation, seed: int, epoch: int) -> View:
        """Random views of an epoch, made from photos that are kept in memory a little larger."""
        spec = augmentation.spec

        def view(index: int, place: int) -> NDArray[np.uint8]:
            pixels = self.cache.get(self.paths[index], lambda path: _shrunk(_decoded(path), spec))
            return augmentation(pixels, np.random.default_rng([seed, epoch, place]))

        return view


@dataclass(frozen=True)
class Parts:
    """The three parts of the photos, and the labels that targets are indices of."""

    train: Part
    val: Part
    test: Part
    labels: tuple[str, ...]

    @property
    def counts(self) -> list[int]:
        """The number of training photos of each class."""
        return [self.train.targets.count(index) for index in range(len(self.labels))]


def _check_label(label: str, source: str) -> None:
    """Raise PhotosError for a label that no bundle could hold: now, not when training is over."""
    try:
        strictjson.text(label, "labels", MAX_LABEL)
    except BundleInvalid as error:
        raise PhotosError(
            "a label cannot stand in a bundle",
            where=source,
            expected=f"at most {MAX_LABEL} characters, no line break or other control character",
            found=ascii(label[:80]),
            fix="--label-style trim, which makes white space plain; else another name for the class",
        ) from error


def open_parts(photos: Photos, split: Split, spec: Preprocess) -> Parts:
    """The parts of `split`. Raises PhotosError where they cannot be learnt from."""
    labels = photos.labels
    index = {label: place for place, label in enumerate(labels)}
    if len(labels) < 2:
        raise PhotosError(
            "a classifier needs photos of at least two classes",
            where=photos.source,
            found=", ".join(labels) or "no labels",
            fix="one folder a class, or a table of labels with --csv",
        )
    for label in labels:
        _check_label(label, photos.source)
    paths = {photo.name: photo.path for photo in photos.items}
    target = {item.name: index[item.label] for item in split.items}
    hashes = {item.name: item.sha256 for item in split.items}
    caches = {"train": Cache(), "val": Cache(CACHE_LIMIT_BYTES // 4), "test": Cache(0)}

    def part(name: str) -> Part:
        names = tuple(split.names(name))
        return Part(
            names,
            tuple(paths[n] for n in names),
            tuple(target[n] for n in names),
            spec,
            caches[name],
            tuple(hashes[n] for n in names),
        )

    parts = Parts(part("train"), part("val"), part("test"), labels)
    untaught = [label for label, count in zip(labels, parts.counts, strict=True) if not count]
    if untaught:
        raise PhotosError(
            "classes without a photo to learn from",
            where=photos.source,
            found=", ".join(untaught[:8]),
            fix="more photos of them, or none",
        )
    if not len(parts.test):
        raise PhotosError(
            "no photo is held out to measure accuracy on",
            where=photos.source,
            found=f"{len(parts.train)} photos to train on",
            fix="at least two photos a class, or --test 0.2",
        )
    return parts


def batches(
    part: Part, view: View, order: Sequence[Sequence[int]], threads: int, ranks: Ranks = ALONE
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each list of indices in `order`: pictures (n, 3, h, w) float32 and targets (n,) int64.

    Of several processes each gets its share of every batch; the views are those that one would have made.
    """
    places = itertools.count()
    queue: deque[tuple[list[Future[NDArray[np.float32]]], Tensor]] = deque()

    def picture(index: int, place: int) -> NDArray[np.float32]:
        return normalise(view(index, place), part.spec)

    with ThreadPoolExecutor(threads) as pool:
        try:
            for indices in order:
                shares = ranks.share([(index, next(places)) for index in indices])
                made = [pool.submit(picture, index, place) for index, place in shares]
                queue.append((made, torch.tensor([part.targets[index] for index, _ in shares])))
                if len(queue) > AHEAD:
                    yield _together(*queue.popleft())
            while queue:
                yield _together(*queue.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def epoch_order(part: Part, batch: int, sampler: str, seed: int, epoch: int, classes: int) -> list[list[int]]:
    """The indices of one training epoch in batches of nearly equal size, at most `batch`.

    "balanced": drawn with replacement so that every class is as likely (WeightedRandomSampler); "none":
    shuffled, each once. Batches are evened out since BatchNorm cannot learn from a last batch of one.
    """
    random = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    if sampler == "balanced":
        counts = [part.targets.count(index) for index in range(classes)]
        weights = [1 / counts[target] for target in part.targets]
        drawn = torch.utils.data.WeightedRandomSampler(weights, len(part), replacement=True, generator=random)
        indices = [int(index) for index in drawn]
    else:
        indices = torch.randperm(len(part), generator=random).tolist()
    return [piece.tolist() for piece in np.array_split(np.array(indices), math.ceil(len(indices) / batch))]


def plain_order(count: int, batch: int, ranks: Ranks = ALONE) -> list[list[int]]:
    """0 … count-1 in batches of `batch`; of several processes, the share of this one."""
    mine = ranks.share(range(count))
    return [list(mine[start : start + batch]) for start in range(0, len(mine), batch)]


def _together(made: list[Future[NDArray[np.float32]]], targets: Tensor) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(np.stack([future.result() for future in made])), targets


def _decoded(path: Path) -> NDArray[np.uint8]:
    try:
        return decode(read_photo(path))
    except PhotoError as error:
        error.where = error.where or path
        raise


def _shrunk(pixels: NDArray[np.uint8], spec: Preprocess) -> NDArray[np.uint8]:
    """`pixels`, at most so large that both sides are KEPT_SHARE of what inference resizes to."""
    height, width = pixels.shape[:2]
    wanted = spec.resize if isinstance(spec.resize, tuple) else (spec.resize, spec.resize)
    share = max(KEPT_SHARE * wanted[0] / width, KEPT_SHARE * wanted[1] / height)
    if share >= 1:
        return pixels
    size = (max(1, round(width * share)), max(1, round(height * share)))
    return resize_exact(pixels, size, spec.interpolation)
