"""The study's two pictures, drawn by matplotlib without its global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samesight.bench.plots import PLAIN, RULE, new_figures, save_figure
from samesight.quantize.study.tables import layer_words
from samesight.quantize.study.ways import STATIC

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_dynamic", "plot_static"]

# Okabe and Ito's colours, for all eyes.
COLOURS = ("#5c6269", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKS = ("o", "s", "D", "^", "v", "P", "X")
Rows = Sequence[Mapping[str, Any]]
MS = "ms a photo (float32's ÷ speed-up)"


def plot_dynamic(study: Mapping[str, Any], path: Path) -> Path:
    """Float32 and dynamic quantisation at each batch: accuracy against time, time, accuracy."""
    rows = _there(study, ("float", "dynamic"))
    figure_of, rc = new_figures()
    with rc(PLAIN):
        figure = figure_of(figsize=(13, 4.8), layout="constrained")
        scatter, bars, accuracy = figure.subplots(1, 3, width_ratios=(1.25, 1.1, 1))
        _accuracy_by_time(scatter, rows, every_batch=True)
        _times(bars, rows)
        _accuracy_by_batch(accuracy, rows)
        changed = "; ".join(
            f"{row['way']}: int8 {layer_words(row)}" for row in rows if row["kind"] == "dynamic"
        )
        _title(figure, f"{study['network']}: dynamic quantisation", changed)
        _key(figure, rows)
        return save_figure(figure, path)


def plot_static(study: Mapping[str, Any], path: Path) -> Path:
    """Float32 and static quantisation: accuracy against time, time at each batch, accuracy lost."""
    rows = _there(study, ("float", *STATIC))
    figure_of, rc = new_figures()
    with rc(PLAIN):
        figure = figure_of(figsize=(13, 5.2), layout="constrained")
        scatter, bars, drops = figure.subplots(1, 3, width_ratios=(1.1, 1.3, 1))
        _accuracy_by_time(scatter, rows, every_batch=False)
        _times(bars, rows)
        _drops(drops, rows)
        missing = [row["way"] for row in study["rows"] if row["reason"] is not None]
        won = {goal: one["way"] for goal, one in study["winners"].items()}
        words = f"calibrated with {study['photos']['calibration']} photos; best here: "
        words += ", ".join(f"{way} for {goal}" for goal, way in won.items())
        if missing:
            words += f"; not to be had here: {', '.join(missing)}"
        _title(figure, f"{study['network']}: static quantisation", words)
        _key(figure, rows)
        return save_figure(figure, path)


def _ms(rows: Rows, row: Mapping[str, Any]) -> list[float]:
    """The milliseconds a photo at each batch, on the float32 row's clock: each way was timed turn by turn
    with float32, so that other work on the machine cannot move one way against another."""
    pairs = zip(rows[0]["batches"], row["batches"], strict=True)
    return [first["photo_ms"] / one["speedup"] for first, one in pairs]


def _look(at: int) -> dict[str, Any]:
    """Colour and mark of a way; float32's is a ring, so that what lies on it is seen."""
    ring = {"markerfacecolor": "none", "markersize": 11} if at == 0 else {}
    return {"color": COLOURS[at], "marker": MARKS[at], **ring}


def _there(study: Mapping[str, Any], kinds: Sequence[str]) -> list[Mapping[str, Any]]:
    return [row for row in study["rows"] if row["kind"] in kinds and row["reason"] is None]


def _accuracy_by_time(axes: Axes, rows: Rows, *, every_batch: bool) -> None:
    """A point a way and batch, or a way at its best batch."""
    axes.set_xlabel(MS if every_batch else f"{MS}, at the best batch")
    axes.set_ylabel("accuracy, %")
    axes.grid(color=RULE)
    if any(row["verdict"]["int8_accuracy"] is None for row in rows):
        axes.text(0.5, 0.5, "photos without labels", ha="center", va="center", transform=axes.transAxes)
        return
    for at, row in enumerate(rows):
        points = list(zip(_ms(rows, row), row["batches"], strict=True))
        points = points if every_batch else [min(points, key=lambda point: point[0])]
        x, y = [ms for ms, _ in points], [100 * one["accuracy"] for _, one in points]
        axes.plot(x, y, **_look(at), linestyle="-", linewidth=0.8, alpha=0.85)
        for (ms, one), up in zip(points, y, strict=True) if at == 0 or not every_batch else ():
            axes.annotate(str(one["batch"]), (ms, up), xytext=(6, 6), textcoords="offset points", fontsize=7)
    axes.set_xlim(left=0)
    axes.margins(y=0.2)
    axes.set_title("small numbers: the batch", fontsize=8, loc="left")


def _times(axes: Axes, rows: Rows) -> None:
    batches = [one["batch"] for one in rows[0]["batches"]]
    width = 0.84 / len(rows)
    for at, row in enumerate(rows):
        places = [index + (at - (len(rows) - 1) / 2) * width for index in range(len(batches))]
        axes.bar(places, _ms(rows, row), width * 0.92, color=COLOURS[at])
    axes.set_xticks(range(len(batches)), [str(batch) for batch in batches])
    axes.set_xlabel("photos a call (batch)")
    axes.set_ylabel(MS)
    axes.grid(axis="y", color=RULE)
    axes.set_axisbelow(True)


def _accuracy_by_batch(axes: Axes, rows: Rows) -> None:
    batches = [one["batch"] for one in rows[0]["batches"]]
    for at, row in enumerate(rows):
        known = [one["accuracy"] for one in row["batches"]]
        if None not in known:
            values = [100 * value for value in known]
            axes.plot(range(len(batches)), values, **_look(at), linestyle="-", alpha=0.85)
    axes.set_xticks(range(len(batches)), [str(batch) for batch in batches])
    axes.set_xlabel("photos a call (batch)")
    axes.set_ylabel("accuracy, %")
    axes.margins(0.2)
    axes.grid(color=RULE)


def _drops(axes: Axes, rows: Rows) -> None:
    """What each way loses, with its interval."""
    others = rows[1:]
    for at, row in enumerate(others):
        verdict = row["verdict"]
        low, middle, high = (100 * verdict[key] for key in ("low", "drop", "high"))
        axes.plot([low, high], [at, at], color=COLOURS[at + 1], linewidth=2)
        axes.plot(middle, at, MARKS[at + 1], color=COLOURS[at + 1])
    axes.axvline(0, color=COLOURS[0], linewidth=1)
    axes.set_yticks(range(len(others)), [row["way"] for row in others])
    axes.set_ylim(len(others) - 0.5, -0.5)
    photos = rows[0]["verdict"]["photos"]
    axes.set_xlabel(f"points of accuracy lost on {photos} photos, 95 %")
    axes.grid(axis="x", color=RULE)


def _title(figure: Any, title: str, words: str) -> None:
    figure.suptitle(f"{title}\n{words}", x=0.01, ha="left", fontsize=9.5)


def _key(figure: Any, rows: Rows) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], **(_look(at) | {"markersize": 7}), linestyle="none", label=row["way"])
        for at, row in enumerate(rows)
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=len(rows), frameon=False)
