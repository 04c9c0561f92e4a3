"""Figures without matplotlib's global state, saved whole as PNG or SVG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samesight.errors import InputError, MissingExtra
from samesight.files import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_suffix", "drawing", "new_figure", "save_figure"]

DPI = 150
SUFFIXES = (".png", ".svg")
# svg.hashsalt: the same picture is the same file; otherwise its parts are named at random.
PLAIN = {"font.size": 10, "font.family": "DejaVu Sans", "text.parse_math": False, "svg.hashsalt": "samesight"}


def drawing(what: str) -> Any:
    """The context in which figures are made. Raises MissingExtra where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtra(f"drawing {what}", "train") from error
    return matplotlib.rc_context(PLAIN)


def check_suffix(path: Path, option: str) -> None:
    """Raises InputError where `path` is of a kind of picture that is not written."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            "pictures are written as PNG or SVG", found=path, fix=f"{option} {path.with_suffix('.png')}"
        )


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """An empty figure of so many inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, **options)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` to `path`, as the kind of picture that its suffix says."""
    kind = path.suffix.lower().removeprefix(".")
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=metadata)
    write_file(path, buffer.getvalue())
