"""The signs of many numbers at once, from ABY3's shares of them: 64 numbers' bits lie in one word.

A number is the sum of three parts, of which party i holds the i-th and the one after it. Each part is shared
bit by bit already, its two fellows being zero, so nothing is sent for that. A full adder makes two numbers of
the three (one AND), a tree of carries the top bit of their sum (six), as in ABY3's paper (section 5.3).

The engine's own comparison gives each number a word of its own at every step, down to the last, of one bit.
Here a word has one bit of 64 numbers. All that is sent is the engine's own ANDs; the rest rearranges what a
party has.

The `cut` lowest bits are cut off each part first, where WIDTH bits would not hold the numbers. The sign is
right for every number that is further from zero than 2^cut times the last fraction bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["ROWS", "WIDTH", "WORD", "Words", "circuit", "circuit_inputs", "signs_of"]

Words: TypeAlias = NDArray[np.uint64]

CARRIES = 32  # a power of two: the tree of carries is then halves of halves
WIDTH = CARRIES + 2  # bits of a number: the lowest takes no carry, the highest is the sign
WORD = 64
ALL_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)


def _order() -> NDArray[np.intp]:
    """The places of the carries, so that at every level the lower of each pair are the first half."""
    order = np.zeros(1, np.intp)
    while len(order) < CARRIES:
        order = np.concatenate([2 * order, 2 * order + 1])
    return order


ADDED = np.append(_order() + 1, WIDTH - 1)  # where the two numbers are added
CARRIED = ADDED - 1  # where the full adder's carries come from
ROWS = len(ADDED)  # bits of each of what `circuit` takes


def circuit(left: Any, right: Any, last: Any, total: Any, join: Callable[..., Any] = np.concatenate) -> Any:
    """Whether numbers are zero or more, as words (w,) of uint64: what the engine is to compute.

    `left`, `right` and `last` (ROWS, w) are the bits of x0 ^ x2, x1 ^ x2 and x2 at CARRIED, `total` those of
    x0 ^ x1 ^ x2 at ADDED. `join` puts rows together: numpy's for its arrays, jax's for that.
    """
    carried = (left & right) ^ last
    either = total ^ carried
    top, either = either[CARRIES], either[:CARRIES]
    both = total[:CARRIES] & carried[:CARRIES]
    either = either[1:]  # what passes a carry on at the lowest place has none to pass
    while len(both) > 1:
        half = len(both) // 2
        passing = either[half - 1 :]
        if half > 1:
            joined = join([passing, passing[1:]]) & join([both[:half], either[: half - 1]])
            both, either = both[half:] ^ joined[:half], joined[half:]
        else:
            both = both[half:] ^ (passing & both[:half])
    return top ^ both[0] ^ ALL_ONES


def circuit_inputs(shares: Words, rank: int, cut: int) -> list[NDArray[np.uint64]]:
    """A party's shares (ROWS, w, 2) of what `circuit` takes, from its shares (n, 2) of numbers.

    `cut` low bits are cut off each part. That loses up to two units of what is left, and one is added.
    """
    parts: list[Words | None] = [None, None, None]
    for place, number in ((0, rank), (1, (rank + 1) % 3)):
        values = shares[:, place] >> np.uint64(cut)
        if cut and number == 0:
            values = values + np.uint64(1)
        parts[number] = bit_planes(values)
    inputs = []
    for numbers, places in (((0, 2), CARRIED), ((1, 2), CARRIED), ((2,), CARRIED), ((0, 1, 2), ADDED)):
        mine = np.zeros((len(places), -(-len(shares) // WORD), 2), np.uint64)
        for place, number in ((0, rank), (1, (rank + 1) % 3)):
            planes = parts[number]
            if number in numbers and planes is not None:
                mine[..., place] = planes[places]
        inputs.append(mine)
    return inputs


def signs_of(words: Words, count: int) -> NDArray[np.uint8]:
    """The shares (count, 2) of single bits, from shares (w, 2) of words."""
    columns = [np.ascontiguousarray(words[:, place]).view(np.uint8) for place in (0, 1)]
    bits = [np.unpackbits(column, count=count, bitorder="little") for column in columns]
    return np.stack(bits, axis=1)


def bit_planes(values: Words) -> Words:
    """The lowest WIDTH bits of numbers (n,), a row each: bit m of word w is of the number 64 w + m."""
    words = -(-len(values) // WORD)
    padded = np.zeros(words * WORD, "<u8")
    padded[: len(values)] = values
    columns = padded.view(np.uint8).reshape(-1, 8)
    planes = np.empty((-(-WIDTH // 8), 8, words), "<u8")
    for place, rows in enumerate(planes):
        turned = _transposed(np.ascontiguousarray(columns[:, place]).view("<u8"))
        rows.view(np.uint8)[:] = turned.view(np.uint8).reshape(-1, 8).T
    return planes.reshape(-1, words)[:WIDTH]


def _transposed(blocks: Words) -> Words:
    """Each word as a matrix of 8 × 8 bits, transposed."""
    for shift, mask in ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0)):
        swapped = (blocks ^ (blocks >> np.uint64(shift))) & np.uint64(mask)
        blocks = blocks ^ swapped ^ (swapped << np.uint64(shift))
    return blocks
