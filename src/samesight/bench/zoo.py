"""Pretrained networks beside each other over one set of photos: accuracy, batch, time a photo, time in all.

Where a network's weights are not at hand it is timed untrained, and has no accuracy.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from samesight.bench import Options, Photos, noise, some_inputs
from samesight.bench.contenders import contenders
from samesight.bench.measure import Subject, measure
from samesight.bench.processes import run_module
from samesight.bench.tables import mebibytes, percent
from samesight.errors import InputError
from samesight.preprocess import Preprocess, read_photo
from samesight.progress import say

__all__ = ["HEADS", "bench_zoo", "csv_text", "lines", "text_rows", "weights_in"]

HEADS = (
    *("network", "engine", "weights", "parameters M", "accuracy", "photos", "batch", "ms a photo"),
    *("latency ms: median", "p95", "total s", "memory MiB", "file MiB"),
)
COLUMNS = (
    *("network", "engine", "weights", "parameters", "accuracy", "photos", "batch", "photo_ms", "latency_ms"),
    *("latency_p95_ms", "calls", "spread", "network_seconds", "total_seconds", "peak_bytes", "size_bytes"),
)


def bench_zoo(
    networks: Sequence[str],
    options: Options,
    *,
    photos: Photos | None,
    weights: Path | Mapping[str, str] | None = None,
    download: bool = False,
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """A row a network, engine and batch; and the networks that could not be measured, with the reason.

    `weights` is a folder of weight files named after their networks, or files by network. Without one the
    weights are torchvision's own, from its cache, and only with `download` from the network.
    """
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for network in networks:
        with tempfile.TemporaryDirectory(prefix="samesight-zoo-") as place:
            model = Path(place) / "model.onnx"
            file = weights_in(weights, network) if isinstance(weights, Path) else (weights or {}).get(network)
            job = {"network": network, "weights": file and str(file), "out": str(model), "download": download}
            say(f"Writing {network}")
            made = run_module("samesight.export.network", job)
            if "error" in made:
                reason = made["error"] + (f": {made['found']}" if made.get("found") else "")
                failed.append({"network": network, "reason": reason})
                say(f"left out: {network}: {reason}")
                continue
            found, wrong = _one(network, model, made, options, photos)
            rows += found
            failed += [{"network": network, "reason": f"{one['engine']}: {one['reason']}"} for one in wrong]
    if not rows:
        raise InputError(
            "no network could be measured", found="; ".join(one["reason"] for one in failed) or None
        )
    return rows, failed


def weights_in(folder: Path, network: str) -> Path | None:
    """The weights of `network` in `folder`: NETWORK.pth, or NETWORK-DIGITS.pth as torchvision names them."""
    names = [
        path
        for path in sorted(folder.glob("*.pth"))
        if path.stem == network or path.stem.rpartition("-")[0] == network
    ]
    return names[0] if names else None


def _one(
    network: str, model: Path, made: Mapping[str, Any], options: Options, photos: Photos | None
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    spec = Preprocess.from_json(made["preprocess"])
    found, skipped = contenders({"fp32": "fp32"}, options.engines, options.modes)
    if photos is None:
        inputs = noise(spec, max(options.batches))
    else:
        inputs = some_inputs(map(read_photo, photos.paths), spec, max(options.batches))
    judged = photos if made["weights"] is not None else None
    subject = Subject(spec, {"fp32": model.stat().st_size}, model=model)
    rows, failed = measure(subject, found, inputs, options, judged, network)
    about = {key: made[key] for key in ("weights", "parameters")}
    count = 0 if photos is None else len(photos.paths)
    for row in rows:
        row |= {"network": network, **about, "network_seconds": count * row["photo_ms"]["median"] / 1000}
    return rows, skipped + failed


def text_rows(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """The rows as words, as HEADS has them."""
    for row in rows:
        yield (
            row["network"],
            row["engine"],
            "untrained" if row["weights"] is None else "pretrained",
            f"{row['parameters'] / 1e6:.2f}",
            percent(row["accuracy"]),
            str(row["photos"] or "-"),
            str(row["batch"]),
            f"{row['photo_ms']['median']:.2f}",
            f"{row['latency_ms']['median']:.2f}",
            f"{row['latency_ms']['p95']:.2f}",
            f"{row['network_seconds']:.1f}" if row["network_seconds"] else "-",
            mebibytes(row["peak_bytes"]),
            f"{row['size_bytes'] / 2**20:.1f}",
        )


def lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The table for a terminal."""
    table = [HEADS, *text_rows(rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
    yield ""
    yield "total s: the network alone over all photos, at that batch"


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """zoo.csv: a row a network, engine and batch, in plain numbers."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        times = row["latency_ms"]
        writer.writerow(
            {
                **{key: row[key] for key in COLUMNS if key in row},
                "photo_ms": round(row["photo_ms"]["median"], 4),
                "latency_ms": round(times["median"], 4),
                "latency_p95_ms": round(times["p95"], 4),
                "calls": times["calls"],
                "spread": round(row["photo_ms"]["spread"], 4),
            }
        )
    return stream.getvalue()
