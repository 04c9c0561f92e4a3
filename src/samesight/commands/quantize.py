"""Add an int8 copy to a bundle, as a new version of it: within a budget of accuracy, or not at all.

The photos are divided into three parts that share none: to calibrate with, to choose by, and to judge on
once, at the end. A folder that `data` or `train` wrote brings its split: calibrated on the training part,
chosen by the inner validation part, judged on the held-out part. Plain photos are divided by --seed; their
labels may be missing, and then every label that changes counts as lost.

Weights are rounded so that processors with and without VNNI give the same logits. Steps from cheap to dear
are tried, each told; layers stay float32 only where the budget does not hold otherwise.

Exit code: 0 the new bundle is there and proved, 1 no int8 copy is within the budget and the bundle is as it
was, 2 it could not be tried.

With --json, one object: "ok", "bundle", "version", "verdict", "reasons", "steps", …: docs/quantize.md."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samesight.quantize import Outcome

SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `samesight quantize`."""
    from samesight.data.photos import add_photo_arguments

    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's folder")
    parser.add_argument(
        "--photos",
        required=True,
        metavar="PHOTOS",
        help="photos in any form, or a folder that `data` or `train` wrote",
    )
    parser.add_argument(
        "--max-drop",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="how much accuracy the copy may lose, in percentage points (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, metavar="BUNDLE2", help="default: in the place of BUNDLE")
    parser.add_argument("--seed", type=int, default=42, help="divides plain photos (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_photo_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Quantise; the exit code."""
    from samesight.bundle import signature_of
    from samesight.data.photos import photo_options
    from samesight.progress import say
    from samesight.quantize import QuantizeOptions, quantize

    options = QuantizeOptions(max_drop=args.max_drop / 100, seed=args.seed, photos=photo_options(args))
    signed = args.bundle.is_dir() and signature_of(args.bundle) is not None
    outcome = quantize(args.bundle, args.photos, options, args.out)
    place = args.out or args.bundle
    if args.json:
        print(json.dumps(outcome.to_json(), indent=2, allow_nan=False))
    else:
        for line in _lines(outcome, place):
            print(line)
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
