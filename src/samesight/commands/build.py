"""From photos to a verified bundle in one go: data, train, export, verify, report.

  samesight build PHOTOS --model mobilenet_v2
  samesight build PHOTOS --model squeezenet1_1 --weights FILE.pth --target 0.8 --out runs/mine
  samesight build --resume --out runs/mine

The folder is a run, as `samesight train` leaves it, with bundle/, verify.json and report.html in it; every
stage can be run again alone: `samesight train`, `export`, `verify`, `report`.

Exit code: 0 the bundle is there and proved; 1 it is not proved, or the accuracy that --target asks for was
missed; 2 something could not be done.

With --json, one object: what `train --json` prints, with "ok", "bundle", "bundle_id", "report" and
"verification" (what `verify --json` prints)."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

from samesight.commands import export, train
from samesight.errors import InputError

if TYPE_CHECKING:
    from samesight.build import Built


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `samesight build`: those of `train`, and those of `export` that go with them."""
    train.add_arguments(parser)
    parser.add_argument("--export-batch", default="dynamic", metavar="N", help="of the ONNX files")
    export.add_bundle_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Build; the exit code."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("only training runs in several processes", fix="torchrun … -m samesight train")
    train.need_torch()
    from samesight.build import build
    from samesight.progress import say

    asked = train.config(args)
    built = build(asked, export.options(args, batch=args.export_batch))
    if args.json:
        print(
            json.dumps(
                {**built.to_json(), **train.target_json(built.training, asked.target)}, allow_nan=False
            )
        )
    else:
        print("\n".join(_lines(built)))
    if not built.verification.ok:
        say("the bundle does not give the same answer everywhere")
    return 0 if train.met(built.training, asked.target) and built.verification.ok else 1


def _lines(built: Built) -> list[str]:
    """What was made, how good it is, and what to type next."""
    sizes = {file.path: file.size_bytes for file in built.bundle.files}
    lines = [f"{'copy':<9} {'file':<16} {'MiB':>7} {'held-out accuracy':>18} {'largest difference':>19}"]
    recorded = built.bundle.reference["recorded"].get("test_accuracy")
    lines.append(f"{'pytorch':<9} {'best.pth':<16} {_mib(built):>7} {_share(recorded):>18} {'':>19}")
    for runner in built.verification.runners:
        file = built.bundle.copy(runner.copy).file
        size = f"{sizes[file] / 2**20:.2f}"
        difference = "not known" if runner.max_abs_difference is None else f"{runner.max_abs_difference:.2g}"
        accuracy = _share(runner.photos.measured)
        lines.append(f"{runner.copy:<9} {file:<16} {size:>7} {accuracy:>18} {difference:>19}")
    verdict = "every copy gives PyTorch's answer" if built.verification.ok else "NOT proved"
    run, bundle = built.training.run, built.training.run / "bundle"
    samples, photos = built.verification.samples, built.training.test_photos
    return [
        *lines,
        "",
        f"{verdict}: {samples} golden samples, stage by stage, and {photos} held-out photos",
        f"run     {run}",
        f"bundle  {bundle}  ({built.bundle.id[:12]})",
        f"report  {built.report}",
        "",
        f"next: samesight predict {bundle} PHOTO",
    ]


def _mib(built: Built) -> str:
    return f"{(built.training.run / 'checkpoints' / 'best.pth').stat().st_size / 2**20:.2f}"


def _share(share: float | None) -> str:
    return "not measured" if share is None else f"{share:.2%}"
