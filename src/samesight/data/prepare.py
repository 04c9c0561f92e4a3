"""Photos opened, checked and split, and what was found kept in a folder that later stages pick up."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from samesight.data.checks import DataReport, check_photos
from samesight.data.clean import cleaned_list, review_list, unwanted
from samesight.data.labels import labels_mapping
from samesight.data.near import near_groups
from samesight.data.notes import preparation_notes
from samesight.data.photos import PhotoOptions, Photos, open_photos
from samesight.data.scan import hash_photos, scan_photos
from samesight.data.split import (
    SPLIT_LIMIT_BYTES,
    LeftOut,
    Split,
    check_split,
    make_split,
    read_split,
    write_split,
)
from samesight.errors import InputError, PhotosError
from samesight.files import read_json, write_file, write_json

__all__ = [
    "Inspection",
    "Prepared",
    "SplitOptions",
    "is_prepared",
    "open_prepared",
    "prepare",
    "write_prepared",
]


@dataclass(frozen=True)
class SplitOptions:
    """How photos are split; `val` is a fraction of the training side.

    With `near`, near duplicates are looked for and kept on one side.
    """

    seed: int = 42
    test: float = 0.2
    val: float = 0.1
    near: bool = True


@dataclass(frozen=True)
class Inspection:
    """What is done beyond the checks that always are.

    `model` is a bundle or a run, whose features tell likely wrong labels. With `fix`, what can only do harm
    is left out of the split, and findings of the kinds `also` with it.
    """

    model: Path | None = None
    fix: bool = False
    also: tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether there is nothing beyond."""
        return self.model is None and not self.fix


@dataclass(frozen=True)
class Prepared:
    """Photos, their split, what was found, and what they came from."""

    photos: Photos
    split: Split
    report: DataReport
    source: str
    options: PhotoOptions
    fixed: bool = False  # by `Inspection.fix`


def is_prepared(path: str | Path) -> bool:
    """Whether `path` is a folder that `prepare` filled."""
    return (Path(path) / "split.json").is_file() and (Path(path) / "data.json").is_file()


def prepare(
    source: str | Path,
    options: PhotoOptions = PhotoOptions(),  # noqa: B008
    split_options: SplitOptions = SplitOptions(),
    out: Path | None = None,
    *,
    replace: bool = False,
    inspection: Inspection = Inspection(),
) -> Prepared:
    """The photos of `source`, checked and split; written to `out` unless it is None.

    A `source` that is itself a prepared folder is picked up as it is, or inspected anew with the options that
    it was made with. An `out` that holds a split of the same photos and options is reused, after its photos'
    hashes were compared. Raises PhotosError where the photos cannot be used or have changed, InputError where
    `out` holds another split and `replace` is false.
    """
    held = Path(source) if is_prepared(source) else None
    if held is not None and inspection.plain:
        prepared = _reopen(held)
    elif held is None and out is not None and is_prepared(out) and not replace and inspection.plain:
        return _reuse(out, _absolute(str(source)), _settled(options), split_options)
    else:
        if held is not None:
            source, options = _recipe(held / "split.json")
            split_options = _options_of(read_split(held / "split.json"))
        prepared = _made(source, options, split_options, inspection)
        if out is not None and is_prepared(out) and not replace:
            _check_same(out, prepared)
    if out is not None and (held is None or not inspection.plain or out.resolve() != held.resolve()):
        write_prepared(out, prepared)
    return prepared


def _made(
    source: str | Path, options: PhotoOptions, split_options: SplitOptions, inspection: Inspection
) -> Prepared:
    """The photos checked and split from the beginning."""
    photos = open_photos(source, options)
    scan = scan_photos(photos)
    near = near_groups(scan.pictures, scan.hashes) if split_options.near else ()
    judged = None
    if inspection.model is not None:
        from samesight.data.mislabelled import find_mislabelled

        judged = find_mislabelled(photos, scan.hashes, near, inspection.model)
    left: dict[str, str] = {}
    if inspection.fix:
        found = check_photos(photos, scan=scan, near=near, judged=judged)
        left = unwanted(found, photos, inspection.also)
    split = make_split(
        photos,
        {name: digest for name, digest in scan.hashes.items() if name not in left},
        seed=split_options.seed,
        test=split_options.test,
        val=split_options.val,
        near=[group.names for group in near] if split_options.near else None,
    )
    gone = tuple(LeftOut(name, reason) for name, reason in sorted(left.items()))
    split = dataclasses.replace(split, left_out=(*split.left_out, *gone))
    report = check_photos(photos, split=split, scan=scan, near=near, judged=judged)
    return Prepared(photos, split, report, _absolute(str(source)), _settled(options), inspection.fix)


def open_prepared(folder: Path) -> tuple[Photos, Split, DataReport]:
    """The photos, split and report of a prepared folder.

    Raises InputError where it is not one, PhotosError where the photos have changed since.
    """
    prepared = _reopen(folder)
    return prepared.photos, prepared.split, prepared.report


def write_prepared(out: Path, prepared: Prepared) -> None:
    """Write split.json (last, so that it marks the folder as complete) and what people read beside it."""
    report, split = prepared.report, prepared.split
    write_json(out / "data.json", report.to_json())
    write_json(out / "labels_mapping.json", labels_mapping(prepared.photos.labels))
    write_file(out / "class_distribution.csv", class_distribution(report))
    for name, words in (
        ("cleaned.csv", cleaned_list(prepared.photos, split) if prepared.fixed else None),
        ("mislabelled.csv", None if report.mislabelled is None else review_list(report)),
    ):
        if words is None:
            (out / name).unlink(missing_ok=True)  # an earlier one's
        else:
            write_file(out / name, words)
    write_file(
        out / "dataset_preparation_notes.md",
        preparation_notes(report, split, augmentation=(), imbalance="", preprocess=None),
    )
    write_split(out / "split.json", split, source=prepared.source, photo_options=prepared.options.to_json())


def class_distribution(report: DataReport) -> str:
    """CSV text: a row for each label, with its photos in each part."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    parts = ("train", "val", "test", "left_out", "unreadable")
    writer.writerow(["label", "photos", *parts])
    for label, row in report.counts.items():
        writer.writerow([label, sum(row.values()), *(row.get(part, 0) for part in parts)])
    return text.getvalue()


def _absolute(source: str) -> str:
    """The source as it is found from any folder; URLs as they are."""
    return source if "://" in source else str(Path(source).expanduser().absolute())


def _settled(options: PhotoOptions) -> PhotoOptions:
    """The options as they are kept: paths that are found from here as they are found from any folder."""

    def settled(word: str | None) -> str | None:
        return word if word is None or not Path(word).exists() else str(Path(word).absolute())

    return dataclasses.replace(
        options, csv=settled(options.csv), images=settled(options.images), offline=False
    )


def _recipe(path: Path) -> tuple[str, PhotoOptions]:
    """What a split was made from."""
    value: Any = read_json(path, SPLIT_LIMIT_BYTES)
    if not isinstance(value, Mapping) or not isinstance(value.get("source"), str):
        raise InputError("the split does not say what it was made from", where=path)
    return value["source"], PhotoOptions.from_json(value.get("photo_options"))


def _reopen(folder: Path) -> Prepared:
    if not is_prepared(folder):
        raise InputError(
            "there are no prepared photos in the folder",
            where=folder,
            fix=f"samesight data PHOTOS --out {folder}",
        )
    split = read_split(folder / "split.json")
    source, options = _recipe(folder / "split.json")
    report = DataReport.from_json(read_json(folder / "data.json"))
    photos = open_photos(source, options)
    hashes = hash_photos(photos, (item.name for item in split.items))
    known = {trouble.name for trouble in report.troubles}
    check_split(split, photos, hashes, left_out=known)
    if missing := sorted({item.name for item in split.items} - hashes.keys()):
        raise PhotosError("photos can no longer be read", where=source, found=", ".join(missing[:3]))
    return Prepared(photos, split, report, source, options)


def _options_of(split: Split) -> SplitOptions:
    return SplitOptions(split.seed, split.test_fraction, split.val_fraction, split.near_together)


def _reuse(out: Path, source: str, options: PhotoOptions, split_options: SplitOptions) -> Prepared:
    """The split that `out` holds, if it was made from the same photos in the same way."""
    prepared = _reopen(out)
    asked = {"source": source, **dataclasses.asdict(options), **dataclasses.asdict(split_options)}
    held = {
        "source": prepared.source,
        **dataclasses.asdict(prepared.options),
        **dataclasses.asdict(_options_of(prepared.split)),
    }
    if asked != held:
        _refuse(out, [f"{key} {held[key]} (now {asked[key]})" for key in held if held[key] != asked[key]])
    return prepared


def _check_same(out: Path, prepared: Prepared) -> None:
    """Raise InputError where `out` holds another split than the one that was made now."""
    held = read_split(out / "split.json")
    if held.sha256 != prepared.split.sha256:
        there, now = len(held.items), len(prepared.split.items)
        _refuse(
            out, [f"{there:,} photos in it, and {now:,} now" if there != now else "photos in other parts"]
        )


def _refuse(out: Path, differs: list[str]) -> NoReturn:
    raise InputError(
        "the folder holds a split that was made otherwise",
        where=out,
        found="; ".join(differs),
        fix="--replace, or another --out",
    )
