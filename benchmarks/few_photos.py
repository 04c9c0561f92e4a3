"""What `samesight train` makes of 5 to 20 photos a class: its default against the head alone.

From each pack a fixed part is set aside that no training sees; from the rest so many photos of each class are
drawn by a seed, and `train` gets nothing but their folder and the weights, as in `samesight train FOLDER
--weights FILE`. It splits them once more, chooses by its own inner validation part, and what it chose is
judged on the part that was set aside. A row holds one drawing and both ways of training; the summary, for
each pack and number of photos, the mean accuracy of both, the mean difference and its spread over drawings.

    python benchmarks/few_photos.py
    python benchmarks/few_photos.py --packs trashnet --photos 20 --seeds 0 1 2 3 4

benchmarks/few_photos.json keeps the rows; each is replaced when it is run again. DIR holds the packs, as for
training_race.py.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import statistics
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from training_race import MODEL, PACKS, WEIGHTS, unpack

from samesight.files import write_file
from samesight.machine import machine, versions
from samesight.preprocess import preprocess, read_photo
from samesight.training import TrainConfig, open_run, train

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "few_photos.json"
WAYS = {"default": "all", "head": "head"}  # --train
JUDGED = 150  # photos set aside, of all classes together
CLASSES = 10  # those with the most photos
BATCH = 32


def photos_of(pack: Path) -> dict[str, list[Path]]:
    """The photos of each class, in the order of their names; of many classes the largest."""
    table = pack / "Training_set.csv"
    found: dict[str, list[Path]] = {}
    if table.is_file():
        with table.open(newline="") as stream:
            for row in csv.DictReader(stream):
                found.setdefault(row["label"], []).append(pack / "train" / row["filename"])
    else:
        found = {folder.name: list(folder.iterdir()) for folder in pack.iterdir() if folder.is_dir()}
    largest = sorted(found, key=lambda label: (-len(found[label]), label))[:CLASSES]
    return {label: sorted(found[label]) for label in sorted(largest)}


def set_aside(photos: dict[str, list[Path]]) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Photos to judge by, as many of each class, but a third of it at most; and the rest."""
    judged, rest = {}, {}
    for label, paths in photos.items():
        mixed = random.Random(label).sample(paths, len(paths))
        count = min(JUDGED // len(photos), len(paths) // 3)
        judged[label], rest[label] = mixed[:count], mixed[count:]
    return judged, rest


def draw(rest: dict[str, list[Path]], count: int, seed: int, folder: Path) -> None:
    """A folder per class with so many photos, drawn by `seed`."""
    for label, paths in rest.items():
        (folder / label).mkdir(parents=True)
        for path in random.Random(f"{seed} {label}").sample(paths, count):
            shutil.copyfile(path, folder / label / path.name)


def accuracy(run: Path, judged: dict[str, list[Path]]) -> float:
    """The share of the photos set aside that the run's best weights are right on."""
    held = open_run(run)
    network = held.network()
    photos = [(path, held.labels.index(label)) for label, paths in judged.items() for path in paths]
    right = 0
    with torch.inference_mode():
        for start in range(0, len(photos), BATCH):
            batch = photos[start : start + BATCH]
            tensors = np.stack([preprocess(read_photo(path), held.preprocess) for path, _ in batch])
            guesses = network(torch.from_numpy(tensors)).argmax(1)
            right += int((guesses == torch.tensor([target for _, target in batch])).sum())
    return right / len(photos)


def row(name: str, count: int, seed: int, args: argparse.Namespace) -> dict:
    """Both ways of training on one drawing."""
    pack = unpack(args.data / PACKS[name], args.work / name / "pack")
    judged, rest = set_aside(photos_of(pack))
    ways = {}
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        draw(rest, count, seed, Path(folder) / "photos")
        for way, trained in WAYS.items():
            run = Path(folder) / way
            began = time.process_time()
            config = TrainConfig(
                photos=f"{folder}/photos", model=MODEL, weights=str(args.weights), out=run, train=trained
            )
            result = train(config)
            cpu = time.process_time() - began
            phases = open_run(run).value["derived"]["phases"]
            ways[way] = {
                "accuracy": round(accuracy(run, judged), 4),
                "own_held_out": round(result.test_accuracy, 4),
                "phases": {phase["name"]: phase["epochs"] for phase in phases},
                "best_epoch": result.best_epoch,
                "cpu_seconds": round(cpu, 1),
            }
    return {
        "photos": name,
        "a_class": count,
        "seed": seed,
        "classes": len(judged),
        "judged": sum(map(len, judged.values())),
        "ways": ways,
        "load_average": round(os.getloadavg()[0], 2),
    }


def summary(rows: list[dict]) -> list[dict]:
    """For each pack and number of photos: means over drawings, and the spread of what the default gains."""
    lines = []
    for key in dict.fromkeys((one["photos"], one["a_class"]) for one in rows):
        here = [one for one in rows if (one["photos"], one["a_class"]) == key]
        by_way = {way: [one["ways"][way]["accuracy"] for one in here] for way in WAYS}
        gains = [a - b for a, b in zip(by_way["default"], by_way["head"], strict=True)]
        lines.append(
            {
                "photos": key[0],
                "a_class": key[1],
                "drawings": len(here),
                **{way: round(statistics.mean(found), 4) for way, found in by_way.items()},
                "gain": round(statistics.mean(gains), 4),
                "gain_deviation": round(statistics.stdev(gains), 4) if len(gains) > 1 else None,
                "gains": [round(gain, 4) for gain in gains],
            }
        )
    return lines


def keep(results: Path, new: dict) -> None:
    """Put the row in its place, and write the file anew."""
    rows = json.loads(results.read_text())["rows"] if results.is_file() else []
    kept = {(one["photos"], one["a_class"], one["seed"]): one for one in [*rows, new]}
    ordered = [kept[key] for key in sorted(kept)]
    value = {
        "model": MODEL,
        "weights": WEIGHTS,
        "machine": machine(),
        "versions": versions(),
        "summary": summary(ordered),
        "rows": ordered,
    }
    write_file(results, json.dumps(value, indent=1) + "\n")


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    data = Path(os.environ.get("SAMESIGHT_TEST_DATA", HERE.parent.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data, metavar="DIR")
    parser.add_argument("--work", type=Path, default=HERE.parent / "runs" / "few-photos", metavar="DIR")
    parser.add_argument("--packs", nargs="*", choices=PACKS, default=list(PACKS))
    parser.add_argument("--photos", nargs="*", type=int, default=[5, 10], metavar="N", help="a class")
    parser.add_argument(
        "--seeds", nargs="*", type=int, default=[0, 1, 2], metavar="N", help="of the drawings"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    with tarfile.open(args.data / "weights_dev.tar.xz") as archive:
        archive.extractall(args.work)
    args.weights = args.work / "weights" / WEIGHTS
    for seed in args.seeds:
        for count in args.photos:
            for name in args.packs:
                new = row(name, count, seed, args)
                keep(args.results, new)
                told = {way: found["accuracy"] for way, found in new["ways"].items()}
                print(name, count, "photos a class, seed", seed, told, file=sys.stderr, flush=True)
    for line in json.loads(args.results.read_text())["summary"]:
        print(line)


if __name__ == "__main__":
    main()
