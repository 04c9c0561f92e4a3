"""Measure each copy of a bundle in each engine: accuracy, latency, throughput, memory, size; who wins.

  samesight bench BUNDLE --photos PHOTOS
  samesight bench --zoo resnet18,resnet50,vgg16 --photos IMAGENET_SUBSET

Each engine runs in a process of its own, in interleaved rounds. What is quickest here is remembered for
`--engine auto`. A copy that fails on the golden samples, or whose accuracy is more than half a point below
the first one's, is measured and cannot win. --zoo compares pretrained networks; one whose weights are not at
hand is timed untrained.

Into --out go bench.json, bench.csv (and zoo.csv), bench.html and a picture a bundle.

Exit code: 0 everything was measured, 1 a copy gives other answers than it must, 2 it could not be measured.

With --json, stdout has what bench.json has; docs/bench.md describes it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samesight.errors import InputError, MissingExtra
from samesight.numberoptions import seconds, whole, wholes
from samesight.terminal import steady

if TYPE_CHECKING:
    from samesight.bench import Options, Photos

MAX_BATCH = 256
ZOO_ENGINES, ZOO_MODES = "onnxruntime", "shared"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `samesight bench`."""
    from samesight.data.photos import add_photo_arguments

    parser.add_argument("bundles", nargs="*", type=Path, metavar="BUNDLE", help="a bundle's folder")
    parser.add_argument("--photos", metavar="PHOTOS", help="measure accuracy on these: photos in any form")
    parser.add_argument(
        "--part",
        choices=("held-out", "all"),
        default="held-out",
        help="where the photos are split: the held-out part, or all (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, default=Path("bench"), help="folder (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    how = parser.add_argument_group("what is measured")
    how.add_argument(
        "--batch", type=wholes(1, MAX_BATCH), default=(1, 4, 8, 16), metavar="LIST", help="default: 1,4,8,16"
    )
    how.add_argument(
        "--engine", type=_words, metavar="LIST", help="all, or onnxruntime,openvino,openvino-bf16"
    )
    how.add_argument("--copy", type=_words, default=(), metavar="LIST", help="default: every copy")
    how.add_argument(
        "--mode", type=_words, metavar="LIST", help="default: shared,spinning,lanes,lean (docs/bench.md)"
    )
    how.add_argument("--rounds", type=whole(1, 1000), default=3, metavar="N", help="default: %(default)s")
    how.add_argument(
        "--seconds",
        type=seconds(3600),
        default=0.3,
        metavar="S",
        help="of calls a batch and round (default: 0.3)",
    )
    zoo = parser.add_argument_group("pretrained networks")
    zoo.add_argument("--zoo", type=_words, default=(), metavar="LIST", help="networks: resnet18,vgg16,…")
    zoo.add_argument("--weights", type=Path, metavar="FOLDER", help="files named NETWORK-….pth")
    zoo.add_argument("--download", action="store_true", help="fetch weights that are not in the cache")
    parser.add_argument(
        "--trust", type=Path, metavar="KEY.pub", help="refuse a bundle not signed by this key"
    )
    add_photo_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; the exit code."""
    if not args.bundles and not args.zoo:
        raise InputError("there is nothing to measure", fix="samesight bench BUNDLE, or --zoo resnet18,…")
    from samesight.bench import bench_bundle, document
    from samesight.bench.zoo import bench_zoo
    from samesight.bundle import open_bundle
    from samesight.progress import say

    options = _options(args)
    opened = [open_bundle(folder, trust=args.trust) for folder in args.bundles]
    parts: dict[str, Any] = {"photos": None, "bundles": []}
    for bundle in opened:
        photos = None if args.photos is None else _photos(args, bundle.labels)
        parts["photos"] = parts["photos"] or _photo_words(args, photos)
        parts["bundles"].append(bench_bundle(bundle, options, photos))
    if args.zoo:
        from samesight.data.labels import imagenet_classes

        names = [name for _, name in imagenet_classes()]
        photos = None if args.photos is None else _photos(args, names)
        parts["photos"] = parts["photos"] or _photo_words(args, photos)
        parts["zoo"], parts["zoo_left_out"] = bench_zoo(
            args.zoo, options, photos=photos, weights=args.weights, download=args.download
        )
    measured = document(options, **parts)
    _write(measured, args.out)
    if args.json:
        print(json.dumps(measured, indent=2, allow_nan=False))
    else:
        for line in _lines(measured):
            print(steady(line))
    say(f"{args.out / 'bench.html'} has it all")
    if args.bundles:
        say(f"Next: samesight predict {args.bundles[0]} PHOTOS --engine auto")
    wrong = any(row["problems"] for bundle in measured["bundles"] for row in bundle["rows"])
    return 1 if wrong else 0


def _options(args: argparse.Namespace) -> Options:
    from samesight.bench import Options
    from samesight.bench.contenders import MODES

    for mode in args.mode or ():
        if mode not in MODES:
            raise InputError("there is no such mode", expected=", ".join(MODES), found=mode)
    alone = not args.bundles
    return Options(
        batches=args.batch,
        engines=args.engine or ((ZOO_ENGINES,) if alone else ("all",)),
        copies=args.copy,
        modes=args.mode or ((ZOO_MODES,) if alone else tuple(MODES)),
        rounds=args.rounds,
        seconds=args.seconds,
    )


def _photos(args: argparse.Namespace, labels: Any) -> Photos:
    from samesight.bench import Photos
    from samesight.commands.verify import chosen_photos

    paths, targets = chosen_photos(args, labels)
    return Photos(paths, targets)


def _photo_words(args: argparse.Namespace, photos: Photos | None) -> str | None:
    return None if photos is None else f"{len(photos.paths)} of {Path(args.photos).name}"


def _write(measured: Mapping[str, Any], out: Path) -> None:
    """bench.json, the tables, the pictures where matplotlib is there, and the page."""
    from samesight.bench import zoo
    from samesight.bench.page import page
    from samesight.bench.tables import csv_text
    from samesight.files import write_file, write_json

    write_json(out / "bench.json", measured)
    if measured["bundles"]:
        write_file(out / "bench.csv", csv_text(measured["bundles"]))
    if measured.get("zoo"):
        write_file(out / "zoo.csv", zoo.csv_text(measured["zoo"]))
    write_file(out / "bench.html", page(measured, _pictures(measured, out)))


def _pictures(measured: Mapping[str, Any], out: Path) -> dict[str, Path]:
    from samesight.bench.plots import plot_bundle, plot_zoo
    from samesight.progress import say

    drawn: dict[str, Path] = {}
    try:
        for bundle in measured["bundles"]:
            path = out / f"{bundle['name']}-{bundle['bundle'][:8]}.png"
            drawn[bundle["bundle"]] = plot_bundle(bundle, path)
        if measured.get("zoo"):
            drawn["zoo"] = plot_zoo(measured["zoo"], out / "zoo.png")
    except MissingExtra as missing:
        say(f"no pictures: {missing.what}; {missing.fix}")
    return drawn


def _lines(measured: Mapping[str, Any]) -> Iterator[str]:
    from samesight.bench import tables, zoo

    for bundle in measured["bundles"]:
        yield from tables.lines(bundle)
        yield ""
    if measured.get("zoo"):
        yield from zoo.lines(measured["zoo"])
        for one in measured["zoo_left_out"]:
            yield f"left out: {one['network']}: {one['reason']}"


def _words(words: str) -> tuple[str, ...]:
    found = tuple(word.strip() for word in words.split(",") if word.strip())
    if not found:
        raise argparse.ArgumentTypeError("a list of names, as a,b")
    return tuple(dict.fromkeys(found))
