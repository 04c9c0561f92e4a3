"""Photos named by folders, patterns, tables and single paths, one by one: memory does not grow with them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow
from pyarrow import csv, parquet

from samesight.errors import InputError, PhotosError
from samesight.preprocess import PHOTO_SUFFIXES

__all__ = ["COLUMNS", "Named", "photos_of"]

COLUMNS = ("path", "filename")  # of a table, the first that is there, unless one is named
TABLES = (".csv", ".parquet")
ROWS = 65_536  # of a table that are held at a time


@dataclass(frozen=True)
class Named:
    """A photo: as its source names it, and where it lies. Bytes, since file names need not be text."""

    path: bytes
    place: bytes


def photos_of(sources: Sequence[str], column: str | None = None) -> Iterator[Named]:
    """Each photo that the sources name, in their order.

    A folder stands for its photos as for `samesight predict`; a table (.csv, .parquet) for the paths in
    `column`, which lie beside it where they are relative; a pattern with * ? [ for the files that it matches,
    sorted. Raises InputError where a source names nothing, PhotosError where a table cannot be read.
    """
    for source in sources:
        found = 0
        for photo in _photos(source, column):
            found += 1
            yield photo
        if not found:
            raise InputError("no photos found", where=ascii(source)[1:-1], expected=_expected(source))


def _photos(source: str, column: str | None) -> Iterator[Named]:
    if "://" in source:
        if source.lower().endswith(TABLES):
            raise PhotosError("a table of photos is read from a disk", where=source, expected="a path")
        yield _named(source)
    elif os.path.isdir(source):
        yield from map(_named, _in_folder(source))
    elif source.lower().endswith(TABLES) and os.path.isfile(source):
        yield from _in_table(source, column)
    elif glob.has_magic(source) and not os.path.lexists(source):
        matches = glob.glob(source, recursive=True)
        yield from map(_named, sorted(one for one in matches if not os.path.isdir(one)))
    else:
        yield _named(source)


def _named(path: str, beside: str = "") -> Named:
    if "://" in path:
        return Named(os.fsencode(path), os.fsencode(path))
    return Named(os.fsencode(path), os.fsencode(os.path.join(os.getcwd(), beside, path)))


def _expected(source: str) -> str:
    if source.lower().endswith(TABLES):
        return "a table with a row a photo"
    return f"files named {', '.join(sorted(PHOTO_SUFFIXES))}"


def _in_folder(folder: str) -> Iterator[str]:
    """The photos in a folder and its folders, in the order of their paths' parts; links to folders are not
    followed. Raises PhotosError where a folder cannot be read: its photos would be lost in silence."""
    try:
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise PhotosError("a folder cannot be read", where=ascii(folder), found=error.strerror) from error
    for entry in inside:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _in_folder(entry.path)
        elif os.path.splitext(entry.name)[1].lower() in PHOTO_SUFFIXES and not entry.is_dir():
            yield entry.path


def _in_table(path: str, column: str | None) -> Iterator[Named]:
    beside = os.path.dirname(path)
    line = 1
    try:
        for name, values in _columns(path, column):
            for value in values:
                line += 1
                if not value:
                    raise PhotosError(
                        "a row names no photo", where=f"{path}, row {line - 1}", expected=f"a path as {name}"
                    )
                yield _named(value, beside)
    except (pyarrow.ArrowException, OSError, UnicodeError) as error:
        raise PhotosError("a table cannot be read", where=path, found=_first_line(error)) from error


def _columns(path: str, column: str | None) -> Iterator[tuple[str, list[str | None]]]:
    """The name of the column of paths, and its values, some rows at a time."""
    if path.lower().endswith(".csv"):
        cells = csv.ParseOptions(delimiter=_delimiter(path))
        with csv.open_csv(path, parse_options=cells) as head:
            name = _column(path, head.schema.names, column)
        # As text: a column of numbers names files too.
        words = csv.ConvertOptions(include_columns=[name], column_types={name: pyarrow.string()})
        with csv.open_csv(path, parse_options=cells, convert_options=words) as reader:
            for batch in reader:
                yield name, batch.column(0).to_pylist()
        return
    with parquet.ParquetFile(path) as file:
        name = _column(path, file.schema_arrow.names, column)
        for batch in file.iter_batches(batch_size=ROWS, columns=[name]):
            yield name, batch.column(0).cast(pyarrow.string()).to_pylist()


def _delimiter(path: str) -> str:
    with open(path, "rb") as stream:
        heads = stream.readline(1 << 20)
    return max(",;\t", key=lambda mark: heads.count(mark.encode()))


def _column(path: str, there: Sequence[str], asked: str | None) -> str:
    for name in (asked,) if asked is not None else COLUMNS:
        if name in there:
            return name
    raise PhotosError(
        "the table has no column of paths",
        where=path,
        expected=asked or " or ".join(COLUMNS),
        found=", ".join(there[:10]) or "no columns",
        fix="--column NAME",
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
