"""Scatter plots of accuracy against what it costs, with the networks that nothing beats named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samesight.errors import InputError
from samesight.zoo.figure import drawing, new_figure, save_figure
from samesight.zoo.table import Cost, Network, pareto, table_version

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_networks"]

# Beginnings of names → family, colour (Okabe and Ito's, and greys), marker. The first that fits.
FAMILIES: tuple[tuple[tuple[str, ...], str, str, str], ...] = (
    (("resnet", "resnext", "wide_resnet"), "ResNet, ResNeXt", "#0072B2", "o"),
    (("regnet",), "RegNet", "#56B4E9", "s"),
    (("efficientnet",), "EfficientNet", "#D55E00", "^"),
    (("mobilenet",), "MobileNet", "#E69F00", "D"),
    (("convnext",), "ConvNeXt", "#009E73", "o"),
    (("swin",), "Swin", "#CC79A7", "s"),
    (("vit", "maxvit"), "ViT, MaxViT", "#7B3F98", "^"),
    (("densenet",), "DenseNet", "#8C6D31", "D"),
    (("vgg", "alexnet"), "VGG, AlexNet", "#666666", "o"),
    (("shufflenet", "mnasnet", "squeezenet"), "ShuffleNet, MNASNet, SqueezeNet", "#A6761D", "v"),
    (("googlenet", "inception"), "GoogLeNet, Inception", "#999999", "P"),
)
OTHER = ("others", "#BBBBBB", "x")
INK, FAINT, GRID = "#22262b", "#5c6269", "#e6e3dc"
# Where a name may stand beside its point, in points of 1/72 inch: the first free place is taken. Up and to
# the left, where nothing is beyond the front, ever further off; or close by on the other side.
PLACES = (
    *((-7, 4, "right"), (-7, 12, "right"), (7, -11, "left"), (7, -4, "left")),
    *((-10 - 5 * step, 20 + 9 * step, "right") for step in range(9)),
    *((12, -22, "left"), (0, 9, "center")),
)
NEAR = 15  # above that, a thin line leads from the name to its point


def plot_networks(networks: Sequence[Network], path: Path) -> Path:
    """`path`, written: top-1 against parameters, and against GFLOPS. Raises InputError without accuracies."""
    known = [row for row in networks if row.top1 is not None]
    if not known:
        raise InputError("there is nothing to plot: the accuracy of none of these networks is known")
    title = f"{len(known)} pretrained networks of torchvision {table_version('torchvision')}"
    with drawing("the plot"):
        figure = new_figure(14, 7.6)
        figure.suptitle(title, x=0.055, y=0.965, ha="left", fontsize=15, fontweight="bold", color=INK)
        figure.text(
            *(0.055, 0.905),
            "The line joins the networks that none beats at their cost or less. Costs are logarithmic.",
            color=FAINT,
        )
        left, right = figure.subplots(1, 2, sharey=True)
        figure.subplots_adjust(left=0.055, right=0.985, top=0.87, bottom=0.2, wspace=0.06)
        _draw(left, known, "params", "parameters (millions)", 1e6)
        _draw(right, known, "gflops", "GFLOPS (10⁹ multiply-accumulates for one picture)", 1.0)
        left.set_ylabel("ImageNet top-1 accuracy (%)", color=INK)
        figure.legend(
            handles=_legend(known), loc="lower center", ncols=6, frameon=False, bbox_to_anchor=(0.52, 0.01)
        )
        save_figure(figure, path)
    return path


def _draw(place: Axes, networks: Sequence[Network], cost: Cost, words: str, unit: float) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    rows = [row for row in networks if getattr(row, cost) is not None]
    front = pareto(rows, cost)
    place.set_xscale("log")
    for row in rows:
        _, colour, marker = _look(row)
        on_front = row in front
        place.scatter(
            getattr(row, cost) / unit,
            row.top1 or 0.0,
            s=62 if on_front else 34,
            c=colour,
            marker=marker,
            alpha=1.0 if on_front else 0.55,
            linewidths=1.1 if on_front else 0.4,
            edgecolors=INK if on_front and marker != "x" else "white" if marker != "x" else None,
            zorder=4 if on_front else 3,
        )
    points = [(getattr(row, cost) / unit, row.top1) for row in front]
    place.plot(*zip(*points, strict=True), color=INK, linewidth=1, alpha=0.55, zorder=2)
    place.set_xlabel(words, color=INK)
    place.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    place.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    place.xaxis.set_minor_formatter(NullFormatter())
    place.grid(color=GRID, linewidth=0.8)
    place.grid(which="minor", visible=False)
    place.tick_params(which="both", length=0, labelcolor=FAINT)
    place.spines[:].set_visible(False)
    place.margins(x=0.09, y=0.08)
    _name(place, front, points, [(getattr(row, cost) / unit, row.top1) for row in rows])


def _name(place: Axes, front: Sequence[Network], points: Sequence[Any], others: Sequence[Any]) -> None:
    """The name of each of `front` beside its point, where it covers neither another name nor a point."""
    from matplotlib.transforms import Bbox

    canvas = place.figure.canvas
    renderer = canvas.get_renderer()  # type: ignore[attr-defined]  # the canvas is Agg's
    place.figure.draw_without_rendering()  # type: ignore[union-attr]  # the axes have their limits then
    frame = place.get_window_extent()
    dots = [Bbox.from_bounds(x - 7, y - 7, 14, 14) for x, y in place.transData.transform(others)]
    taken: list[Bbox] = []
    for row, point in zip(front, points, strict=True):
        text = place.annotate(
            row.name, point, (0, 0), textcoords="offset points", fontsize=8.5, color=INK, zorder=6
        )
        costs = []
        for dx, dy, side in PLACES:
            text.set(position=(dx, dy), ha=side)
            box = text.get_window_extent(renderer)
            outside = box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0
            costs.append(50 * outside + 20 * box.count_overlaps(taken) + box.count_overlaps(dots))
        dx, dy, side = PLACES[costs.index(min(costs))]
        text.set(position=(dx, dy), ha=side)
        taken.append(text.get_window_extent(renderer).padded(6))
        if abs(dy) > NEAR:
            line = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 4}
            place.annotate("", point, (dx, dy), textcoords="offset points", arrowprops=line, zorder=2)


def _look(row: Network) -> tuple[str, str, str]:
    for names, *look in FAMILIES:
        if row.name.startswith(names):
            return look[0], look[1], look[2]
    return OTHER


def _legend(networks: Sequence[Network]) -> list[Any]:
    from matplotlib.lines import Line2D

    shown = {_look(row) for row in networks}
    order = [(family, colour, marker) for _, family, colour, marker in FAMILIES] + [OTHER]
    return [
        Line2D([], [], linestyle="", marker=marker, color=colour, markersize=7, label=family)
        for family, colour, marker in order
        if (family, colour, marker) in shown
    ]
