"""PyTorch's own ways of quantisation beside each other: accuracy and time at each batch, on this machine.

Photos are in three parts that share none: to calibrate with, to choose by (which ways are within the budget),
and to judge on (the figures that are told).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samesight.bench.figures import latency
from samesight.bench.processes import run_module
from samesight.data.labels import imagenet_classes
from samesight.data.photos import PhotoOptions
from samesight.errors import InputError, PhotosError
from samesight.machine import machine, versions
from samesight.preprocess import Preprocess
from samesight.progress import say
from samesight.quantize.parts import Part, Parts, open_parts
from samesight.quantize.study.ways import FLOAT, WAYS, Way
from samesight.quantize.verdict import Verdict, judge

__all__ = ["StudyOptions", "Subject", "study", "subject_of"]

FORMAT = "samesight-quantization-study"
FORMAT_VERSION = 1
FEW_PHOTOS = 2  # lost ones that speak against no way, as in `bench`
WORKER = "samesight.quantize.study.worker"


@dataclass(frozen=True)
class StudyOptions:
    """How much is calibrated with, judged on and timed."""

    calibration_batches: int = 1
    batches: tuple[int, ...] = (1, 4, 8, 16)
    most_photos: int = 500  # to judge on; half as many to choose by
    max_drop: float = 0.005  # a share of the photos
    rounds: int = 3
    seconds: float = 0.5  # of calls at each batch of a round, the float32 network's among them
    least_calls: int = 2
    seed: int = 42
    ways: tuple[str, ...] = ()  # none: every one
    photos: PhotoOptions = PhotoOptions()  # noqa: RUF009  # frozen

    @property
    def calibration_batch(self) -> int:
        """Photos of a batch that is calibrated with."""
        return max(self.batches)


@dataclass(frozen=True)
class Subject:
    """The network that is studied, and how a worker opens it."""

    name: str
    preprocess: Preprocess
    labels: tuple[str, ...]
    job: Mapping[str, Any]  # "run", or "model", "weights" and "download"


def subject_of(what: str, weights: str | None = None, *, download: bool = False) -> Subject:
    """The run in the folder `what`, else the network of that name with weights for ImageNet.

    Raises InputError where it is neither, CheckpointError where weights are not at hand.
    """
    from samesight.models import create_pretrained
    from samesight.models.create import outputs_of
    from samesight.training import open_run

    folder = Path(what)
    if folder.is_dir():
        if weights is not None:
            raise InputError("a run has weights of its own", where=folder, fix="leave --weights out")
        run = open_run(folder)
        return Subject(f"{run.model} of {folder.name}", run.preprocess, run.labels, {"run": str(folder)})
    if folder.suffix or len(folder.parts) > 1:
        raise InputError(
            "there is no run", where=folder, expected="a folder that `samesight train` wrote, or a network"
        )
    if weights == "none":
        raise InputError("what int8 does to random weights says nothing", fix="a file, as --weights FILE.pth")
    made = create_pretrained(what, weights, offline=not download)
    names = tuple(name for _, name in imagenet_classes())
    outputs = outputs_of(made.network, made.preprocess.size)[-1]
    if outputs != len(names):
        raise InputError(
            "the weights are not for ImageNet's classes",
            where=weights or what,
            expected=f"{len(names)} outputs",
            found=outputs,
            fix="a run's folder instead of a network's name",
        )
    job = {"model": what, "weights": weights, "download": download}
    return Subject(what, made.preprocess, names, job)


def study(subject: Subject, source: str | Path, options: StudyOptions = StudyOptions()) -> dict[str, Any]:
    """The value of quantization_study.json: every way's row, those that are not to be had with the reason.

    `source` are photos in any form, or what `data` or `train` left. Raises InputError and PhotosError.
    """
    start = time.monotonic()
    parts = _parts(subject, source, options)
    known = [way.name for way in WAYS]
    for name in options.ways:
        if name not in known:
            raise InputError("there is no such way", expected=", ".join(known), found=name)
    chosen = [way for way in WAYS if way == FLOAT or not options.ways or way.name in options.ways]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="samesight-study-") as place:
        job = _job(subject, parts, options, Path(place))
        float_logits: Mapping[str, NDArray[np.float32]] = {}
        for way in chosen:
            say(f"{way.name}: {way.words}")
            result = run_module(WORKER, {**job, "way": way.name})
            if "error" in result:
                reason = result["error"] + (f": {result['found']}" if result.get("found") else "")
                if way == FLOAT:
                    raise InputError("the float32 network cannot be studied", found=reason)
                say(f"  not to be had: {reason}")
                rows.append({"way": way.name, "words": way.words, "kind": way.kind, "reason": reason})
                continue
            with np.load(job["out"], allow_pickle=False) as file:
                found = dict(file)
            if not all(len(found[f"{part}_read"]) for part in ("choice", "verdict")):
                raise PhotosError("none of the photos can be read", where=source)
            float_logits = float_logits or found
            rows.append(_row(way, result, found, float_logits, parts, subject.labels, options))
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": machine(),
        "versions": versions(),
        "network": subject.name,
        "photos": _photo_words(parts),
        "options": {key: value for key, value in asdict(options).items() if key != "photos"},
        "rows": rows,
        "winners": _winners(rows),
        "seconds": time.monotonic() - start,
    }


def _parts(subject: Subject, source: str | Path, options: StudyOptions) -> Parts:
    wanted = options.calibration_batches * options.calibration_batch
    parts = open_parts(source, subject.labels, options.photos, seed=options.seed, calibration=wanted)
    there = len(parts.calibration.paths)
    batches = -(-there // options.calibration_batch)
    if batches < options.calibration_batches:
        raise PhotosError(
            "there are too few photos to calibrate with",
            expected=f"{options.calibration_batches} batches of {options.calibration_batch}",
            found=f"{there} photos",
            fix=f"--calibration-batches {batches}",
        )
    most = options.most_photos
    return Parts(
        parts.calibration, parts.choice.first(max(most // 2, 1)), parts.verdict.first(most), parts.how
    )


def _job(subject: Subject, parts: Parts, options: StudyOptions, folder: Path) -> dict[str, Any]:
    np.save(folder / "calibration.npy", parts.calibration.tensors(subject.preprocess))
    return {
        **subject.job,
        "calibration": str(folder / "calibration.npy"),
        "calibration_batch": options.calibration_batch,
        "preprocess": subject.preprocess.to_json(),
        "choice": [str(path) for path in parts.choice.paths],
        "verdict": [str(path) for path in parts.verdict.paths],
        "out": str(folder / "answers.npz"),
        "batches": list(options.batches),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "least_calls": options.least_calls,
    }


def _photo_words(parts: Parts) -> dict[str, Any]:
    counts = {name: len(getattr(parts, name).paths) for name in ("calibration", "choice", "verdict")}
    return {"how": parts.how, **counts, "calibration_sha256": list(parts.calibration.sha256)}


def _row(
    way: Way,
    result: Mapping[str, Any],
    found: Mapping[str, NDArray[np.float32]],
    before: Mapping[str, NDArray[np.float32]],
    parts: Parts,
    labels: Sequence[str],
    options: StudyOptions,
) -> dict[str, Any]:
    """A way's row: how many layers it changed, its verdict, and its time at each batch."""
    largest = max(options.batches)

    def verdict(part: Part, name: str, batch: int) -> Verdict:
        key = f"{name}_{batch}" if f"{name}_{batch}" in found else f"{name}_{largest}"
        targets = [part.targets[at] for at in found[f"{name}_read"].astype(int)]
        return judge(before[f"{name}_{largest}"], found[key], targets, labels, options.max_drop)

    batches = []
    for one in result["batches"]:
        times, told = latency(one["rounds"]), verdict(parts.verdict, "verdict", one["batch"])
        batches.append(
            {
                "batch": one["batch"],
                "latency_ms": times,
                "photo_ms": times["median"] / one["batch"],
                "speedup": one["speedup"],
                "accuracy": told.int8_accuracy,
                "agreement": told.agreement,
            }
        )
    chosen = verdict(parts.choice, "choice", largest)
    return {
        "way": way.name,
        "words": way.words,
        "kind": way.kind,
        "engine": result["engine"],
        "layers": result["layers"],
        "size_bytes": result["size_bytes"],
        "seconds": result["seconds"],
        "threads": result["threads"],
        "reason": None,
        "within_budget": chosen.drop <= max(options.max_drop, FEW_PHOTOS / chosen.photos) + 1e-12,
        "choice": chosen.to_json(),
        "verdict": verdict(parts.verdict, "verdict", largest).to_json(),
        "batches": batches,
    }


def _winners(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The quickest way of those within the budget by the photos to choose by: for a photo alone (the smallest
    batch), and for many. Its time is float32's divided by its speed-up, which was measured turn by turn."""
    able = [(row, one) for row in rows if _may_win(row) for one in row["batches"]]
    floats = {one["batch"]: one["photo_ms"] for row, one in able if row["way"] == FLOAT.name}
    alone = [(row, one) for row, one in able if one["batch"] == min(floats)]
    won = {}
    for goal, pairs in (("latency", alone), ("throughput", able)):
        row, one = min(pairs, key=lambda pair: floats[pair[1]["batch"]] / pair[1]["speedup"])
        won[goal] = {"way": row["way"], **{key: one[key] for key in ("batch", "speedup", "photo_ms")}}
    return won


def _may_win(row: Mapping[str, Any]) -> bool:
    """Whether a row is float32's, or of a network that is another one and right enough."""
    if row["reason"] is not None:
        return False
    changed = any(count for count, _ in row["layers"].values())
    return row["way"] == FLOAT.name or (changed and bool(row["within_budget"]))
