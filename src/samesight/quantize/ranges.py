"""Which range of a tensor 256 levels are spread over: calibrators, all from one histogram."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from samesight.quantize.observe import BINS, Observed

__all__ = ["CALIBRATORS", "ranges"]

LEVELS = 256
CANDIDATES = np.linspace(1.0, 0.2, 81)


def ranges(seen: Mapping[str, Observed], calibrator: str) -> dict[str, tuple[float, float]]:
    """The range (low ≤ 0 ≤ high) of each tensor by one of CALIBRATORS."""
    choose = CALIBRATORS[calibrator]
    return {name: choose(one) for name, one in seen.items()}


def _minmax(one: Observed) -> tuple[float, float]:
    return min(one.low, 0.0), max(one.high, 0.0)


def _percentile(share: float) -> Callable[[Observed], tuple[float, float]]:
    """The range that leaves out (1 − share) of the values, at each end that is not 0."""

    def choose(one: Observed) -> tuple[float, float]:
        total = one.histogram.sum()
        if not total:
            return _minmax(one)
        below = np.cumsum(one.histogram) / total
        edges = np.linspace(one.low, one.high, BINS + 1)
        high = float(edges[min(int(np.searchsorted(below, share)) + 1, BINS)])
        low = float(edges[int(np.searchsorted(below, 1 - share, side="right"))])
        return min(low, 0.0), max(high, 0.0)

    return choose


def _mse(one: Observed) -> tuple[float, float]:
    """The range with the least squared rounding error, each end moved in turn."""
    low, high = _minmax(one)
    counts, centres = _bins(one)
    for _ in range(2):
        highs = [high * factor for factor in CANDIDATES]
        high = highs[int(np.argmin([_error(counts, centres, low, end) for end in highs]))]
        lows = [low * factor for factor in CANDIDATES]
        low = lows[int(np.argmin([_error(counts, centres, end, high) for end in lows]))]
    return low, high


def _error(counts: NDArray[np.float64], centres: NDArray[np.float64], low: float, high: float) -> float:
    step = (high - low) / (LEVELS - 1)
    if not step > 0:
        return float("inf")
    inside = np.clip(centres, low, high)
    # Within the range an error is spread evenly over a step; outside it is the whole distance.
    squared = (centres - inside) ** 2 + step**2 / 12 * (centres == inside)
    return float((counts * squared).sum())


def _entropy(one: Observed) -> tuple[float, float]:
    """The range whose 256 levels lose the least information (Kullback–Leibler), both ends cut alike.

    After NVIDIA's "8-bit inference with TensorRT" (2017): values outside count as the outermost inside.
    """
    low, high = _minmax(one)
    counts, centres = _bins(one)
    best, least = (low, high), np.inf
    for factor in CANDIDATES:
        limit = factor * max(high, -low)
        cut_low, cut_high = max(low, -limit), min(high, limit)
        loss = _lost(counts, centres, cut_low, cut_high)
        if loss < least:
            best, least = (cut_low, cut_high), loss
    return best


def _lost(counts: NDArray[np.float64], centres: NDArray[np.float64], low: float, high: float) -> float:
    step = (high - low) / (LEVELS - 1)
    inside = (centres >= low) & (centres <= high)
    if not step > 0 or not inside.any():
        return float("inf")
    places = np.flatnonzero(inside)
    wanted = counts[places].copy()
    wanted[0] += counts[: places[0]].sum()
    wanted[-1] += counts[places[-1] + 1 :].sum()
    kept = counts[places]
    levels = np.rint((centres[places] - low) / step).astype(np.int64)
    filled = kept > 0
    sums, bins = np.bincount(levels, kept), np.bincount(levels, filled)
    given = np.where(filled, sums[levels] / np.maximum(bins[levels], 1), 0.0)
    p, q = wanted / wanted.sum(), given / max(given.sum(), 1.0)
    there = p > 0
    return float((p[there] * np.log(p[there] / np.maximum(q[there], 1e-12))).sum())


def _bins(one: Observed) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    edges = np.linspace(one.low, one.high, BINS + 1)
    return one.histogram.astype(np.float64), (edges[:-1] + edges[1:]) / 2


CALIBRATORS: dict[str, Callable[[Observed], tuple[float, float]]] = {
    "minmax": _minmax,
    "percentile 99.999": _percentile(0.99999),
    "percentile 99.99": _percentile(0.9999),
    "percentile 99.9": _percentile(0.999),
    "mse": _mse,
    "entropy": _entropy,
}
