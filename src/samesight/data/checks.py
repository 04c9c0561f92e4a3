"""First checks of photos, in one pass that reads, hashes and decodes each of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from typing import Any, Literal

from samesight.data.photos import Photo, Photos, natural
from samesight.data.split import Split
from samesight.errors import InputError, PhotoError
from samesight.files import sha256_bytes
from samesight.preprocess import decode, read_photo
from samesight.progress import track

__all__ = ["DataReport", "Duplicate", "Scan", "Trouble", "check_photos", "hash_photos", "scan_photos"]

Kind = Literal["unreadable", "truncated", "empty"]
KINDS: dict[str, Kind] = {"empty": "empty", "truncated": "truncated"}  # others of PhotoError: unreadable
FEW_PHOTOS = 10  # below this, neither training nor a held-out part says much about a class
CHUNK = 4096  # photos handed to the threads at once


@dataclass(frozen=True)
class Trouble:
    """A photo that cannot be used, and why."""

    name: str
    kind: Kind
    reason: str


@dataclass(frozen=True)
class Duplicate:
    """Photos with the very same bytes."""

    names: tuple[str, ...]
    labels: tuple[str, ...]
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Scan:
    """What one pass over the photos gave; `hashes` and `sizes` (width, height) hold the readable ones."""

    hashes: Mapping[str, str]
    sizes: Mapping[str, tuple[int, int]]
    size_bytes: int
    troubles: tuple[Trouble, ...]


@dataclass(frozen=True)
class DataReport:
    """What was found out about photos before training. `counts` is label → part → photos."""

    source: str
    form: str
    labels: tuple[str, ...]
    photos: int
    readable: int
    size_bytes: int
    counts: dict[str, dict[str, int]]
    sizes: dict[str, list[int]] = field(default_factory=dict)
    troubles: tuple[Trouble, ...] = ()
    duplicates: tuple[Duplicate, ...] = ()
    conflicts: tuple[Duplicate, ...] = ()
    leaks: tuple[Duplicate, ...] = ()
    left_out: tuple[str, ...] = ()
    rows_without_file: tuple[str, ...] = ()
    files_without_row: tuple[str, ...] = ()
    small_classes: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    hashes: Mapping[str, str] = field(
        default_factory=dict, repr=False
    )  # kept in split.json, not in data.json

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object, without the hashes."""
        value = asdict(self)
        del value["hashes"]
        return value

    @classmethod
    def from_json(cls, value: object) -> DataReport:
        """The report from `to_json`'s object. Raises InputError on anything else."""
        names = {one.name for one in fields(cls)} - {"hashes"}
        try:
            if not isinstance(value, dict) or set(value) != names:
                raise ValueError(f"expected the fields {', '.join(sorted(names))}")
            given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
            given["troubles"] = tuple(Trouble(**row) for row in value["troubles"])
            for key in ("duplicates", "conflicts", "leaks"):
                rows = [{name: tuple(words) for name, words in row.items()} for row in value[key]]
                given[key] = tuple(Duplicate(**row) for row in rows)
            return cls(**given)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError("a data report is not as Samesight writes it", found=error) from error

    def findings(self) -> list[tuple[str, list[str]]]:
        """Each kind of finding with its cases, for people; empty kinds are left out."""
        every: list[tuple[str, list[str]]] = [
            ("photos that cannot be read (left out)", [f"{t.name}: {t.reason}" for t in self.troubles]),
            ("exact duplicates", [" = ".join(d.names) for d in self.duplicates]),
            (
                "the same photo under two labels",
                [f"{' = '.join(d.names)} ({', '.join(d.labels)})" for d in self.conflicts],
            ),
            (
                "the same photo on both sides",
                [f"{' = '.join(d.names)} ({', '.join(d.parts)})" for d in self.leaks],
            ),
            ("training photos left out because a held-out part has them", list(self.left_out)),
            ("table rows without a file", list(self.rows_without_file)),
            ("files without a table row (left out)", list(self.files_without_row)),
            (
                f"classes with fewer than {FEW_PHOTOS} photos",
                [f"{k}: {n}" for k, n in self.small_classes.items()],
            ),
        ]
        return [(what, cases) for what, cases in every if cases]


def scan_photos(photos: Photos) -> Scan:
    """Every photo read, hashed and decoded once, in threads."""
    hashes: dict[str, str] = {}
    sizes: dict[str, tuple[int, int]] = {}
    troubles: list[Trouble] = []
    size_bytes = 0
    for photo, length, digest, outcome in _in_threads(_scan_one, photos.items, "Checking photos"):
        size_bytes += length
        if isinstance(outcome, Trouble):
            troubles.append(outcome)
        else:
            hashes[photo.name], sizes[photo.name] = digest, outcome
    return Scan(hashes, sizes, size_bytes, tuple(troubles))


def hash_photos(photos: Photos, only: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of the photos that `only` names; those that cannot be read have none."""
    wanted = set(only)
    items = [photo for photo in photos.items if photo.name in wanted]
    hashed = _in_threads(_hash_one, items, "Hashing photos")
    return {name: digest for name, digest in hashed if digest is not None}


def _in_threads(work: Any, items: Iterable[Photo], what: str) -> Iterator[Any]:
    """`work` of each photo in order, a thread for each core (decoding frees the lock)."""
    items = list(items)

    def results() -> Iterator[Any]:
        remaining = iter(items)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            while chunk := list(islice(remaining, CHUNK)):
                yield from pool.map(work, chunk)

    return track(results(), what, total=len(items))


def _hash_one(photo: Photo) -> tuple[str, str | None]:
    try:
        return photo.name, sha256_bytes(read_photo(photo.path))
    except PhotoError:
        return photo.name, None


def _scan_one(photo: Photo) -> tuple[Photo, int, str, tuple[int, int] | Trouble]:
    data = b""
    try:
        data = read_photo(photo.path)
        height, width = decode(data).shape[:2]
    except PhotoError as error:
        reason = ": ".join(str(part) for part in (error.what, error.found) if part is not None)
        kind = KINDS.get(error.kind, "unreadable")
        return photo, len(data), "", Trouble(photo.name, kind, reason)
    return photo, len(data), sha256_bytes(data), (width, height)


def check_photos(photos: Photos, *, split: Split | None = None, scan: Scan | None = None) -> DataReport:
    """All first checks; `scan` is used where the photos were read already, and `split` gives their parts."""
    scan = scan_photos(photos) if scan is None else scan
    parts = {item.name: item.part for item in split.items} if split else {}
    left_out = {row.name: row.reason for row in split.left_out} if split else {}
    duplicates, conflicts, leaks = _same_bytes(photos, scan.hashes)
    counts = _counts(photos, scan, parts)
    totals = {
        label: sum(n for part, n in row.items() if part != "unreadable") for label, row in counts.items()
    }
    return DataReport(
        source=photos.source,
        form=photos.form,
        labels=photos.labels,
        photos=len(photos.items),
        readable=len(scan.hashes),
        size_bytes=scan.size_bytes,
        counts=counts,
        sizes=_sizes(scan.sizes),
        troubles=scan.troubles,
        duplicates=duplicates,
        conflicts=conflicts,
        leaks=leaks,
        left_out=tuple(f"{name}: {reason}" for name, reason in left_out.items()),
        rows_without_file=photos.rows_without_file,
        files_without_row=photos.files_without_row,
        small_classes={label: n for label, n in totals.items() if n < FEW_PHOTOS},
        notes=(*photos.notes, *_split_notes(counts, split)),
        hashes=scan.hashes,
    )


def _split_notes(counts: Mapping[str, Mapping[str, int]], split: Split | None) -> list[str]:
    """What is missing from a part of the split."""
    if split is None:
        return []
    told = {"train": "classes without a training photo", "test": "classes without a held-out photo"}
    notes = []
    for part, what in told.items():
        if missing := [label for label, row in counts.items() if part not in row]:
            dots = " …" if len(missing) > 5 else ""
            notes.append(f"{len(missing)} {what}: {', '.join(missing[:5])}{dots}")
    return notes


def _counts(photos: Photos, scan: Scan, parts: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """label → part → photos; without a split the part is "all"."""
    rows: dict[str, Counter[str]] = {label: Counter() for label in photos.labels}
    for photo in photos.items:
        if photo.label is None:
            continue
        if photo.name not in scan.hashes:
            part = "unreadable"
        else:
            part = parts.get(photo.name, "left_out") if parts else "all"
        rows[photo.label][part] += 1
    order = ("all", "train", "val", "test", "left_out", "unreadable")
    return {label: {part: row[part] for part in order if row[part]} for label, row in rows.items()}


def _same_bytes(
    photos: Photos, hashes: Mapping[str, str]
) -> tuple[tuple[Duplicate, ...], tuple[Duplicate, ...], tuple[Duplicate, ...]]:
    """Exact duplicates, those of them under two labels, and those in two parts that folders gave."""
    same: dict[str, list[Photo]] = {}
    for photo in photos.items:
        if photo.name in hashes:
            same.setdefault(hashes[photo.name], []).append(photo)
    found = [
        Duplicate(
            names=tuple(photo.name for photo in several),
            labels=tuple(sorted({photo.label for photo in several if photo.label is not None}, key=natural)),
            parts=tuple(sorted({photo.part for photo in several if photo.part is not None})),
        )
        for several in same.values()
        if len(several) > 1
    ]
    return (
        tuple(found),
        tuple(one for one in found if len(one.labels) > 1),
        tuple(one for one in found if len(one.parts) > 1),
    )


def _sizes(sizes: Mapping[str, tuple[int, int]]) -> dict[str, list[int]]:
    """The smallest, middle and largest photo by pixels, as [width, height]."""
    ordered = sorted(sizes.values(), key=lambda size: (size[0] * size[1], size))
    if not ordered:
        return {}
    return {
        "smallest": list(ordered[0]),
        "median": list(ordered[len(ordered) // 2]),
        "largest": list(ordered[-1]),
    }
