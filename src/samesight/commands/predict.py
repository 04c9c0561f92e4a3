"""Classify photos with a bundle, without PyTorch.

IMAGE is a photo or a folder, which stands for all its photos, sorted, those in its folders too. A photo that
cannot be read is reported and does not stop the others.

Exit code: 0 every photo was classified, 2 one or more were not, or the bundle must not be used.

With --cluster ray, here or with --address on a Ray cluster, IMAGE may also be a pattern (quoted) or a table
(.csv, .parquet) with a column `path` or `filename`; --out DIR gets Parquet, a row a photo, and with
--resume the work goes on after any kill (docs/scale.md).

With --csv or --json into --out FILE, a run that was stopped goes on with --resume: photos that have an answer
in FILE are not classified again. With --csv, a header, then a row a photo: path, label, index, confidence,
error.

With --json, one object a line and photo, in order, as soon as it is known:
  {"path", "label", "index", "confidence", "top": [{"label", "index", "probability"}, ...], "bundle": id}
  {"path", "error"}
The text is ASCII: other characters are \\uXXXX, and a byte of a file name that is not UTF-8 is \\udcXX, as
Python's os.fsdecode has it."""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

from samesight.errors import InputError, PhotoError, SamesightError, one_line
from samesight.numberoptions import whole
from samesight.terminal import can_print, printable

if TYPE_CHECKING:
    from samesight.answer import Answer

    Outcome: TypeAlias = Answer | SamesightError

MANY = 16  # photos from which each core runs the network for photos of its own
BAR_CELLS = 20
PATH_WIDTH = 48
SMALLEST_SHOWN = 0.001


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `samesight predict`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's folder")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a photo, or a folder of photos")
    parser.add_argument("--json", action="store_true", help="one JSON object a line and photo")
    parser.add_argument("--csv", action="store_true", help="one row of CSV a photo")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write there, not to stdout; with --cluster, a folder"
    )
    parser.add_argument("--resume", action="store_true", help="go on where --out FILE ends")
    parser.add_argument(
        "--top", type=whole(1, 100_000), default=5, metavar="K", help="labels a photo (default: 5)"
    )
    parser.add_argument("--copy", metavar="NAME", help="which copy answers (default: fp32)")
    parser.add_argument(
        "--engine",
        choices=("onnxruntime", "openvino", "openvino-bf16", "auto"),
        default="onnxruntime",
        help="what runs it; auto: what `samesight bench` found quickest here (default: %(default)s)",
    )
    parser.add_argument(
        "--trust", type=Path, metavar="KEY.pub", help="refuse a bundle not signed by this key"
    )
    parser.add_argument(
        "--threads", type=whole(1, 100_000), metavar="N", help="CPU threads (default: those there are, to 8)"
    )
    parser.add_argument(
        "--cache",
        action="store_true",
        help="of one photo: keep the optimised graph in the user's cache, and answer sooner the next time",
    )
    many = parser.add_argument_group("many machines")
    many.add_argument("--cluster", choices=("ray",), help="spread the photos over workers, by Ray Data")
    many.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="of a Ray cluster, or auto (default: one of this machine alone, started and ended here)",
    )
    many.add_argument(
        "--workers", type=whole(1, 100_000), metavar="N", help="one CPU each (default: the CPUs there are)"
    )
    many.add_argument("--column", metavar="NAME", help="of a table, the one with the paths")


def run(args: argparse.Namespace) -> int:
    """Classify the photos; the exit code."""
    if args.cluster is not None:
        from samesight.commands.cluster import run as run_on_cluster

        return run_on_cluster(args)
    for word in ("address", "workers", "column"):
        if getattr(args, word) is not None:
            raise InputError(f"--{word} is for many machines", fix="--cluster ray")
    if args.csv and args.json:
        raise InputError("answers are written in one form", expected="--csv or --json")
    if args.out is not None and not (args.csv or args.json):
        raise InputError("--out needs a form to write in", expected="--csv or --json")
    if args.resume and args.out is None:
        raise InputError("--resume needs the file that is to be gone on with", fix="--out FILE")
    photos = _listed(args.images)
    if args.resume:
        from samesight.answers import answered

        done = answered(args.out, csv=args.csv)
        photos = [one for one in photos if one[0] not in done]
    elif args.out is not None and args.out.exists():
        raise InputError("there is a file already", where=args.out, fix="--resume, or another --out")
    if not photos:
        return _nothing_left(args)
    gc.disable()  # what is imported stays; to look it through again and again takes some 10 ms
    try:
        answers = _lean_answers(photos, args) or _answers(photos, args)
    finally:
        gc.enable()
    if args.json or args.csv:
        failed = _write(photos, answers, args)
    else:
        failed = _print_table(photos, answers, args.bundle)
    return 2 if failed else 0


def _listed(images: Sequence[str]) -> list[tuple[str, PhotoError | None]]:
    """The path of each photo as it was given, a folder's photos in its place; an error for an empty folder.

    Raises InputError where there is no photo at all.
    """
    found: list[tuple[str, PhotoError | None]] = []
    for image in images:
        if not os.path.isdir(image):
            found.append((image, None))
        elif inside := _photos_in(image):
            found += [(path, None) for path in inside]
        else:
            found.append((image, PhotoError("there are no photos in this folder")))
    if all(error for _, error in found):
        raise InputError(
            "no photos found", where=", ".join(map(ascii, images[:5])), expected=_known_suffixes()
        )
    return found


def _photos_in(folder: str) -> list[str]:
    from samesight.images.photofile import PHOTO_SUFFIXES

    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        for name in names:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in PHOTO_SUFFIXES:
                found.append(os.path.join(place, name))
    return sorted(found, key=lambda path: path.split(os.sep))


def _known_suffixes() -> str:
    from samesight.images.photofile import PHOTO_SUFFIXES

    return f"files named {', '.join(sorted(PHOTO_SUFFIXES))}"


def _lean_answers(
    photos: Sequence[tuple[str, PhotoError | None]], args: argparse.Namespace
) -> Iterator[Outcome] | None:
    """The answer for one photo without what takes longest, imports; None where there is none that way."""
    if len(photos) > 1 or args.engine != "onnxruntime":
        return None
    from samesight.lean import classify

    ((path, _),) = photos
    options = {"copy": args.copy or "fp32", "threads": args.threads, "trust": args.trust}
    answer = classify(args.bundle, Path(path), top=args.top, cache=args.cache, **options)
    return None if answer is None else iter([answer])


def _answers(photos: Sequence[tuple[str, PhotoError | None]], args: argparse.Namespace) -> Iterator[Outcome]:
    """The answer or the error for each photo, in order. Raises where the bundle cannot be used."""
    from samesight.bundle import open_bundle
    from samesight.meanwhile import Meanwhile

    hold = None if args.engine == "auto" else args.copy or "fp32"
    opening = Meanwhile(lambda: open_bundle(args.bundle, trust=args.trust, hold=hold))
    from samesight.runtime import load  # whose imports take longer than the bundle's hashes

    classifier = load(
        opening.result(),
        copy=args.copy,
        engine=args.engine,
        threads=args.threads,
        many=len(photos) >= MANY,
    )
    answers = classifier.classify_many([path for path, error in photos if error is None], top=args.top)
    return (error if error is not None else next(answers) for _, error in photos)


def _nothing_left(args: argparse.Namespace) -> int:
    from samesight.progress import say

    say(f"every photo has an answer in {printable(str(args.out))} already")
    return 0


def _write(photos: Sequence[tuple[str, object]], answers: Iterator[Outcome], args: argparse.Namespace) -> int:
    """Write a line a photo, to stdout or to the end of --out; how many photos failed."""
    from samesight.answers import csv_heads, csv_line, json_line
    from samesight.progress import say, track

    failed = 0
    lines = zip(photos, answers, strict=True)
    unwatched = len(photos) == 1 or (args.out is None and sys.stdout.isatty())
    watched = lines if unwatched else track(lines, "Classifying", len(photos))
    with open_answers(args.out) as stream:
        if args.csv and (args.out is None or stream.tell() == 0):
            stream.write(csv_heads())
        for (path, _), answer in watched:
            failed += isinstance(answer, SamesightError)
            stream.write(csv_line(path, answer) if args.csv else json_line(path, answer))
            stream.flush()
    if args.out is not None and failed:
        say(f"{failed} of {len(photos)} photos could not be classified")
    return failed


@contextlib.contextmanager
def open_answers(out: Path | None) -> Iterator[IO[str]]:
    """Where answers are written to: stdout, or the end of a file. Raises InputError."""
    if out is None:
        yield sys.stdout
        return
    try:
        with out.open("a", encoding="ascii", newline="") as stream:
            yield stream
    except OSError as error:
        raise InputError("answers cannot be written", where=out, found=error.strerror) from error


def _print_table(photos: Sequence[tuple[str, object]], answers: Iterator[Outcome], bundle: Path) -> int:
    """Print a line a photo, or a small table where there is one photo only; how many failed."""
    from samesight.progress import say

    style = _Style()
    width = min(PATH_WIDTH, max(len(printable(path)) for path, _ in photos))
    failed = 0
    for (path, _), answer in zip(photos, answers, strict=True):
        if isinstance(answer, SamesightError):
            failed += 1
            say(f"error: {printable(path)}: {printable(one_line(answer))}")
        elif len(photos) == 1:
            print(style.table(path, answer), flush=True)
        else:
            print(style.line(path, answer, width), flush=True)
    if failed:
        say(f"{failed} of {len(photos)} photos could not be classified")
    say(f"Next: samesight verify {printable(str(bundle))}    (proves that these answers are PyTorch's)")
    return failed


class _Style:
    """How an answer looks: in colour on a terminal, in ASCII where stdout has nothing better."""

    def __init__(self) -> None:
        self.full, self.empty = ("█", "░") if can_print("█░") else ("#", ".")
        self.columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        self.dim, self.reset = ("", "") if plain else ("\x1b[2m", "\x1b[0m")

    def table(self, path: str, answer: Answer) -> str:
        """The photo, and under it a line a label."""
        width = max(len(printable(one.label)) for one in answer.top)
        lines = [printable(path)]
        for place, one in enumerate(answer.top):
            label = printable(one.label)
            row = f"  {label:<{width}}  {self.bar(one.probability)} {_percent(one.probability):>7}"
            lines.append(f"{self.dim}{row}{self.reset}" if place else row)
        return "\n".join(lines)

    def line(self, path: str, answer: Answer, width: int) -> str:
        """The photo, its label with a bar, and further labels that are not negligible."""
        further = ", ".join(
            f"{printable(one.label)} {_percent(one.probability)}"
            for one in answer.top[1:]
            if one.probability >= SMALLEST_SHOWN
        )
        name = printable(path)
        if len(name) > width:
            name = f"..{name[2 - width :]}"
        bar, label = self.bar(answer.confidence), printable(answer.label)
        row = f"{name:<{width}}  {bar} {_percent(answer.confidence):>7}  {label}"
        if self.columns and len(row) + 3 + len(further) > self.columns:
            further = further[: max(0, self.columns - len(row) - 5)] + ".."
        return f"{row}   {self.dim}{further}{self.reset}" if further else row

    def bar(self, share: float) -> str:
        """A bar that is full at 1."""
        cells = round(share * BAR_CELLS)
        return self.full * cells + self.empty * (BAR_CELLS - cells)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
