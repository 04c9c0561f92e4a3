"""What each contender leaves for training_race.py: epochs.csv while it runs, answer.json at its end.

The peers import this file from their own environments, so it needs nothing but Python.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def arguments(description: str | None) -> argparse.Namespace:
    """What training_race.py says to every peer."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--photos", type=Path, required=True, help="train, val and test, a folder per class")
    parser.add_argument("--model", required=True, help="a torchvision classifier's name")
    parser.add_argument("--weights", type=Path, required=True, help="its pretrained weights, a state dict")
    parser.add_argument("--out", type=Path, required=True, help="where epochs.csv and answer.json go")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    return parser.parse_args()


def pictures(folder: Path) -> list[Path]:
    """The photos below the folder, sorted."""
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)


def tell_epoch(out: Path, epoch: int, val_accuracy: float) -> None:
    """Append a row to epochs.csv: training_race.py sees it come and notes the CPU seconds so far."""
    file = out / "epochs.csv"
    head = "" if file.is_file() else "epoch,val_accuracy\n"
    with file.open("a") as stream:
        stream.write(f"{head}{epoch},{val_accuracy:.6f}\n")


def tell_answer(
    out: Path, *, right: int, photos: int, best_epoch: int, val_accuracy: float, packages: Sequence[str]
) -> None:
    """Write answer.json: the one reading of the held-out photos, by the epoch that was chosen on `val`."""
    answer = {
        "test_right": right,
        "test_photos": photos,
        "best_epoch": best_epoch,
        "val_accuracy": round(val_accuracy, 6),
        "packages": {name: version(name) for name in packages},
    }
    (out / "answer.json").write_text(json.dumps(answer, indent=2) + "\n")
