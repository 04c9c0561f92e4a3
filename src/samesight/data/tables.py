"""Labels from tables: CSV or TSV files of `filename,label` (or `class_index`) beside the photos."""

from __future__ import annotations

import csv
import io
import itertools
import os
import posixpath
import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from samesight.data.folders import PARTS, Listing, list_folder
from samesight.data.photos import Found, Part, Photo, PhotoOptions, shown
from samesight.errors import PhotosError

__all__ = ["Row", "Table", "find_table", "open_table", "read_table", "unused", "usable"]

TABLE_LIMIT_BYTES = 512 << 20
LABEL_COLUMNS = ("label", "class_index")
LIKELY_LABELS = ("labels", "class", "class_name", "classname", "category", "species", "breed", "target", "y")
LOOKED_AT = 200  # rows of a table that was not read, to tell why


@dataclass(frozen=True)
class Row:
    """One row that names a photo."""

    line: int
    filename: str
    label: str | None
    class_index: int | None
    group: str | None


@dataclass(frozen=True)
class Table:
    """A table of photos; `labelled` is false where no column holds labels."""

    path: Path
    rows: tuple[Row, ...]
    labelled: bool
    notes: tuple[str, ...] = ()

    @property
    def part(self) -> Part | None:
        """The part that the file's name tells: `Training_set.csv` is train."""
        words = self.path.stem.casefold().replace("-", "_").replace(".", "_").split("_")
        parts = {PARTS[word] for word in words if word in PARTS}
        return parts.pop() if len(parts) == 1 else None


def read_table(path: Path, options: PhotoOptions) -> Table:
    """The rows of a table. Raises PhotosError where it is not text, or lacks the columns asked for."""
    lines = _read_lines(path)
    header = [name.strip() for name in next(lines, [])]
    if options.filename_column not in header:
        raise PhotosError(
            "the table has no such column of file names",
            where=shown(str(path)),
            expected=options.filename_column,
            found=", ".join(header[:10]) or "nothing",
            fix="--filename-column NAME --label-column NAME",
        )
    label_column = _label_column(header, options, path)
    columns = {name: index for index, name in reversed(list(enumerate(header)))}
    group_name = (options.group or "").removeprefix("column:") if "column:" in (options.group or "") else None
    if group_name is not None and group_name not in columns and label_column is not None:
        raise PhotosError(
            "the table has no such column of groups",
            where=shown(str(path)),
            expected=group_name,
            found=", ".join(header[:10]),
        )
    rows: list[Row] = []
    unlabelled: list[str] = []
    for number, cells in enumerate(lines, start=2):

        def cell(name: str | None, cells: Sequence[str] = cells) -> str:
            index = columns.get(name or "", len(cells))
            return cells[index] if index < len(cells) else ""

        filename = cell(options.filename_column).strip()
        if not filename:
            continue
        label = cell(label_column) if label_column else None
        if label is not None and not label.strip():
            unlabelled.append(filename)
            label = None
        index = _index(cell("class_index"), path, number) if label_column == "class_index" and label else None
        if index is not None:
            label = cell("wnid").strip() or str(index)
        rows.append(Row(number, filename, label, index, cell(group_name) or None if group_name else None))
    notes = []
    if unlabelled:
        notes.append(f"{len(unlabelled)} rows have no label and were left out ({shown(unlabelled[0])} …)")
    return Table(path, tuple(rows), label_column is not None, tuple(notes))


def _label_column(header: Sequence[str], options: PhotoOptions, path: Path) -> str | None:
    if options.label_column is None:
        return next((name for name in LABEL_COLUMNS if name in header), None)
    if options.label_column not in header:
        raise PhotosError(
            "the table has no such column of labels",
            where=shown(str(path)),
            expected=options.label_column,
            found=", ".join(header[:10]),
        )
    return options.label_column


def _index(text: str, path: Path, line: int) -> int:
    try:
        index = int(text)
    except ValueError:
        index = -1
    if not 0 <= index < 1 << 31:
        raise PhotosError(
            "a class index is not a number from 0", where=f"{shown(str(path))}:{line}", found=text
        )
    return index


def _read_lines(path: Path) -> Iterator[list[str]]:
    """The table's cells, header first: UTF-8 or UTF-16 with a mark; comma, semicolon or tab between them."""
    try:
        with path.open("rb") as stream:
            data = stream.read(TABLE_LIMIT_BYTES + 1)
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except OSError as error:
        raise PhotosError("cannot read a table", where=shown(str(path)), found=error.strerror) from error
    except UnicodeError as error:
        raise PhotosError(
            "a table is not UTF-8 text", where=shown(str(path)), found=error, fix="save it as UTF-8"
        ) from error
    if len(data) > TABLE_LIMIT_BYTES:
        raise PhotosError("a table is too large", where=path, expected=f"at most {TABLE_LIMIT_BYTES} bytes")
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        yield from reader
    except csv.Error as error:
        raise PhotosError(
            "a table is not CSV", where=f"{shown(str(path))}:{reader.line_num}", found=error
        ) from error


def usable(listing: Listing, options: PhotoOptions) -> list[Table]:
    """The tables at the top of a folder that name photos, labelled ones only if there are any.

    Tables without the columns asked for are about something else. Raises PhotosError for one that has them,
    and is broken.
    """
    tables = []
    wanted = {options.filename_column, options.label_column or options.filename_column}
    for name in listing.tables:
        if "/" in name:
            continue
        path = listing.root / name
        try:
            header = {cell.strip() for cell in next(_read_lines(path), [])}
        except PhotosError:
            with path.open("rb") as stream:
                if options.filename_column.encode() in stream.readline(4096):
                    raise
            continue
        if wanted <= header:
            tables.append(read_table(path, options))
    named = [table for table in tables if table.rows]
    return [table for table in named if table.labelled] or named


def unused(listing: Listing, options: PhotoOptions) -> list[str]:
    """Why the tables at the top of a folder were not read, with what to type where that can be told."""
    index, notes = _Index.of(listing), []
    for name in listing.tables:
        if "/" in name:
            continue
        try:
            rows = list(itertools.islice(_read_lines(listing.root / name), LOOKED_AT))
        except PhotosError:
            continue
        if rows and (why := _why_unused(rows, index, options)):
            notes.append(f"{shown(name)} was not read: {why}")
    return notes


def _why_unused(rows: Sequence[Sequence[str]], index: _Index, options: PhotoOptions) -> str | None:
    header, body = [cell.strip() for cell in rows[0]], rows[1:]
    if any(cell and index.find(cell) for cell in header):
        return "its first line names a photo, not the columns; write filename,label above it"

    def column(at: int) -> list[str]:
        return [row[at].strip() for row in body if at < len(row)]

    hits = [sum(bool(cell and index.find(cell)) for cell in column(at)) for at in range(len(header))]
    if not body or 2 * max(hits, default=0) < len(body):
        return None
    files = hits.index(max(hits))
    others = [at for at in range(len(header)) if at != files and any(column(at))]
    if len(others) > 1 and all(set(column(at)) <= {"0", "1", "0.0", "1.0"} for at in others):
        some = ", ".join(header[at] for at in others[:3])
        return f"it has a column for each class ({some} …); one column must name each photo's class"
    if not others:
        return "it has no column of labels"
    likely = [at for at in others if header[at].casefold() in LIKELY_LABELS + LABEL_COLUMNS] or others
    words = [] if header[files] == options.filename_column else ["--filename-column", header[files]]
    words += [] if header[likely[0]] in LABEL_COLUMNS else ["--label-column", header[likely[0]]]
    return (
        f"its columns are {', '.join(header[:6])}; for it to be read: {shlex.join(words)}" if words else None
    )


def find_table(listing: Listing, options: PhotoOptions) -> Found | None:
    """The photos of the table (or train, val and test tables) at the top of a folder; None without one."""
    tables = usable(listing, options)
    if not tables or not tables[0].labelled:
        return None
    parts = [table.part for table in tables]
    if len(tables) > 1 and (None in parts or len(set(parts)) < len(parts)):
        raise PhotosError(
            "there are several tables of labels",
            where=listing.root,
            found=", ".join(shown(table.path.name) for table in tables),
            fix=f"--csv {shown(tables[0].path.name)}",
        )
    return _bind(tables, _beside(listing, options), options, with_parts=len(tables) > 1)


def open_table(path: Path, listing: Listing, options: PhotoOptions) -> Found:
    """The photos that one table names; a relative `path` is also looked for in the photos' folder."""
    inside = listing.root / path
    table = read_table(path if path.is_file() or not inside.is_file() else inside, options)
    if not table.rows:
        raise PhotosError("the table names no photos", where=shown(str(table.path)))
    return _bind([table], _beside(listing, options), options, with_parts=False)


def _beside(listing: Listing, options: PhotoOptions) -> Listing:
    """The files among which a table's photos are looked for."""
    if options.images is None:
        return listing
    for folder in (Path(options.images).expanduser(), listing.root / options.images):
        if folder.is_dir():
            return list_folder(folder)
    raise PhotosError("there is no such folder of photos", where=options.images)


@dataclass(frozen=True)
class _Index:
    """Photos by each ending of their paths: `a/b.jpg` under `a/b.jpg` in "" and under `b.jpg` in "a"."""

    listing: Listing
    places: dict[str, list[tuple[str, str]]]  # ending, in one form → (folder, path)

    @classmethod
    def of(cls, listing: Listing) -> _Index:
        places: dict[str, list[tuple[str, str]]] = {}
        for name in listing.photos:
            folder, rest = "", name
            while rest:
                for key in {_key(rest), _key(os.path.splitext(rest)[0])}:
                    places.setdefault(key, []).append((folder, name))
                top, _, rest = rest.partition("/")
                folder = f"{folder}/{top}" if folder else top
        return cls(listing, places)

    def find(self, filename: str) -> dict[str, str]:
        """folder → path of the photos that a row may mean."""
        found: dict[str, str] = {}
        for folder, name in self.places.get(_key(filename), ()):
            held = found.setdefault(folder, name)
            if held != name and name.endswith(filename):
                found[folder] = name
        return found


def _key(name: str) -> str:
    """A file name in one form, so that case, Unicode form and Windows' separators do not matter."""
    plain = unicodedata.normalize("NFC", shown(name)).replace("\\", "/").casefold()
    return posixpath.normpath(plain).removeprefix("/")


def _bind(tables: Sequence[Table], listing: Listing, options: PhotoOptions, *, with_parts: bool) -> Found:
    """The photos of the tables' rows, with what is on one side only."""
    index = _Index.of(listing)
    items: dict[str, Photo] = {}
    conflicts: set[str] = set()
    unlabelled: set[str] = set()
    missing: list[str] = []
    notes = [*listing.notes, *(note for table in tables for note in table.notes)]
    folders: set[str] = set()
    repeated = 0
    for table in tables:
        folder = _folder(table, index)
        folders.add(folder)
        for row in table.rows:
            found = index.find(row.filename)
            name = found.get(folder) or (next(iter(found.values())) if len(found) == 1 else None)
            if name is None:
                missing.append(shown(row.filename))
                continue
            part = table.part if with_parts else None
            photo = Photo(shown(name), listing.root / name, row.label, part, row.group, row.class_index)
            if table.labelled and row.label is None:
                unlabelled.add(name)
                continue
            held = items.setdefault(name, photo)
            if held != photo:
                conflicts.add(name)
            repeated += held is not photo
    if not items:
        raise PhotosError(
            "none of the table's photos is there",
            where=shown(str(tables[0].path)),
            expected=f"{len(missing)} files, the first {missing[0]}",
            found=f"{len(listing.photos)} photos in {shown(str(listing.root))}",
            fix="--images DIR",
        )
    known = items.keys() | unlabelled
    for name in conflicts:
        del items[name]
    if conflicts:
        some = ", ".join(sorted(map(shown, conflicts))[:3])
        notes.append(f"{len(conflicts)} photos stand in rows that differ and were left out ({some} …)")
    if repeated:
        notes.append(f"{repeated} rows repeat another row's file")
    return Found(
        form=" and ".join(f"{shown(table.path.name)} beside photos" for table in tables),
        items=list(items.values()),
        rows_without_file=tuple(missing),
        files_without_row=tuple(
            shown(name) for name in listing.photos if name not in known and _within(name, folders)
        ),
        notes=tuple(notes),
    )


def _within(name: str, folders: set[str]) -> bool:
    return any(not folder or name.startswith(folder + "/") for folder in folders)


def _folder(table: Table, index: _Index) -> str:
    """The folder that most rows' files are in; of several, the one whose name tells the table's part."""
    counts = Counter(folder for row in table.rows for folder in index.find(row.filename))
    if not counts:
        return ""
    most = max(counts.values())
    best = sorted(folder for folder, count in counts.items() if count == most)
    if len(best) > 1:
        of_part = [f for f in best if table.part and PARTS.get(f.rsplit("/", 1)[-1].casefold()) == table.part]
        best = of_part if len(of_part) == 1 else [folder for folder in best if not folder] or best
    if len(best) > 1:
        raise PhotosError(
            "the table's photos are in several folders",
            where=shown(str(table.path)),
            found=", ".join(map(shown, best[:5])),
            fix=f"--images {shown(best[0])}",
        )
    return best[0]
