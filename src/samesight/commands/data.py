"""Read photos, check them, split them, and write what was found.

PHOTOS is a folder per class; train, val and test folders of those; a zip or tar of either; a CSV of file
names and labels, or a folder that holds one; CIFAR-10 or CIFAR-100 as torchvision keeps them; photos without
labels; or URL#sha256=HEX of an archive (see `samesight fetch`).

DIR then holds data.html (a page with pictures of every finding), data.json, split.json, labels_mapping.json,
class_distribution.csv and dataset_preparation_notes.md, and `samesight train DIR` picks up from it.

With --model, a network's features tell which labels are likely wrong (mislabelled.csv). --fix leaves out of
the split what can only do harm: photos under two labels, all but one of the same bytes, and training photos
that are near duplicates of held-out ones; cleaned.csv is what remains. No photo is touched. Every check, with
its threshold and the reason for it, is told in docs/data.md.

Exit code: 0 the photos can be used (findings are notes), 2 they cannot.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samesight.errors import InputError
from samesight.terminal import can_print, printable

if TYPE_CHECKING:
    from samesight.data.checks import DataReport
    from samesight.data.prepare import Inspection
    from samesight.data.split import Split

BAR_CELLS = 24
ROWS_SHOWN = 40  # of more classes, only the largest and the smallest are shown
CASES_SHOWN = 5
LABEL_WIDTH = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `samesight data`."""
    from samesight.data.photos import add_photo_arguments

    parser.add_argument("photos", metavar="PHOTOS", help="where the photos are")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: runs/NAME-data)")
    parser.add_argument("--seed", type=int, default=42, help="of the split (default: %(default)s)")
    parser.add_argument(
        "--test", type=float, default=0.2, metavar="F", help="held-out fraction (default: %(default)s)"
    )
    parser.add_argument(
        "--val",
        type=float,
        default=0.1,
        metavar="F",
        help="inner validation fraction of the training side (default: %(default)s)",
    )
    parser.add_argument(
        "--no-near", action="store_true", help="look for no near duplicates, and do not keep them on one side"
    )
    parser.add_argument(
        "--model", type=Path, metavar="RUN", help="a run or bundle, by whose features labels are judged"
    )
    parser.add_argument("--fix", action="store_true", help="leave out what can only do harm; see above")
    parser.add_argument(
        "--fix-also",
        action="append",
        default=[],
        metavar="KIND",
        help="with --fix, leave out this kind of finding too: near, mislabelled, dark, blurred, tiny, …",
    )
    parser.add_argument("--no-photos", action="store_true", help="show no photo on the page")
    parser.add_argument("--replace", action="store_true", help="split anew where DIR holds a split already")
    parser.add_argument("--offline", action="store_true", help="download nothing")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object")
    add_photo_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Check and split the photos; 0."""
    from samesight.data.checks import check_photos
    from samesight.data.photos import open_photos, photo_options
    from samesight.data.prepare import SplitOptions, is_prepared, prepare
    from samesight.report.datapage import PAGE, write_data_page

    options, inspection = photo_options(args), _inspection(args)
    split: Split | None = None
    out: Path | None = args.out
    photos = None if is_prepared(args.photos) else open_photos(args.photos, options)
    if photos is not None and not photos.labels:
        if not inspection.plain:
            raise InputError("--model and --fix are for photos with labels", where=args.photos)
        report = check_photos(photos)
    else:
        kept = photos is None and not (Path(args.photos) / "run.json").is_file()  # a run stays as it is
        out = args.out or (Path(args.photos) if kept else default_out(args.photos))
        split_options = SplitOptions(args.seed, args.test, args.val, near=not args.no_near)
        prepared = prepare(
            args.photos, options, split_options, out, replace=args.replace, inspection=inspection
        )
        photos, report, split = prepared.photos, prepared.report, prepared.split
    page = None if out is None else out / PAGE
    if page is not None:
        write_data_page(report, photos, page, pictures=not args.no_photos)
    if args.json:
        print(json.dumps(_answer(report, split, out, page)))
    else:
        for line in _lines(report, split, out, page):
            print(_plain(line))
    return 0


def _inspection(args: argparse.Namespace) -> Inspection:
    """What is asked for beyond the checks. Raises InputError for --fix-also without its --fix or --model."""
    from samesight.data.prepare import Inspection

    if args.fix_also and not args.fix:
        raise InputError("--fix-also goes with --fix", fix=f"--fix --fix-also {args.fix_also[0]}")
    if "mislabelled" in args.fix_also and args.model is None:
        raise InputError("which labels are likely wrong is told by a network", fix="--model RUN")
    return Inspection(args.model, args.fix, tuple(args.fix_also))


def default_out(source: str) -> Path:
    """runs/NAME-data, NAME being the photos' own without suffixes."""
    from samesight.data.fetch import file_name

    name = file_name(
        source.partition("#")[0].rstrip("/") if "://" in source else Path(source).absolute().as_uri()
    )
    return Path("runs") / f"{name.split('.')[0] or 'photos'}-data"


def _answer(report: DataReport, split: Split | None, out: Path | None, page: Path | None) -> dict[str, Any]:
    answer = report.to_json()
    answer["out"] = None if out is None else str(out)
    answer["page"] = None if page is None else str(page)
    answer["split"] = None
    if split is not None:
        sizes = {part: len(split.names(part)) for part in ("train", "val", "test")}
        answer["split"] = {"seed": split.seed, "sha256": split.sha256, "photos": sizes}
    return answer


def _lines(report: DataReport, split: Split | None, out: Path | None, page: Path | None) -> Iterator[str]:
    """What people read: the photos, their classes, what was found, and the next command."""
    many = len(report.labels)
    labels = f"{many} class{'es' if many > 1 else ''}" if many else "no labels"
    yield f"{report.source}: {report.form}"
    yield f"{report.photos:,} photos, {labels}, {report.size_bytes / 2**20:,.1f} MiB"
    if report.sizes:
        yield ", ".join(f"{which} {width} × {height}" for which, (width, height) in report.sizes.items())
    if report.counts:
        yield ""
        yield from _table(report)
    for what, cases in report.findings():
        yield ""
        yield f"{len(cases):,} × {what}"
        yield from (f"  {case}" for case in cases[:CASES_SHOWN])
        if len(cases) > CASES_SHOWN:
            yield "  …"
    if report.notes:
        yield ""
        yield "notes"
        yield from (f"  {note}" for note in report.notes)
    if not report.findings():
        yield ""
        yield "nothing wrong was found"
    if page is not None:
        yield ""
        yield f"page: {page}"
    if split is None or out is None:
        yield ""
        yield "Without labels nothing can be trained or split. They will do as samples:"
        yield f"  samesight predict BUNDLE {shlex.quote(report.source)}"
        return
    how = "given by folders or tables" if split.parts_given else f"stratified, seed {split.seed}"
    yield f"split ({how}) and notes are in {out}"
    for name in ("cleaned.csv", "mislabelled.csv"):
        if (out / name).is_file():
            yield f"list: {out / name}"
    if len(report.labels) < 2:
        yield f"Nothing can be trained: {report.labels[0]} is the only class, and it takes two"
        return
    if not split.names("test"):
        yield "Nothing can be trained: no photo could be held out, which takes two photos of a class"
        return
    yield f"Next: samesight train {shlex.quote(str(out))} --model mobilenet_v2"


def _plain(line: str) -> str:
    """A line in signs that the output can hold, and none that would steer a terminal."""
    if not can_print(line):
        line = line.replace("█", "#").replace("░", ".").replace("×", "x").replace("…", "...")
    return printable(line)


def _table(report: DataReport) -> list[str]:
    """A line a class: label, photos, bar, and how many are in each part."""
    parts = [part for part in ("train", "val", "test", "left_out", "unreadable") if _total(report, part)]
    from rich.cells import cell_len, set_cell_size  # signs of East Asia are two cells wide

    totals = {label: sum(row.values()) for label, row in report.counts.items()}
    most = max(totals.values())
    names = {label: printable(label) for label in totals}
    width = min(LABEL_WIDTH, max(len("class"), *map(cell_len, names.values())))
    head = f"{'class':<{width}}  photos  {'':<{BAR_CELLS}}" + "".join(
        f"  {part:>{max(6, len(part))}}" for part in parts
    )
    lines = [head]
    shown = list(totals)
    if len(shown) > ROWS_SHOWN:
        by_size = sorted(shown, key=lambda label: -totals[label])
        shown = [*by_size[: ROWS_SHOWN // 2], "", *by_size[-ROWS_SHOWN // 2 :]]
    for label in shown:
        if label == "":
            lines.append(f"… {len(totals) - ROWS_SHOWN} more classes …")
            continue
        cells = round(BAR_CELLS * totals[label] / most)
        name = names[label]
        name = set_cell_size(name if cell_len(name) <= width else set_cell_size(name, width - 1) + "…", width)
        counts = "".join(f"  {report.counts[label].get(part, 0):>{max(6, len(part))}}" for part in parts)
        lines.append(f"{name}  {totals[label]:>6}  {'█' * cells:░<{BAR_CELLS}}{counts}")
    sums = "".join(f"  {_total(report, part):>{max(6, len(part))}}" for part in parts)
    lines.append(f"{'all':<{width}}  {sum(totals.values()):>6}  {'':<{BAR_CELLS}}{sums}")
    return lines


def _total(report: DataReport, part: str) -> int:
    return sum(row.get(part, 0) for row in report.counts.values())
