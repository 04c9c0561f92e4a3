"""The plain log of a few photos that a later run, for instance a secure one, is compared with.

Per photo: its true class, and for PyTorch and each copy of each network the predicted class, the
probabilities of all classes and the raw logits. A file of the same name in JSON has the same for programs.
Numbers have nine significant digits, from which every float32 can be read back exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samesight.bundle import open_bundle
from samesight.data.prepare import open_prepared
from samesight.errors import InputError
from samesight.evaluate import photo_logits
from samesight.export.source import shuffled
from samesight.files import json_text, sha256_file, write_file
from samesight.models import TorchRunner
from samesight.runner import Runner, softmax
from samesight.runtime import open_runner
from samesight.training import Run, open_run

__all__ = [
    "LoggedNetwork",
    "SampleInference",
    "Variant",
    "sample_inference_log",
    "sample_photos",
    "write_sample_log",
]

FORMAT = "samesight-sample-inference"


@dataclass(frozen=True)
class LoggedNetwork:
    """A network of the log: what it is called there, its run folder, and the bundle made from it."""

    name: str
    run: Path
    bundle: Path


@dataclass(frozen=True)
class Variant:
    """One network in one form: PyTorch, or a copy."""

    name: str  # "resnet50 / onnx fp16"
    file: str
    sha256: str
    dtype: str  # of its input


@dataclass(frozen=True)
class SampleInference:
    """One photo and every variant's logits (classes,), by the variant's name."""

    photo: str
    sha256: str
    label: str
    logits: dict[str, NDArray[np.float32]]


def write_sample_log(
    networks: Sequence[LoggedNetwork], path: Path, per_class: int = 2, seed: int = 42
) -> list[SampleInference]:
    """Write `path` and its JSON: every variant of `networks` on `per_class` held-out photos of each class.

    The photos are drawn by `seed` from the first run's held-out part, and are the same for all networks:
    their runs must have one split. Raises InputError where they have not.
    """
    runs = [open_run(network.run) for network in networks]
    _check_one_split(runs)
    samples, paths = sample_photos(runs[0], per_class, seed)
    variants: list[Variant] = []
    for network, run in zip(networks, runs, strict=True):
        variants += _answer(network, run, paths, samples)
    write_file(path, sample_inference_log(samples, runs[0].labels, variants))
    write_file(path.with_suffix(".json"), json_text(_json(samples, runs[0].labels, variants)))
    return samples


def sample_photos(run: Run, per_class: int, seed: int) -> tuple[list[SampleInference], list[Path]]:
    """`per_class` held-out photos of each class of `run`, drawn by `seed`, without answers; and their files.

    Raises InputError where nothing is held out.
    """
    photos, split, _ = open_prepared(run.folder)
    items = {item.name: item for item in split.items}
    names = _fixed_photos(split.items, run.labels, per_class, seed)
    samples = [SampleInference(name, items[name].sha256, items[name].label, {}) for name in names]
    by_name = {photo.name: photo.path for photo in photos.items}
    return samples, [by_name[name] for name in names]


def _answer(
    network: LoggedNetwork, run: Run, paths: Sequence[Path], samples: Sequence[SampleInference]
) -> list[Variant]:
    """The variants of one network, after their logits have been added to `samples`."""
    bundle = open_bundle(network.bundle)
    if bundle.labels != run.labels or bundle.made.get("checkpoint_sha256") != sha256_file(run.checkpoint):
        raise InputError("the bundle was not made from this run", where=network.bundle, expected=run.folder)
    copies = bundle.copies
    runners: list[Runner] = [TorchRunner(run.network())]
    runners += [open_runner(bundle, copy.name) for copy in copies]
    # One photo at a time, as a later run will have them: batches change the last digits.
    found = photo_logits(runners, paths, bundle.preprocess, batch=1, what=f"Logging {network.name}")
    if found.errors:
        raise InputError("a held-out photo cannot be read", found=next(iter(found.errors.values())))
    hashes = {file.path: file.sha256 for file in bundle.files}
    checkpoint = str(bundle.made["checkpoint_sha256"])
    variants = [Variant(f"{network.name} / pytorch fp32", run.checkpoint.name, checkpoint, "float32")]
    variants += [
        Variant(f"{network.name} / onnx {copy.name}", copy.file, hashes[copy.file], copy.input_dtype)
        for copy in copies
    ]
    for variant, runner in zip(variants, runners, strict=True):
        for sample, logits in zip(samples, found.logits[runner.copy], strict=True):
            sample.logits[variant.name] = logits
    return variants


def sample_inference_log(
    samples: Sequence[SampleInference], labels: Sequence[str], variants: Sequence[Variant]
) -> str:
    """The log as text."""
    return "\n".join(_lines(samples, labels, variants)) + "\n"


def _lines(
    samples: Sequence[SampleInference], labels: Sequence[str], variants: Sequence[Variant]
) -> Iterator[str]:
    counts = [sum(sample.label == label for sample in samples) for label in labels]
    yield "Non-secure sample inference"
    yield ""
    each = str(max(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    yield f"photos   {len(samples)} of the held-out part, {each} a class, one at a time"
    yield f"classes  {', '.join(f'{place} {label}' for place, label in enumerate(labels))}"
    yield "numbers  in the order of the classes; logits are float32, nine digits give them back exactly"
    yield "networks"
    for variant in variants:
        yield f"  {variant.name}: {variant.file}, {variant.dtype} input, SHA-256 {variant.sha256}"
    for number, sample in enumerate(samples, 1):
        yield ""
        yield f"[{number}/{len(samples)}] {sample.photo}"
        yield f"  sha256      {sample.sha256}"
        yield f"  true class  {sample.label}"
        for variant in variants:
            logits = sample.logits[variant.name]
            predicted = labels[int(logits.argmax())]
            wrong = "" if predicted == sample.label else "   (not the true class)"
            yield f"  {variant.name}"
            yield f"    predicted      {predicted}{wrong}"
            yield f"    probabilities  {_numbers(softmax(logits))}"
            yield f"    logits         {_numbers(logits)}"


def _numbers(values: NDArray[Any]) -> str:
    return " ".join(f"{float(value):.9g}" for value in values)


def _json(
    samples: Sequence[SampleInference], labels: Sequence[str], variants: Sequence[Variant]
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": 1,
        "labels": list(labels),
        "variants": [dict(vars(variant)) for variant in variants],
        "samples": [
            {
                "photo": sample.photo,
                "sha256": sample.sha256,
                "label": sample.label,
                "answers": {
                    name: {
                        "predicted": labels[int(logits.argmax())],
                        "probabilities": [float(f"{value:.9g}") for value in softmax(logits)],
                        "logits": [float(f"{value:.9g}") for value in logits],
                    }
                    for name, logits in sample.logits.items()
                },
            }
            for sample in samples
        ],
    }


def _fixed_photos(items: Sequence[Any], labels: Sequence[str], per_class: int, seed: int) -> list[str]:
    """The names of `per_class` held-out photos of each class, class by class, or of all that there are."""
    names: list[str] = []
    for label in labels:
        held_out = [item.name for item in items if item.part == "test" and item.label == label]
        names += sorted(shuffled(held_out, seed)[:per_class])
    if not names:
        raise InputError("there are no held-out photos to log", expected=f"{per_class} of each class")
    return names


def _check_one_split(runs: Sequence[Run]) -> None:
    splits = {run.split.sha256 for run in runs}
    if len(splits) > 1 or len({run.labels for run in runs}) > 1:
        raise InputError(
            "the runs were trained on different splits, so no photo is held out in all",
            found=", ".join(str(run.folder) for run in runs),
            fix="samesight train with the same photos and --seed for each",
        )
