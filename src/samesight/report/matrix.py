"""The charts of the held-out answers: confusion matrix and reliability diagram, as inline SVG."""

from __future__ import annotations

from samesight.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Scale, svg
from samesight.report.figures import Confusion, Reliability, percent
from samesight.report.markup import Markup, short, tag


def matrix_chart(matrix: Confusion) -> Markup:
    """The whole confusion matrix, each row shaded by its share, the counts written in the cells."""
    count = len(matrix.labels)
    side = 56 if count <= 4 else 46 if count <= 10 else 34 if count <= 18 else 26
    names = [short(label, 22) for label in matrix.labels]
    left = 34 + 7.2 * max(len(name) for name in names)
    # Upright names stand at 45°; the last one leans out over the right edge.
    lean = 5.2 * max(len(name) for name in names) + 10
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
    return svg(left + count * side + lean, top + count * side + 4, label, *parts, class_="matrix")


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


def reliability_chart(found: Reliability) -> Markup:
    """Bars of accuracy over confidence, with the line on which a well calibrated network would lie."""
    x, y = Scale(0, 1, LEFT, WIDTH - RIGHT), Scale(0, 1, HEIGHT - BOTTOM, TOP)
    parts: list[object] = []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(value), y2=y(value), class_="grid"))
        parts.append(tag("text", f"{value:.0%}", x=LEFT - 6, y=y(value) + 4, class_="tick end"))
        parts.append(tag("text", f"{value:.0%}", x=x(value), y=HEIGHT - BOTTOM + 17, class_="tick middle"))
    for one in found.bins:
        words = (
            f"confidence {one.low:.0%} to {one.high:.0%}: {one.photos} photos, "
            f"{percent(one.accuracy)} right, {percent(one.confidence)} sure on average"
        )
        left, right = x(one.low) + 2, x(one.high) - 2
        bar = tag(
            "rect",
            x=left,
            y=y(one.accuracy),
            width=right - left,
            height=max(1.0, y(0) - y(one.accuracy)),
            rx=2,
            class_="bar",
        )
        above = tag(
            "text",
            str(one.photos),
            x=(left + right) / 2,
            y=min(y(one.accuracy) - 5, y(0) - 6),
            class_="tick middle",
        )
        parts.append(tag("g", tag("title", words), bar, above, class_="series train"))
    parts.append(tag("line", x1=x(0), x2=x(1), y1=y(0), y2=y(1), class_="ideal"))
    parts.append(tag("text", "confidence", x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 5, class_="axis middle"))
    parts.append(tag("text", "right", x=LEFT - 6, y=12, class_="axis end"))
    label = (
        f"Accuracy by confidence of {found.photos} photos; expected calibration error {percent(found.error)}"
    )
    return svg(WIDTH, HEIGHT, label, *parts)
