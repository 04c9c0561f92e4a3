"""What is wrong with photos before anything is trained on them: the checks, and the report that they fill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

import numpy as np

from samesight.data.near import NearGroup, near_groups
from samesight.data.photos import Photo, Photos, natural
from samesight.data.scan import Scan, Trouble, scan_photos
from samesight.data.split import Split
from samesight.data.thresholds import limit
from samesight.errors import InputError

__all__ = ["DataReport", "Duplicate", "Judged", "Mislabelled", "Near", "Trouble", "check_photos"]


@dataclass(frozen=True)
class Duplicate:
    """Photos with the very same bytes."""

    names: tuple[str, ...]
    labels: tuple[str, ...]
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Near:
    """Photos that show the same picture, those in `mirrored` the other way round than the others.

    `likeness` is that of the weakest link, 0 to 1.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    parts: tuple[str, ...]
    mirrored: tuple[str, ...]
    likeness: float


@dataclass(frozen=True)
class Mislabelled:
    """A photo that a classifier which never saw it takes for another class, more surely than is usual.

    Probabilities are 0 to 1: of the label that it has, and of the likely one.
    """

    name: str
    label: str
    likely: str
    probability: float
    likely_probability: float


@dataclass(frozen=True)
class Judged:
    """What a network's features say of the labels: the likely wrong ones, the surest first, and notes."""

    mislabelled: tuple[Mislabelled, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class DataReport:
    """What was found out about photos before training. `counts` is label → part → photos.

    `looks` is kind → name → what was measured: the kinds and units are in findings.py and thresholds.py.
    `near_conflicts` and `near_leaks` are those of `near` that are under two labels the same way round, and in
    two parts. `mislabelled` is None where no network was asked.
    """

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
    near: tuple[Near, ...] = ()
    near_conflicts: tuple[Near, ...] = ()
    near_leaks: tuple[Near, ...] = ()
    looks: dict[str, dict[str, float]] = field(default_factory=dict)
    mislabelled: tuple[Mislabelled, ...] | None = None
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
        """The report from `to_json`'s object; what an older version did not check may be missing.

        Raises InputError on anything else.
        """
        every = {one.name: one for one in fields(cls) if one.name != "hashes"}
        needed = {
            name for name, one in every.items() if one.default is MISSING and one.default_factory is MISSING
        }
        try:
            if not isinstance(value, dict) or not needed <= set(value) <= set(every):
                raise ValueError(f"expected the fields {', '.join(sorted(every))}")
            given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
            for key, kind in _ROWS.items():
                if value.get(key) is not None:
                    given[key] = tuple(kind(**{k: _frozen(v) for k, v in row.items()}) for row in value[key])
            return cls(**given)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError("a data report is not as Samesight writes it", found=error) from error

    def findings(self) -> list[tuple[str, list[str]]]:
        """Each kind of finding with its cases, for people; empty kinds are left out."""
        from samesight.data.findings import find

        return [(one.title, [case.words for case in one.cases]) for one in find(self)]


_ROWS: dict[str, type[Any]] = {
    "troubles": Trouble,
    "duplicates": Duplicate,
    "conflicts": Duplicate,
    "leaks": Duplicate,
    "near": Near,
    "near_conflicts": Near,
    "near_leaks": Near,
    "mislabelled": Mislabelled,
}


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def check_photos(
    photos: Photos,
    *,
    split: Split | None = None,
    scan: Scan | None = None,
    near: Sequence[NearGroup] | None = None,
    judged: Judged | None = None,
) -> DataReport:
    """All checks. `scan`, `near` and `judged` are used where they were made already.

    `split` gives the photos' parts. Without `judged` no label is doubted: that needs a network.
    """
    scan = scan_photos(photos) if scan is None else scan
    near = near_groups(scan.pictures, scan.hashes) if near is None else near
    parts = {item.name: item.part for item in split.items} if split else {}
    left_out = {row.name: row.reason for row in split.left_out} if split else {}
    duplicates = _same_bytes(photos, scan.hashes)
    nears = list(_nears(photos, near, parts))
    counts = _counts(photos, scan, parts)
    totals = {
        label: sum(n for part, n in row.items() if part != "unreadable") for label, row in counts.items()
    }
    looks, usual = _looks(scan)
    leaks = tuple(one for one, _ in nears if len(one.parts) > 1)
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
        conflicts=tuple(one for one in duplicates if len(one.labels) > 1),
        leaks=tuple(one for one in duplicates if len(one.parts) > 1),
        near=tuple(one for one, _ in nears),
        near_conflicts=tuple(one for one, disputed in nears if disputed),
        near_leaks=leaks,
        looks=looks,
        mislabelled=None if judged is None else judged.mislabelled,
        left_out=tuple(f"{name}: {reason}" for name, reason in left_out.items()),
        rows_without_file=photos.rows_without_file,
        files_without_row=photos.files_without_row,
        small_classes={label: n for label, n in totals.items() if n < limit("few photos")},
        notes=(
            *photos.notes,
            *usual,
            *_split_notes(counts, split, leaks),
            *_limits(photos),
            *(judged.notes if judged else ()),
        ),
        hashes=scan.hashes,
    )


def _limits(photos: Photos) -> list[str]:
    """What was not done because there are too many photos."""
    most = int(limit("compared"))
    if len(photos.items) <= most:
        return []
    return [
        f"near duplicates were not looked for: of {len(photos.items):,} photos, at most {most:,} are compared"
    ]


def _split_notes(
    counts: Mapping[str, Mapping[str, int]], split: Split | None, near_leaks: Sequence[Near]
) -> list[str]:
    """What is missing from a part of the split, and why near duplicates were drawn apart."""
    if split is None:
        return []
    told = {"train": "without a training photo", "test": "without a held-out photo"}
    notes = []
    if near_leaks and not split.parts_given:
        labels = sorted({label for one in near_leaks for label in one.labels}, key=natural)
        notes.append(
            f"all photos of {', '.join(labels[:5])} are near duplicates of one another, so they were drawn "
            "apart: else nothing could be held out"
        )
    for part, what in told.items():
        if missing := [label for label, row in counts.items() if part not in row]:
            dots = " …" if len(missing) > 5 else ""
            classes = f"{len(missing)} class{'es' if len(missing) > 1 else ''}"
            notes.append(f"{classes} {what}: {', '.join(missing[:5])}{dots}")
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


def _same_bytes(photos: Photos, hashes: Mapping[str, str]) -> tuple[Duplicate, ...]:
    """Exact duplicates, with the parts that folders or tables gave."""
    same: dict[str, list[Photo]] = {}
    for photo in photos.items:
        if photo.name in hashes:
            same.setdefault(hashes[photo.name], []).append(photo)
    return tuple(
        Duplicate(
            names=tuple(photo.name for photo in several),
            labels=_labels(several),
            parts=tuple(sorted({photo.part for photo in several if photo.part is not None})),
        )
        for several in same.values()
        if len(several) > 1
    )


def _labels(photos: Iterable[Photo]) -> tuple[str, ...]:
    return tuple(sorted({photo.label for photo in photos if photo.label is not None}, key=natural))


def _nears(
    photos: Photos, near: Sequence[NearGroup], parts: Mapping[str, str]
) -> Iterator[tuple[Near, bool]]:
    """Near duplicates, and whether photos that show the same way round are under two labels.

    A mirrored copy under another label may well be right: left and right hands, b and d.
    """
    by_name = {photo.name: photo for photo in photos.items}
    for group in near:
        members = [by_name[name] for name in group.names]
        turned = [one for one in members if one.name in group.mirrored]
        upright = [one for one in members if one.name not in group.mirrored]
        found = Near(
            names=group.names,
            labels=_labels(members),
            parts=tuple(sorted({part for one in members if (part := one.part or parts.get(one.name))})),
            mirrored=group.mirrored,
            likeness=group.likeness,
        )
        yield found, len(_labels(turned)) > 1 or len(_labels(upright)) > 1


def _looks(scan: Scan) -> tuple[dict[str, dict[str, float]], list[str]]:
    """What is odd about single photos, and notes on what most of them have in common instead."""
    found: dict[str, dict[str, float]] = {}
    for name, look in scan.looks.items():
        if look.brightest < limit("dark"):
            found.setdefault("dark", {})[name] = look.brightest
        elif look.darkest > limit("bright"):
            found.setdefault("bright", {})[name] = look.darkest
        elif look.brightest - look.darkest < limit("flat"):
            found.setdefault("flat", {})[name] = look.brightest - look.darkest
        elif look.sharpness is not None and look.sharpness < limit("blurred"):
            found.setdefault("blurred", {})[name] = round(look.sharpness, 3)
    found |= _odd_sizes(scan.sizes)
    most = limit("most photos") * len(scan.looks)
    usual = {kind: len(names) for kind, names in found.items() if len(names) > most}
    notes = [
        f"{count} of {len(scan.looks)} photos are {kind}: that is what these photos are like; none is listed"
        for kind, count in usual.items()
    ]
    return {kind: names for kind, names in found.items() if kind not in usual}, notes


def _odd_sizes(sizes: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, float]]:
    """Photos that are tiny, or of another size or shape than most: pixels, and times the middle photo."""
    if not sizes:
        return {}
    names = list(sizes)
    pixels = np.array([sizes[name] for name in names], np.float64)
    shorter, side = pixels.min(axis=1), np.sqrt(pixels.prod(axis=1))
    shape = np.log(pixels.max(axis=1) / shorter)  # lying or standing does not matter
    small = (shorter < limit("tiny")) & (np.median(shorter) >= 2 * limit("tiny"))
    size = side / np.median(side)
    odd_size = (np.maximum(size, 1 / size) > limit("odd size")) & ~small
    stretch = np.exp(np.abs(shape - np.median(shape)))
    odd_shape = stretch > limit("odd shape")
    kinds = {"tiny": (small, shorter), "odd size": (odd_size, size), "odd shape": (odd_shape, stretch)}
    return {
        kind: {names[at]: round(float(values[at]), 2) for at in np.flatnonzero(which)}
        for kind, (which, values) in kinds.items()
        if which.any()
    }


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
