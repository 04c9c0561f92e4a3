"""Fine-tune a pretrained network on photos, or train one from scratch, and leave a run folder.

PHOTOS is anything that `samesight data` reads, or a folder that it wrote. The head is trained first, then
the whole network; the best epoch is chosen on an inner validation part, and the held-out part is read once,
at the end. What is not given is derived from the photos and the network, and written to run.json.

  samesight train photos.zip --model mobilenet_v2
  samesight train photos/ --model my_network.py:Net --resize 64x64 --epochs 40
  samesight train --resume --out runs/photos-mobilenet_v2

Exit code 1: the accuracy that --target asks for was missed.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from samesight.data.photos import add_photo_arguments, photo_options
from samesight.errors import InputError, MissingExtra
from samesight.pictureoptions import add_picture_arguments, picture_options
from samesight.threads import share_cores

if TYPE_CHECKING:
    from samesight.training import TrainConfig, TrainResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("photos", nargs="?", metavar="PHOTOS", help="photos, or a folder of `samesight data`")
    parser.add_argument(
        "--model",
        default="mobilenet_v2",
        metavar="NAME",
        help="torchvision classifier, timm/NAME, small, or path/to/file.py:Name (default: %(default)s)",
    )
    parser.add_argument("--out", metavar="RUN", help="run folder (default: runs/PHOTOS-MODEL)")
    parser.add_argument(
        "--weights",
        metavar="WHICH",
        help="FILE, none, or a name such as IMAGENET1K_V1 (default: the library's)",
    )
    parser.add_argument(
        "--model-arg",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option for the network's constructor; may be repeated",
    )
    parser.add_argument("--offline", action="store_true", help="download nothing")
    _add_learning(parser.add_argument_group("how it learns"))
    add_picture_arguments(parser)
    add_photo_arguments(parser)
    parser.add_argument(
        "--test", type=float, default=0.2, metavar="SHARE", help="held-out share (default: 0.2)"
    )
    parser.add_argument(
        "--val",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of the rest that the best epoch is chosen on (default: 0.1)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def _add_learning(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--epochs", type=int, metavar="N", help="epochs of the whole network")
    group.add_argument("--head-epochs", type=int, metavar="N", help="epochs of the head alone, before")
    group.add_argument("--batch", type=int, metavar="N", help="photos a step (default: 32)")
    group.add_argument("--lr", type=float, metavar="RATE", help="learning rate of the head (default: 0.001)")
    group.add_argument(
        "--seed", type=int, default=42, metavar="N", help="of split and training (default: 42)"
    )
    group.add_argument(
        "--sampler",
        choices=("balanced", "none"),
        help="draw each class as often (default: balanced where one has 1.5 times another's photos)",
    )
    group.add_argument("--class-weights", action="store_true", help="weigh the loss by class instead")
    group.add_argument("--no-flip", action="store_true", help="no mirror images (for text, digits, hands)")
    group.add_argument("--target", type=float, metavar="ACCURACY", help="exit with 1 when missed, as 0.8")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all)")
    group.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")


def run(args: argparse.Namespace) -> int:
    """Train, print the result; 1 where the target was missed."""
    need_torch()
    from samesight.training import train

    asked = config(args)
    result = train(asked)
    if args.json:
        print(json.dumps({**result.to_json(), **target_json(result, asked.target)}))
    else:
        print(_table(result))
    return 0 if met(result, asked.target) else 1


def need_torch() -> None:
    """Set up what torch reads when it is imported. Raises MissingExtra where it is not installed."""
    share_cores()
    try:
        import torch  # noqa: F401
        import torchvision  # noqa: F401
    except ImportError as error:
        raise MissingExtra("training", "train") from error


def met(result: TrainResult, target: float | None) -> bool:
    """Whether the target was met or there was none; where it was missed, it is said."""
    if target is None or result.test_accuracy >= target:
        return True
    from samesight.progress import say

    reached, wanted = f"{result.test_accuracy:.1%}", f"{target:.1%}"
    say(f"the target was missed: {reached} of the held-out photos are right, {wanted} were wanted")
    return False


def target_json(result: TrainResult, target: float | None) -> dict[str, float | bool | None]:
    """What the JSON says of the target."""
    return {"target": target, "target_met": target is None or result.test_accuracy >= target}


def config(args: argparse.Namespace) -> TrainConfig:
    """The settings that the command line asks for."""
    from pathlib import Path

    from samesight.data.prepare import SplitOptions
    from samesight.training import TrainConfig

    return TrainConfig(
        photos=args.photos,
        model=args.model,
        out=Path(args.out) if args.out else None,
        weights=args.weights,
        model_options=pairs(args.model_arg, "--model-arg", "dropout=0.1"),
        pictures=picture_options(args),
        photo_options=photo_options(args),
        split=SplitOptions(args.seed, args.test, args.val),
        offline=args.offline,
        epochs=args.epochs,
        head_epochs=args.head_epochs,
        batch=args.batch,
        lr=args.lr,
        seed=args.seed,
        sampler=args.sampler,
        class_weights=args.class_weights,
        flip=not args.no_flip,
        target=args.target,
        resume=args.resume,
        threads=args.threads,
        device=args.device,
    )


def pairs(words: list[str], option: str, example: str) -> dict[str, str]:
    """KEY=VALUE words as a mapping. Raises InputError for a word that is none."""
    found = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key:
            raise InputError(f"{option} wants KEY=VALUE", found=word, fix=f"{option} {example}")
        found[key] = value
    return found


def _table(result: TrainResult) -> str:
    """The result for people, and the next command."""
    rows = [("held-out test", result.test_accuracy, result.test_photos)]
    if result.val_accuracy is not None:
        rows.append(("inner validation", result.val_accuracy, result.val_photos))
    rows.append(("training", result.train_accuracy, result.train_photos))
    lines = [f"{'part':<18}{'accuracy':>9}{'photos':>8}"]
    lines += [f"{name:<18}{accuracy:>9.1%}{photos:>8}" for name, accuracy, photos in rows]
    return "\n".join(
        [
            *lines,
            "",
            f"best of {result.epochs} epochs: {result.best_epoch}; {result.cpu_seconds:.0f} CPU seconds, "
            f"{result.wall_seconds:.0f} seconds",
            f"run folder: {result.run}",
            f"next: samesight export {result.run} --out {result.run}/bundle",
        ]
    )
