"""A picture of a network: its blocks as boxes with shapes, shortcuts beside them, repetition told once."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samesight.models.blocks import Box, Chain, Group, arrange, opened
from samesight.models.layout import (
    HEAD,
    JOIN,
    STACK,
    Card,
    Line,
    Sheet,
    heading_of,
    is_circle,
    label,
    lay_out,
    shape_words,
)
from samesight.models.trace import Step
from samesight.zoo.figure import drawing, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

INCH = 100.0  # of the layout's pixels
MARGIN, TITLE, FOOT = 26.0, 74.0, 46.0
INK, FAINT, LINE, STRONG = "#22262b", "#6b7178", "#7b828a", "#b3541e"

# Role → fill, edge, and what the legend calls it.
LOOKS = {
    "conv": ("#dceaf7", "#4a88bd", "convolution"),
    "linear": ("#e9e1f4", "#8466ab", "linear"),
    "attention": ("#fbe5d3", "#d0752b", "attention"),
    "pool": ("#dff1e2", "#4f9e63", "pooling"),
    "block": ("#fff6da", "#c9a227", "block (not opened)"),
    "other": ("#eeeeec", "#9a9fa5", "other"),
}
PLAIN_ROLES = ("add", "multiply", "concat", "end")
FRAMES = ("#faf9f6", "#ffffff")  # groups inside groups alternate
FRAME_EDGE, HEADING = "#cfcabd", "#edeae2"


def draw(steps: Sequence[Step], name: str, facts: str, path: Path) -> Path:
    """`path`, written: the picture of the network with this trace, under its `name` and `facts`."""
    with drawing("the diagram"):
        chain = _with_ends(opened(arrange(steps)), steps)
        sheet = lay_out(chain, _width_of)
        width = max(sheet.width, _width_of(facts, 10.5), 320.0) + 2 * MARGIN
        height = sheet.height + TITLE + FOOT + MARGIN
        figure = new_figure(width / INCH, height / INCH, facecolor="white")
        place = figure.add_axes((0, 0, 1, 1))
        place.set_xlim(0, width)
        place.set_ylim(height, 0)
        place.axis("off")
        place.text(MARGIN, 34, name, fontsize=17, fontweight="bold", color=INK, va="center")
        place.text(MARGIN, 60, facts, fontsize=10.5, color=FAINT, va="center")
        left = (width - sheet.width) / 2
        _draw_sheet(place, sheet, left, TITLE + 14)
        _legend(place, sheet, height - FOOT / 2)
        save_figure(figure, path)
    return path


def _with_ends(chain: Chain, steps: Sequence[Step]) -> Chain:
    """`chain` with the picture before it and the logits after it."""
    picture, logits = Box("picture", "end", steps[0].shape), Box("logits", "end", steps[-1].shape)
    ways = tuple((a + 1, b + 1) for a, b in chain.shortcuts)
    return Chain((picture, *chain.items, logits), ways, tuple(gap + 1 for gap in chain.gaps))


@functools.cache
def _width_of(words: str, size: float, *, bold: bool = False) -> float:
    """How wide `words` are at a font size of so many points, in the layout's pixels."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    width, _, _ = text_to_path.get_text_width_height_descent(words, font, ismath=False)
    return float(width) * INCH / 72


def _draw_sheet(place: Axes, sheet: Sheet, left: float, top: float) -> None:
    for card in sheet.cards:
        moved = Card(card.item, card.x + left, card.y + top, card.width, card.height, card.level)
        if isinstance(card.item, Group):
            _draw_group(place, moved, card.item)
        else:
            _draw_box(place, moved, card.item)
    for line in sheet.lines:
        _draw_line(place, Line(tuple((x + left, y + top) for x, y in line.points), line.arrow, line.dot))


def _rounded(place: Axes, x: float, y: float, width: float, height: float, **look: Any) -> None:
    from matplotlib.patches import FancyBboxPatch

    radius = min(look.pop("radius", 5.0), height / 2)
    style = f"round,pad=0,rounding_size={radius}"
    place.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, **look))


def _draw_group(place: Axes, card: Card, group: Group) -> None:
    look = {"facecolor": FRAMES[card.level % 2], "edgecolor": FRAME_EDGE, "linewidth": 1.0}
    depth = 3 * card.level + 1
    for behind in range(2 if group.count > 1 else 0, 0, -1):
        off = STACK * behind
        _rounded(place, card.x + off, card.y + off, card.width, card.height, zorder=depth, radius=7, **look)
    _rounded(place, card.x, card.y, card.width, card.height, zorder=depth + 1, radius=7, **look)
    heading = {"facecolor": HEADING, "edgecolor": "none", "zorder": depth + 1.5, "radius": 6}
    _rounded(place, card.x + 1, card.y + 1, card.width - 2, HEAD - 2, **heading)
    middle = card.y + HEAD / 2
    large, small, cost, times = heading_of(group)
    text: dict[str, Any] = {"va": "center", "fontsize": 9, "zorder": depth + 2}
    place.text(card.x + 8, middle, large, color=INK, fontweight="bold", **text)
    x = card.x + 8 + _width_of(large, 9.0, bold=True) + 7
    place.text(x, middle, small, color=FAINT, va="center", fontsize=8, zorder=depth + 2)
    x = card.x + card.width - 8
    place.text(x, middle, cost, color=FAINT, va="center", ha="right", fontsize=8, zorder=depth + 2)
    x -= _width_of(cost, 8.0) + 7 * bool(cost)
    place.text(x, middle, times, color=STRONG, ha="right", fontweight="bold", **text)


def _draw_box(place: Axes, card: Card, box: Box) -> None:
    x, y, width, height = card.x, card.y, card.width, card.height
    middle, depth = y + height / 2, 3 * card.level + 2
    text: dict[str, Any] = {"va": "center", "fontsize": 9, "color": INK, "zorder": 31}
    shape = shape_words(box.shape)
    if is_circle(box):
        from matplotlib.patches import Circle

        sign, _, rest = box.words.partition(" · ")
        centre = x + width / 2
        circle = Circle(
            (centre, middle), JOIN / 2, facecolor="white", edgecolor=INK, linewidth=1.2, zorder=30
        )
        place.add_patch(circle)
        place.text(centre, middle, sign, ha="center", **{**text, "fontsize": 12})
        if rest:
            place.text(centre + JOIN / 2 + 6, middle, rest, **text)
        return
    if box.role in ("end", "concat"):
        look = {"facecolor": "white" if box.role == "concat" else INK, "edgecolor": INK, "linewidth": 1.2}
        _rounded(place, x, y, width, height, radius=height / 2, zorder=depth, **look)
        if box.role == "end":
            text["color"] = "white"
    else:
        fill, edge, _ = LOOKS.get(box.role, LOOKS["other"])
        _rounded(place, x, y, width, height, facecolor=fill, edgecolor=edge, linewidth=1.0, zorder=depth)
    place.text(x + 10, middle, label(box), **text)
    tone = "#d9dce0" if box.role == "end" else FAINT
    place.text(x + width - 10, middle, shape, va="center", ha="right", fontsize=8, color=tone, zorder=31)


def _draw_line(place: Axes, line: Line) -> None:
    from matplotlib.patches import FancyArrowPatch, PathPatch
    from matplotlib.path import Path as Way

    points = [point for i, point in enumerate(line.points) if i == 0 or point != line.points[i - 1]]
    if len(points) < 2:
        return
    codes, corners = [Way.MOVETO], [points[0]]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        radius = min(7.0, _far(before, corner) / 2, _far(corner, after) / 2)
        corners += [_towards(corner, before, radius), corner, _towards(corner, after, radius)]
        codes += [Way.LINETO, Way.CURVE3, Way.CURVE3]
    way = Way([*corners, points[-1]], [*codes, Way.LINETO])
    place.add_patch(PathPatch(way, facecolor="none", edgecolor=LINE, linewidth=1.1, zorder=28))
    if line.arrow:
        start = _towards(points[-1], points[-2], 6)
        place.add_patch(
            FancyArrowPatch(
                start,
                points[-1],
                arrowstyle="-|>",
                mutation_scale=8,
                color=LINE,
                linewidth=1,
                shrinkA=0,
                shrinkB=0,
                zorder=29,
            )
        )
    if line.dot:
        place.plot(*points[0], "o", color=LINE, markersize=3.2, zorder=29)


def _far(one: tuple[float, float], other: tuple[float, float]) -> float:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])


def _towards(start: tuple[float, float], end: tuple[float, float], length: float) -> tuple[float, float]:
    """The point `length` away from `start` on the way to `end`; lines run straight across or down."""
    far = _far(start, end) or 1.0
    return start[0] + (end[0] - start[0]) * length / far, start[1] + (end[1] - start[1]) * length / far


def _legend(place: Axes, sheet: Sheet, y: float) -> None:
    boxes = [card.item for card in sheet.cards if isinstance(card.item, Box)]
    roles = {box.role if box.role in LOOKS else "other" for box in boxes if box.role not in PLAIN_ROLES}
    x = MARGIN
    for role, (fill, edge, words) in LOOKS.items():
        if role in roles:
            _rounded(place, x, y - 7, 14, 14, radius=3, facecolor=fill, edgecolor=edge, linewidth=1)
            place.text(x + 20, y, words, fontsize=8.5, color=FAINT, va="center")
            x += 20 + _width_of(words, 8.5) + 18
    notes = ["/2: stride 2"] if any("/2" in box.words for box in boxes) else []
    if any(isinstance(card.item, Group) for card in sheet.cards):
        notes.append("K, M: parameters, of all together")
    place.text(x, y, "    ".join(notes), fontsize=8.5, color=FAINT, va="center")
