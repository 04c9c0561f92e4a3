"""Run a recipe: a whole chain described in one TOML file, its artefacts under the names that it gives them.

  samesight run recipes/pain.toml --photos face_data.zip
  samesight run pain --photos photos.zip --weights squeezenet1_1=FILE.pth --only squeezenet1_1
  samesight run butterfly --photos butterflies/ --rehearse
  samesight run imagenet-study --photos cifar-100-python.tar.gz --subset IMAGENET_SUBSET

RECIPE is a file, or the name of one that comes with Samesight. A recipe that was stopped goes on.

Exit code: 0 every bundle is proved and every target met, 1 not so, 2 something could not be done."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from samesight.commands import train
from samesight.data.photos import add_photo_arguments, photo_options
from samesight.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `samesight run`."""
    parser.add_argument("recipe", metavar="RECIPE", help="a TOML file, or the name of a recipe that ships")
    parser.add_argument(
        "--photos", metavar="PHOTOS", help="the photos (default: those that the recipe names)"
    )
    parser.add_argument(
        "--subset", metavar="PHOTOS", help="an ImageNet subset, for a recipe's study of pretrained networks"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="output folder (default: runs/RECIPE)")
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="MODEL=WHICH",
        help="a network's weights: FILE, none, or a name (default: the library's); may be repeated",
    )
    parser.add_argument("--only", action="append", default=[], metavar="MODEL", help="this network alone")
    parser.add_argument(
        "--labels",
        metavar="LABELS",
        help="of a recipe's checkpoints: a,b,c, a file, or labels_mapping.json (default: the recipe's)",
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs of each whole network")
    parser.add_argument("--head-epochs", type=int, metavar="N", help="epochs of each head alone, before")
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="try the whole path first: a few photos, one epoch, untrained where weights cannot be had",
    )
    parser.add_argument(
        "--no-secure", action="store_true", help="leave out what the recipe does under encryption"
    )
    parser.add_argument("--offline", action="store_true", help="download nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_photo_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Carry the recipe out; the exit code."""
    train.need_torch()
    from samesight.chain import RecipeOptions, run_recipe
    from samesight.data.labels import read_labels
    from samesight.progress import say
    from samesight.recipes import read_recipe

    weights = train.pairs(args.weights, "--weights", "resnet50=FILE.pth")
    options = RecipeOptions(
        photos=args.photos,
        subset=args.subset,
        out=args.out,
        photo_options=photo_options(args),
        weights=weights,
        only=tuple(args.only),
        labels=None if args.labels is None else read_labels(args.labels),
        epochs=args.epochs,
        head_epochs=args.head_epochs,
        offline=args.offline,
        rehearsal=args.rehearse,
        secure=not args.no_secure,
    )
    result = run_recipe(read_recipe(_find(args.recipe)), options)
    if args.json:
        print(json.dumps(result.to_json(), allow_nan=False))
    else:
        for path in result.artefacts:
            print(path)
        for name, built in result.built.items():
            say(f"next: samesight verify {built.bundle.folder}    (the bundle of {name})")
    if result.rehearsal:
        say("that was a rehearsal: every step was taken, and no accuracy means anything")
    for words in result.left_out:
        say(f"left out: {words}")
    for words in result.missed:
        say(f"missed: {words}")
    for name in result.failed:
        say(f"{name} could not be done (see above); the same command goes on from here")
    return 2 if result.failed else 0 if result.ok else 1


def _find(word: str) -> Path:
    """The recipe's file: a path, or a name among those that ship with the package or lie in its checkout."""
    path = Path(word)
    if path.is_file() or path.suffix:
        return path
    package = Path(__file__).resolve().parent.parent
    folders = (package / "recipes", package.parent.parent / "recipes")
    shipped = {file.stem: file for folder in folders for file in sorted(folder.glob("*.toml"))}
    if word not in shipped:
        raise InputError("there is no such recipe", expected=", ".join(shipped), found=word)
    return shipped[word]
