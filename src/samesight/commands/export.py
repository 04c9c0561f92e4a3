"""Turn a run, or a checkpoint trained elsewhere, into a bundle: ONNX copies that give PyTorch's answer.

  samesight export RUN --out BUNDLE
  samesight export --model mobilenet_v2 --checkpoint FILE.pth --labels cats,dogs --resize 224x224 \\
                   --samples PHOTOS --out BUNDLE

Every copy is compared with PyTorch on real photos: the run's held-out part, or --samples (in any form that
`train` takes; without labels, differences and agreement are measured and accuracy is not). A copy outside its
tolerance stops the export, and nothing is written.

Exit code: 0 the bundle is there and proved, 1 a copy does not give PyTorch's answer, 2 it could not be made.

With --json, one object: "bundle" (id), "path", "name", "version", "copies" (name, file, size_bytes, opset,
recorded figures), "reference", "golden"."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samesight.commands.train import pairs
from samesight.errors import InputError
from samesight.pictureoptions import add_picture_arguments, picture_options
from samesight.terminal import steady

if TYPE_CHECKING:
    from samesight.bundle import Bundle
    from samesight.export import CheckpointSource, ExportOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `samesight export`."""
    from samesight.data.photos import add_photo_arguments

    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="the folder of `samesight train`")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="the bundle to write")
    foreign = parser.add_argument_group("a checkpoint trained elsewhere")
    foreign.add_argument("--model", metavar="NAME", help="torchvision name, timm/NAME, or file.py:Class")
    foreign.add_argument(
        "--model-arg", action="append", default=[], metavar="K=V", help="for its constructor"
    )
    foreign.add_argument("--checkpoint", type=Path, metavar="FILE", help="its state dict")
    foreign.add_argument("--labels", metavar="LABELS", help="a,b,c, a file, labels_mapping.json, or imagenet")
    foreign.add_argument("--samples", metavar="PHOTOS", help="real photos to compare the copies on")
    add_picture_arguments(parser)
    parser.add_argument("--batch", default="dynamic", metavar="N", help="a fixed batch (default: dynamic)")
    add_bundle_arguments(parser)
    parser.add_argument("--replace", action="store_true", help="put the new bundle in the place of the old")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_photo_arguments(parser)


def add_bundle_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what a bundle is to hold; `build` has them too."""
    files = parser.add_argument_group("the ONNX files")
    files.add_argument("--opset", type=int, metavar="N", help="11 to 20 (default: 17)")
    files.add_argument("--copies", default="fp32,fp16", metavar="LIST", help="default: %(default)s")
    files.add_argument(
        "--fp16-input",
        choices=("float32", "float16"),
        default="float32",
        help="what the fp16 copy takes and gives (default: %(default)s)",
    )
    golden = parser.add_argument_group("golden samples, which the bundle carries as its proof")
    golden.add_argument("--golden", type=Path, metavar="PHOTOS", help="photos that may be published")
    golden.add_argument("--golden-per-class", type=int, metavar="N", help="default: 2, 1 over 100 classes")
    golden.add_argument("--publishable", choices=("yes", "no"), help="whether they may be published")
    words = parser.add_argument_group("what the bundle says of itself")
    words.add_argument("--name", help="default: the run's, or the model's")
    words.add_argument("--version", default="1.0.0", help="semantic version (default: %(default)s)")
    words.add_argument("--license", metavar="TEXT", help="of the weights (default: what is known)")


def run(args: argparse.Namespace) -> int:
    """Export; the exit code."""
    checkpoint = _checkpoint_words(args)
    from samesight.bundle import open_bundle
    from samesight.export import export_checkpoint, export_run
    from samesight.progress import say

    asked = options(args, batch=args.batch, replace=args.replace)
    if checkpoint:
        export_checkpoint(_source(args), args.out, asked)
    else:
        export_run(args.run, args.out, asked)
    bundle = open_bundle(args.out)
    if args.json:
        print(json.dumps(_object(bundle, args.out), indent=2, allow_nan=False))
        return 0
    for line in _lines(bundle, args.out):
        print(steady(line))
    say(f"Next: samesight verify {args.out}")
    say(f"      samesight predict {args.out} PHOTO")
    return 0


def _checkpoint_words(args: argparse.Namespace) -> bool:
    """Whether a checkpoint is to be exported. Raises InputError where neither form is complete."""
    named = {name: getattr(args, name) for name in ("model", "checkpoint", "labels", "samples")}
    given = [name for name, value in named.items() if value is not None]
    preparing = [name for name, said in vars(picture_options(args)).items() if said is not None]
    if args.run is not None and (given or preparing or args.model_arg):
        raise InputError(
            "a run knows its network and how its photos are prepared",
            expected="RUN, or --model and --checkpoint",
            found=", ".join(f"--{name}" for name in [*given, *preparing] or ["model-arg"]),
        )
    if args.run is not None:
        return False
    if not given:
        raise InputError(
            "there is nothing to export",
            expected="RUN, or --model and --checkpoint",
            fix="samesight export RUN …",
        )
    missing = [name for name in named if name not in given]
    if missing == ["samples"]:
        raise InputError(
            "a checkpoint is compared with PyTorch on real photos: on random numbers any copy agrees",
            fix="--samples PHOTOS, a folder of photos of its classes; their labels may be missing",
        )
    if missing:
        raise InputError(
            "a checkpoint needs more to become a bundle", fix=" ".join(f"--{name} …" for name in missing)
        )
    return True


def options(args: argparse.Namespace, *, batch: str, replace: bool = False) -> ExportOptions:
    """The options that the command line asks for."""
    from samesight.export import ExportOptions
    from samesight.export.onnxfile import DEFAULT_OPSET

    return ExportOptions(
        name=args.name,
        version=args.version,
        opset=DEFAULT_OPSET if args.opset is None else args.opset,
        batch=_batch(batch),
        copies=tuple(name.strip() for name in args.copies.split(",")),
        fp16_input=args.fp16_input,
        golden=args.golden,
        publishable=_publishable(args),
        golden_per_class=args.golden_per_class,
        license=args.license,
        replace=replace,
    )


def _batch(word: str) -> int | None:
    if word == "dynamic":
        return None
    if not word.isascii() or not word.isdigit():
        raise InputError("--batch is a number, or dynamic", found=word)
    return int(word)


def _publishable(args: argparse.Namespace) -> bool | None:
    """Whether the golden samples may be published: as said, else as a person at a terminal answers."""
    if args.publishable is not None:
        return bool(args.publishable == "yes")
    if args.golden is not None or args.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    from samesight.progress import say

    say("The bundle carries a few of these photos as golden samples. They may show real people.")
    print("May they be published? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _source(args: argparse.Namespace) -> CheckpointSource:
    from samesight.data.labels import read_labels
    from samesight.data.photos import photo_options
    from samesight.export import CheckpointSource

    return CheckpointSource(
        model=args.model,
        checkpoint=args.checkpoint,
        labels=read_labels(args.labels),
        samples=args.samples,
        preprocess=picture_options(args),
        model_options=pairs(args.model_arg, "--model-arg", "dropout=0.1"),
        photos=photo_options(args),
    )


def _object(bundle: Bundle, path: Path) -> dict[str, Any]:
    sizes = {file.path: file.size_bytes for file in bundle.files}
    copies = [{**vars(c), "size_bytes": sizes[c.file], "recorded": dict(c.recorded)} for c in bundle.copies]
    return {
        "bundle": bundle.id,
        "path": str(path),
        "name": bundle.name,
        "version": bundle.version,
        "copies": copies,
        "reference": dict(bundle.reference),
        "golden": dict(bundle.golden),
    }


def _lines(bundle: Bundle, path: Path) -> Iterator[str]:
    """The copies as a table, and where the bundle is."""
    sizes = {file.path: file.size_bytes for file in bundle.files}
    rows = [("copy", "file", "MiB", "test accuracy", "largest difference", "labels as PyTorch")]
    rows.append(("pytorch", "", "", _share(bundle.reference["recorded"].get("test_accuracy")), "", ""))
    for copy in bundle.copies:
        said = copy.recorded
        rows.append(
            (
                copy.name,
                copy.file,
                f"{sizes[copy.file] / 2**20:.2f}",
                _share(said.get("test_accuracy")),
                f"{said['max_abs_difference']:.2g}",
                _share(said.get("label_agreement")),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
    yield ""
    photos = bundle.copies[0].recorded.get("compared_photos")
    publish = "may be published" if bundle.golden["publishable"] else "must not be published"
    yield f"compared on {photos} photos; {bundle.golden['samples']} golden samples, which {publish}"
    yield f"{path}  (bundle {bundle.id[:12]})"


def _share(share: float | None) -> str:
    return "not measured" if share is None else f"{100 * share:.2f} %"
