"""Run folders and bundles for the tests of the report, as training and export leave them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samesight.bundle import BundleInfo, Copy, open_bundle, seal, write_bundle
from samesight.data.checks import DataReport
from samesight.data.prepare import prepare
from samesight.data.split import Split, SplitItem, write_split
from samesight.files import sha256_bytes, write_json
from samesight.preprocess import Preprocess, preprocess, read_photo
from samesight.report.predictions import FILE, PartLogits, write_predictions
from samesight.verify import verify
from samesight.verify.golden import Candidate, read_golden, write_golden

LABELS = ("blue sky", "grass", "rose")
HOSTILE = "<script>alert(1)</script>\"'&\u202e\x00"


@dataclass
class Means:
    """A runner whose network is the mean of each channel, through a fixed matrix; `noise` is its rounding."""

    copy: str
    classes: int
    noise: float = 0.0
    name: str = "numpy"

    def logits(self, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        random = np.random.default_rng(3)
        weights = random.normal(0, 3, (3, self.classes))
        found = tensors.mean(axis=(2, 3), dtype=np.float64) @ weights
        return (found + self.noise * random.normal(size=found.shape)).astype(np.float32)


def write_answers(path: Path, answers: Sequence[tuple[str, str, str, float]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(("name", "label", "predicted", "confidence"))
        rows.writerows(answers)


def make_answers(labels: Sequence[str], per_class: int, accuracy: float) -> list[tuple[str, str, str, float]]:
    """Answers of which about `accuracy` are right; the wrong ones lean to the class that comes next."""
    random = np.random.default_rng(11)
    answers = []
    for at, label in enumerate(labels):
        for index in range(max(1, int(per_class * random.uniform(0.5, 1.5)))):
            right = random.random() < accuracy
            step = 0 if right else int(random.choice([1, 1, 1, 2, 3]))
            sure = float(np.clip(random.beta(9, 1.3) if right else random.beta(4, 3), 1 / len(labels), 1))
            answers.append(
                (f"{label}/{index:03}.jpg", label, labels[(at + step) % len(labels)], round(sure, 5))
            )
    return answers


def make_run(folder: Path, labels: Sequence[str], *, per_class: int = 20, accuracy: float = 0.88) -> Path:
    """A run folder as training leaves it, but for the weights."""
    folder.mkdir(parents=True)
    answers = make_answers(labels, per_class, accuracy)
    write_answers(folder / "test_predictions.csv", answers)
    random = np.random.default_rng(5)
    items = [SplitItem(name, sha256_bytes(name.encode()), label, "test") for name, label, _, _ in answers]
    for label in labels:
        for index in range(int(per_class * random.uniform(1.5, 6))):
            name = f"{label}/{1000 + index}.jpg"
            part = "val" if index % 9 == 0 else "train"
            items.append(SplitItem(name, sha256_bytes(name.encode()), label, part))
    split = Split(42, 0.2, 0.1, tuple(sorted(items, key=lambda item: item.name)))
    write_split(folder / "split.json", split, source="photos")
    counts: dict[str, dict[str, int]] = {}
    for item in items:
        parts = counts.setdefault(item.label, {})
        parts[item.part] = parts.get(item.part, 0) + 1
    report = DataReport("photos", "folder", tuple(labels), len(items), len(items), 9_000_000, counts)
    write_json(folder / "data.json", report.to_json())
    with (folder / "history.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        keys = "epoch phase lr train_loss train_accuracy val_loss val_accuracy seconds images_per_second"
        rows.writerow(keys.split())
        for epoch in range(1, 13):
            fall = np.exp(-epoch / 4)
            phase = "head" if epoch <= 3 else "all"
            values = (1.5 * fall + 0.1, 0.97 - 0.6 * fall, 1.3 * fall + 0.3 + 0.03 * random.random())
            rows.writerow(
                (epoch, phase, 1e-3 * fall, *values, 0.91 - 0.45 * fall + 0.02 * random.random(), 7.1, 60)
            )
    results = {
        "test_accuracy": 0.9,
        "val_accuracy": 0.91,
        "val_photos": 40,
        "best_epoch": 11,
        "cpu_seconds": 171.0,
        "wall_seconds": 92.5,
    }
    about = {
        "model": "mobilenet_v2",
        "labels": list(labels),
        "weights": "mobilenet_v2-7ebf99e0.pth",
        "weights_license": "BSD-3-Clause",
        "photos": "photos.zip",
        "status": "complete",
        "settings": {"seed": 42, "epochs": 12, "batch": 32},
        "given": ["epochs"],
        "derived": {
            "augmentation": ["horizontal flip of every other photo, at random"],
            "label_smoothing": 0.1,
            "average": True,
        },
        "machine": {"system": "Linux", "cpus": 2},
        "versions": {"torch": "2.15.0", "numpy": "2.4.0"},
        "results": results,
    }
    write_json(folder / "run.json", about)
    return folder


def make_predictions(run: Path, labels: Sequence[str], *, val: int = 60, temperature: float = 1.0) -> Path:
    """predictions.npz for the answers of a run: its logits say what they say; as many `val` photos beside."""
    with (run / "test_predictions.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    order = {label: at for at, label in enumerate(labels)}
    random = np.random.default_rng(2)

    def part(names: list[str], targets: list[int], said: list[int], sure: list[float]) -> PartLogits:
        logits = random.normal(0, 0.01, (len(names), len(labels)))
        for at, (guess, share) in enumerate(zip(said, sure, strict=True)):
            share = min(max(share, 1.05 / len(labels)), 1 - 1e-6)
            logits[at, guess] = np.log(share / (1 - share) * max(1, len(labels) - 1)) + 0.1
        return PartLogits(tuple(names), np.array(targets), (logits * temperature).astype(np.float32))

    test = part(
        [row["name"] for row in rows],
        [order[row["label"]] for row in rows],
        [order[row["predicted"]] for row in rows],
        [float(row["confidence"]) for row in rows],
    )
    parts = {"test": test}
    if val:
        said = [at % len(labels) for at in range(val)]
        sure = random.uniform(0.5, 0.99, val).tolist()
        right = random.random(val) < sure
        targets = [at if hit else (at + 1) % len(labels) for at, hit in zip(said, right, strict=True)]
        parts["val"] = part([f"val/{at}.jpg" for at in range(val)], targets, said, sure)
    write_predictions(run / FILE, labels, parts)
    return run / FILE


def make_photo_run(folder: Path, photos: Path, *, size: int = 32) -> Path:
    """A run folder on real photos, split by `prepare`; of each class only the first answer is right."""
    prepared = prepare(str(photos), out=folder)
    labels = prepared.photos.labels
    rows, seen = [], set()
    for at, item in enumerate(one for one in prepared.split.items if one.part == "test"):
        right = item.label not in seen
        seen.add(item.label)
        said = item.label if right else labels[(labels.index(item.label) + 1) % len(labels)]
        rows.append((item.name, item.label, said, round(0.95 - 0.01 * at, 4)))
    write_answers(folder / "test_predictions.csv", rows)
    spec = Preprocess((size, size), None).to_json()
    write_json(folder / "run.json", {"model": "small", "labels": list(labels), "preprocess": spec})
    return folder


def make_bundle(
    out: Path,
    labels: Sequence[str],
    photos: Sequence[tuple[Path, str]],
    *,
    size: int = 32,
    how: str = "train",
) -> Path:
    """A bundle with real golden samples; its networks are `Means`, its models stand for their sizes only."""
    spec = Preprocess((size, size), None)
    runners = [
        Means("pytorch", len(labels)),
        Means("fp32", len(labels), 1e-6),
        Means("fp16", len(labels), 2e-3),
    ]
    with write_bundle(out) as folder:
        (folder / "model.onnx").write_bytes(bytes(3 << 20))
        (folder / "model.fp16.onnx").write_bytes(bytes(3 << 19))
        chosen = []
        for path, label in photos:
            tensor = preprocess(read_photo(path), spec)[None]
            chosen.append(Candidate(path, label, {one.copy: one.logits(tensor)[0] for one in runners}))
        write_golden(folder, chosen, spec, labels, runners)
        seal(folder, make_info(labels, spec, len(photos), how=how))
    return out


def make_info(labels: Sequence[str], spec: Preprocess, samples: int, *, how: str) -> BundleInfo:
    width, height = spec.size
    recorded = {"test_accuracy": 0.9, "test_photos": 60, "train_accuracy": 0.975, "train_photos": 240}
    figures = {
        "fp32": {
            **recorded,
            "label_agreement": 1.0,
            "max_abs_difference": 2.4e-6,
            "mean_abs_difference": 3e-7,
        },
        "fp16": {
            **recorded,
            "label_agreement": 1.0,
            "max_abs_difference": 4.1e-3,
            "mean_abs_difference": 6e-4,
        },
    }
    files = {"fp32": "model.onnx", "fp16": "model.fp16.onnx"}
    return BundleInfo(
        name="waste-mobilenet_v2",
        version="1.0.0",
        created="2026-11-22T02:00:00Z",
        labels=tuple(labels),
        preprocess=spec,
        input_shape=("batch", 3, height, width),
        output_shape=("batch", len(labels)),
        copies=tuple(Copy(one, files[one], one, 17, "float32", "float32", figures[one]) for one in files),
        reference={"framework": "pytorch 2.15.0", "recorded": recorded},
        golden={
            "publishable": False,
            "samples": samples,
            "origin": "test split",
            "labels_without_sample": [],
        },
        made={"by": "samesight 0.1.0", "model": "mobilenet_v2", "how": how},
        license={"weights": "BSD-3-Clause"},
    )


def make_verification(bundle: Path, path: Path, *, noise: float = 2e-3) -> None:
    """verify.json as `samesight verify` finds it; a large `noise` makes the fp16 copy differ."""
    opened = open_bundle(bundle)
    runners = [Means("fp32", len(opened.labels), 1e-6), Means("fp16", len(opened.labels), noise)]
    found = verify(opened, read_golden(opened), runners, photos=None, explain=None)
    write_json(path, found.to_json())
