"""An answer as a row, and the rows of a shard as one Parquet file that is whole or not there."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow
from pyarrow import parquet

from samesight.errors import InputError, SamesightError, one_line
from samesight.files import write_file
from samesight.runtime import Prediction

__all__ = ["SCHEMA", "Row", "read_facts", "row_of", "text_of", "write_rows"]

Row: TypeAlias = dict[str, Any]

FACTS = b"samesight"  # the key of our own facts in a file's footer
SCHEMA = pyarrow.schema(
    [
        pyarrow.field("path", pyarrow.string(), nullable=False),
        ("label", pyarrow.string()),
        ("index", pyarrow.int32()),
        ("confidence", pyarrow.float64()),
        (
            "top",
            pyarrow.list_(
                pyarrow.struct(
                    [
                        ("label", pyarrow.string()),
                        ("index", pyarrow.int32()),
                        ("probability", pyarrow.float64()),
                    ]
                )
            ),
        ),
        ("error", pyarrow.string()),
    ]
)


def text_of(path: bytes) -> str:
    """A path as text; a byte of it that is not UTF-8 is `\\udcXX`, as in the JSON of `samesight predict`."""
    return path.decode("utf-8", "surrogateescape").encode("utf-8", "backslashreplace").decode("utf-8")


def row_of(path: bytes, answer: Prediction | SamesightError | str) -> Row:
    """The row of a photo: its label and the likeliest ones, or the error in one line."""
    row: Row = dict.fromkeys(SCHEMA.names)
    row["path"] = text_of(path)
    if isinstance(answer, Prediction):
        record = answer.to_json("")
        return row | {name: record[name] for name in ("label", "index", "confidence", "top")}
    return row | {"error": answer if isinstance(answer, str) else one_line(answer)}


def write_rows(path: Path, rows: Sequence[Row], facts: dict[str, Any]) -> None:
    """Write the rows, and `facts` into the footer, aside and then in place. Raises InputError."""
    schema = SCHEMA.with_metadata({FACTS: json.dumps(facts).encode()})
    stream = io.BytesIO()
    parquet.write_table(
        pyarrow.Table.from_pylist(list(rows), schema), stream, compression="zstd", row_group_size=1 << 20
    )
    try:
        write_file(path, stream.getvalue())
    except OSError as error:
        raise InputError("answers cannot be written", where=path, found=error.strerror) from error


def read_facts(path: Path) -> tuple[int, dict[str, Any]]:
    """How many rows a file of answers has, and its facts; only its footer is read. Raises InputError."""
    try:
        found = parquet.read_metadata(path)
        return found.num_rows, dict(json.loads(found.metadata[FACTS]))
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "a file of answers is not one that a worker wrote",
            where=path,
            fix="move it away, and --resume",
        ) from error
