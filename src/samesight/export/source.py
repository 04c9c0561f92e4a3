"""What is exported: a network with its labels and preprocessing, and the real photos that prove its copies.

It comes from a run folder, or from a checkpoint that was trained elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from samesight.data.labels import bind
from samesight.data.photos import Photo, PhotoOptions, open_photos
from samesight.data.prepare import open_prepared
from samesight.errors import InputError
from samesight.files import sha256_file
from samesight.models import create, default_preprocess, load_state, open_checkpoint
from samesight.models.create import outputs_of, source_of
from samesight.models.own import is_own
from samesight.pictureoptions import PictureOptions
from samesight.preprocess import Preprocess
from samesight.progress import say
from samesight.training import open_run

__all__ = [
    "CheckpointSource",
    "Samples",
    "Source",
    "open_samples",
    "shuffled",
    "source_of_checkpoint",
    "source_of_run",
]

TRAIN_PHOTOS = 1000  # accuracy on the training photos is told from at most so many


@dataclass(frozen=True)
class Samples:
    """Photos, the index of each one's true label where it is known, and in words where they come from."""

    paths: tuple[Path, ...]
    targets: tuple[int | None, ...]
    origin: str


@dataclass(frozen=True)
class CheckpointSource:
    """A checkpoint trained elsewhere, and what must be known about it."""

    model: str
    checkpoint: Path
    labels: tuple[str, ...]
    samples: str | Path
    preprocess: Preprocess | PictureOptions = PictureOptions()  # noqa: RUF009  # frozen
    model_options: Mapping[str, str] = field(default_factory=dict)
    photos: PhotoOptions = PhotoOptions()  # noqa: RUF009  # frozen


@dataclass(frozen=True)
class Source:
    """A network ready to be written, and everything that the bundle says about it."""

    network: nn.Module
    labels: tuple[str, ...]
    preprocess: Preprocess
    test: Samples
    train: Samples | None
    name: str
    checkpoint: Path
    license: str
    made: Mapping[str, Any]


def source_of_run(folder: Path) -> Source:
    """The best network of a run, with its held-out photos and up to 1000 of its training photos.

    Raises InputError where the run is not complete, PhotosError where its photos have changed since.
    """
    run = open_run(folder)
    if not run.is_complete:
        raise InputError(
            "the run is not complete", where=folder, fix=f"samesight train … --out {folder} --resume"
        )
    network = run.network()
    photos, split, _ = open_prepared(folder)
    targets = dict(zip((photo.name for photo in photos.items), bind(photos, run.labels), strict=True))
    paths = {photo.name: photo.path for photo in photos.items}

    def part(names: Sequence[str], origin: str) -> Samples:
        return Samples(tuple(paths[n] for n in names), tuple(targets[n] for n in names), origin)

    train = shuffled(split.names("train"), split.seed)[:TRAIN_PHOTOS]
    return Source(
        network=network,
        labels=run.labels,
        preprocess=run.preprocess,
        test=part(split.names("test"), "held-out part of the split"),
        train=part(train, "training part of the split"),
        name=folder.resolve().name,
        checkpoint=run.checkpoint,
        license=run.weights_license,
        made={
            "model": _model_name(run.model),
            "how": "train",
            **_own_hash(run.model),
            "model_options": _words(run.model_options),
            "weights": run.weights,
            "checkpoint": run.checkpoint.name,
            "checkpoint_sha256": sha256_file(run.checkpoint),
            "split_sha256": split.sha256,
            "seed": split.seed,
            "test_accuracy_of_run": run.results.get("test_accuracy"),
        },
    )


def source_of_checkpoint(given: CheckpointSource) -> Source:
    """The network that a checkpoint makes, with the photos that it is to be proved on.

    Photos that come as train/val/test folders are proved on the test (else the val) part, and the training
    part gives the accuracy on training photos. Raises InputError and CheckpointError.
    """
    preprocess = _preprocess(given)
    checkpoint = open_checkpoint(given.checkpoint)
    network = create(given.model, len(given.labels), options=given.model_options, size=preprocess.size)
    load_state(network, checkpoint.state, given.checkpoint)
    for note in checkpoint.notes:
        say(f"{given.checkpoint.name}: {note}")
    outputs = outputs_of(network, preprocess.size)
    if outputs != (len(given.labels),):
        raise InputError(
            "the number of labels is not the number of the network's outputs",
            expected=" × ".join(map(str, outputs)) + " outputs",
            found=f"{len(given.labels)} labels",
            fix="--labels with one label an output, in the order of the outputs",
        )
    test, train = open_samples(given.samples, given.photos, given.labels)
    return Source(
        network=network.eval(),
        labels=given.labels,
        preprocess=preprocess,
        test=test,
        train=train,
        name=_model_name(given.model).replace("/", "-").replace(".py:", "-"),
        checkpoint=given.checkpoint,
        license="unknown",
        made={
            "model": _model_name(given.model),
            "how": "checkpoint",
            **_own_hash(given.model),
            "model_options": _words(given.model_options),
            "checkpoint": given.checkpoint.name,
            "checkpoint_sha256": checkpoint.sha256,
            "checkpoint_notes": list(checkpoint.notes),
        },
    )


def open_samples(
    source: str | Path, options: PhotoOptions, labels: Sequence[str], called: str = "--samples"
) -> tuple[Samples, Samples | None]:
    """The photos of `source` to prove copies on, and those they were trained on where folders say which.

    Labels are bound by name, and may be missing. Raises PhotosError where one is not among `labels`.
    """
    photos = open_photos(source, options)
    targets = bind(photos, labels)
    rows = list(zip(photos.items, targets, strict=True))
    parts = {photo.part for photo in photos.items}
    held_out = next((part for part in ("test", "val") if part in parts), None)
    name = f"{called} {Path(str(source)).name}"
    if held_out is None or called != "--samples":
        return _samples(rows, name), None
    train = [row for row in rows if row[0].part == "train"]
    train = sorted(shuffled(train, 42, key=lambda row: row[0].name)[:TRAIN_PHOTOS], key=lambda r: r[0].name)
    return (
        _samples([row for row in rows if row[0].part == held_out], f"{name}, part {held_out}"),
        _samples(train, f"{name}, part train") if train else None,
    )


def shuffled(items: Sequence[Any], seed: int, key: Any = str) -> list[Any]:
    """`items` in an order drawn by `seed` and each one's name alone, the same on every machine."""

    def drawn(item: Any) -> bytes:
        return hashlib.sha256(f"{seed}\0{key(item)}".encode("utf-8", "surrogatepass")).digest()

    return sorted(items, key=drawn)


def _samples(rows: Sequence[tuple[Photo, int | None]], origin: str) -> Samples:
    return Samples(tuple(photo.path for photo, _ in rows), tuple(target for _, target in rows), origin)


def _preprocess(given: CheckpointSource) -> Preprocess:
    """What was said about preprocessing; where nothing was, what the network's published weights expect."""
    said = given.preprocess
    if isinstance(said, Preprocess):
        return said
    if source_of(given.model) == "own file" and said.resize is None:
        raise InputError(
            "a network of your own does not say how its photos are prepared",
            where=given.model,
            fix="--resize WIDTHxHEIGHT, and --crop, --mean, --std, --interpolation, as it was trained",
        )
    return said.over(default_preprocess(given.model, given.checkpoint))


def _words(options: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in options.items()]


def _model_name(model: str) -> str:
    """The model as a bundle tells it: of a user's own file its name, not where it lay on this machine."""
    if not is_own(model):
        return model
    file, _, name = model.rpartition(":")
    return f"{Path(file).name}:{name}"


def _own_hash(model: str) -> dict[str, str]:
    if not is_own(model):
        return {}
    return {"model_file_sha256": sha256_file(Path(model.rpartition(":")[0]).expanduser())}
