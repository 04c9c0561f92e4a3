"""The split into training, inner validation and held-out photos: seeded, stratified, kept in a file.

Photos with equal bytes, near duplicates and photos of one group are a unit, and a unit is never divided. Per
label, the held-out part gets its share by largest remainder; units are drawn in the order of SHA-256(seed,
purpose, name), which is the same on every machine and does not depend on the order of the photos.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

from samesight.data.photos import Part, Photo, Photos, natural
from samesight.errors import InputError, PhotosError
from samesight.files import read_json, sha256_bytes, write_file

__all__ = ["LeftOut", "Split", "SplitItem", "check_split", "make_split", "read_split", "write_split"]

FORMAT = "samesight-split"
SPLIT_LIMIT_BYTES = 1 << 30
SIDES: tuple[Part, ...] = ("train", "val", "test")
VAL_FROM = 4  # a class with this many training units gives at least one to the inner validation part


@dataclass(frozen=True)
class SplitItem:
    """One photo of the split."""

    name: str
    sha256: str
    label: str
    part: Part
    group: str | None = None


@dataclass(frozen=True)
class LeftOut:
    """One photo that is in no part, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Split:
    """Which photo is in which part; `items` are sorted by name."""

    seed: int
    test_fraction: float
    val_fraction: float
    items: tuple[SplitItem, ...]
    left_out: tuple[LeftOut, ...] = ()
    parts_given: bool = False  # by folders or tables, not drawn
    near_together: bool = False  # near duplicates were looked for, and are never on two drawn sides

    def names(self, part: str) -> list[str]:
        """The names of the photos in one part, sorted."""
        return [item.name for item in self.items if item.part == part]

    @property
    def sha256(self) -> str:
        """The SHA-256 of the canonical text: every photo's name, hash, label, part and group."""
        rows = [[item.name, item.sha256, item.label, item.part, item.group] for item in self.items]
        return sha256_bytes(json.dumps(rows, ensure_ascii=True, separators=(",", ":")).encode())


@dataclass(frozen=True, eq=False)  # compared by identity: no photo is in two units
class _Unit:
    """Photos that must stay together, and how many of each label they are."""

    names: tuple[str, ...]
    counts: Mapping[str, int]

    @property
    def size(self) -> int:
        return len(self.names)


def make_split(
    photos: Photos,
    hashes: Mapping[str, str],
    *,
    seed: int = 42,
    test: float = 0.2,
    val: float = 0.1,
    near: Iterable[Sequence[str]] | None = None,
) -> Split:
    """A split of the photos that `hashes` names; `val` is a fraction of the training side.

    Each of `near` names photos that are near duplicates, and so belong on one side; but for a class that
    would then be a single unit, with nothing to hold out. Parts given by folders are kept; a validation
    folder without a test folder is the held-out part. A training photo that has the same bytes or group as a
    held-out one is then left out, so that no unit is divided; near duplicates are not, since whoever gave the
    parts may have had a reason. Raises PhotosError where photos have no labels, or none is left to train on.
    """
    if not (0 < test < 1 and 0 <= val < 1):
        raise InputError("fractions of a split lie between 0 and 1", found=f"test {test}, val {val}")
    items = {
        photo.name: photo for photo in sorted(photos.items, key=lambda p: p.name) if photo.name in hashes
    }
    unlabelled = [photo.name for photo in items.values() if photo.label is None]
    if unlabelled or not items:
        some = f"{len(unlabelled)} without a label ({unlabelled[0]} …)" if unlabelled else "no photos"
        raise PhotosError(
            "photos without labels cannot be split into training and held-out photos",
            where=photos.source,
            found="; ".join((some, *photos.notes)),  # among them why a table was not read
            fix="put each photo in a folder named after its class, or give a table with --csv",
        )
    parts: dict[str, Part] = {}
    left_out: list[LeftOut] = []
    together = [[name for name in names if name in items] for names in near or ()]
    parts_given = any(photo.part for photo in items.values())
    if parts_given:
        parts, left_out = _given_parts(items, _units(items.values(), hashes))
        train = [photo for name, photo in items.items() if parts.get(name) == "train"]
        units = _near_units(train, hashes, together)
    else:
        units = _near_units(list(items.values()), hashes, together)
        held_out = _draw(units, test, _order(seed, "test"))
        parts = {name: "test" if unit in held_out else "train" for unit in units for name in unit.names}
        units = [unit for unit in units if unit not in held_out]
    if val and "val" not in parts.values():
        for unit in _draw(units, val, _order(seed, "val"), least_units=VAL_FROM):
            parts |= dict.fromkeys(unit.names, "val")
    if "train" not in parts.values():
        raise PhotosError(
            "no photo is left to train on",
            where=photos.source,
            found=f"{len(left_out)} training photos are held-out ones too",
        )
    return Split(
        seed=seed,
        test_fraction=test,
        val_fraction=val,
        items=tuple(
            SplitItem(name, hashes[name], photo.label or "", parts[name], photo.group)
            for name, photo in items.items()
            if name in parts
        ),
        left_out=tuple(left_out),
        parts_given=parts_given,
        near_together=near is not None,
    )


def _near_units(
    photos: Sequence[Photo], hashes: Mapping[str, str], together: Sequence[Sequence[str]]
) -> list[_Unit]:
    """The units with near duplicates joined, except in classes that would become a single unit by it."""
    units = _units(photos, hashes, together)
    single = _single(units) - _single(_units(photos, hashes))
    if not single:
        return units
    label = {photo.name: photo.label for photo in photos}
    return _units(photos, hashes, [names for names in together if not single & {label.get(n) for n in names}])


def _single(units: Iterable[_Unit]) -> set[str | None]:
    """The labels of which there is one unit only."""
    counts = Counter(label for unit in units for label in unit.counts)
    return {label for label, count in counts.items() if count == 1}


def _units(
    photos: Iterable[Photo], hashes: Mapping[str, str], together: Iterable[Sequence[str]] = ()
) -> list[_Unit]:
    """The photos joined by equal bytes, equal group or one of `together`, in the order of first names."""
    leader: dict[str, str] = {}  # a photo's name → the name of another in its unit, or itself

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    first: dict[tuple[str, str], str] = {}
    members: dict[str, list[Photo]] = {}
    photos = list(photos)
    for photo in photos:
        leader[photo.name] = photo.name
        keys = [("sha256", hashes[photo.name])]
        if photo.group is not None:
            keys.append(("group", photo.group))
        for key in keys:
            leader[find(photo.name)] = find(first.setdefault(key, photo.name))
    for names in together:
        here = [name for name in names if name in leader]
        for name in here[1:]:
            leader[find(name)] = find(here[0])
    for photo in photos:
        members.setdefault(find(photo.name), []).append(photo)
    return sorted(map(_unit, members.values()), key=lambda unit: unit.names)


def _unit(photos: list[Photo]) -> _Unit:
    return _Unit(
        tuple(sorted(photo.name for photo in photos)), Counter(photo.label or "" for photo in photos)
    )


def _given_parts(items: Mapping[str, Photo], units: list[_Unit]) -> tuple[dict[str, Part], list[LeftOut]]:
    """The parts that folders gave, less the photos that also stand on a side further from training."""
    has_test = any(photo.part == "test" for photo in items.values())
    given: dict[str, Part] = {
        name: "test" if photo.part == "val" and not has_test else photo.part or "train"
        for name, photo in items.items()
    }
    parts: dict[str, Part] = {}
    left_out: list[LeftOut] = []
    for unit in units:
        kept = max((given[name] for name in unit.names), key=SIDES.index)
        for name in unit.names:
            if given[name] == kept:
                parts[name] = given[name]
            else:
                left_out.append(LeftOut(name, f"the {kept} part has the same photo or group"))
    return parts, left_out


def _order(seed: int, purpose: str) -> Any:
    """A key that shuffles units the same way on every machine."""

    def key(unit: _Unit) -> tuple[int, bytes]:
        words = f"{seed}\0{purpose}\0{unit.names[0]}".encode("utf-8", "surrogatepass")
        return -unit.size, hashlib.sha256(words).digest()

    return key


def _draw(units: list[_Unit], fraction: float, order: Any, least_units: int = 2) -> set[_Unit]:
    """The units that make up `fraction` of each label, as nearly as whole units can.

    A label with at least `least_units` units gives one and keeps one.
    """
    totals: Counter[str] = Counter()
    unit_counts: Counter[str] = Counter()
    for unit in units:
        totals.update(unit.counts)
        unit_counts.update(unit.counts.keys())
    needy = {label for label, count in unit_counts.items() if count >= least_units}
    targets = _apportion(totals, fraction, needy)
    queue = sorted(units, key=order)
    drawn: set[_Unit] = set()
    has: Counter[str] = Counter()
    left = Counter(unit_counts)

    def take(unit: _Unit) -> None:
        drawn.add(unit)
        has.update(unit.counts)
        left.subtract(unit.counts.keys())

    def spares(unit: _Unit) -> bool:
        return all(left[label] > 1 for label in unit.counts)

    for unit in queue:
        gain = sum(
            abs(has[label] - targets[label]) - abs(has[label] + count - targets[label])
            for label, count in unit.counts.items()
        )
        if gain > 0 and spares(unit):
            take(unit)
    for unit in reversed(queue):  # the smallest first
        if (
            unit not in drawn
            and spares(unit)
            and any(label in needy and not has[label] for label in unit.counts)
        ):
            take(unit)
    return drawn


def _apportion(totals: Mapping[str, int], fraction: float, needy: set[str]) -> dict[str, int]:
    """Whole numbers per label that add up to the fraction of all, by largest remainder."""
    share = Fraction(str(fraction))
    exact = {label: totals[label] * share for label in sorted(totals, key=natural)}
    targets = {
        label: min(max(floor(value), label in needy), max(totals[label] - 1, 0))
        for label, value in exact.items()
    }
    missing = floor(sum(totals.values()) * share + Fraction(1, 2)) - sum(targets.values())
    for label in sorted(exact, key=lambda label: (targets[label] - exact[label], natural(label))):
        if missing > 0 and targets[label] < exact[label] and targets[label] < totals[label] - 1:
            targets[label] += 1
            missing -= 1
    return targets


def write_split(path: Path, split: Split, **more: Any) -> None:
    """Write `split` as JSON, one line a photo, with `more` fields beside it."""
    head = {
        "format": FORMAT,
        "format_version": 1,
        "sha256": split.sha256,
        "seed": split.seed,
        "test_fraction": split.test_fraction,
        "val_fraction": split.val_fraction,
        "parts_given": split.parts_given,
        "near_together": split.near_together,
        **more,
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    for key, rows in (("left_out", split.left_out), ("items", split.items)):
        texts = [f"    {json.dumps(vars(row), ensure_ascii=False)}" for row in rows]
        lines.append(f"  {json.dumps(key)}: [" + ("\n" + ",\n".join(texts) + "\n  ]" if texts else "]"))
    write_file(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read_split(path: Path) -> Split:
    """The split in a file. Raises InputError where it is not one, or was changed by hand."""
    value = read_json(path, SPLIT_LIMIT_BYTES)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise InputError("this is not a split", where=path, expected=f'"format": "{FORMAT}"')
    if value.get("format_version") != 1:
        raise InputError(
            "the split was written by a newer Samesight", where=path, fix="pip install --upgrade samesight"
        )
    try:
        split = Split(
            seed=int(value["seed"]),
            test_fraction=float(value["test_fraction"]),
            val_fraction=float(value["val_fraction"]),
            items=tuple(SplitItem(**row) for row in value["items"]),
            left_out=tuple(LeftOut(**row) for row in value["left_out"]),
            parts_given=bool(value["parts_given"]),
            near_together=bool(value.get("near_together", False)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("the split is not as Samesight writes it", where=path, found=error) from error
    if any(item.part not in SIDES for item in split.items) or split.sha256 != value.get("sha256"):
        raise InputError("the split was changed after it was written", where=path, fix="make it anew")
    return split


def check_split(
    split: Split, photos: Photos, hashes: Mapping[str, str], *, left_out: Iterable[str] = ()
) -> None:
    """Raise PhotosError where the photos are not those that were split; `left_out` names others known."""
    here = {photo.name: photo for photo in photos.items}
    split_names = {item.name for item in split.items}
    known = split_names.union((row.name for row in split.left_out), left_out)
    troubles = {
        "gone": sorted(split_names - here.keys()),
        "new": sorted(here.keys() - known),
        "changed": [i.name for i in split.items if i.name in hashes and hashes[i.name] != i.sha256],
        "under another label": [
            i.name for i in split.items if i.name in here and here[i.name].label != i.label
        ],
    }
    told = [
        f"{len(names)} {what} ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})"
        for what, names in troubles.items()
        if names
    ]
    if told:
        raise PhotosError(
            "the photos changed after they were split",
            where=photos.source,
            found="; ".join(told),
            fix="split them anew: samesight data PHOTOS --replace",
        )
