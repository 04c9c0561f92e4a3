"""Fine-tune a pretrained network on photos, or train one from scratch, and leave a run folder.

PHOTOS is anything that `samesight data` reads, or a folder that it wrote. The head is trained first, then
the whole network; the best epoch is chosen on an inner validation part, and the held-out part is read once,
at the end. What is not given is derived from the photos and the network, and written to run.json.

  samesight train photos.zip --model mobilenet_v2
  samesight train photos/ --model my_network.py:Net --resize 64x64 --epochs 40
  samesight train --resume --out runs/photos-mobilenet_v2
  torchrun --standalone --nproc-per-node 2 -m samesight train photos/

Exit code 1: the accuracy that --target asks for was missed.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

from samesight.commands.report import beside
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
        help="torchvision classifier, timm/NAME, one of ours (samesight models), or path/to/file.py:Name "
        "(default: %(default)s)",
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
    parser.add_argument(
        "--for",
        dest="purpose",
        choices=("secure",),
        help="secure: ReLU and average pooling throughout, which are cheap under encryption",
    )
    parser.add_argument("--offline", action="store_true", help="download nothing")
    _add_learning(parser.add_argument_group("how it learns"))
    _add_augmentation(parser.add_argument_group("random changes to training photos"))
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
    parser.add_argument("--no-near", action="store_true", help="do not keep near duplicates on one side")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def _add_learning(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--train",
        choices=("head", "last-block", "all"),
        default="all",
        help="what learns after the head has: nothing, the last block, everything (default: all)",
    )
    group.add_argument("--epochs", type=int, metavar="N", help="epochs after the head's (default: 3 to 20)")
    group.add_argument("--head-epochs", type=int, metavar="N", help="epochs of the head alone, before")
    group.add_argument("--batch", type=int, metavar="N", help="photos a step (default: 32)")
    group.add_argument("--accumulate", type=int, default=1, metavar="N", help="batches a step (default: 1)")
    group.add_argument(
        "--train-size",
        type=int,
        metavar="PIXELS",
        help="shorter side of training pictures (default: inference's)",
    )
    group.add_argument("--optimizer", choices=("adamw", "sgd"), default="adamw", help="default: adamw")
    group.add_argument(
        "--lr", type=float, metavar="RATE", help="rate of the head (default: 0.001; sgd: 0.01, untrained 0.1)"
    )
    group.add_argument(
        "--schedule", choices=("cosine", "step", "constant"), default="cosine", help="default: cosine"
    )
    group.add_argument("--step-every", type=int, metavar="N", help="epochs between the steps down to a tenth")
    group.add_argument("--weight-decay", type=float, metavar="X", help="default: 0.01; sgd: 0.0005")
    group.add_argument(
        "--layer-decay", type=float, default=1.0, metavar="X", help="rate of each block by the next one's"
    )
    group.add_argument("--label-smoothing", type=float, default=0.1, metavar="X", help="default: 0.1")
    group.add_argument("--clip", type=float, default=1.0, metavar="NORM", help="of gradients; 0: off")
    group.add_argument("--no-average", action="store_true", help="the last weights, not their moving average")
    group.add_argument(
        "--amp",
        choices=("auto", "off", "bfloat16", "float16"),
        default="auto",
        help="mixed precision (default: auto, on GPUs)",
    )
    group.add_argument("--patience", type=int, metavar="N", help="stop after N epochs without a better one")
    group.add_argument(
        "--seed", type=int, default=42, metavar="N", help="of split and training (default: 42)"
    )
    group.add_argument(
        "--sampler",
        choices=("balanced", "none"),
        help="draw each class as often (default: balanced where one has 1.5 times another's photos)",
    )
    group.add_argument("--class-weights", action="store_true", help="weigh the loss by class instead")
    group.add_argument("--target", type=float, metavar="ACCURACY", help="exit with 1 when missed, as 0.8")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all)")
    group.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    group.add_argument("--tensorboard", action="store_true", help="write RUN/tensorboard too")


def _add_augmentation(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--crop-mode",
        choices=("resized", "padded", "none"),
        default="resized",
        help="a random part, resized; the whole, shifted; the whole (default: resized)",
    )
    group.add_argument("--no-flip", action="store_true", help="no mirror images (for text, digits, hands)")
    group.add_argument("--vertical-flip", action="store_true", help="upside down too")
    group.add_argument(
        "--color-jitter", default="0,0,0,0", metavar="B,C,S,H", help="as 0.2,0.2,0.2,0.1 (default: none)"
    )
    group.add_argument(
        "--auto-augment", choices=("none", "randaugment", "trivialaugment"), default="none", help="a policy"
    )
    group.add_argument("--random-erasing", type=float, default=0.0, metavar="SHARE", help="of the photos")
    group.add_argument("--mixup", type=float, default=0.0, metavar="ALPHA", help="for long runs")
    group.add_argument("--cutmix", type=float, default=0.0, metavar="ALPHA", help="for long runs")


def run(args: argparse.Namespace) -> int:
    """Train, print the result; 1 where the target was missed."""
    need_torch()
    from samesight.report import write_report
    from samesight.training import train

    asked = config(args)
    result = train(asked)
    if os.environ.get("RANK", "0") != "0":
        return 0  # of torchrun's processes the first one answers
    write_report(result.run, None, result.run / "report.html")
    beside(result.run, photos=True)
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
    from samesight.training import AugmentOptions, TrainConfig, color_jitter

    return TrainConfig(
        photos=args.photos,
        model=args.model,
        out=Path(args.out) if args.out else None,
        weights=args.weights,
        model_options=pairs(args.model_arg, "--model-arg", "dropout=0.1")
        | ({"for": args.purpose} if args.purpose else {}),
        pictures=picture_options(args),
        photo_options=photo_options(args),
        split=SplitOptions(args.seed, args.test, args.val, near=not args.no_near),
        offline=args.offline,
        augment=AugmentOptions(
            crop=args.crop_mode,
            flip=not args.no_flip,
            vertical_flip=args.vertical_flip,
            color_jitter=color_jitter(args.color_jitter),
            policy=args.auto_augment,
            erasing=args.random_erasing,
            mixup=args.mixup,
            cutmix=args.cutmix,
        ),
        train=args.train,
        epochs=args.epochs,
        head_epochs=args.head_epochs,
        batch=args.batch,
        accumulate=args.accumulate,
        train_size=args.train_size,
        optimizer=args.optimizer,
        lr=args.lr,
        schedule=args.schedule,
        step_every=args.step_every,
        weight_decay=args.weight_decay,
        layer_decay=args.layer_decay,
        label_smoothing=args.label_smoothing,
        clip=args.clip,
        average=not args.no_average,
        amp=args.amp,
        patience=args.patience,
        seed=args.seed,
        sampler=args.sampler,
        class_weights=args.class_weights,
        target=args.target,
        resume=args.resume,
        threads=args.threads,
        device=args.device,
        tensorboard=args.tensorboard,
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
            f"report: {result.run / 'report.html'}",
            f"next: samesight export {result.run} --out {result.run}/bundle",
        ]
    )
