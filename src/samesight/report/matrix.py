"""The confusion matrix as inline SVG: whole, or of many classes as a picture."""

from __future__ import annotations

from samesight.report.charts import WIDTH, svg
from samesight.report.figures import Confusion, percent
from samesight.report.markup import Markup, short, tag

NAME = 22  # characters of a class's name at the axes


def matrix_chart(matrix: Confusion) -> Markup:
    """The whole confusion matrix, each row shaded by its share, the counts written in the cells."""
    count = len(matrix.labels)
    names = [short(label, NAME) for label in matrix.labels]
    side, left, lean = _sizes(matrix)
    top = 26 + lean
    rows = matrix.counts.sum(axis=1)
    parts: list[object] = [
        tag("text", "taken for →", x=left, y=14, class_="axis"),
        tag("text", "true class ↓", x=left - 10, y=top - 10, class_="axis end"),
    ]
    for at, name in enumerate(names):
        x, y = left + (at + 0.5) * side, top + (at + 0.5) * side
        whole = tag("title", matrix.labels[at])
        turn = f"rotate(-45 {x:.1f} {top - 8:.1f})"
        parts.append(tag("text", whole, name, x=x, y=top - 8, transform=turn, class_="tick"))
        parts.append(tag("text", whole, name, x=left - 8, y=y + 4, class_="tick end"))
    for true in range(count):
        for said in range(count):
            parts.append(
                _cell(matrix, true, said, int(rows[true]), (left + said * side, top + true * side, side))
            )
    label = f"Confusion matrix of {count} classes, {matrix.right} of {matrix.photos} photos on the diagonal"
    return svg(matrix_width(matrix), top + count * side + 4, label, *parts, class_="matrix")


def matrix_width(matrix: Confusion) -> float:
    """How wide `matrix_chart` is, in pixels."""
    side, left, lean = _sizes(matrix)
    return left + len(matrix.labels) * side + lean


def _sizes(matrix: Confusion) -> tuple[float, float, float]:
    """A cell's side, the room for names at the left, and how far upright names, at 45°, lean out."""
    count, longest = len(matrix.labels), max(len(short(label, NAME)) for label in matrix.labels)
    side = 56 if count <= 4 else 39 if count <= 10 else 34 if count <= 18 else 26
    return side, max(88.0, 34 + 7.2 * longest), 5.2 * longest + 10


def _cell(matrix: Confusion, true: int, said: int, support: int, place: tuple[float, float, float]) -> Markup:
    x, y, side = place
    photos = int(matrix.counts[true, said])
    share = photos / support if support else 0.0
    kind = "right" if true == said else "wrong"
    square = tag(
        "rect",
        x=x + 1,
        y=y + 1,
        width=side - 2,
        height=side - 2,
        rx=3,
        class_=f"cell {kind if photos else 'none'}",
        fill_opacity=f"{0.12 + 0.88 * share:.2f}" if photos else None,
    )
    if not photos:
        return square
    tone = "on" if share > 0.5 else "off"
    written = tag("text", str(photos), x=x + side / 2, y=y + side / 2 + 4.5, class_=f"count {tone}")
    words = f"{matrix.labels[true]} → {matrix.labels[said]}: {photos} of {support} ({percent(share)})"
    return tag("g", tag("title", words), square, written)


def dots_chart(matrix: Confusion) -> Markup:
    """The confusion matrix of many classes as a picture: a square for each cell that holds photos."""
    count = len(matrix.labels)
    side = WIDTH / count
    rows = matrix.counts.sum(axis=1)
    parts: list[object] = [tag("rect", x=0, y=0, width=WIDTH, height=WIDTH, class_="cell none", rx=4)]
    for true, said in zip(*(places.tolist() for places in matrix.counts.nonzero()), strict=True):
        photos = int(matrix.counts[true, said])
        share = photos / int(rows[true])
        words = f"{short(matrix.labels[true])} → {short(matrix.labels[said])}: {photos} of {rows[true]}"
        parts.append(
            tag(
                "rect",
                tag("title", words),
                x=said * side,
                y=true * side,
                width=side,
                height=side,
                class_=f"cell {'right' if true == said else 'wrong'}",
                fill_opacity=f"{0.25 + 0.75 * share:.2f}",
            )
        )
    label = f"Confusion matrix of {count} classes: {matrix.right} of {matrix.photos} photos on the diagonal"
    return svg(WIDTH, WIDTH, label, *parts)
