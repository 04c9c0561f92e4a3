"""What `train --for secure` costs in accuracy and gains under encryption, network by network.

`python benchmarks/secure_training.py PHOTOS MODEL=WEIGHTS …` trains each network twice on the same split with
the same settings, as published and for secure, exports both, and has both classify the same photos under
encryption, in turns. WEIGHTS is a file, or `none`. It writes benchmarks/secure_training.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from secure import measure

RESULTS = Path(__file__).resolve().parent / "secure_training.json"
KINDS: dict[str, list[str]] = {"as published": [], "for secure": ["--for", "secure"]}
TAKEN = (
    "test_accuracy",
    "val_accuracy",
    "test_photos",
    "val_photos",
    "train_photos",
    "epochs",
    "cpu_seconds",
)


def samesight(*words: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "samesight", *words]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def train(photos: Path, model: str, weights: str, out: Path, settings: list[str]) -> dict[str, Any]:
    """Train and export; the figures of the training."""
    words = [
        "train",
        str(photos),
        "--model",
        model,
        "--weights",
        weights,
        "--out",
        str(out),
        "--json",
        *settings,
    ]
    found = json.loads(samesight(*words).splitlines()[-1])
    samesight("export", str(out), "--out", str(out / "bundle"), "--copies", "fp32")
    return {name: found[name] for name in TAKEN}


def unpacked(photos: Path, work: Path) -> list[Path]:
    """The photos, unpacked where they are in a zip."""
    if photos.suffix == ".zip":
        with zipfile.ZipFile(photos) as archive:
            names = [name for name in archive.namelist() if name.lower().endswith((".jpg", ".jpeg"))]
            return [Path(archive.extract(name, work / "photos")) for name in sorted(names)]
    return sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))


def main() -> None:
    """Train, export and run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, metavar="PHOTOS", help="a folder or zip, as `train` takes it")
    parser.add_argument("networks", nargs="+", metavar="MODEL=WEIGHTS")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for the runs; new")
    parser.add_argument("--resize", default="96x96")
    parser.add_argument("--head-epochs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2, help="sessions of each, in turns")
    parser.add_argument("--count", type=int, default=3, help="photos a session")
    args = parser.parse_args()
    settings = ["--resize", args.resize, "--epochs", str(args.epochs), "--head-epochs", str(args.head_epochs)]
    settings += ["--threads", str(args.threads), "--no-near", "--no-flip"]
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results["machine"] = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "samesight": version("samesight"),
    }
    paths = unpacked(args.photos, args.work)
    for words in args.networks:
        model, _, weights = words.partition("=")
        rows: dict[str, Any] = {}
        for kind, more in KINDS.items():
            out = args.work / f"{model}-{kind.replace(' ', '-')}"
            rows[kind] = train(args.photos, model, weights, out, [*settings, *more]) | {"secure": []}
        chosen = [paths[number * len(paths) // args.count] for number in range(args.count)]
        for _ in range(args.turns):
            for kind in KINDS:
                bundle = args.work / f"{model}-{kind.replace(' ', '-')}" / "bundle"
                rows[kind]["secure"].append(measure(bundle, chosen, "aby3", "loopback", 1))
        for row in rows.values():
            row["secure_median_seconds"] = statistics.median(
                s for one in row["secure"] for s in one["seconds"]
            )
        results[model] = {
            "photos": args.photos.name,
            "settings": " ".join(settings),
            "protocol": "aby3",
            "date": time.strftime("%Y-%m-%d"),
            "kinds": rows,
        }
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
