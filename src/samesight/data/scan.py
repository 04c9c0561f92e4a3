"""One pass over the photos that reads, hashes, decodes and measures each of them once, in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from samesight.data.look import Look, look_at
from samesight.data.photos import Photo, Photos
from samesight.data.thresholds import limit
from samesight.errors import PhotoError
from samesight.files import sha256_bytes
from samesight.preprocess import decode, read_photo
from samesight.progress import track
from samesight.runner import cpus

__all__ = ["Scan", "Trouble", "hash_photos", "scan_photos"]

Kind = Literal["unreadable", "truncated", "empty"]
KINDS: dict[str, Kind] = {"empty": "empty", "truncated": "truncated"}  # others of PhotoError: unreadable
CHUNK = 4096  # photos handed to the threads at once
FINE_UP_TO = 100_000  # photos; of more, the small pictures are coarse, 1 KB each instead of 4
Result = TypeVar("Result")


@dataclass(frozen=True)
class Trouble:
    """A photo that cannot be used, and why."""

    name: str
    kind: Kind
    reason: str


@dataclass(frozen=True)
class Scan:
    """What one pass over the photos gave, by name; all but `troubles` hold the readable ones.

    `sizes` are (width, height), `pictures` are small and grey, as `look_at` gives them: none where there are
    more photos than are compared.
    """

    hashes: Mapping[str, str]
    sizes: Mapping[str, tuple[int, int]]
    size_bytes: int
    troubles: tuple[Trouble, ...]
    looks: Mapping[str, Look] = field(default_factory=dict)
    pictures: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Seen:
    """One photo that could be read."""

    sha256: str
    size: tuple[int, int]
    look: Look
    picture: NDArray[np.uint8] | None


def scan_photos(photos: Photos) -> Scan:
    """Every photo read, hashed, decoded and measured."""
    seen: dict[str, _Seen] = {}
    troubles: list[Trouble] = []
    size_bytes, count = 0, len(photos.items)

    def work(photo: Photo) -> tuple[Photo, int, _Seen | Trouble]:
        length, outcome = _scan_one(photo, coarse=count > FINE_UP_TO)
        if count > limit("compared") and isinstance(outcome, _Seen):
            outcome = replace(outcome, picture=None)
        return photo, length, outcome

    for photo, length, outcome in _in_threads(work, photos.items, "Checking photos"):
        size_bytes += length
        if isinstance(outcome, Trouble):
            troubles.append(outcome)
        else:
            seen[photo.name] = outcome
    return Scan(
        hashes={name: one.sha256 for name, one in seen.items()},
        sizes={name: one.size for name, one in seen.items()},
        size_bytes=size_bytes,
        troubles=tuple(troubles),
        looks={name: one.look for name, one in seen.items()},
        pictures={name: one.picture for name, one in seen.items() if one.picture is not None},
    )


def hash_photos(photos: Photos, only: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of the photos that `only` names; those that cannot be read have none."""
    wanted = set(only)
    items = [photo for photo in photos.items if photo.name in wanted]
    hashed = _in_threads(_hash_one, items, "Hashing photos")
    return {name: digest for name, digest in hashed if digest is not None}


def _in_threads(work: Callable[[Photo], Result], items: Iterable[Photo], what: str) -> Iterator[Result]:
    """`work` of each photo in order, a thread for each core (decoding frees the lock)."""
    items = list(items)

    def results() -> Iterator[Result]:
        remaining = iter(items)
        with ThreadPoolExecutor(cpus()) as pool:
            while chunk := list(islice(remaining, CHUNK)):
                yield from pool.map(work, chunk)

    return track(results(), what, total=len(items))


def _hash_one(photo: Photo) -> tuple[str, str | None]:
    try:
        return photo.name, sha256_bytes(read_photo(photo.path))
    except PhotoError:
        return photo.name, None


def _scan_one(photo: Photo, *, coarse: bool) -> tuple[int, _Seen | Trouble]:
    """The length of the photo's file in bytes, and what is in it."""
    data = b""
    try:
        data = read_photo(photo.path)
        pixels = decode(data)
    except PhotoError as error:
        reason = ": ".join(str(part) for part in (error.what, error.found) if part is not None)
        return len(data), Trouble(photo.name, KINDS.get(error.kind, "unreadable"), reason)
    height, width = pixels.shape[:2]
    look, picture = look_at(pixels, coarse=coarse)
    return len(data), _Seen(sha256_bytes(data), (width, height), look, picture)
