"""Add an int8 copy to a bundle, as a new version of it: within a budget of accuracy, or not at all.

The photos are divided into three parts that share none: to calibrate with, to choose by, and to judge on
once, at the end. A folder that `data` or `train` wrote brings its split: calibrated on the training part,
chosen by the inner validation part, judged on the held-out part. Plain photos are divided by --seed; their
labels may be missing, and then every label that changes counts as lost.

Weights are rounded so that processors with and without VNNI give the same logits. Steps from cheap to dear
are tried, each told; layers stay float32 only where the budget does not hold otherwise. --qat RUN lets
weights learn with the rounding in place, from the float32 copy.

Exit code: 0 the new bundle is there and proved, 1 no int8 copy is within the budget and the bundle is as it
was, 2 it could not be tried.

--torch compares PyTorch's own ways instead: dynamic, static in FX graph mode (fbgemm, qnnpack, x86, a custom
QConfig), PT2E; RUN is a run's folder, or a network's name with --photos an ImageNet subset.

With --json, one object: "ok", "bundle", "version", "verdict", "reasons", "steps", …: docs/quantize.md."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from samesight.commands import train
from samesight.errors import InputError
from samesight.numberoptions import whole, wholes
from samesight.terminal import steady

if TYPE_CHECKING:
    from samesight.quantize import Outcome

SHOWN = 10
BATCHES = "batches to time (default: 1,4,8,16); the largest is what is calibrated with"
MOST = "photos to judge on, at most (default: %(default)s)"
WAY = "only this one; may be repeated (docs/quantize.md)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `samesight quantize`."""
    from samesight.data.photos import add_photo_arguments

    parser.add_argument("bundle", nargs="?", type=Path, metavar="BUNDLE", help="the bundle's folder")
    parser.add_argument(
        "--photos",
        metavar="PHOTOS",
        help="photos in any form, or what `data` or `train` left (default: the RUN of --qat or --torch)",
    )
    parser.add_argument(
        "--max-drop",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="how much accuracy the copy may lose, in percentage points (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="default: in the place of BUNDLE; with --torch: quantization"
    )
    parser.add_argument(
        "--qat",
        type=Path,
        metavar="RUN",
        help="let weights learn with the rounding in place, on the training part of this run (needs torch)",
    )
    parser.add_argument("--seed", type=int, default=42, help="divides plain photos (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_photo_arguments(parser)
    study = parser.add_argument_group("PyTorch's own ways")
    study.add_argument("--torch", metavar="RUN", help="a run's folder, or a network's name")
    study.add_argument(
        "--calibration-batches", type=whole(1, 10_000), default=1, metavar="N", help="default: %(default)s"
    )
    study.add_argument("--batch", type=wholes(1, 256), default=(1, 4, 8, 16), metavar="LIST", help=BATCHES)
    study.add_argument("--most-photos", type=whole(10), default=500, metavar="N", help=MOST)
    study.add_argument("--way", action="append", default=[], metavar="NAME", help=WAY)
    study.add_argument("--weights", metavar="FILE", help="a network's weights (default: torchvision's cache)")
    study.add_argument("--download", action="store_true", help="fetch weights that are not in the cache")


def run(args: argparse.Namespace) -> int:
    """Quantise, or study; the exit code."""
    if args.torch is not None:
        return _study(args)
    if args.bundle is None:
        raise InputError("there is no bundle to quantise", fix="samesight quantize BUNDLE --photos PHOTOS")
    if args.photos is None and args.qat is not None:
        args.photos = args.qat
    if args.photos is None:
        fix = f"samesight quantize {args.bundle} --photos PHOTOS"
        raise InputError("an int8 copy is calibrated and judged on photos", fix=fix)
    return _quantize(args)


def _study(args: argparse.Namespace) -> int:
    """Compare PyTorch's own ways; the exit code."""
    if args.bundle is not None:
        raise InputError("--torch studies a run or a network", found=args.bundle, fix="leave the bundle out")
    train.need_torch()
    from samesight.data.photos import photo_options
    from samesight.progress import say
    from samesight.quantize.study import StudyOptions, study, subject_of
    from samesight.quantize.study.files import write_study
    from samesight.quantize.study.tables import lines

    subject = subject_of(args.torch, args.weights, download=args.download)
    if args.photos is None and not Path(args.torch).is_dir():
        raise InputError("a network by name needs photos", fix="--photos IMAGENET_SUBSET")
    options = StudyOptions(
        calibration_batches=args.calibration_batches,
        batches=args.batch,
        most_photos=args.most_photos,
        max_drop=args.max_drop / 100,
        seed=args.seed,
        ways=tuple(args.way),
        photos=photo_options(args),
    )
    found = study(subject, args.photos or args.torch, options)
    paths = write_study(found, args.out or Path("quantization"))
    if args.json:
        print(json.dumps(found, indent=2, allow_nan=False))
    else:
        for line in lines(found):
            print(steady(line))
    say(f"Written: {', '.join(map(str, paths))}")
    say("Next: samesight export RUN, then samesight quantize BUNDLE: the copy that is deployed")
    return 0


def _quantize(args: argparse.Namespace) -> int:
    """Quantise a bundle; the exit code."""
    from samesight.bundle import signature_of
    from samesight.data.photos import photo_options
    from samesight.progress import say
    from samesight.quantize import QuantizeOptions, quantize

    if args.qat is not None:
        train.need_torch()
    options = QuantizeOptions(args.max_drop / 100, args.seed, photo_options(args), args.qat)
    signed = args.bundle.is_dir() and signature_of(args.bundle) is not None
    outcome = quantize(args.bundle, args.photos, options, args.out)
    place = args.out or args.bundle
    if args.json:
        print(json.dumps(outcome.to_json(), indent=2, allow_nan=False))
    else:
        for line in _lines(outcome, place):
            print(steady(line))
    if outcome.bundle is None:
        return 1
    if signed:
        say(f"The new bundle is not signed: the old signature is not for it. samesight sign {place} …")
    say(f"Next: samesight verify {place}")
    return 0


def _lines(outcome: Outcome, place: Path) -> Iterator[str]:
    verdict = outcome.verdict
    if verdict.fp32_accuracy is not None and verdict.int8_accuracy is not None:
        yield (
            f"accuracy {verdict.fp32_accuracy:.2%} in FP32, {verdict.int8_accuracy:.2%} in int8, "
            f"of {verdict.labelled} photos"
        )
    yield verdict.words()
    if verdict.labelled < verdict.photos:
        count = verdict.photos - verdict.labelled
        yield f"{count} photos have no label: each change of theirs counts as lost"
    if worst := verdict.worst:
        yield f"worst class: {worst.label}, {worst.lost} lost and {worst.gained} gained of {worst.photos}"
    if doubt := verdict.doubt():
        yield doubt
    kept = outcome.kept
    if kept:
        more = f" and {len(kept) - SHOWN} more" if len(kept) > SHOWN else ""
        count = len(outcome.found.graph.layers)
        yield f"{len(kept)} of {count} layers stay in FP32: {', '.join(kept[:SHOWN])}{more}"
    yield ""
    if outcome.bundle is None:
        yield f"no int8 copy: {'; '.join(outcome.reasons)}"
        yield f"{place} is as it was"
        return
    yield f"{place}  (bundle {outcome.bundle.id[:12]}, version {outcome.bundle.version})"
