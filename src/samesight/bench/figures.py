"""From single calls to figures: latency, spread, throughput, and who wins what."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["eligible", "latency", "photo_time", "winners"]

WINNERS = {
    "latency": "least time for a photo alone",
    "throughput": "most photos a second",
    "memory": "least memory",
}


def latency(rounds: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Figures of the milliseconds of single calls, round by round.

    `spread` is how far the medians of the rounds lie apart, as a part of the smallest.
    """
    calls = sorted(call for some in rounds for call in some)
    medians = [statistics.median(some) for some in rounds]
    return {
        "average": statistics.fmean(calls),
        "minimum": calls[0],
        "maximum": calls[-1],
        "median": statistics.median(calls),
        "p95": calls[min(len(calls) - 1, int(0.95 * len(calls)))],
        "calls": len(calls),
        "round_medians": medians,
        "spread": max(medians) / min(medians) - 1,
    }


def photo_time(rounds: Sequence[float]) -> dict[str, Any]:
    """Figures of the milliseconds a photo, a number a round: the median, and how far the rounds lie apart."""
    return {
        "median": statistics.median(rounds),
        "minimum": min(rounds),
        "maximum": max(rounds),
        "rounds": list(rounds),
        "spread": max(rounds) / min(rounds) - 1,
    }


def eligible(row: Mapping[str, Any]) -> bool:
    """Whether a row may win: nothing speaks against its answers."""
    return not row["problems"]


def winners(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The row that wins each of WINNERS, of those whose answers are right; none where there is none."""
    good = [row for row in rows if eligible(row)]
    alone = [row for row in good if row["batch"] == min(row["batch"] for row in good)]
    won = {}
    if alone:
        won["latency"] = min(alone, key=lambda row: row["latency_ms"]["median"])
        won["throughput"] = min(good, key=lambda row: row["photo_ms"]["median"])
    known = [row for row in alone if row["peak_bytes"] is not None]
    if known:
        won["memory"] = min(known, key=lambda row: row["peak_bytes"])
    keys = ("engine", "copy", "mode", "threads", "lanes", "spinning", "arena", "batch")
    return {
        goal: {
            **{key: row[key] for key in keys},
            "latency_ms": row["latency_ms"]["median"],
            "photos_per_second": 1000 / row["photo_ms"]["median"],
            "peak_bytes": row["peak_bytes"],
        }
        for goal, row in won.items()
    }
