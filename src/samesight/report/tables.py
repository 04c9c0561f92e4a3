"""The figures of a run as files for other programs: per_class.csv, confusion_matrix.csv, confused_pairs.csv
and calibration.json."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from samesight.files import write_file, write_json
from samesight.report.calibration import (
    BINS,
    Binned,
    Calibration,
    Confidence,
    Scores,
    bootstrap_accuracy,
    judge,
)
from samesight.report.figures import Confusion, Interval, class_results, confused_pairs, confusion, wilson
from samesight.report.sources import RunFiles

__all__ = ["SQUARE_CLASSES", "calibration_json", "tables"]

SQUARE_CLASSES = 1000  # above, a square matrix is large and nearly all zeros: the pairs tell as much
PER_CLASS = (
    "label", "support", "predicted", "right", "precision", "recall", "recall_low", "recall_high", "f1",
)  # fmt: skip
TOPS = (3, 5)


def tables(run: RunFiles, out: Path) -> Iterator[Path]:
    """Write the tables of the held-out answers into `out`, one by one; none where there are no answers."""
    if not run.answers:
        return
    matrix = confusion(run.answers, run.labels)
    yield _write_csv(out / "per_class.csv", PER_CLASS, _class_rows(matrix))
    pairs = ((one.label, one.predicted, one.count, one.support) for one in confused_pairs(matrix))
    yield _write_csv(out / "confused_pairs.csv", ("label", "predicted", "photos", "support"), pairs)
    if len(matrix.labels) <= SQUARE_CLASSES:
        rows = ((label, *counts) for label, counts in zip(matrix.labels, matrix.counts.tolist(), strict=True))
        yield _write_csv(out / "confusion_matrix.csv", ("label", *matrix.labels), rows)
    confidence = judge(run.answers, run.scores, run.predictions)
    if confidence is not None:
        write_json(out / "calibration.json", calibration_json(run, confidence))
        yield out / "calibration.json"


def calibration_json(run: RunFiles, confidence: Confidence) -> dict[str, Any]:
    """What calibration.json holds; shares are 0 to 1, intervals [low, high] with 95 % confidence."""
    right = np.array([one.label == one.predicted for one in run.answers], np.bool_)
    groups = run.groups
    named = {group for group in groups if group is not None}
    hits = int(right.sum())
    temperature = confidence.temperature
    return {
        "format": "samesight-calibration",
        "format_version": 1,
        "part": "test",
        "photos": len(right),
        "accuracy": {
            "value": hits / len(right),
            "right": hits,
            "wilson_95": _pair(wilson(hits, len(right))),
            "bootstrap_95": _pair(bootstrap_accuracy(right, groups)),
            "groups": len(named) or None,  # whose photos were drawn together
            **({} if run.scores is None else _tops(run.scores, len(run.labels))),
        },
        "as_trained": _calibration(confidence.seen),
        "temperature": None
        if temperature is None
        else {"value": temperature.value, "fitted_on": "val", "photos": temperature.photos},
        "with_temperature": None if confidence.mended is None else _calibration(confidence.mended),
    }


def _tops(scores: Scores, classes: int) -> dict[str, float]:
    """The share of photos whose true class is among the first 3 and 5; of more than so many classes."""
    return {f"top{k}": float((scores.rank <= k).mean()) for k in TOPS if k < classes}


def _calibration(found: Calibration) -> dict[str, Any]:
    return {
        "photos": found.photos,
        "accuracy": found.accuracy,
        "mean_confidence": found.confidence,
        "ece_equal_width": _binned(found.equal_width),
        "ece_equal_mass": _binned(found.equal_mass),
        "nll": found.nll,
        "brier": found.brier,
    }


def _binned(found: Binned) -> dict[str, Any]:
    return {
        "value": found.error,
        "interval_95": _pair(found.interval),
        "chance_95": found.chance,
        "bins_asked": BINS,
        "bins": [vars(one) for one in found.bins],
    }


def _pair(interval: Interval) -> list[float]:
    return [interval.low, interval.high]


def _class_rows(matrix: Confusion) -> Iterator[Sequence[object]]:
    said = matrix.counts.sum(axis=0).tolist()
    for at, one in enumerate(class_results(matrix)):
        right = int(matrix.counts[at, at])
        interval = wilson(right, one.support) if one.support else None
        low, high = (None, None) if interval is None else (interval.low, interval.high)
        shares = (one.precision, one.recall, low, high, one.f1)
        yield (one.label, one.support, said[at], right, *(_rounded(share) for share in shares))


def _rounded(share: float | None) -> str | None:
    return None if share is None else f"{share:.6g}"


def _write_csv(path: Path, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """`path`, written; what is not known is left empty."""
    words = io.StringIO()
    writer = csv.writer(words, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    write_file(path, words.getvalue().encode("utf-8", "replace"))
    return path
