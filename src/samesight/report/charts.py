"""Charts as inline SVG, coloured by the page's style sheet, with the figures as hover titles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from samesight.report.figures import scientific
from samesight.report.markup import Markup, join, short, tag

WIDTH, HEIGHT = 460, 290
LEFT, RIGHT, TOP, BOTTOM = 48, 20, 26, 40
POINTS_WITH_TITLES = 200  # a longer line is drawn without a dot for each of its points


@dataclass(frozen=True)
class Line:
    """One line of a chart: (x, y) points and the style class, "train", "held" or "plain"."""

    name: str
    points: tuple[tuple[float, float], ...]
    style: str


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs, both ends counted, that was trained in one way."""

    name: str
    first: float
    last: float


@dataclass(frozen=True)
class Scale:
    """Where a value stands between two pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of `value`."""
        span = self.high - self.low
        return self.start + (self.end - self.start) * ((value - self.low) / span if span else 0.5)


def ticks(low: float, high: float, wanted: int = 5) -> tuple[float, ...]:
    """Round numbers, about `wanted` of them, that cover low to high."""
    span = high - low or abs(high) or 1.0
    raw = span / max(1, wanted)
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(round(at * step, 12) for at in range(first, max(last, first + 1) + 1))


def svg(width: float, height: float, label: str, *parts: object, class_: str = "chart") -> Markup:
    """A drawing that is read out as `label`."""
    return tag(
        "svg",
        *parts,
        viewBox=f"0 0 {width:g} {height:g}",
        width=f"{width:g}",
        height=f"{height:g}",
        role="img",
        aria_label=label,
        class_=class_,
    )


def line_chart(
    title: str,
    lines: Sequence[Line],
    phases: Sequence[Phase],
    shown: Callable[[float], str],
    *,
    top: float | None = None,
    bottom: float | None = None,
    mark: tuple[float, str] | None = None,
) -> Markup:
    """Lines over epochs. `shown` writes a value, `top` and `bottom` fix an end, `mark` points at an epoch."""
    xs = [x for line in lines for x, _ in line.points] + [
        end for one in phases for end in (one.first, one.last)
    ]
    ys = [y for line in lines for _, y in line.points]
    marks = ticks(min(ys) if bottom is None else bottom, max(ys) if top is None else top, 4)
    x = Scale(min(xs), max(xs), LEFT + 10, WIDTH - RIGHT - 10)
    y = Scale(marks[0], marks[-1] if top is None else top, HEIGHT - BOTTOM, TOP)
    parts: list[object] = [_phases(phases, x)]
    for value in marks:
        if value <= y.high:
            parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(value), y2=y(value), class_="grid"))
            parts.append(tag("text", shown(value), x=LEFT - 6, y=y(value) + 4, class_="tick end"))
    for epoch in _whole(ticks(x.low, x.high, 6), x):
        parts.append(tag("text", f"{epoch:g}", x=x(epoch), y=HEIGHT - BOTTOM + 17, class_="tick middle"))
    parts.append(tag("text", "epoch", x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 5, class_="axis middle"))
    if mark is not None:
        parts.append(tag("line", x1=x(mark[0]), x2=x(mark[0]), y1=TOP, y2=HEIGHT - BOTTOM, class_="mark"))
    parts.extend(_line(line, x, y, shown) for line in lines)
    if mark is not None:
        anchor = "end" if x(mark[0]) > WIDTH / 2 else "start"
        shift = -5 if anchor == "end" else 5
        parts.append(
            tag("text", mark[1], x=x(mark[0]) + shift, y=HEIGHT - BOTTOM - 6, class_=f"axis {anchor}")
        )
    return svg(WIDTH, HEIGHT, title, *parts)


def _whole(values: Sequence[float], scale: Scale) -> list[float]:
    return [value for value in values if value == int(value) and scale.low <= value <= scale.high]


def _phases(phases: Sequence[Phase], x: Scale) -> Markup:
    parts: list[object] = []
    for at, phase in enumerate(phases):
        half = 0.5 if x.high > x.low else 0.0
        start = LEFT if at == 0 else x(phase.first - half)
        end = WIDTH - RIGHT if at == len(phases) - 1 else x(phase.last + half)
        style = f"phase {'even' if at % 2 else 'odd'}"
        parts.append(
            tag(
                "rect",
                x=start,
                y=TOP,
                width=max(0.0, end - start),
                height=HEIGHT - TOP - BOTTOM,
                class_=style,
            )
        )
        room = int((end - start) / 6.5)
        if room >= 3:
            parts.append(tag("text", short(phase.name, room), x=start + 4, y=TOP - 8, class_="axis"))
    return tag("g", *parts)


def _line(line: Line, x: Scale, y: Scale, shown: Callable[[float], str]) -> Markup:
    points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in line.points)
    parts = [tag("polyline", points=points, class_="line")] if len(line.points) > 1 else []
    if len(line.points) <= POINTS_WITH_TITLES:
        radius = 3.4 if len(line.points) <= 40 else 2.2
        parts.extend(
            tag(
                "circle",
                tag("title", f"{line.name}, epoch {at:g}: {shown(value)}"),
                cx=x(at),
                cy=y(value),
                r=radius,
                class_="dot",
            )
            for at, value in line.points
        )
    return tag("g", *parts, class_=f"series {line.style}")


def legend(*entries: tuple[str, str]) -> Markup:
    """What the styles of a chart mean: pairs of style class and words."""
    return tag(
        "p",
        *(
            tag(
                "span",
                tag(
                    "svg",
                    tag("rect", x=0, y=3, width=14, height=8, rx=2, class_="swatch"),
                    width=14,
                    height=14,
                    viewBox="0 0 14 14",
                    aria_hidden="true",
                    class_=f"series {style}",
                ),
                words,
                class_="entry",
            )
            for style, words in entries
        ),
        class_="legend",
    )


@dataclass(frozen=True)
class Difference:
    """How far one copy's logits are from PyTorch's; `closest` is on the sample nearest to its limit."""

    name: str
    largest: float
    average: float
    closest: float
    allowed: float | None

    @property
    def within(self) -> bool:
        """Whether no sample is over its limit, as far as there is one."""
        return self.allowed is None or self.closest <= self.allowed


def difference_chart(rows: Sequence[Difference]) -> Markup:
    """A bar for each copy's closest call on a logarithmic scale, its mean and its limit marked."""
    values = [value for row in rows for value in (row.closest, row.average, row.allowed) if value]
    low = math.floor(math.log10(min(values))) if values else -9
    high = math.ceil(math.log10(max(values)) + 1e-9) if values else 0
    low, high = max(low, -14) - (0 if low < high else 1), max(high, low + 2)
    left, width, step = 24 + 7.4 * max(len(short(row.name, 24)) for row in rows), 680, 38
    height = 26 + step * len(rows) + 24
    x = Scale(low, high, left, width - 20)

    def place(value: float) -> float:
        return x(max(low, math.log10(value))) if value > 0 else x(low)

    parts: list[object] = []
    every = max(1, math.ceil((high - low) / 8))
    for power in range(int(low), int(high) + 1):
        parts.append(tag("line", x1=x(power), x2=x(power), y1=20, y2=height - 24, class_="grid"))
        if (power - int(high)) % every == 0:
            words = scientific(10.0**power).replace("1.0 × ", "")
            parts.append(tag("text", words, x=x(power), y=height - 6, class_="tick middle"))
    for at, row in enumerate(rows):
        parts.append(_difference(row, 20 + at * step + step / 2, left, place))
    return svg(width, height, "Difference of each copy against its tolerance", *parts, class_="chart broad")


def _difference(row: Difference, y: float, left: float, place: Callable[[float], float]) -> Markup:
    words = f"{row.name}: {scientific(row.closest)} of {scientific(row.allowed)} allowed"
    words += f", mean {scientific(row.average)}"
    parts: list[object] = [
        tag("title", words),
        tag("text", short(row.name, 24), x=left - 12, y=y + 4, class_="tick end"),
        tag(
            "rect", x=left, y=y - 7, width=max(2.0, place(row.closest) - left), height=14, rx=2, class_="bar"
        ),
    ]
    if row.average:
        parts.append(
            tag("line", x1=place(row.average), x2=place(row.average), y1=y - 7, y2=y + 7, class_="mean")
        )
    if row.allowed:
        at = place(row.allowed)
        parts.append(tag("line", x1=at, x2=at, y1=y - 13, y2=y + 13, class_="limit"))
    return tag("g", *parts, class_=f"series {'train' if row.within else 'over'}")


def share_bar(parts: Sequence[tuple[float, str]], whole: float, label: str, width: int = 220) -> Markup:
    """A bar in pieces of (value, style class), `whole` long in all."""
    at, drawn = 0.0, []
    for value, style in parts:
        long = width * value / whole if whole else 0.0
        drawn.append(tag("rect", x=at, y=2, width=long, height=10, class_=f"bar {style}"))
        at += long
    return tag(
        "svg",
        tag("title", label),
        join(drawn),
        viewBox=f"0 0 {width} 14",
        width=width,
        height=14,
        role="img",
        aria_label=label,
        class_="inline",
    )


def columns_chart(title: str, values: Sequence[tuple[str, int]]) -> Markup:
    """A column for each of many classes, the largest first."""
    width, height = 940.0, 220.0
    top = max((value for _, value in values), default=1)
    marks = ticks(0, top, 4)
    x, y = Scale(0, max(1, len(values)), 44, width - 4), Scale(0, marks[-1], height - 8, 12)
    parts: list[object] = []
    for value in marks:
        parts.append(tag("line", x1=44, x2=width - 4, y1=y(value), y2=y(value), class_="grid"))
        parts.append(tag("text", f"{value:g}", x=38, y=y(value) + 4, class_="tick end"))
    gap = 1.5 if len(values) <= 150 else 0.0
    for at, (label, value) in enumerate(values):
        bar = tag(
            "rect",
            tag("title", f"{label}: {value}"),
            x=x(at) + gap / 2,
            y=y(value),
            width=max(0.5, x(at + 1) - x(at) - gap),
            height=y(0) - y(value),
            class_="bar",
        )
        parts.append(bar)
    return svg(width, height, title, tag("g", *parts, class_="series train"), class_="chart broad")
