"""Every contender timed in rounds, each in a process of its own, and its answers judged.

Rounds are interleaved: each round times every contender once, from another one on, so that a machine that
grows busy or hot harms all alike. Knows runners by name only; no runtime is imported here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samesight.bench.contenders import MODES, Contender
from samesight.bench.figures import latency, photo_time
from samesight.bench.processes import run_job, start_of
from samesight.evaluate import accuracy, agreement
from samesight.preprocess import Preprocess
from samesight.progress import track
from samesight.verify.tolerances import TOLERANCES

__all__ = ["Options", "Photos", "Subject", "measure"]

Failures = list[dict[str, str]]


@dataclass(frozen=True)
class Options:
    """How thoroughly is measured; the defaults take about two minutes for a small network."""

    batches: tuple[int, ...] = (1, 4, 8, 16)
    engines: tuple[str, ...] = ("all",)
    copies: tuple[str, ...] = ()  # none: every copy
    modes: tuple[str, ...] = tuple(MODES)
    rounds: int = 3
    seconds: float = 0.3  # of calls at each batch of a round
    least_calls: int = 5
    most_calls: int = 200


@dataclass(frozen=True)
class Photos:
    """Photos to measure accuracy on: their paths, and the indices of their true classes where known."""

    paths: Sequence[Path]
    targets: Sequence[int | None]


@dataclass(frozen=True)
class Subject:
    """What is measured: a bundle, or the one ONNX file of a network without a bundle."""

    preprocess: Preprocess
    sizes: Mapping[str, int]  # bytes on disk, by copy
    bundle: Path | None = None
    model: Path | None = None


def measure(
    subject: Subject,
    contenders: Sequence[Contender],
    inputs: NDArray[np.float32],
    options: Options,
    photos: Photos | None,
    what: str,
) -> tuple[list[dict[str, Any]], Failures]:
    """A row a contender and batch, and what could not be measured with the reason.

    `inputs` (n, 3, height, width) are what calls are timed on. The first contender's answers are those that
    the others' labels are compared with.
    """
    with tempfile.TemporaryDirectory(prefix="samesight-bench-") as place:
        folder = Path(place)
        answers, failed = _answers(subject, contenders, options, photos, folder, what)
        able = [one for one in contenders if (one.engine, one.copy) in answers]
        timed, broken = _timed(subject, able, inputs, options, folder, what)
    rows = []
    for contender in able:
        if contender in timed:
            about = answers[contender.engine, contender.copy]
            rows += _rows(subject, contender, timed[contender], about)
    return rows, failed + broken


def _timed(
    subject: Subject,
    contenders: Sequence[Contender],
    inputs: NDArray[np.float32],
    options: Options,
    folder: Path,
    what: str,
) -> tuple[dict[Contender, list[dict[str, Any]]], Failures]:
    """What the workers of each contender said, round by round."""
    np.save(folder / "inputs.npy", inputs)
    job = {
        "kind": "time",
        "inputs": str(folder / "inputs.npy"),
        "batches": list(options.batches),
        "seconds": options.seconds,
        "least_calls": options.least_calls,
        "most_calls": options.most_calls,
    }
    order = [
        contenders[(at + turn) % len(contenders)]
        for turn in range(options.rounds)
        for at in range(len(contenders))
    ]
    found: dict[Contender, list[dict[str, Any]]] = {}
    failed: Failures = []
    for contender in track(order, f"Timing {what}", len(order)):
        if any(_is(contender, one) for one in failed):
            continue
        result = run_job({**job, **start_of(contender, bundle=subject.bundle, model=subject.model)})
        if "error" in result:
            failed.append(_failure(contender, result))
            found.pop(contender, None)
        else:
            found.setdefault(contender, []).append(result)
    return found, failed


def _answers(
    subject: Subject,
    contenders: Sequence[Contender],
    options: Options,
    photos: Photos | None,
    folder: Path,
    what: str,
) -> tuple[dict[tuple[str, str], dict[str, Any]], Failures]:
    """How right each engine is with each copy; the way of using the machine does not change that."""
    first = {(one.engine, one.copy): one for one in reversed(contenders)}
    pairs = [first[pair] for pair in dict.fromkeys((one.engine, one.copy) for one in contenders)]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    failed: Failures = []
    reference: NDArray[np.float32] | None = None
    for contender in track(pairs, f"Judging {what}", len(pairs)):
        job = {
            "kind": "answers",
            "photos": [str(path) for path in photos.paths] if photos is not None else [],
            "preprocess": subject.preprocess.to_json(),
            "batch": max(options.batches),
            "out": str(folder / "answers.npz"),
        }
        result = run_job({**job, **start_of(contender, bundle=subject.bundle, model=subject.model)})
        if "error" in result:
            failed.append(_failure(contender, result, every_mode=True))
            continue
        about: dict[str, Any] = {"proof": result.get("proof"), "total_seconds": result.get("total_seconds")}
        if photos is not None:
            with np.load(folder / "answers.npz", allow_pickle=False) as file:
                logits, read = file["logits"], file["read"]
            reference = logits if reference is None else reference
            about |= _accuracy(logits, read, reference, photos.targets)
            about["unread"] = result["unread"]
        found[contender.engine, contender.copy] = about
    best = next(iter(found.values()), None)
    for about in found.values():
        about["problems"] = _problems(about, best)
    return found, failed


def _accuracy(
    logits: NDArray[np.float32],
    read: NDArray[np.int64],
    reference: NDArray[np.float32],
    targets: Sequence[int | None],
) -> dict[str, Any]:
    """Accuracy where true labels are known, and the share of labels that are the reference's."""
    known = [(row, targets[at]) for row, at in enumerate(read) if targets[at] is not None]
    rows = [row for row, _ in known]
    return {
        "accuracy": accuracy(logits[rows], [target or 0 for _, target in known]) if known else None,
        "photos": len(known),
        "label_agreement": agreement(logits, reference) if len(logits) else None,
    }


def _problems(about: Mapping[str, Any], best: Mapping[str, Any] | None) -> list[str]:
    """What speaks against answers: the golden samples, or an accuracy below the first contender's."""
    problems = []
    proof = about["proof"]
    if proof is not None and not proof["ok"]:
        problems.append(f"differs from PyTorch on the golden samples ({proof['first_difference']})")
    mine, its = about.get("accuracy"), None if best is None else best.get("accuracy")
    if mine is not None and its is not None:
        allowed = max(TOLERANCES["accuracy"].abs, 2 / max(1, about["photos"]))
        if mine < its - allowed - 1e-9:
            problems.append(f"accuracy is {mine:.2%}, more than {allowed:.2%} below {its:.2%}")
    return problems


def _rows(
    subject: Subject, contender: Contender, results: Sequence[Mapping[str, Any]], about: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """A row a batch."""
    rows = []
    for at, one in enumerate(results[0]["batches"]):
        rounds = [result["batches"][at] for result in results]
        peaks = [some["peak_bytes"] for some in rounds if some["peak_bytes"] is not None]
        rows.append(
            {
                **contender.to_json(),
                "batch": one["batch"],
                "latency_ms": latency([some["calls_ms"] for some in rounds]),
                "photo_ms": photo_time([some["photo_ms"] for some in rounds]),
                "photos_per_second": 1000 / photo_time([some["photo_ms"] for some in rounds])["median"],
                "peak_bytes": max(peaks) if peaks else None,
                "load_seconds": float(np.median([result["load_seconds"] for result in results])),
                "size_bytes": subject.sizes[contender.copy],
                "accuracy": about.get("accuracy"),
                "photos": about.get("photos", 0),
                "label_agreement": about.get("label_agreement"),
                "total_seconds": about.get("total_seconds"),
                "proof": about["proof"],
                "problems": list(about["problems"]),
            }
        )
    return rows


def _failure(contender: Contender, result: Mapping[str, Any], *, every_mode: bool = False) -> dict[str, str]:
    found = f": {result['found']}" if result.get("found") else ""
    where = {"engine": contender.engine, "copy": contender.copy}
    mode = {} if every_mode else {"mode": contender.mode}
    return {**where, **mode, "reason": f"{result['error']}{found}"}


def _is(contender: Contender, failure: Mapping[str, str]) -> bool:
    mine = {"engine": contender.engine, "copy": contender.copy, "mode": contender.mode}
    return all(mine[key] == failure[key] for key in mine if key in failure)
