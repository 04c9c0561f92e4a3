"""Weights as 8-bit integers whose sums come out the same on every processor.

x86 processors without VNNI multiply unsigned by signed bytes with an instruction (vpmaddubsw) that adds two
products into 16 bits and saturates: 255 · a + 255 · b must stay within −32768 … 32767. The usual remedy is
weights of 7 bits (|q| ≤ 64, "reduce_range"). What is needed is less: no two weights of one output channel and
of one sign may add up to more than 128. That holds whichever two an engine happens to pair, and lets the
scale follow the mean of a channel's two largest weights instead of the largest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PAIR", "is_portable", "limit_pairs", "round_weights", "weight_scales"]

PAIR = 128  # two weights of one sign and channel: 255 · 128 = 32640 < 2 ** 15
LIMIT = 127
SHRINK = np.linspace(1.0, 0.8, 11)  # how far the range may be cut where that rounds the rest better


def weight_scales(rows: NDArray[np.float32], *, shrink: bool = False) -> NDArray[np.float32]:
    """The scale of each row of `rows` (channels, weights): a weight is its integer times its channel's scale.

    With `shrink` a row's largest weights are cut where that lessens the row's squared error.
    """
    scales = np.max([_pair(rows) / PAIR, _pair(-rows) / PAIR, np.abs(rows).max(axis=1) / LIMIT], axis=0)
    scales = np.where(scales > 0, scales, 1.0).astype(np.float32)
    if not shrink:
        return scales
    best, least = scales, np.full(len(rows), np.inf)
    for factor in SHRINK:
        tried = (scales * np.float32(factor)).astype(np.float32)
        error = ((round_weights(rows, tried) * tried[:, None] - rows) ** 2).sum(axis=1)
        best, least = np.where(error < least, tried, best), np.minimum(error, least)
    return best.astype(np.float32)


def round_weights(rows: NDArray[np.float32], scales: NDArray[np.float32]) -> NDArray[np.int8]:
    """The integers nearest to `rows` / `scales` (channels, weights) that are portable."""
    whole = np.rint(rows / scales[:, None])
    limit_pairs(whole)
    result: NDArray[np.int8] = whole.astype(np.int8)
    return result


def limit_pairs(whole: NDArray[Any]) -> None:
    """Cut, in place, the largest integers of each row (channels, weights) so that the rows are portable."""
    np.clip(whole, -LIMIT, LIMIT, out=whole)
    for sign in (1, -1):
        _limit_pairs(whole, sign)


def is_portable(whole: NDArray[np.int8]) -> bool:
    """Whether no two integers of one row (channels, weights) can overflow 16 bits beside 255 and 255."""
    wide = whole.astype(np.int64)
    return bool((_pair(wide) <= PAIR).all() and (_pair(-wide) <= PAIR).all())


def _pair(rows: NDArray[Any]) -> NDArray[Any]:
    """The sum of each row's two largest values, neither of them below 0."""
    positive: NDArray[Any] = np.maximum(rows, 0)
    pair: NDArray[Any] = np.sort(positive, axis=1)[:, -2:].sum(axis=1)
    return pair


def _limit_pairs(whole: NDArray[Any], sign: int) -> None:
    """Cut, in place, the largest of a row's integers of that sign where two add up to more than PAIR."""
    for row in np.flatnonzero(_pair(sign * whole) > PAIR):
        values = sign * whole[row]
        second = np.sort(values)[-2]
        limit = PAIR - second if second <= PAIR // 2 else PAIR // 2
        whole[row] = sign * np.minimum(values, limit)
