"""What a recipe's networks cost and how right they are, side by side: as CSV, and in Markdown.

A network is counted as it was trained: for its pictures and its classes. Papers give ResNet-18 as it is
published, for pictures of 224 pixels and 1000 classes; a recipe can ask for that row too.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields

from torch import nn

from samesight.models import create, default_preprocess, summarise
from samesight.models.operations import RULE, count_operations
from samesight.models.pretrained import UNTRAINED
from samesight.models.weightless import without_weights
from samesight.report.figures import wilson

__all__ = ["Row", "as_csv", "as_markdown", "published_row", "trained_row"]

MILLION, BILLION = 1e6, 1e9


@dataclass(frozen=True)
class Row:
    """One network in one form; no accuracy where it was not trained in that form."""

    model: str
    counted: str  # "as trained" or "as published"
    width: int
    height: int
    classes: int
    parameters: int
    macs: int  # products alone
    operations: int  # by RULE
    accuracy: float | None = None
    photos: int | None = None


def trained_row(model: str, size: tuple[int, int], classes: int, accuracy: float, photos: int) -> Row:
    """The row of a network as it was trained; `accuracy` is of the held-out `photos`."""
    return _row(model, "as trained", size, classes, accuracy, photos)


def published_row(model: str) -> Row:
    """The row of a network as its library publishes it."""
    return _row(model, "as published", default_preprocess(model, UNTRAINED).size, None)


def _row(
    model: str,
    counted: str,
    size: tuple[int, int],
    classes: int | None,
    accuracy: float | None = None,
    photos: int | None = None,
) -> Row:
    make = functools.partial(create, model, classes, size=size if classes else None)
    parameters, macs, operations, outputs = without_weights(make, functools.partial(_count, size=size))
    return Row(model, counted, *size, outputs, parameters, macs, operations, accuracy, photos)


def _count(network: nn.Module, size: tuple[int, int]) -> tuple[int, int, int, int]:
    found = summarise(network, size)
    return found.parameters, found.macs, count_operations(network, size), found.outputs[0]


def as_csv(rows: Sequence[Row]) -> str:
    """The rows with every digit."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def as_markdown(rows: Sequence[Row]) -> str:
    """The rows in the columns that papers on small networks have, and what is counted how."""
    return "\n".join(_lines(rows)) + "\n"


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    yield "# Comparative analysis"
    yield ""
    columns = "CNN architecture", "No. of parameters (million)", "No. of operations (GMAC)", "Accuracy (%)"
    yield f"| {' | '.join(columns)} | counted |"
    yield "|---|---|---|---|---|"
    for row in rows:
        right = "" if row.accuracy is None else f"{100 * row.accuracy:.2f}"
        form = f"{row.counted}: {row.width} x {row.height} pixels, {row.classes} classes"
        parameters, operations = row.parameters / MILLION, row.operations / BILLION
        yield f"| {row.model} | {parameters:.2f} | {operations:.2f} | {right} | {form} |"
    yield ""
    yield f"Operations: {RULE}. Products alone, as `samesight models NAME` counts them:"
    yield ""
    for row in rows:
        yield f"- {row.model} {row.counted}: {row.parameters:,} parameters, {row.macs:,} multiply-accumulates"
    for row in rows:
        if row.accuracy is not None and row.photos:
            likely = wilson(round(row.accuracy * row.photos), row.photos)
            yield (
                f"- {row.model}: {row.accuracy:.2%} of {row.photos} held-out photos right "
                f"(95 % interval {likely.low:.2%} to {likely.high:.2%})"
            )
