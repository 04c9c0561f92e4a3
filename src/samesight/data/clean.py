"""A cleaned list of photos: what is left out of training and why. No photo is touched."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable

from samesight.data.checks import DataReport
from samesight.data.findings import KINDS, find
from samesight.data.photos import Photo, Photos
from samesight.data.split import SIDES, Split
from samesight.errors import InputError

__all__ = ["ALWAYS", "BY_CHOICE", "cleaned_list", "review_list", "unwanted"]

ALWAYS = ("conflict", "near-conflict", "duplicate", "near-leak")
"""What is left out by `--fix`: it can only do harm. Unreadable photos are left out in any case."""
BY_CHOICE = ("near", "mislabelled", "dark", "bright", "flat", "blurred", "tiny", "odd-size", "odd-shape")
"""What is left out where it is named: a person has looked, or takes the risk."""


def unwanted(report: DataReport, photos: Photos, also: Collection[str] = ()) -> dict[str, str]:
    """name → reason, of the photos that a cleaned list leaves out: findings of `ALWAYS` and of `also`.

    Of a conflict all photos go, since nobody knows which label is right. Of copies one stays: one that
    folders or tables hold out, else the first by name. Raises InputError where `also` names anything but
    `BY_CHOICE`.
    """
    if wrong := sorted(set(also) - set(BY_CHOICE)):
        raise InputError(
            "such a finding cannot be left out", expected=", ".join(BY_CHOICE), found=", ".join(wrong)
        )
    by_name = {photo.name: photo for photo in photos.items}
    left: dict[str, str] = {}
    for finding in find(report):
        kind = finding.kind.name
        if kind not in ALWAYS and kind not in also:
            continue
        for case in finding.cases:
            photos_of_it = [by_name[name] for name in case.names if name in by_name]
            for name, reason in _going(kind, photos_of_it, left):
                left.setdefault(name, reason)
    return left


def cleaned_list(photos: Photos, split: Split) -> str:
    """CSV text `filename,label,part`: a row for each photo of the split, the same names as everywhere."""
    parts = {item.name: item.part for item in split.items}
    return _csv(
        ("filename", "label", "part"),
        ((photo.name, photo.label, parts[photo.name]) for photo in photos.items if photo.name in parts),
    )


def review_list(report: DataReport) -> str:
    """CSV text of the labels that are likely wrong, for a person to go through."""
    rows = (
        (one.name, one.label, one.likely, one.probability, one.likely_probability)
        for one in report.mislabelled or ()
    )
    return _csv(("filename", "label", "likely", "probability", "likely_probability"), rows)


def _going(kind: str, photos: list[Photo], left: Collection[str]) -> list[tuple[str, str]]:
    """The photos of one case that go, with the reason; `left` have gone already."""
    if kind in ("conflict", "near-conflict") or len(photos) == 1:
        return [(photo.name, KINDS[kind].title) for photo in photos]
    staying = [photo for photo in photos if photo.name not in left]
    if not staying:
        return []
    kept = min(staying, key=lambda photo: (-SIDES.index(photo.part or "train"), photo.name))
    return [
        (photo.name, f"a copy of {kept.name}")
        for photo in staying
        if photo is not kept and (kind != "near-leak" or photo.part == "train")
    ]


def _csv(heads: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return text.getvalue()
