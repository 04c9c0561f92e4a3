"""Write the report: one self-contained HTML page of a run, a bundle, or both.

For a run, unless --out names another page, its tables and pictures are written anew beside it:
per_class.csv, confusion_matrix.csv, confused_pairs.csv, calibration.json, history.png,
confusion_matrix.png, reliability.png and worst_mistakes.png.

  samesight report runs/photos-mobilenet_v2
  samesight report BUNDLE --no-photos --out for-everyone.html
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `samesight report`."""
    parser.add_argument("folder", type=Path, metavar="RUN|BUNDLE", help="a run folder, or a bundle")
    parser.add_argument("--bundle", type=Path, help="the run's bundle (default: RUN/bundle, if it is there)")
    parser.add_argument("--out", type=Path, help="the page (default: RUN/report.html, or BUNDLE-report.html)")
    parser.add_argument(
        "--no-photos", action="store_true", help="show no photo, of mistakes or golden samples"
    )
    parser.add_argument("--json", action="store_true", help="print what was written as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Write the page and, for a run, what belongs beside it; 0."""
    from samesight.errors import InputError
    from samesight.progress import say
    from samesight.report import write_report

    photos, files = not args.no_photos, []
    if (args.folder / "bundle.json").is_file():
        default = args.folder.resolve().parent / f"{args.folder.resolve().name}-report.html"
        page = write_report(None, args.folder, args.out or default, pictures=photos)
    elif (args.folder / "run.json").is_file():
        own = args.folder / "bundle"
        bundle = args.bundle or (own if own.is_dir() else None)
        page = write_report(args.folder, bundle, args.out or args.folder / "report.html", pictures=photos)
        files = [] if args.out else beside(args.folder, photos=photos)
    else:
        raise InputError(
            "there is neither a run nor a bundle",
            where=args.folder,
            expected="a folder with run.json or bundle.json",
            fix="samesight train PHOTOS",
        )
    if args.json:
        print(json.dumps({"page": str(page), "files": [str(file) for file in files]}))
        return 0
    if files:
        say(f"beside it: {', '.join(file.name for file in files)}")
    print(page)
    return 0


def beside(folder: Path, *, photos: bool) -> list[Path]:
    """The tables and, where matplotlib is there, the pictures of a run, written into its folder."""
    from samesight.errors import MissingExtra
    from samesight.progress import say
    from samesight.report import write_plots, write_tables

    files = write_tables(folder)
    try:
        return files + write_plots(folder, photos=photos)
    except MissingExtra as error:
        say(f"without pictures: {error}")
        return files
