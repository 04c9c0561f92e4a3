"""Labelled photos from any form: folders, archives, tables, CIFAR, single files, URLs with a pinned hash.

Imports only the standard library, so that a command's `--help` stays quick.
"""

from __future__ import annotations

import argparse
import glob
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from samesight.errors import InputError, PhotosError

__all__ = [
    "Found",
    "Photo",
    "PhotoOptions",
    "Photos",
    "add_photo_arguments",
    "natural",
    "open_photos",
    "photo_options",
    "shown",
]

Part = Literal["train", "val", "test"]
LABEL_STYLES = ("as-is", "trim", "title")
TABLE_SUFFIXES = (".csv", ".tsv")


@dataclass(frozen=True)
class Photo:
    """One photo: its name is its path below the photos' folder, with `/`, and the same in every form."""

    name: str
    path: Path
    label: str | None
    part: Part | None
    group: str | None = None
    class_index: int | None = None


@dataclass(frozen=True)
class Photos:
    """Photos sorted by name, and what was noticed while they were found."""

    source: str
    form: str
    items: tuple[Photo, ...]
    labels: tuple[str, ...]
    rows_without_file: tuple[str, ...] = ()
    files_without_row: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PhotoOptions:
    """How photos are read; the defaults suit every form that needs no explaining."""

    csv: str | None = None
    images: str | None = None
    filename_column: str = "filename"
    label_column: str | None = None
    label_style: str = "as-is"
    group: str | None = None
    offline: bool = False

    def __post_init__(self) -> None:
        if self.label_style not in LABEL_STYLES:
            raise InputError(
                "there is no such label style", expected=" or ".join(LABEL_STYLES), found=self.label_style
            )

    def to_json(self) -> dict[str, Any]:
        """The options as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> PhotoOptions:
        """The options from `to_json`'s object. Raises InputError on anything else."""
        known = {field.name: field.type for field in fields(cls)}
        if not isinstance(value, dict) or not set(value) <= set(known):
            raise InputError("photo options are not as Samesight writes them", found=value)
        for name, given in value.items():
            right = isinstance(given, bool) if name == "offline" else given is None or isinstance(given, str)
            if not right or (given is None and "None" not in str(known[name])):
                raise InputError("photo options are not as Samesight writes them", found=f"{name}: {given!r}")
        return cls(**value)


@dataclass(frozen=True)
class Found:
    """What a reader of one form hands back, before labels are styled and groups are told."""

    form: str
    items: list[Photo]
    rows_without_file: tuple[str, ...] = ()
    files_without_row: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def add_photo_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how photos are read, the same in every command that reads them."""
    default = PhotoOptions()
    group = parser.add_argument_group("how the photos are read")
    group.add_argument(
        "--csv", metavar="FILE", help="table of file names and labels (default: found by itself)"
    )
    group.add_argument("--images", metavar="DIR", help="folder that the table's file names are in")
    group.add_argument(
        "--filename-column",
        metavar="NAME",
        default=default.filename_column,
        help="the table's column of file names (default: %(default)s)",
    )
    group.add_argument(
        "--label-column", metavar="NAME", help="its column of labels (default: label, else class_index)"
    )
    group.add_argument(
        "--label-style",
        choices=LABEL_STYLES,
        default=default.label_style,
        help="clean labels: trim white space, or also Title Case (default: %(default)s)",
    )
    group.add_argument(
        "--group",
        metavar="PATTERN",
        help="keep a group on one side of the split: a regular expression with one (group), "
        "searched in each photo's name, or column:NAME of the table",
    )


def photo_options(args: argparse.Namespace) -> PhotoOptions:
    """The options that `add_photo_arguments` added; a command's own `--offline` counts too."""
    return PhotoOptions(
        csv=args.csv,
        images=args.images,
        filename_column=args.filename_column,
        label_column=args.label_column,
        label_style=args.label_style,
        group=args.group,
        offline=getattr(args, "offline", False),
    )


def open_photos(source: str | Path, options: PhotoOptions = PhotoOptions()) -> Photos:
    """The photos of `source`: a folder, archive, table, photo, glob pattern, or URL with a pinned hash.

    Archives are unpacked once into the cache. Raises PhotosError where there are none or their labels cannot
    be told, ArchiveError for a broken or unsafe archive, InputError for options that do not fit.
    """
    from samesight.data import folders, tables

    words = str(source)
    if "://" in words:
        from samesight.data.fetch import fetch_pinned

        path = fetch_pinned(words, offline=options.offline)
    else:
        path = Path(words).expanduser()
    if not path.exists():
        found = _matching(words)
    elif path.is_dir():
        found = folders.open_folder(path, options)
    elif path.suffix.lower() in TABLE_SUFFIXES:
        found = tables.open_table(path, folders.list_folder(path.parent), options)
    elif folders.is_photo(path.name):
        found = Found("photo", [_unlabelled(path, path.name)])
    else:
        found = _open_archive(path, options)
    return _finish(words, found, options)


def _open_archive(path: Path, options: PhotoOptions) -> Found:
    from samesight.data import archives, folders

    found = folders.open_folder(archives.unpack(path), options, called=path.name.split(".")[0])
    return replace(found, form=f"{archives.kind(path)}: {found.form}")


def _matching(pattern: str) -> Found:
    """The photos that a glob pattern names, without labels."""
    from samesight.data import folders

    paths: list[Path] = []
    if any(sign in pattern for sign in "*?["):
        paths = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
        paths = [path for path in paths if folders.is_photo(path.name) and path.is_file()]
    if not paths:
        raise PhotosError("there are no photos there", where=pattern, fix="a path that exists")
    return Found("pattern", [_unlabelled(path, path.as_posix()) for path in paths])


def _unlabelled(path: Path, name: str) -> Photo:
    return Photo(shown(name), path, None, None)


def shown(text: str) -> str:
    """A file name as valid Unicode: bytes that are not UTF-8 become `\\xNN`."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def natural(text: str) -> tuple[Any, ...]:
    """A key that sorts `img2` before `img10`, whatever the letters' case, and never calls two texts equal."""
    pieces = re.split(r"([0-9]+)", text.casefold())
    return tuple((1, int(p), "") if i % 2 else (2, 0, p) for i, p in enumerate(pieces) if p), text


def _finish(source: str, found: Found, options: PhotoOptions) -> Photos:
    """Style labels, tell groups, sort by name."""
    if not found.items:
        raise PhotosError("there are no photos there", where=source)
    items, notes = _styled(found.items, options.label_style)
    if options.group is not None and not options.group.startswith("column:"):
        items, group_notes = _grouped(items, options.group)
        notes += group_notes
    elif options.group is not None and all(photo.group is None for photo in items):
        raise PhotosError("there is no such column of groups", where=source, expected=options.group)
    items.sort(key=lambda photo: photo.name)
    twice = [name for name, count in Counter(photo.name for photo in items).items() if count > 1]
    if twice:
        raise PhotosError("photos have the same name", where=source, found=", ".join(twice[:3]))
    labels = {photo.label for photo in items if photo.label is not None}
    return Photos(
        source=source,
        form=found.form,
        items=tuple(items),
        labels=tuple(sorted(labels, key=natural)),
        rows_without_file=found.rows_without_file,
        files_without_row=found.files_without_row,
        notes=(*found.notes, *notes),
    )


def _styled(items: Iterable[Photo], style: str) -> tuple[list[Photo], list[str]]:
    """The photos with cleaned labels, and notes: each label merged from several, and white space left in."""
    items = list(items)
    raw = sorted({photo.label for photo in items if photo.label is not None}, key=natural)
    clean = {label: _clean(label, style) for label in raw}
    if empty := [label for label, cleaned in clean.items() if not cleaned.strip()]:
        raise PhotosError("a label is empty", found=repr(empty[0]))
    merged: dict[str, list[str]] = {}
    for label in raw:
        merged.setdefault(_clean(label, "title") if style == "as-is" else clean[label], []).append(label)
    says = "differ only in case or white space (--label-style title merges them)"
    notes = [
        f"labels {', '.join(map(repr, several))} "
        + (says if style == "as-is" else f"were merged into {label!r}")
        for label, several in merged.items()
        if len(several) > 1
    ]
    spaced = [label for label in raw if style == "as-is" and label != _clean(label, "trim")]
    if spaced:
        more = f" and {len(spaced) - 1} more" if len(spaced) > 1 else ""
        notes.append(
            f"label {spaced[0]!r}{more} keeps white space that nobody sees (--label-style trim cleans it)"
        )
    return [
        photo if photo.label is None else replace(photo, label=clean[photo.label]) for photo in items
    ], notes


def _clean(label: str, style: str) -> str:
    if style == "as-is":
        return label
    trimmed = " ".join(label.split())
    return trimmed.title() if style == "title" else trimmed


def _grouped(items: list[Photo], pattern: str) -> tuple[list[Photo], list[str]]:
    """The photos with the group that `pattern` finds in each name."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError("--group is not a regular expression", where=pattern, found=error) from error
    if compiled.groups != 1:
        raise InputError(
            "--group needs exactly one (group)",
            where=pattern,
            found=compiled.groups,
            fix="--group '^(p[0-9]+)_'",
        )
    matches = [compiled.search(photo.name) for photo in items]
    grouped = [
        replace(photo, group=match.group(1)) if match and match.group(1) is not None else photo
        for photo, match in zip(items, matches, strict=True)
    ]
    alone = [photo.name for photo in grouped if photo.group is None]
    if len(alone) == len(items):
        raise PhotosError("--group matches no photo's name", where=pattern, found=f"names like {alone[0]}")
    return grouped, [f"--group matches {len(alone)} photos' names not ({alone[0]} …)"] if alone else []
