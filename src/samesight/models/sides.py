"""The size of the pictures that a network is made for, where its Linear layers depend on it."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["pooled"]


def pooled(size: int | Sequence[int], times: int) -> tuple[int, int]:
    """Width and height after `times` poolings of 2 × 2 of pictures of `size`, a side or (width, height).

    Raises ValueError where nothing would be left of them, or `size` is no size.
    """
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(type(side) is int for side in pair):
        raise ValueError(f"size is one side or [width, height], not {size}")
    if min(pair) < 2**times:
        raise ValueError(f"pictures of {pair[0]}x{pair[1]} are too small: each side needs {2**times} pixels")
    return pair[0] >> times, pair[1] >> times
