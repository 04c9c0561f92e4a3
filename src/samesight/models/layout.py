"""Where each box of a picture of a network stands: measured inside out, then placed from the top down."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from samesight.models.blocks import Box, Chain, Fork, Group, Item, short_name
from samesight.zoo.text import short_count

__all__ = ["Card", "Line", "Measure", "Sheet", "heading_of", "is_circle", "label", "lay_out", "shape_words"]

# Lengths in pixels of 1/100 inch.
ROW, GAP, PAD, HEAD, LANE, SIDE = 25.0, 15.0, 9.0, 21.0, 13.0, 12.0
STACK = 4.0  # how far the cards of a repeated group stand out
BUS = 13.0  # above and below the branches of a fork
LEAST = 96.0  # width of a box
JOIN = 20.0  # diameter of the circle of + and ×
WIDE = 1.55  # the shape of the sheet that columns are chosen for: width by height


class Measure(Protocol):
    """Tells how wide words are."""

    def __call__(self, words: str, size: float, *, bold: bool = False) -> float:
        """The width of `words` at a font size of so many points."""


@dataclass(frozen=True)
class Card:
    """A box, a join or a group's frame, with its upper left corner."""

    item: Box | Group
    x: float
    y: float
    width: float
    height: float
    level: int


@dataclass(frozen=True)
class Line:
    """A line through points; with an arrow at its end where it arrives somewhere, a dot where it branches."""

    points: tuple[tuple[float, float], ...]
    arrow: bool = True
    dot: bool = False


@dataclass
class Sheet:
    """Everything that is to be drawn."""

    width: float = 0.0
    height: float = 0.0
    cards: list[Card] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


class _Sizes:
    """Widths and heights of items, each measured once."""

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self.known: dict[int, tuple[Item | Chain, tuple[float, float]]] = {}  # kept, so that ids stay theirs

    def of(self, item: Item | Chain) -> tuple[float, float]:
        """Width and height."""
        if id(item) not in self.known:
            self.known[id(item)] = item, self._size(item)
        return self.known[id(item)][1]

    def _size(self, item: Item | Chain) -> tuple[float, float]:
        if isinstance(item, Box):
            return self._box(item)
        if isinstance(item, Chain):
            heights = [self.of(part)[1] for part in item.items]
            inner = max((self.of(part)[0] for part in item.items), default=0.0)
            lanes = 1 + max((lane for _, lane in _lanes(item)), default=-1)
            return inner + 2 * lanes * LANE, sum(heights) + GAP * max(0, len(heights) - 1)
        if isinstance(item, Fork):
            sizes = [self.of(branch) for branch in item.branches]
            width = sum(width for width, _ in sizes) + SIDE * (len(sizes) - 1)
            return width, max(height for _, height in sizes) + 2 * BUS
        width, height = self.of(item.body)
        large, small, cost, times = heading_of(item)
        head = self.measure(large + times, 9.0, bold=True) + self.measure(small + cost, 8.0) + 45
        grown = STACK * (item.count > 1)
        return max(width + 2 * PAD, head) + 2 * grown, HEAD + GAP + height + GAP + 2 * grown

    def _box(self, box: Box) -> tuple[float, float]:
        width = self.measure(label(box), 9.0) + 20
        if shape := shape_words(box.shape):
            width += self.measure(shape, 8.0) + 14
        return max(LEAST, width), ROW


def _lanes(chain: Chain) -> Iterator[tuple[tuple[int, int], int]]:
    """Each shortcut with the lane it runs in: the innermost that no other uses on the way."""
    taken: list[list[tuple[int, int]]] = []
    for start, end in sorted(chain.shortcuts, key=lambda way: (way[1] - way[0], way)):
        for lane in range(len(taken) + 1):
            if lane == len(taken):
                taken.append([])
            if all(end <= other[0] or other[1] <= start for other in taken[lane]):
                taken[lane].append((start, end))
                yield (start, end), lane
                break


def shape_words(shape: Sequence[int]) -> str:
    """A shape without the batch, as 64×56×56."""
    return "×".join(map(str, shape))


def label(box: Box) -> str:
    """What is written in a box."""
    return f"{box.words}   ×{box.count}" if box.count > 1 else box.words


def heading_of(group: Group) -> tuple[str, str, str, str]:
    """What is written over a group: large, small, its parameters, and how many there are of it."""
    name = short_name(group.name)
    large, small = (group.kind, name) if group.kind else (name, "")
    cost = short_count(group.parameters) if group.parameters else ""
    return large, small, cost, f"×{group.count}" if group.count > 1 else ""


def _columns(chain: Chain, sizes: _Sizes) -> list[int]:
    """The index of the first item of each column, for a sheet of about the shape of a screen."""
    heights = [sizes.of(item)[1] + GAP for item in chain.items]
    widths = [sizes.of(item)[0] for item in chain.items]
    best, least = [0], math.inf
    for count in range(1, len(heights) + 1):
        starts = _split(heights, count, chain)
        ends = [*starts[1:], len(heights)]
        width = sum(max(widths[a:b]) + 3 * SIDE for a, b in zip(starts, ends, strict=True))
        height = max(sum(heights[a:b]) for a, b in zip(starts, ends, strict=True)) + 4 * ROW
        off = abs(math.log(width / height / WIDE))
        if off < least:
            best, least = starts, off
    return best


def _split(heights: Sequence[float], count: int, chain: Chain) -> list[int]:
    """At most `count` columns, the tallest as low as can be; a shortcut is never cut."""
    free = [0] + [i for i in range(1, len(heights)) if not any(a < i - 1 < b for a, b in chain.shortcuts)]
    low, high = max(heights), sum(heights)
    best = [0]
    for _ in range(30):
        limit = (low + high) / 2
        starts, filled = [0], 0.0
        for here, then in zip(free, [*free[1:], len(heights)], strict=True):
            part = sum(heights[here:then])
            if filled and filled + part > limit:
                starts.append(here)
                filled = 0.0
            filled += part
        fits = len(starts) <= count
        best, low, high = (starts, low, limit) if fits else (best, limit, high)
    return best


def lay_out(chain: Chain, measure: Measure) -> Sheet:
    """The picture of a whole network: its chain in columns, from left to right."""
    sizes = _Sizes(measure)
    sheet = Sheet()
    starts = _columns(chain, sizes)
    x, top = 0.0, 0.0
    leave: tuple[float, float] | None = None
    for start, end in zip(starts, [*starts[1:], len(chain.items)], strict=True):
        ways = tuple((a - start, b - start) for a, b in chain.shortcuts if start - 1 <= a and b < end)
        gaps = tuple(gap - start for gap in chain.gaps)
        part = Chain(chain.items[start:end], ways, gaps)
        width, height = sizes.of(part)
        middle = x + width / 2
        if leave is not None:  # from the foot of the column before, up between the two
            gutter, foot = x - 1.5 * SIDE, leave[1] + GAP
            way = (leave, (leave[0], foot), (gutter, foot), (gutter, top - GAP), (middle, top - GAP))
            sheet.lines.append(Line((*way, (middle, top))))
        leave = _chain(part, middle, top, sizes, sheet, 0)
        sheet.height = max(sheet.height, top + height + (GAP if end < len(chain.items) else 0))
        x += width + 3 * SIDE
    sheet.width = x - 3 * SIDE
    return sheet


def _chain(
    chain: Chain, middle: float, top: float, sizes: _Sizes, sheet: Sheet, level: int
) -> tuple[float, float]:
    """Place the chain's items; the point at which it ends."""
    own = [item for item in chain.items if _is_even(item)]
    even = max((sizes.of(item)[0] for item in own), default=0.0)  # boxes under one another are as wide
    tops, bottoms = [], []
    y = top
    for place, item in enumerate(chain.items):
        width, height = sizes.of(item)
        tops.append(y)
        _item(item, middle, y, even if _is_even(item) else width, height, sizes, sheet, level)
        bottoms.append(y + height)
        if place + 1 < len(chain.items) and place not in chain.gaps:
            line = ((middle, y + height), (middle, y + height + GAP))
            sheet.lines.append(Line(line, arrow=not isinstance(chain.items[place + 1], Fork)))
        y += height + GAP
    inner = max((sizes.of(part)[0] for part in chain.items), default=0.0)
    for (start, end), lane in _lanes(chain):
        beside = middle - inner / 2 - (lane + 0.6) * LANE
        first = (bottoms[start] if start >= 0 else top - GAP) + GAP * 0.4
        if start in chain.gaps:
            sheet.lines.append(Line(((middle, bottoms[start]), (middle, first)), arrow=False))
        if end < len(tops):
            target = chain.items[end]
            last = tops[end] + min(ROW, sizes.of(target)[1]) / 2
            edge = middle - _half(target, even, sizes)
            way = ((middle, first), (beside, first), (beside, last), (edge, last))
            sheet.lines.append(Line(way, dot=True))
        else:
            last = bottoms[-1] + GAP * 0.6
            way = ((middle, first), (beside, first), (beside, last), (middle, last))
            sheet.lines.append(Line(way, arrow=False, dot=True))
    return middle, bottoms[-1]


def _half(item: Item, even: float, sizes: _Sizes) -> float:
    """Half the width of an item where a shortcut arrives."""
    if isinstance(item, Box):
        return JOIN / 2 if is_circle(item) else (even if _is_even(item) else sizes.of(item)[0]) / 2
    return sizes.of(item)[0] / 2


def _is_even(item: Item) -> bool:
    """Whether an item is made as wide as the boxes above and below it."""
    return isinstance(item, Box) and item.role not in ("add", "multiply", "concat")


def is_circle(box: Box) -> bool:
    """Whether a box is drawn as a circle: + and ×."""
    return box.role in ("add", "multiply")


def _item(
    item: Item,
    middle: float,
    top: float,
    width: float,
    height: float,
    sizes: _Sizes,
    sheet: Sheet,
    level: int,
) -> None:
    if isinstance(item, Box):
        sheet.cards.append(Card(item, middle - width / 2, top, width, height, level))
    elif isinstance(item, Group):
        grown = STACK * (item.count > 1)
        frame = (middle - width / 2 + grown, top, width - 2 * grown, height - 2 * grown)
        sheet.cards.append(Card(item, *frame, level))
        first = top + HEAD + GAP
        forks = isinstance(item.body.items[0], Fork)  # which has arrows of its own
        sheet.lines.append(Line(((middle, top + HEAD), (middle, first)), arrow=not forks))
        _, end = _chain(item.body, middle, first, sizes, sheet, level + 1)
        sheet.lines.append(Line(((middle, end), (middle, top + height - 2 * grown)), arrow=False))
    else:
        left = middle - width / 2
        for branch in item.branches:
            wide, _ = sizes.of(branch)
            x, y = left + wide / 2, top + BUS
            sheet.lines.append(Line(((middle, top), (x, top), (x, y))))
            _, end = _chain(branch, x, y, sizes, sheet, level)
            foot = top + height
            sheet.lines.append(Line(((x, end), (x, foot), (middle, foot)), arrow=False))
            left += wide + SIDE
