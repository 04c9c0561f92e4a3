"""Photos in three parts that share none: to calibrate with, to choose by, to judge on once, at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samesight.data.labels import bind
from samesight.data.photos import Photo, PhotoOptions, open_photos
from samesight.data.prepare import is_prepared, open_prepared
from samesight.errors import InputError, PhotoError, PhotosError
from samesight.files import sha256_bytes, sha256_file
from samesight.preprocess import Preprocess, preprocess, read_photo

__all__ = ["Part", "Parts", "open_parts", "training_part"]

CALIBRATION = 128  # more change the ranges of a classifier's tensors little
CHOICE = 256
SHARE = 5  # of plain photos, a fifth each to calibrate with and to choose by; the rest judges
LEAST = 10  # of photos in each part
TRAINING = 512  # photos that weights learn from: as many as memory holds easily
FEW = 64  # an inner validation part of fewer is filled up with training photos


@dataclass(frozen=True)
class Part:
    """Photos, the index of each one's true label where it is known, and the SHA-256 of each one's bytes."""

    paths: tuple[Path, ...]
    targets: tuple[int | None, ...]
    sha256: tuple[str, ...]

    def first(self, count: int) -> Part:
        """The first `count` photos, which are drawn by the seed."""
        return _slice(self, 0, count)

    def tensors(self, spec: Preprocess) -> NDArray[np.float32]:
        """The photos that can be read, (n, 3, height, width). Raises PhotosError where there are none."""
        found = []
        for path in self.paths:
            try:
                found.append(preprocess(read_photo(path), spec))
            except PhotoError:
                continue
        if not found:
            raise PhotosError("none of the photos can be read", where=self.paths[0].parent)
        return np.stack(found)


@dataclass(frozen=True)
class Parts:
    """The three parts, and in words how they were divided."""

    calibration: Part
    choice: Part
    verdict: Part
    how: str


def open_parts(
    source: str | Path,
    labels: Sequence[str],
    options: PhotoOptions = PhotoOptions(),  # noqa: B008  # frozen
    *,
    seed: int = 42,
    calibration: int = CALIBRATION,
) -> Parts:
    """The photos of `source` in three parts, `calibration` to calibrate with where there are enough; equal
    photos are taken once.

    Where `source` is a folder that `data` or `train` wrote, or photos in train, val and test folders: from
    the training part to calibrate, from the inner validation part to choose, the held-out part to judge.
    Plain photos are divided by `seed` and each photo's bytes alone. Raises PhotosError where they are too
    few.
    """
    if is_prepared(source):
        photos, split, _ = open_prepared(Path(source))
        parts = {item.name: item.part for item in split.items}
        known = {item.name: item.sha256 for item in split.items}
        hashes: Callable[[Photo], str] = lambda photo: known[photo.name]  # noqa: E731
        given = f"the split of {Path(source).name}"
    else:
        photos = open_photos(source, options)
        parts = {photo.name: photo.part for photo in photos.items if photo.part is not None}
        hashes = _hash
        given = "the photos' own folders"
    rows = [
        (photo, target)
        for photo, target in zip(photos.items, bind(photos, labels), strict=True)
        if not parts or photo.name in parts
    ]
    if not parts:
        return _plain(_part(rows, _hash), seed, calibration)
    by_part = {
        part: _shuffled(_part([row for row in rows if parts[row[0].name] == part], hashes), seed)
        for part in ("train", "val", "test")
    }
    return _split(by_part, given, calibration)


def training_part(
    run: str | Path, labels: Sequence[str], parts: Parts, *, seed: int = 42, most: int = TRAINING
) -> Part:
    """The training photos of `run`, a folder of `data` or `train`, at most `most` of them, without those that
    `parts` choose by and judge on. Raises InputError and PhotosError.
    """
    if not is_prepared(run):
        fix = "the folder that samesight train or samesight data wrote"
        raise InputError("--qat takes a run, for its training part", where=run, fix=fix)
    photos, split, _ = open_prepared(Path(run))
    train = {item.name: item.sha256 for item in split.items if item.part == "train"}
    rows = [
        (photo, target)
        for photo, target in zip(photos.items, bind(photos, labels), strict=True)
        if photo.name in train
    ]
    part = _shuffled(_part(rows, lambda photo: train[photo.name]), seed)
    part = _without(part, {*parts.choice.sha256, *parts.verdict.sha256}).first(most)
    if len(part.paths) < LEAST:
        raise PhotosError(
            "too few photos are left to learn from",
            where=run,
            expected=f"at least {LEAST} that are neither chosen by nor judged on",
            found=len(part.paths),
        )
    return part


def _split(given: dict[str, Part], words: str, wanted: int) -> Parts:
    train, val, test = given["train"], given["val"], given["test"]
    if not test.paths:
        val, test = _slice(val, 0, 0), val
    known = set(test.sha256)
    train, val = _without(train, known), _without(val, known)
    train = _without(train, set(val.sha256))
    if len(train.paths) < LEAST or len(test.paths) < LEAST:
        raise _too_few(len(train.paths) + len(test.paths), f"{LEAST} to train on, and {LEAST} held out")
    size = min(wanted, len(train.paths) // 2 if len(val.paths) < FEW else len(train.paths))
    calibration, rest = _slice(train, 0, size), _slice(train, size, None)
    how = f"{words}: calibrated on the training part, judged on the held-out part, chosen by the inner "
    how += "validation part"
    choice = _slice(val, 0, CHOICE)
    if len(choice.paths) < FEW:
        more = _slice(rest, 0, FEW - len(choice.paths))
        if choice.paths:
            how += f" ({len(choice.paths)} photos) and {len(more.paths)} more of the training part"
        else:
            how = f"{words}: calibrated and chosen on the training part, judged on the held-out part"
        choice = Part(choice.paths + more.paths, choice.targets + more.targets, choice.sha256 + more.sha256)
    return Parts(calibration, choice, test, how)


def _plain(whole: Part, seed: int, wanted: int) -> Parts:
    whole = _shuffled(whole, seed)
    count = len(whole.paths)
    if count // SHARE < LEAST:
        raise _too_few(count, f"{SHARE * LEAST} different ones")
    calibration, choice = min(wanted, count // SHARE), min(CHOICE, count // SHARE)
    return Parts(
        _slice(whole, 0, calibration),
        _slice(whole, calibration, calibration + choice),
        _slice(whole, calibration + choice, None),
        f"plain photos, divided by seed {seed}",
    )


def _too_few(count: int, expected: str) -> PhotosError:
    return PhotosError(
        "there are too few photos to calibrate with, to choose by, and to judge on",
        expected=f"at least {expected}",
        found=count,
        fix="more photos of the same kind; their labels may be missing",
    )


def _hash(photo: Photo) -> str:
    try:
        return sha256_file(photo.path)
    except OSError as error:
        raise InputError("a photo cannot be read", where=photo.path, found=error.strerror) from error


def _part(rows: Sequence[tuple[Photo, int | None]], hashes: Callable[[Photo], str]) -> Part:
    """The photos of `rows`, equal ones once."""
    seen: dict[str, tuple[Path, int | None]] = {}
    for photo, target in rows:
        seen.setdefault(hashes(photo), (photo.path, target))
    return Part(
        tuple(path for path, _ in seen.values()), tuple(target for _, target in seen.values()), tuple(seen)
    )


def _shuffled(part: Part, seed: int) -> Part:
    """The photos in an order drawn by `seed` and their bytes, the same on every machine."""
    order = sorted(range(len(part.paths)), key=lambda at: sha256_bytes(f"{seed}:{part.sha256[at]}".encode()))
    return _take(part, order)


def _without(part: Part, hashes: set[str]) -> Part:
    return _take(part, [at for at, one in enumerate(part.sha256) if one not in hashes])


def _slice(part: Part, start: int, stop: int | None) -> Part:
    return _take(part, range(*slice(start, stop).indices(len(part.paths))))


def _take(part: Part, places: Sequence[int]) -> Part:
    return Part(
        tuple(part.paths[at] for at in places),
        tuple(part.targets[at] for at in places),
        tuple(part.sha256[at] for at in places),
    )
