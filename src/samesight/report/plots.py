"""history.png and confusion_matrix.png, drawn by matplotlib without its global state."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samesight.errors import MissingExtra
from samesight.files import write_file
from samesight.report.figures import Confusion, confused_pairs, confusion, number, percent
from samesight.report.markup import short
from samesight.report.sources import RunFiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#5c6269"  # Okabe and Ito's, told apart by colour-blind people too
NUMBERED = 30  # classes; above, the matrix is drawn without names and numbers
DPI = 150
PLAIN = {"font.size": 10, "text.parse_math": False, "axes.spines.top": False, "axes.spines.right": False}


def plot_history(run: RunFiles, path: Path) -> Path | None:
    """`path`, written: loss, accuracy and seconds of each epoch; None where there is no history."""
    rows = [row for row in run.history if number(row.get("epoch")) is not None]
    if not rows:
        return None
    with _context():
        figure = _figure(11, 3.6)
        axes = figure.subplots(1, 3, width_ratios=(1.2, 1.2, 0.8))
        for place, what in ((axes[0], "loss"), (axes[1], "accuracy")):
            _draw(place, rows, f"train_{what}", "training", BLUE, "--")
            _draw(place, rows, f"val_{what}", "inner validation", ORANGE, "-")
            place.set_title(what.capitalize(), loc="left", fontweight="bold")
            if place.has_data():
                place.legend(frameon=False, fontsize=9)
        axes[1].yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        axes[1].set_ylim(top=1.0)
        seconds = [(number(row["epoch"]), number(row.get("seconds"))) for row in rows]
        known = [(epoch, value) for epoch, value in seconds if value is not None]
        axes[2].bar([epoch for epoch, _ in known], [value for _, value in known], color=BLUE, alpha=0.75)
        axes[2].set_title("Seconds", loc="left", fontweight="bold")
        for place in axes:
            _phases(place, rows, named=place is not axes[2])
        return _save(figure, path)


def plot_confusion(run: RunFiles, path: Path) -> Path | None:
    """`path`, written: the confusion matrix of the held-out part; None where there are no predictions."""
    if not run.answers:
        return None
    matrix = confusion(run.answers, run.labels)
    with _context():
        count = len(matrix.labels)
        side = min(12.0, max(4.2, 2.4 + 0.42 * count))
        figure = _figure(side + 0.6, side)
        place = figure.subplots()
        shares = matrix.counts / matrix.counts.sum(axis=1, keepdims=True).clip(min=1)
        image = place.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        place.spines[:].set_visible(False)
        title = f"{matrix.right} of {matrix.photos} photos right ({percent(matrix.accuracy)})"
        place.set_title(title, loc="left", fontweight="bold", fontsize=11)
        place.set_xlabel("taken for")
        place.set_ylabel("true class")
        if count <= NUMBERED:
            _names(place, matrix, shares)
        else:
            _most_confused(figure, place, matrix)
        bar = figure.colorbar(
            image, ax=place, shrink=0.7, pad=0.02, format=lambda value, _: f"{100 * value:g} %"
        )
        bar.outline.set_visible(False)
        bar.set_label("share of the true class")
        return _save(figure, path)


def _names(place: Axes, matrix: Confusion, shares: Any) -> None:
    names = [short(label, 24) for label in matrix.labels]
    place.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    place.set_yticks(range(len(names)), names)
    place.tick_params(length=0)
    size = 10 if len(names) <= 12 else 7
    for true, said in zip(*matrix.counts.nonzero(), strict=True):
        tone = "white" if shares[true, said] > 0.5 else "black"
        words = str(matrix.counts[true, said])
        place.text(said, true, words, ha="center", va="center", color=tone, fontsize=size)


def _most_confused(figure: Figure, place: Axes, matrix: Confusion) -> None:
    """Too many classes for names at the axes: numbers there, and the worst confusions below in words."""
    pairs = confused_pairs(matrix)[:6]
    place.set_xlabel(f"taken for ({len(matrix.labels)} classes, by number)")
    place.set_ylabel("true class (by number)")
    lines = (
        f"{short(one.label, 30)} → {short(one.predicted, 30)}: {one.count} of {one.support}" for one in pairs
    )
    words = "Most often confused\n" + "\n".join(lines) if pairs else "Nothing was confused"
    figure.supxlabel(words, x=0.05, ha="left", fontsize=9, color=GREY)


def _draw(place: Axes, rows: Sequence[Any], key: str, name: str, colour: str, dashes: str) -> None:
    points = [(number(row["epoch"]), value) for row in rows if (value := number(row.get(key))) is not None]
    if points:
        marker = "o" if len(points) <= 40 else None
        place.plot(*zip(*points, strict=True), dashes, color=colour, marker=marker, markersize=4, label=name)


def _phases(place: Axes, rows: Sequence[Any], *, named: bool) -> None:
    """A light line where the way of training changes."""
    from matplotlib.ticker import MaxNLocator

    for before, after in itertools.pairwise(rows):
        if before.get("phase") != after.get("phase"):
            middle = ((number(before["epoch"]) or 0.0) + (number(after["epoch"]) or 0.0)) / 2
            place.axvline(middle, color=GREY, linewidth=1, linestyle=":")
            words = short(after.get("phase"), 16) if named else ""
            place.annotate(
                words,
                (middle, 0.02),
                (4, 0),
                ("data", "axes fraction"),
                "offset points",
                fontsize=8,
                color=GREY,
            )
    place.set_xlabel("epoch")
    place.xaxis.set_major_locator(MaxNLocator(integer=True))
    place.grid(axis="y", color="#e2dfd8", linewidth=0.8)
    place.set_axisbelow(True)


def _context() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtra("drawing history.png and confusion_matrix.png", "train") from error
    return matplotlib.rc_context(PLAIN)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_file(path, buffer.getvalue())
    return path
