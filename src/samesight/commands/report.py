"""Write the report: one self-contained HTML page of a run, a bundle, or both."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `samesight report`."""
    parser.add_argument("folder", type=Path, metavar="RUN|BUNDLE", help="a run folder, or a bundle")
    parser.add_argument("--bundle", type=Path, help="the run's bundle (default: RUN/bundle, if it is there)")
    parser.add_argument("--out", type=Path, help="the page (default: RUN/report.html, or BUNDLE-report.html)")


def run(args: argparse.Namespace) -> int:
    """Write the page; 0."""
    from samesight.errors import InputError
    from samesight.report import write_report

    if (args.folder / "bundle.json").is_file():
        beside = args.folder.parent / f"{args.folder.name}-report.html"
        page = write_report(None, args.folder, args.out or beside)
    elif (args.folder / "run.json").is_file():
        own = args.folder / "bundle"
        bundle = args.bundle or (own if own.is_dir() else None)
        page = write_report(args.folder, bundle, args.out or args.folder / "report.html")
    else:
        raise InputError(
            "there is neither a run nor a bundle",
            where=args.folder,
            expected="a folder with run.json or bundle.json",
            fix="samesight train PHOTOS",
        )
    print(page)
    return 0
