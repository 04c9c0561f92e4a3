"""The figures as one picture a bundle, drawn by matplotlib without its global state."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samesight.bench.tables import by_contender
from samesight.errors import MissingExtra
from samesight.files import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PLAIN", "RULE", "new_figures", "plot_bundle", "plot_zoo", "save_figure"]

# Okabe and Ito's colours, for all eyes.
COLOURS = {"onnxruntime": "#0072B2", "openvino": "#D55E00", "openvino-bf16": "#009E73"}
GREY, RULE = "#5c6269", "#e2dfd8"
MARKS = {"fp32": "o", "fp16": "s", "int8": "D"}
DPI = 150
PLAIN = {"font.size": 9, "text.parse_math": False, "axes.spines.top": False, "axes.spines.right": False}


def plot_bundle(bundle: Mapping[str, Any], path: Path) -> Path:
    """Latency, throughput by batch and memory of one bundle. Raises MissingExtra without matplotlib."""
    figure_of, rc = new_figures()
    groups = by_contender(bundle["rows"])
    with rc(PLAIN):
        figure = figure_of(figsize=(13, 2.2 + 0.26 * max(10, len(groups))), layout="constrained")
        latency, throughput, memory = figure.subplots(1, 3, width_ratios=(1.15, 1.2, 1))
        _bars_of_latency(latency, groups)
        _lines_of_throughput(throughput, groups)
        _bars_of_memory(memory, groups)
        figure.suptitle(f"{bundle['name']} {bundle['version']}", x=0.01, ha="left", fontweight="bold")
        return save_figure(figure, path)


def plot_zoo(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Accuracy against time a photo, and time by batch. Raises MissingExtra without matplotlib."""
    figure_of, rc = new_figures()
    names = list(dict.fromkeys(row["network"] for row in rows))
    with rc(PLAIN):
        figure = figure_of(figsize=(12, 2.2 + 0.3 * max(9, len(names))), layout="constrained")
        scatter, bars = figure.subplots(1, 2)
        _accuracy_by_time(scatter, rows)
        _time_by_network(bars, rows, names)
        return save_figure(figure, path)


def _bars_of_latency(axes: Axes, groups: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    ordered = sorted(groups, key=lambda group: -group[0]["latency_ms"]["median"])
    for at, group in enumerate(ordered):
        row = group[0]
        times = row["latency_ms"]
        axes.barh(at, times["median"], color=_colour(row), alpha=1 if not row["problems"] else 0.35)
        axes.plot([times["median"], times["p95"]], [at, at], color=GREY, linewidth=1)
        axes.plot(times["p95"], at, "|", color=GREY, markersize=7)
    axes.set_yticks(range(len(ordered)), [_name(group[0]) for group in ordered])
    batch = groups[0][0]["batch"]
    axes.set_xlabel(f"ms at batch {batch}: median, the mark p95\npale: cannot win")
    _begin_at_zero(axes)


def _lines_of_throughput(axes: Axes, groups: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    """The best mode of each engine and copy at each batch."""
    best: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for group in groups:
        for row in group:
            at = best.setdefault((row["engine"], row["copy"]), {})
            if row["batch"] not in at or row["photos_per_second"] > at[row["batch"]]["photos_per_second"]:
                at[row["batch"]] = row
    for (engine, copy), rows in best.items():
        batches = sorted(rows)
        axes.plot(
            batches,
            [rows[batch]["photos_per_second"] for batch in batches],
            color=_colour(rows[batches[0]]),
            marker=MARKS.get(copy, "v"),
            linestyle={"fp32": "-", "fp16": ":"}.get(copy, "--"),
            label=f"{engine} {copy}",
        )
    batches = sorted({row["batch"] for group in groups for row in group})
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.minorticks_off()
    axes.set_xlabel("photos a call (batch)")
    axes.set_ylabel("photos a second, in the best mode")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=RULE)
    axes.legend(frameon=False)


def _bars_of_memory(axes: Axes, groups: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    known = [group for group in groups if group[0]["peak_bytes"] is not None]
    ordered = sorted(known, key=lambda group: -group[0]["peak_bytes"])
    for at, group in enumerate(ordered):
        first, last = group[0], group[-1]
        axes.barh(at, first["peak_bytes"] / 2**20, color=_colour(first))
        axes.plot(last["peak_bytes"] / 2**20, at, "|", color=GREY, markersize=9)
    axes.set_yticks(range(len(ordered)), [_name(group[0]) for group in ordered])
    batches = [row["batch"] for row in groups[0]]
    axes.set_xlabel(f"peak MiB of the process at batch {batches[0]}\nthe mark: up to batch {batches[-1]}")
    _begin_at_zero(axes)


def _accuracy_by_time(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    best: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        held = best.get(row["network"])
        if row["accuracy"] is not None and (
            held is None or row["photo_ms"]["median"] < held["photo_ms"]["median"]
        ):
            best[row["network"]] = row
    axes.set_xlabel("ms a photo, at the best batch")
    axes.set_ylabel("accuracy, %")
    if not best:
        axes.text(
            0.5, 0.5, "no weights at hand: time only", ha="center", va="center", transform=axes.transAxes
        )
        return
    axes.set_xscale("log")
    for name, row in best.items():
        x, y = row["photo_ms"]["median"], 100 * row["accuracy"]
        axes.plot(x, y, "o", color=COLOURS["onnxruntime"])
        axes.annotate(name, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8)
    axes.grid(color=RULE)
    axes.margins(0.15)


def _time_by_network(axes: Axes, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    batches = sorted({row["batch"] for row in rows})
    height = 0.8 / len(batches)
    times = {(row["network"], row["batch"]): row["photo_ms"]["median"] for row in rows}
    for place, batch in enumerate(batches):
        at = [index + (place - (len(batches) - 1) / 2) * height for index in range(len(names))]
        widths = [times.get((name, batch), 0) for name in names]
        shade = 0.35 + 0.65 * (place + 1) / len(batches)
        axes.barh(at, widths, height, color=COLOURS["onnxruntime"], alpha=shade, label=f"batch {batch}")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("ms a photo")
    axes.legend(frameon=False)
    _begin_at_zero(axes)


def _begin_at_zero(axes: Axes) -> None:
    axes.set_xlim(left=0)
    axes.grid(axis="x", color=RULE)
    axes.set_axisbelow(True)


def _colour(row: Mapping[str, Any]) -> str:
    return COLOURS.get(row["engine"], GREY)


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['engine']} {row['copy']} {row['mode']}"


def new_figures() -> tuple[Any, Any]:
    """matplotlib's Figure, and its `rc_context`. Raises MissingExtra."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("drawing pictures", "train") from error
    return Figure, matplotlib.rc_context


def save_figure(figure: Any, path: Path) -> Path:
    """Write `figure` as PNG, whole or not at all; the path."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": "samesight"})
    write_file(path, stream.getvalue())
    return path
