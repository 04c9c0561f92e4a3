"""The figures as rows for people: on a terminal, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["by_contender", "csv_text", "heads", "lines", "mebibytes", "percent", "text_row", "winner_words"]

COLUMNS = (
    *("bundle", "engine", "copy", "mode", "threads", "lanes", "spinning", "arena", "batch"),
    *(
        "latency_average_ms",
        "latency_minimum_ms",
        "latency_maximum_ms",
        "latency_median_ms",
        "latency_p95_ms",
    ),
    *("calls", "spread", "photo_ms", "photos_per_second", "peak_bytes", "load_seconds", "size_bytes"),
    *("accuracy", "photos", "label_agreement", "problems"),
)
UNKNOWN = "-"


def csv_text(bundles: Sequence[Mapping[str, Any]]) -> str:
    """bench.csv: a row a contender and batch of every bundle, as measured, in plain numbers."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for bundle in bundles:
        for row in bundle["rows"]:
            plain = {key: row[key] for key in COLUMNS if key in row}
            for name in ("average", "minimum", "maximum", "median", "p95"):
                plain[f"latency_{name}_ms"] = round(row["latency_ms"][name], 4)
            plain |= {
                "bundle": bundle["name"],
                "calls": row["latency_ms"]["calls"],
                "spread": round(row["photo_ms"]["spread"], 4),
                "photo_ms": round(row["photo_ms"]["median"], 4),
                "problems": "; ".join(row["problems"]),
            }
            writer.writerow(plain)
    return stream.getvalue()


def by_contender(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The rows of each contender, its batches from small to large, contenders in their order."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["engine"], row["copy"], row["mode"]), []).append(row)
    return list(groups.values())


def heads(batch: int) -> tuple[str, ...]:
    """The heads of the table; latency is told at `batch`."""
    return (
        *("engine", "copy", "mode"),
        *(f"ms at batch {batch}: median", "p95", "min", "max"),
        *("photos/s", "at batch", "memory MiB", "load s", "file MiB", "accuracy", "labels as first"),
    )


def text_row(group: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """One contender: latency and memory at its smallest batch, throughput at its best one."""
    first, best = group[0], min(group, key=lambda row: row["photo_ms"]["median"])
    times = first["latency_ms"]
    return (
        first["engine"],
        first["copy"],
        first["mode"],
        *(f"{times[name]:.2f}" for name in ("median", "p95", "minimum", "maximum")),
        f"{best['photos_per_second']:.1f}",
        str(best["batch"]),
        mebibytes(first["peak_bytes"]),
        f"{first['load_seconds']:.2f}",
        f"{first['size_bytes'] / 2**20:.1f}",
        percent(first["accuracy"]),
        percent(first["label_agreement"]),
    )


def lines(bundle: Mapping[str, Any]) -> Iterator[str]:
    """The table of one bundle, what is wrong with whom, and the winners."""
    groups = by_contender(bundle["rows"])
    rows = [heads(groups[0][0]["batch"]), *map(text_row, groups)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    yield f"{bundle['name']} {bundle['version']}  (bundle {bundle['bundle'][:12]})"
    yield ""
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
    yield ""
    for problem in dict.fromkeys(
        f"{group[0]['engine']} {group[0]['copy']}: {words}"
        for group in groups
        for words in group[0]["problems"]
    ):
        yield f"cannot win: {problem}"
    for one in bundle["left_out"]:
        yield f"left out: {one['engine']} {one['copy']} {one.get('mode', '')}".rstrip() + f": {one['reason']}"
    for goal, won in bundle["winners"].items():
        yield f"{goal + ':':<12} {winner_words(goal, won)}"


def winner_words(goal: str, won: Mapping[str, Any]) -> str:
    """A winner in words."""
    figure = {
        "latency": f"{won['latency_ms']:.2f} ms a photo",
        "throughput": f"{won['photos_per_second']:.1f} photos a second at batch {won['batch']}",
        "memory": f"{mebibytes(won['peak_bytes'])} MiB",
    }[goal]
    return f"{won['engine']} {won['copy']} ({won['mode']}): {figure}"


def mebibytes(size: int | None) -> str:
    """Bytes as MiB without a unit."""
    return UNKNOWN if size is None else f"{size / 2**20:.0f}"


def percent(share: float | None) -> str:
    """A share as per cent; "-" where it is not known."""
    return UNKNOWN if share is None else f"{100 * share:.2f} %"
