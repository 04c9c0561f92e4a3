"""Ultralytics' `yolo classify train` of a torchvision network, as a program of its own.

Ultralytics takes torchvision networks through a model file; its weights come from torchvision's cache, so the
given ones are put there under the name that torchvision looks for. Everything but the epochs is its default
(batch 16, 224 px, RandAugment, random erasing, automatic optimiser, an average of the weights); the plots are
off. It chooses its best epoch on `val`; `yolo classify predict` then names each held-out photo's class.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from answers import arguments, pictures, tell_answer, tell_epoch

FILE = "mobilenet_v2-7ebf99e0.pth"  # what torchvision calls its default weights
BACKBONE = "[1280, mobilenet_v2, DEFAULT, True, 1]"  # channels, network, weights, unwrapped, layers cut off
POLL_SECONDS = 0.2


def yolo(out: Path, *words: str) -> subprocess.Popen:
    """The running program."""
    environment = {
        **os.environ,
        "TORCH_HOME": str(out / "torch"),
        "YOLO_CONFIG_DIR": str(out),
        "YOLO_OFFLINE": "true",
    }
    program = Path(sys.executable).with_name("yolo")
    return subprocess.Popen([str(program), "classify", *words], cwd=out, env=environment)


def accuracies(results: Path) -> list[float]:
    """The validation accuracy of every epoch so far, from the CSV that Ultralytics keeps."""
    if not results.is_file():
        return []
    with results.open(newline="") as stream:
        rows = [{key.strip(): value for key, value in row.items() if key} for row in csv.DictReader(stream)]
    return [float(row["metrics/accuracy_top1"]) for row in rows if row.get("metrics/accuracy_top1")]


def main() -> None:
    args = arguments(__doc__)
    if args.model != "mobilenet_v2":
        raise SystemExit(f"there is no model file for {args.model} here")
    cache = args.out / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    shutil.copyfile(args.weights, cache / FILE)
    network = args.out / "network.yaml"
    network.write_text(
        f"nc: 1000\nbackbone:\n  - [-1, 1, TorchVision, {BACKBONE}]\nhead:\n  - [-1, 1, Classify, [nc]]\n"
    )
    run = args.out / "runs"
    training = yolo(
        args.out, "train", f"model={network}", f"data={args.photos}", f"epochs={args.epochs}",
        f"seed={args.seed}", "device=cpu", "plots=False", f"project={run}", "name=train",
    )  # fmt: skip
    told = 0
    while True:
        ended = training.poll() is not None
        found = accuracies(run / "train" / "results.csv")
        for epoch, accuracy in enumerate(found[told:], told + 1):
            tell_epoch(args.out, epoch, accuracy)
        told = len(found)
        if ended:
            break
        time.sleep(POLL_SECONDS)
    if training.returncode:
        raise SystemExit(f"yolo classify train ended with {training.returncode}")
    photos = pictures(args.photos / "test")
    listed = args.out / "test.txt"
    listed.write_text("".join(f"{photo}\n" for photo in photos))
    best = run / "train" / "weights" / "best.pt"
    predicting = yolo(
        args.out, "predict", f"model={best}", f"source={listed}", "device=cpu", "save=False", "save_txt=True",
        "verbose=False", f"project={run}", "name=predict",
    )  # fmt: skip
    if predicting.wait():
        raise SystemExit(f"yolo classify predict ended with {predicting.returncode}")
    labels = run / "predict" / "labels"
    right = 0
    for photo in photos:
        likeliest = (labels / f"{photo.stem}.txt").read_text().splitlines()[0]  # as "0.98 label"
        right += likeliest.partition(" ")[2] == photo.parent.name
    tell_answer(
        args.out,
        right=right,
        photos=len(photos),
        best_epoch=max(range(len(found)), key=found.__getitem__) + 1,
        val_accuracy=max(found),
        packages=("ultralytics", "torch", "torchvision", "pillow"),
    )


if __name__ == "__main__":
    main()
