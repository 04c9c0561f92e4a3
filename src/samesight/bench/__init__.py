"""How quick, how large and how right each copy is in each engine: measured here and now."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samesight.bench.contenders import contenders
from samesight.bench.figures import eligible, winners
from samesight.bench.measure import Options, Photos, Subject, measure
from samesight.bundle import Bundle
from samesight.errors import InputError, PhotoError
from samesight.machine import machine, versions
from samesight.preprocess import Preprocess, preprocess, read_photo
from samesight.profiles import Measured, write_profile
from samesight.verify.golden import read_golden

__all__ = ["Options", "Photos", "bench_bundle", "document", "some_inputs"]

FORMAT = "samesight-bench"
FORMAT_VERSION = 1


def document(options: Options, **parts: Any) -> dict[str, Any]:
    """The value of bench.json: where, when and how it was measured, and `parts`."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": machine(),
        "versions": versions(),
        "options": {
            "batches": list(options.batches),
            "engines": list(options.engines),
            "modes": list(options.modes),
            "rounds": options.rounds,
            "seconds": options.seconds,
        },
        **parts,
    }


def bench_bundle(bundle: Bundle, options: Options, photos: Photos | None = None) -> dict[str, Any]:
    """Every copy of a bundle in every engine: rows, winners, what was left out, and where the profile lies.

    Raises InputError for an engine or copy that there is not, and where nothing could be measured.
    """
    start = time.monotonic()
    sizes = {file.path: file.size_bytes for file in bundle.files}
    chosen = [bundle.copy(name) for name in options.copies] or list(bundle.copies)
    found, skipped = contenders(
        {copy.name: copy.precision for copy in chosen}, options.engines, options.modes
    )
    subject = Subject(
        bundle.preprocess, {copy.name: sizes[copy.file] for copy in chosen}, bundle=bundle.folder
    )
    inputs = _inputs(bundle, photos, max(options.batches))
    rows, failed = measure(subject, found, inputs, options, photos, bundle.name)
    if not rows:
        reasons = "; ".join(sorted({one["reason"] for one in [*skipped, *failed]}))
        raise InputError("nothing could be measured", where=bundle.folder, found=reasons)
    measured = _measured(rows)
    return {
        "bundle": bundle.id,
        "name": bundle.name,
        "version": bundle.version,
        "path": str(bundle.folder),
        "rows": rows,
        "winners": winners(rows),
        "left_out": [*skipped, *failed],
        "profile": str(write_profile(bundle.id, measured)) if measured else None,
        "seconds": time.monotonic() - start,
    }


def some_inputs(photos: Iterable[bytes], spec: Preprocess, count: int) -> NDArray[np.float32]:
    """Up to `count` photos as tensors (n, 3, height, width); those that cannot be read are left out."""
    tensors: list[NDArray[np.float32]] = []
    for data in photos:
        if len(tensors) == count:
            break
        with contextlib.suppress(PhotoError):
            tensors.append(preprocess(data, spec))
    return np.stack(tensors) if tensors else noise(spec, count)


def noise(spec: Preprocess, count: int) -> NDArray[np.float32]:
    """Numbers that look like normalised photos, for time alone."""
    width, height = spec.size
    return np.random.default_rng(0).standard_normal((count, 3, height, width), np.float32)


def _inputs(bundle: Bundle, photos: Photos | None, count: int) -> NDArray[np.float32]:
    """What calls are timed on: the given photos, else golden samples, else noise."""
    if photos is not None:
        return some_inputs(map(read_photo, photos.paths), bundle.preprocess, count)
    samples = read_golden(bundle).samples
    return some_inputs((bundle.read(one.photo) for one in samples), bundle.preprocess, count)


def _measured(rows: Sequence[Mapping[str, Any]]) -> list[Measured]:
    """What `--engine auto` may choose from: of each contender whose answers are right, its best batch."""
    best: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    alone: dict[tuple[str, str, str], float] = {}
    for row in filter(eligible, rows):
        key = (row["engine"], row["copy"], row["mode"])
        if row["batch"] == 1:
            alone[key] = row["latency_ms"]["median"]
        if key not in best or row["photo_ms"]["median"] < best[key]["photo_ms"]["median"]:
            best[key] = row
    names = ("engine", "copy", "threads", "lanes", "spinning", "arena", "batch", "load_seconds")
    return [
        Measured(
            **{name: row[name] for name in names},
            photo_ms=row["photo_ms"]["median"],
            latency_ms=alone.get(key, row["latency_ms"]["median"]),
        )
        for key, row in best.items()
    ]
