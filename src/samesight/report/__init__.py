"""One page that tells how good a network is and whether its copies agree, and beside it pictures and tables.

Page and tables need neither torch nor matplotlib; the pictures need matplotlib.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_plots", "write_report", "write_tables"]


def write_report(run: Path | None, bundle: Path | None, out: Path, *, pictures: bool = True) -> Path:
    """`out`, written as one self-contained HTML page from a run folder, a bundle, or both.

    The page loads nothing, and its size is bounded: at most 80 pictures of about 10 KB, tables of at most
    1000 rows, lists of at most 20 names, and texts cut at a few hundred characters; 0.1 to 2 MB in practice.
    Without `pictures` it shows no photo. A verify.json is looked for in the run folder, beside the bundle,
    and beside `out`; one that is about another bundle is not used, and the page says so. So is a bench.json,
    there or in a folder named bench; without one that is about this bundle the page has no such section.

    Raises InputError where neither folder is given or a file in one is broken, and BundleError where the
    bundle must not be used.
    """
    from samesight.files import write_file
    from samesight.report.page import page
    from samesight.report.sources import read_sources

    words = page(read_sources(run, bundle, out, pictures=pictures))
    write_file(out, words.encode("utf-8", "replace"))
    return out


def write_tables(run: Path) -> list[Path]:
    """The tables of the held-out answers in the run folder: per_class.csv, confused_pairs.csv,
    confusion_matrix.csv (of at most 1000 classes) and calibration.json, each where its figures are there.

    Raises InputError where a file of the run is broken.
    """
    from samesight.report.sources import read_run
    from samesight.report.tables import tables

    return list(tables(read_run(run), run))


def write_plots(run: Path, *, photos: bool = True) -> list[Path]:
    """The pictures history.png, confusion_matrix.png, reliability.png and worst_mistakes.png in the run
    folder, each where what it shows is there; without `photos`, not the last, which shows some.

    Raises MissingExtra without matplotlib, InputError where a file is broken.
    """
    from samesight.report.plots import plots
    from samesight.report.sources import read_run

    return list(plots(read_run(run), run, photos=photos))
