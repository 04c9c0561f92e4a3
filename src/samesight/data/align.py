"""Two small grey pictures laid over each other, and how alike they then are in their fine detail.

The inverse-compositional algorithm of S. Baker and I. Matthews ("Lucas-Kanade 20 Years On", IJCV 2004) on
pictures of zero mean and unit variance, so that brightness and contrast do not matter; many pairs at once.
A way is (3, 3): it takes places of the first picture, in units of the side and from the centre, to places of
the second.
"""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Pictures", "Ways", "likeness", "refine", "shrink"]

Pictures: TypeAlias = NDArray[np.float32]
"""(n, side, side)"""
Ways: TypeAlias = NDArray[np.float32]
"""(n, 3, 3)"""

DAMPING = 1e-3  # of the mean curvature, so that a picture of stripes does not run away along them
LARGEST_STEP = 0.5  # of the side; a larger one is a picture without hold, and is not taken
DETAIL = {8: (0.7, 2.0), 16: (0.7, 2.0), 32: (0.7, 2.0), 64: (0.7, 3.0)}
"""Side → the two Gaussians, in pixels, between which detail counts as fine: noise is finer, light coarser."""


def shrink(pictures: NDArray[np.uint8], side: int) -> Pictures:
    """`pictures` (n, larger, larger) averaged down to `side`, which divides their own."""
    if pictures.shape[1] == side:
        return pictures.astype(np.float32)
    mean = _means(pictures.shape[1], side)
    return np.asarray(mean @ pictures.astype(np.float32) @ mean.T, np.float32)


def refine(first: Pictures, second: Pictures, ways: Ways, steps: int) -> Ways:
    """`ways` improved by so many steps."""
    count, side, _ = first.shape
    model = _standard(first, None)
    place = _places(side)
    down, across = np.gradient(model, axis=(1, 2))
    turns = np.empty((count, 6, side, side), np.float32)
    for at, slope in enumerate((across * side, down * side)):
        turns[:, 3 * at] = slope * place
        turns[:, 3 * at + 1] = slope * place[:, None]
        turns[:, 3 * at + 2] = slope
    flat = turns.reshape(count, 6, -1)
    curvature = flat @ flat.transpose(0, 2, 1)
    mean = np.trace(curvature, axis1=1, axis2=2)[:, None, None] / 6
    inverse = np.linalg.inv(curvature + (DAMPING * mean + 1e-6) * np.eye(6, dtype=np.float32))
    for _ in range(steps):
        seen, inside = _seen(second, ways)
        wrong = (_standard(seen, inside) - model) * inside
        step = inverse @ (flat @ wrong.reshape(count, -1, 1))
        change = np.tile(np.eye(3, dtype=np.float32), (count, 1, 1))
        taken = np.abs(step).max(axis=(1, 2)) < LARGEST_STEP
        change[taken, :2] += step[taken].reshape(-1, 2, 3)
        ways = ways @ np.linalg.inv(change)
    return ways


def likeness(first: Pictures, second: Pictures, ways: Ways) -> NDArray[np.float32]:
    """The correlation, -1 to 1, of fine detail where the pictures overlap."""
    seen, inside = _seen(np.ascontiguousarray(_detail(second)), ways)
    both = _standard(_detail(first), inside) * _standard(seen, inside)
    result: NDArray[np.float32] = both.sum(axis=(1, 2)) / np.maximum(inside.sum(axis=(1, 2)), 1)
    return result


def _places(side: int) -> NDArray[np.float32]:
    """The middles of `side` pixels: -0.5 to 0.5, without the ends."""
    return (np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(side) - np.float32(0.5)


def _standard(pictures: Pictures, inside: Pictures | None) -> Pictures:
    """Zero mean and unit variance each, counting only what lies `inside`; 0 elsewhere."""
    if inside is None:
        inside = np.ones_like(pictures)
    counts = np.maximum(inside.sum(axis=(1, 2), keepdims=True), 1)
    even = (pictures - (pictures * inside).sum(axis=(1, 2), keepdims=True) / counts) * inside
    spread = np.sqrt((even * even).sum(axis=(1, 2), keepdims=True) / counts)
    result: Pictures = even / np.maximum(spread, 1e-6)
    return result


def _seen(pictures: Pictures, ways: Ways) -> tuple[Pictures, Pictures]:
    """`pictures` as they look through `ways`, bilinear, and 1 where there is something to see, else 0."""
    count, side, _ = pictures.shape
    place = _places(side)
    way = ways[:, :2, :, None, None]
    x, y = (way[:, at, 0] * place + way[:, at, 1] * place[:, None] + way[:, at, 2] for at in (0, 1))
    inside = ((np.abs(x) <= 0.5) & (np.abs(y) <= 0.5)).astype(np.float32)
    x, y = (np.clip((one + np.float32(0.5)) * side - np.float32(0.5), 0, side - 1.001) for one in (x, y))
    left, top = x.astype(np.int32), y.astype(np.int32)
    x, y = x - left, y - top
    start = (np.arange(count, dtype=np.int32) * side * side)[:, None, None]
    corner = start + top * side + left
    values = pictures.reshape(-1)
    upper = values.take(corner) * (1 - x) + values.take(corner + 1) * x
    lower = values.take(corner + side) * (1 - x) + values.take(corner + side + 1) * x
    return upper * (1 - y) + lower * y, inside


def _detail(pictures: Pictures) -> Pictures:
    """What lies between the two Gaussians of `DETAIL`."""
    side = pictures.shape[1]
    fine, coarse = (_gaussian(side, sigma) for sigma in DETAIL[side])
    return np.asarray(fine @ pictures @ fine.T - coarse @ pictures @ coarse.T, np.float32)


@cache
def _means(side: int, smaller: int) -> NDArray[np.float32]:
    """(smaller, side): what a column becomes when its pixels are averaged in groups."""
    return np.repeat(np.eye(smaller, dtype=np.float32), side // smaller, axis=1) * np.float32(smaller / side)


@cache
def _gaussian(side: int, sigma: float) -> NDArray[np.float32]:
    """(side, side): what a column becomes when it is blurred, the picture mirrored beyond its ends."""
    matrix = np.zeros((side, side))
    reach = min(side, round(4 * sigma))
    for shift in range(-reach, reach + 1):
        to = np.arange(side) + shift
        to = np.where(to < 0, -1 - to, np.where(to >= side, 2 * side - 1 - to, to))
        np.add.at(matrix, (np.arange(side), to), np.exp(-(shift**2) / (2 * sigma**2)))
    return np.asarray(matrix / matrix.sum(axis=1, keepdims=True), np.float32)
