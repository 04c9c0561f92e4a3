"""history.png, confusion_matrix.png, reliability.png and worst_mistakes.png, drawn by matplotlib without its
global state."""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from samesight.errors import MissingExtra
from samesight.files import write_file
from samesight.report.calibration import Binned, judge
from samesight.report.figures import (
    Confusion,
    Interval,
    confused_pairs,
    confusion,
    number,
    percent,
    wilson,
    worst_mistakes,
)
from samesight.report.markup import short
from samesight.report.mistakes import MISTAKES, likely_classes
from samesight.report.photos import see
from samesight.report.samples import TINY_PIXELS
from samesight.report.sources import RunFiles, pick

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#5c6269"  # Okabe and Ito's, for all eyes
SHADE, RULE = "#f1eee7", "#e2dfd8"
NUMBERED = 30  # classes; above, the matrix is drawn without names and numbers
DPI = 150
ACROSS = 4  # pictures in a row of worst_mistakes.png
PLAIN = {"font.size": 10, "text.parse_math": False, "axes.spines.top": False, "axes.spines.right": False}
FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans", "Arial Unicode MS", "Microsoft YaHei")

Row = Mapping[str, str]


def plots(run: RunFiles, out: Path, *, photos: bool) -> Iterator[Path]:
    """Draw what the run can show into `out`, picture by picture; without `photos`, none of them."""
    drawn = [
        plot_history(run, out / "history.png"),
        plot_confusion(run, out / "confusion_matrix.png"),
        plot_reliability(run, out / "reliability.png"),
        plot_mistakes(run, out / "worst_mistakes.png") if photos else None,
    ]
    return (path for path in drawn if path is not None)


def plot_history(run: RunFiles, path: Path) -> Path | None:
    """`path`, written: loss, accuracy, learning rate and seconds of each epoch; None without a history."""
    rows = [row for row in run.history if number(row.get("epoch")) is not None]
    if not rows:
        return None
    best = number(pick(run.about, "results.best_epoch"))
    changes = len({row.get("phase") for row in rows}) > 1  # phases are named above
    held = "inner validation" + (", averaged weights" if pick(run.about, "derived.average") is True else "")
    with _drawing():
        figure = _figure(11, 6.6)
        (loss, accuracy), (rate, seconds) = figure.subplots(2, 2, sharex=True, height_ratios=(1.6, 1))
        for place, what in ((loss, "loss"), (accuracy, "accuracy")):
            _phases(place, rows, named=True)
            _line(place, rows, f"train_{what}", "training", BLUE, "--")
            _line(place, rows, f"val_{what}", held, ORANGE, "-")
            _best(place, rows, f"val_{what}", best)
            place.set_title(what.capitalize(), loc="left", fontweight="bold", pad=18 if changes else 6)
            if place.get_legend_handles_labels()[0]:
                place.legend(frameon=False, fontsize=9)
        accuracy.yaxis.set_major_formatter(_percents)
        for place in (rate, seconds):
            _phases(place, rows, named=False)
            place.set_xlabel("epoch")
        _line(rate, rows, "lr", "learning rate", GREY, "-")
        rate.set_title("Learning rate at the epoch’s end", loc="left", fontweight="bold")
        rate.set_ylim(bottom=0)
        known = _points(rows, "seconds")
        seconds.bar([at for at, _ in known], [value for _, value in known], color=GREY, alpha=0.75)
        seconds.set_title("Seconds of learning", loc="left", fontweight="bold")
        return _save(figure, path)


def plot_confusion(run: RunFiles, path: Path) -> Path | None:
    """`path`, written: the confusion matrix of the held-out part; None where there are no predictions."""
    if not run.answers:
        return None
    matrix = confusion(run.answers, run.labels)
    with _drawing():
        count = len(matrix.labels)
        side = min(12.0, max(4.2, 2.4 + 0.42 * count))
        figure = _figure(side + 0.6, side)
        place = figure.subplots()
        shares = matrix.counts / matrix.counts.sum(axis=1, keepdims=True).clip(min=1)
        right = np.eye(count, dtype=bool)
        image = place.imshow(np.ma.array(shares, mask=~right), cmap="Blues", vmin=0, vmax=1, zorder=2)
        if count <= NUMBERED:
            place.imshow(np.ma.array(shares, mask=right | (shares == 0)), cmap="Oranges", vmin=0, vmax=1)
        else:
            _spots(place, np.where(right, 0, shares), side)
        place.spines[:].set_visible(False)
        title = f"{matrix.right} of {matrix.photos} photos right ({percent(matrix.accuracy)})"
        place.set_title(title, loc="left", fontweight="bold", fontsize=11)
        place.set_xlabel("taken for")
        place.set_ylabel("true class")
        if count <= NUMBERED:
            _names(place, matrix, shares)
        else:
            _most_confused(figure, place, matrix)
        bar = figure.colorbar(image, ax=place, shrink=0.7, pad=0.02, format=_percents)
        bar.outline.set_visible(False)
        bar.set_label("share of the true class")
        return _save(figure, path)


def plot_reliability(run: RunFiles, path: Path) -> Path | None:
    """`path`, written: accuracy by confidence, in bins of equal width and of as many photos; None where no
    confidence is recorded."""
    found = judge(run.answers, run.scores, run.predictions)
    if found is None:
        return None
    with _drawing():
        from matplotlib.ticker import MaxNLocator

        figure = _figure(10, 5.6)
        upper, lower = figure.subplots(2, 2, sharex=True, height_ratios=(4, 1))
        kinds = (("equal width", found.seen.equal_width), ("as many photos", found.seen.equal_mass))
        for place, below, (words, binned) in zip(upper, lower, kinds, strict=True):
            _reliability(place, binned)
            place.set_title(f"Bins of {words}", loc="left", fontweight="bold", fontsize=11, pad=20)
            error = f"calibration error {percent(binned.error)}, 95 % interval {_between(binned.interval)}"
            place.text(0, 1.03, error, transform=place.transAxes, fontsize=9, color=GREY)
            _columns(below, binned, [float(one.photos) for one in binned.bins], color=GREY, alpha=0.75)
            below.set_xlabel("confidence")
            below.xaxis.set_major_formatter(_percents)
            below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        if found.mended is not None and found.temperature is not None:
            words = f"with temperature {found.temperature.value:.2f}"
            for place, mended in zip(upper, (found.mended.equal_width, found.mended.equal_mass), strict=True):
                at = [one.confidence for one in mended.bins]
                right = [one.accuracy for one in mended.bins]
                style: dict[str, Any] = {
                    "clip_on": False,
                    "markersize": 5,
                    "markerfacecolor": "none",
                    "markeredgewidth": 1.3,
                }
                place.plot(at, right, "D", color=GREEN, label=words, **style)
        figure.legend(
            *upper[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=3,
            frameon=False,
            fontsize=9,
        )
        upper[0].set_ylabel("right")
        lower[0].set_ylabel("photos")
        return _save(figure, path)


def plot_mistakes(run: RunFiles, path: Path) -> Path | None:
    """`path`, written: the surest mistakes as the network sees them, with what it was sure of; None where
    there are none, or no photo of one is at hand."""
    worst = worst_mistakes(run.answers, MISTAKES)
    shown = see(run, [run.answers[at].name for at in worst])
    places = [at for at in worst if run.answers[at].name in shown.pixels]
    if not places:
        return None
    wrong = sum(one.label != one.predicted for one in run.answers)
    rows, side, under, head = -(-len(places) // ACROSS), 2.5, 1.35, 0.55  # inches, of pictures and words
    width, height = ACROSS * (side + 0.2) + 0.2, head + rows * (side + under)
    with _drawing():
        figure = _figure(width, height, None)
        title = f"The {len(places)} surest of {wrong}" if len(places) < wrong else f"All {wrong}"
        title += " mistake" if wrong == 1 else " mistakes"
        figure.text(0.2 / width, 1 - 0.2 / height, title, fontsize=12, va="top", fontweight="bold")
        for index, at in enumerate(places):
            left = 0.2 + index % ACROSS * (side + 0.2)
            base = height - head - index // ACROSS * (side + under) - side
            place = figure.add_axes((left / width, base / height, side / width, side / height))
            place.set_axis_off()
            pixels = shown.pixels[run.answers[at].name]
            place.imshow(pixels, interpolation="nearest" if max(pixels.shape[:2]) <= TINY_PIXELS else None)
            for line, (words, style) in enumerate(_mistake(run, at)):
                down = (base - 0.09 - 0.175 * line) / height
                figure.text(left / width, down, words, va="top", **{"fontsize": 8.5, "color": GREY, **style})
        return _save(figure, path)


def _mistake(run: RunFiles, at: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The lines under a picture, each with its style."""
    one = run.answers[at]
    yield short(one.label, 32), {"fontsize": 10, "color": "black", "fontweight": "bold"}
    yield f"taken for {short(one.predicted, 30)}", {"fontsize": 9.5, "color": ORANGE}
    likely = likely_classes(run, at)
    for two in likely:
        yield f"{percent(two.share)}  {two.words(32)}", {"color": "black" if two.label == one.label else GREY}
    if not likely and one.confidence is not None:
        yield f"{percent(one.confidence)} sure", {}
    yield short(one.name, 44), {"fontsize": 7.5}


def _reliability(place: Axes, binned: Binned) -> None:
    """Columns of accuracy with their intervals, and the line on which both are equal."""
    right = [one.accuracy for one in binned.bins]
    _columns(place, binned, right, color=BLUE, alpha=0.35)
    found = [wilson(round(one.accuracy * one.photos), one.photos) for one in binned.bins]
    spread = np.array([(at - one.low, one.high - at) for at, one in zip(right, found, strict=True)]).clip(0).T
    at = [one.confidence for one in binned.bins]
    words = "share that is right, 95 % interval"
    place.errorbar(at, right, spread, fmt="o", color=BLUE, markersize=4, elinewidth=1, label=words)
    place.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1)
    place.set(xlim=(0, 1), ylim=(0, 1.02))
    place.yaxis.set_major_formatter(_percents)
    place.grid(axis="y", color=RULE, linewidth=0.8)
    place.set_axisbelow(True)


def _columns(place: Axes, binned: Binned, tall: Sequence[float], **style: Any) -> None:
    """A column for each bin, from its least to its largest confidence."""
    left = [one.low for one in binned.bins]
    wide = [max(0.004, one.high - one.low) for one in binned.bins]
    place.bar(left, tall, wide, align="edge", edgecolor="white", linewidth=0.8, **style)


def _percents(value: float, _: object) -> str:
    return f"{100 * value:g} %"


def _between(interval: Interval) -> str:
    return f"{percent(interval.low).removesuffix(chr(160) + '%')} to {percent(interval.high)}"


def _spots(place: Axes, shares: Any, side: float) -> None:
    """A square for each confusion of many classes, never so small that it cannot be seen."""
    true, said = shares.nonzero()
    points = max(1.7, 60 * side / len(shares))
    style: dict[str, Any] = {"cmap": "Oranges", "vmin": -0.4, "vmax": 1, "marker": "s", "linewidths": 0}
    place.scatter(said, true, points**2, c=shares[true, said], **style)


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


def _points(rows: Sequence[Row], key: str) -> list[tuple[float, float]]:
    """Epoch and value of each row that has both."""
    pairs = ((number(row.get("epoch")), number(row.get(key))) for row in rows)
    return [(at, value) for at, value in pairs if at is not None and value is not None]


def _line(place: Axes, rows: Sequence[Row], key: str, name: str, colour: str, dashes: str) -> None:
    points = _points(rows, key)
    if points:
        marker = "o" if len(points) <= 40 else None
        place.plot(*zip(*points, strict=True), dashes, color=colour, marker=marker, markersize=4, label=name)


def _best(place: Axes, rows: Sequence[Row], key: str, best: float | None) -> None:
    """A ring around the epoch whose weights were kept."""
    value = dict(_points(rows, key)).get(best) if best is not None else None
    if best is not None and value is not None:
        ring: dict[str, Any] = {
            "markersize": 11,
            "markerfacecolor": "none",
            "markeredgewidth": 1.6,
            "color": ORANGE,
        }
        place.plot([best], [value], "o", label=f"best, epoch {best:g}", linestyle="none", **ring)


def _phases(place: Axes, rows: Sequence[Row], *, named: bool) -> None:
    """A shade behind every other stretch of epochs that was trained in one way, and its name above."""
    from matplotlib.ticker import MaxNLocator

    stretches = [list(some) for _, some in itertools.groupby(rows, lambda row: row.get("phase", ""))]
    for at, some in enumerate(stretches if len(stretches) > 1 else ()):
        first, last = (number(one["epoch"]) or 0.0 for one in (some[0], some[-1]))
        if at % 2 == 0:
            place.axvspan(first - 0.5, last + 0.5, color=SHADE, zorder=0, linewidth=0)
        if named:
            where = (first - 0.45, 1.015)
            words = short(some[0].get("phase"), 16)
            place.text(*where, words, transform=place.get_xaxis_transform(), fontsize=8.5, color=GREY)
    epochs = [number(row["epoch"]) or 0.0 for row in rows]
    place.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    place.xaxis.set_major_locator(MaxNLocator(integer=True))
    place.grid(axis="y", color=RULE, linewidth=0.8)
    place.set_axisbelow(True)


@contextmanager
def _drawing() -> Iterator[None]:
    """Our style, fonts for as many scripts as there are, and no warning of a letter that none of them has."""
    try:
        import matplotlib
        from matplotlib.font_manager import fontManager
    except ImportError as error:
        raise MissingExtra("drawing pictures of a run", "train") from error
    there = set(fontManager.get_font_names())
    fonts = [name for name in FONTS if name in there]
    with matplotlib.rc_context({**PLAIN, "font.family": fonts}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        yield


def _figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_file(path, buffer.getvalue())
    return path
