"""The study as rows for people: on a terminal, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from samesight.quantize.study.ways import FLOAT, STATIC

__all__ = ["csv_text", "layer_words", "lines", "statement", "winner_words"]

HEADS = ("way", "engine", "int8 layers", "accuracy", "drop, points (95 %)", "file MiB")
COLUMNS = (
    *("way", "kind", "engine", "batch", "accuracy", "drop", "drop_low", "drop_high", "label_agreement"),
    *("photos", "calibration_photos", "within_budget", "latency_average_ms", "latency_minimum_ms"),
    *("latency_maximum_ms", "latency_median_ms", "latency_p95_ms", "calls", "spread", "photo_ms", "speedup"),
    *("size_bytes", "conv2d_int8", "conv2d", "linear_int8", "linear", "reason"),
)


def csv_text(study: Mapping[str, Any]) -> str:
    """quantization_study.csv: a row a way and batch, in plain numbers; one alone of a way that is not to be
    had, with the reason."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in study["rows"]:
        if row["reason"] is not None:
            writer.writerow({"way": row["way"], "kind": row["kind"], "reason": row["reason"]})
            continue
        verdict = row["verdict"]
        for one in row["batches"]:
            times = one["latency_ms"]
            names = ("average", "minimum", "maximum", "median", "p95")
            writer.writerow(
                {
                    **{key: row[key] for key in ("way", "kind", "engine", "size_bytes", "within_budget")},
                    **{f"latency_{name}_ms": round(times[name], 4) for name in names},
                    **{key: one[key] for key in ("batch", "accuracy")},
                    **{key: round(one[key], 4) for key in ("photo_ms", "speedup")},
                    "label_agreement": one["agreement"],
                    "drop": verdict["drop"],
                    "drop_low": round(verdict["low"], 6),
                    "drop_high": round(verdict["high"], 6),
                    "photos": verdict["photos"],
                    "calibration_photos": study["photos"]["calibration"] if row["kind"] in STATIC else 0,
                    "calls": times["calls"],
                    "spread": round(times["spread"], 4),
                    "conv2d_int8": row["layers"]["Conv2d"][0],
                    "conv2d": row["layers"]["Conv2d"][1],
                    "linear_int8": row["layers"]["Linear"][0],
                    "linear": row["layers"]["Linear"][1],
                }
            )
    return stream.getvalue()


def lines(study: Mapping[str, Any]) -> Iterator[str]:
    """The table for a terminal, what is not to be had, what dynamic quantisation does not do, the winners."""
    photos = study["photos"]
    yield (
        f"{study['network']}: {photos['calibration']} photos to calibrate with, {photos['choice']} to choose "
        f"by, {photos['verdict']} judged; {photos['how']}"
    )
    yield ""
    there = [row for row in study["rows"] if row["reason"] is None]
    batches = [one["batch"] for one in there[0]["batches"]]
    heads = (*HEADS, *(f"ms a photo at {batch}" for batch in batches))
    table = [heads, *(_cells(row) for row in there)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
    yield ""
    yield "in brackets: how many times as quick as float32, timed turn by turn with it"
    for row in study["rows"]:
        if row["reason"] is not None:
            yield f"not to be had: {row['way']}: {row['reason']}"
    for row in there:
        if not row["within_budget"]:
            yield f"cannot win: {row['way']}: it loses more than the budget on the photos to choose by"
    if words := statement(study):
        yield words
    for goal in study["winners"]:
        yield f"{goal + ':':<12} {winner_words(study, goal)}"


def layer_words(row: Mapping[str, Any]) -> str:
    """How many layers of each kind are int8, of those that the network has."""
    return ", ".join(f"{some} of {count} {kind}" for kind, (some, count) in row["layers"].items() if count)


def statement(study: Mapping[str, Any]) -> str | None:
    """What came of asking PyTorch's dynamic quantisation for Conv2d; None where that was not tried."""
    for row in study["rows"]:
        if row["way"] == "dynamic Conv2d" and row["reason"] is None:
            some, count = row["layers"]["Conv2d"]
            if some == 0:
                return (
                    f"quantize_dynamic changed none of the {count} Conv2d layers: PyTorch has no dynamic "
                    "kernel for them, and says nothing. What does change them is static: fx and pt2e here, "
                    "and the int8 copy of a bundle (samesight quantize BUNDLE)."
                )
    return None


def winner_words(study: Mapping[str, Any], goal: str) -> str:
    """A winner in words."""
    won = study["winners"][goal]
    quick = "" if won["way"] == FLOAT.name else f", {won['speedup']:.2f} times as quick as float32"
    return f"{won['way']}: {won['photo_ms']:.2f} ms a photo at batch {won['batch']}{quick}"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    verdict = row["verdict"]
    accuracy = verdict["int8_accuracy"]
    drop = "-"
    if row["way"] != FLOAT.name:
        drop = f"{100 * verdict['drop']:.2f} ({100 * verdict['low']:.2f} to {100 * verdict['high']:.2f})"
    return (
        row["way"],
        row["engine"] or "-",
        layer_words(row),
        "-" if accuracy is None else f"{100 * accuracy:.2f} %",
        drop,
        f"{row['size_bytes'] / 2**20:.1f}",
        *(f"{one['photo_ms']:.2f} ({one['speedup']:.2f})" for one in row["batches"]),
    )
