"""One page, and two pictures, that tell how good a network is and whether its copies agree.

The page needs neither torch nor matplotlib; the pictures need matplotlib.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_plots", "write_report"]


def write_report(run: Path | None, bundle: Path | None, out: Path) -> Path:
    """`out`, written as one self-contained HTML page from a run folder, a bundle, or both.

    The page loads nothing, and its size is bounded: at most 60 pictures of about 10 KB, tables of at most
    1000 rows, lists of at most 20 names, and texts cut at a few hundred characters; 0.1 to 2 MB in practice.
    A verify.json is looked for in the run folder, beside the bundle, and beside `out`; one that is about
    another bundle is not used, and the page says so.

    Raises InputError where neither folder is given or a file in one is broken, and BundleError where the
    bundle must not be used.
    """
    from samesight.files import write_file
    from samesight.report.page import page
    from samesight.report.sources import read_sources

    words = page(read_sources(run, bundle, out))
    write_file(out, words.encode("utf-8", "replace"))
    return out


def write_plots(run: Path) -> list[Path]:
    """The pictures history.png and confusion_matrix.png in the run folder, each where its file is there.

    Raises MissingExtra without matplotlib, InputError where a file is broken.
    """
    from samesight.report.plots import plot_confusion, plot_history
    from samesight.report.sources import read_run

    found = read_run(run)
    drawn = [plot_history(found, run / "history.png"), plot_confusion(found, run / "confusion_matrix.png")]
    return [path for path in drawn if path is not None]
