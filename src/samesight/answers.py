"""Answers as lines that programs read: JSON and CSV, in ASCII, and which photos a file has answers for."""

from __future__ import annotations

import csv as table
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from samesight.errors import InputError, SamesightError, one_line

if TYPE_CHECKING:
    from samesight.answer import Answer

__all__ = ["answered", "csv_heads", "csv_line", "json_line"]

HEADS = ("path", "label", "index", "confidence", "error")


def json_line(path: str, answer: Answer | SamesightError) -> str:
    """One object and a line feed."""
    if isinstance(answer, SamesightError):
        return json.dumps({"path": path, "error": one_line(answer)}) + "\n"
    return json.dumps(answer.to_json(path), allow_nan=False) + "\n"


def csv_heads() -> str:
    """The first line."""
    return _csv(HEADS)


def csv_line(path: str, answer: Answer | SamesightError) -> str:
    """One row. Characters that are not ASCII, and backslashes, are written as in JSON."""
    if isinstance(answer, SamesightError):
        return _csv((path, "", "", "", one_line(answer)))
    return _csv((path, answer.label, answer.index, repr(answer.confidence), ""))


def answered(path: Path, *, csv: bool) -> set[str]:
    """The paths of the photos that have a line in the file; none where there is no file.

    A last line that was cut short, as a killed run leaves it, is taken off the file. Raises InputError where
    the file is something else.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise InputError("cannot read a file", where=path, found=error.strerror) from error
    whole = data[: data.rfind(b"\n") + 1]
    try:
        found = _paths(whole.decode("ascii"), csv)
    except (ValueError, KeyError, TypeError, RecursionError, table.Error) as error:
        form = "rows that --csv wrote" if csv else "lines that --json wrote"
        raise InputError("these are no answers to go on with", where=path, expected=form) from error
    if len(whole) < len(data):
        os.truncate(path, len(whole))
    return found


def _paths(text: str, as_csv: bool) -> set[str]:
    if not as_csv:
        return {_word(json.loads(line)["path"]) for line in text.splitlines()}
    rows = list(table.reader(io.StringIO(text), strict=True))
    if rows and tuple(rows[0]) != HEADS:
        raise ValueError("another table")
    if any(len(row) != len(HEADS) for row in rows):
        raise ValueError("a row is short")
    return {_word(json.loads('"' + row[0].replace('"', '\\"') + '"')) for row in rows[1:]}


def _word(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a path is a string")
    return value


def _csv(cells: tuple[object, ...]) -> str:
    stream = io.StringIO()
    table.writer(stream, lineterminator="\n").writerow(_ascii(cell) for cell in cells)
    return stream.getvalue()


def _ascii(cell: object) -> str:
    """As inside a JSON string, but for quotes, which CSV doubles: no line feed, nothing beyond ASCII."""
    return json.dumps(str(cell))[1:-1].replace('\\"', '"')
