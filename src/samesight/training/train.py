"""From photos to a run folder: prepare, train the head, then all, choose, read the held-out part once."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from samesight.data.notes import preparation_notes
from samesight.data.prepare import Prepared, is_prepared, prepare
from samesight.errors import InputError
from samesight.files import sha256_file, write_file, write_json
from samesight.models import load_state, read_checkpoint
from samesight.models.own import is_own
from samesight.progress import say
from samesight.runner import cpus, softmax
from samesight.training.augment import Augmentation
from samesight.training.config import Phase, Plan, TrainConfig, make_plan
from samesight.training.dataset import Parts, batches, open_parts, plain_order
from samesight.training.loop import Epoch, Learner, Measured, learn, measure
from samesight.training.memory import kept_memory
from samesight.training.network import Start, network_facts, open_weights, own_file, with_head
from samesight.training.optimise import freeze, make_optimiser, seed_everything
from samesight.training.run import (
    BEST,
    FORMAT,
    LAST,
    PREDICTION_COLUMNS,
    VERSION,
    csv_text,
    machine,
    open_run,
    versions,
    write_history,
)
from samesight.training.settings import begin, default_out
from samesight.training.stage import StageOptions, make_stage
from samesight.training.state import State, read_last, write_best, write_last
from samesight.training.watch import Watch

__all__ = ["TrainResult", "train"]

TRAIN_SAMPLE = 1000  # photos of the training part on which the best weights are measured


@dataclass(frozen=True)
class TrainResult:
    """What came out; accuracies from 0 to 1."""

    run: Path
    test_accuracy: float
    val_accuracy: float | None  # None without validation photos
    train_accuracy: float
    test_photos: int
    val_photos: int
    train_photos: int  # that train_accuracy was measured on
    best_epoch: int
    epochs: int
    cpu_seconds: float
    wall_seconds: float

    def to_json(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return {**vars(self), "run": str(self.run)}


@dataclass(frozen=True)
class Session:
    """Everything that stays the same while training."""

    config: TrainConfig
    out: Path
    prepared: Prepared
    parts: Parts
    start: Start
    network: nn.Module
    plan: Plan
    device: torch.device
    threads: int

    @property
    def augmentation(self) -> Augmentation:
        """What is done to training photos."""
        return Augmentation(self.start.preprocess, self.config.flip)


def train(config: TrainConfig) -> TrainResult:
    """Train as `config` says and leave a run folder, or go on with the one that is there.

    Raises InputError, PhotosError and CheckpointError for what the user can mend.
    """
    clock = _Clock()
    out = config.out or default_out(config)
    config = begin(config, out)
    if config.resume and (out / "run.json").is_file() and open_run(out).is_complete:
        say(f"the run in {out} is complete already")
        return _result(out, open_run(out).results)
    with kept_memory():
        return _result(out, _train(config, out, clock))


def _train(config: TrainConfig, out: Path, clock: _Clock) -> dict[str, Any]:
    """Train from the start or from the last complete epoch to the end; the results."""
    session = _open(config, out)
    state = read_last(out / LAST) if config.resume and (out / LAST).is_file() else State()
    if state.epoch:
        say(f"going on after epoch {state.epoch} of {session.plan.epochs}")
        load_state(session.network, state.network, out / LAST)
    else:
        _write_run(session, None)
    clock.add(state.cpu_seconds, state.wall_seconds)
    while state.epoch < session.plan.epochs:
        _phase(session, state, clock)
    results = _measure_best(session, state, clock)
    _write_run(session, results)
    return results


class _Clock:
    """CPU and wall seconds so far, those before an interruption included."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        self._before = (0.0, 0.0)

    def add(self, cpu: float, wall: float) -> None:
        self._before = (cpu, wall)

    def read(self) -> tuple[float, float]:
        cpu, wall = self._before
        return cpu + time.process_time() - self._cpu, wall + time.perf_counter() - self._wall


def _open(config: TrainConfig, out: Path) -> Session:
    """Read weights and photos, make the network and the plan."""
    threads = config.threads or cpus()
    torch.set_num_threads(threads)
    device = _device(config.device)
    start = open_weights(config)
    for note in start.pretrained.notes if start.pretrained else ():
        say(f"note: {note}")
    source = out if config.resume and is_prepared(out) else str(config.photos)
    prepared = prepare(source, config.photo_options, config.split, out)
    parts = open_parts(prepared.photos, prepared.split, start.preprocess)
    seed_everything(config.seed, 0)
    network = with_head(start, config, len(parts.labels)).to(device)
    plan = make_plan(config, parts.counts, network_facts(network, start))
    return Session(config, out, prepared, parts, start, network, plan, device, threads)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("PyTorch finds no CUDA device here", fix="--device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _phase(session: Session, state: State, clock: _Clock) -> None:
    """Train to the end of the phase that the next epoch is in."""
    phase, done = session.plan.at(state.epoch)
    seed_everything(session.config.seed, state.epoch)
    freeze(session.network, session.config.model, phase, session.plan)
    learner = _learner(session, state, phase, done)
    stage = make_stage(session.network, session.parts, phase, _stage_options(session))
    with Watch(phase.name, (phase.epochs - done) * len(session.parts.train)) as watch:
        for within in range(done, phase.epochs):
            began = time.perf_counter()
            seed_everything(session.config.seed, state.epoch)
            epoch = learn(
                replace(learner, network=stage.forward),
                stage.train(state.epoch),
                within * stage.steps,
                watch.advance,
            )
            seconds = time.perf_counter() - began
            measured = measure(stage.forward, stage.val(), session.device)
            is_best = _keep(session, state, phase, (epoch, measured, seconds), learner, clock)
            watch.line(_line(state.history[-1], session.plan.epochs, is_best))


def _learner(session: Session, state: State, phase: Phase, done: int) -> Learner:
    optimiser = make_optimiser(session.network, session.config.model, phase, session.plan)
    if done:
        optimiser.load_state_dict(dict(state.optimiser))
    steps = -(-len(session.parts.train) // session.plan.batch) * phase.epochs
    return Learner(session.network, optimiser, session.plan, steps, session.device)


def _stage_options(session: Session) -> StageOptions:
    return StageOptions(
        session.augmentation,
        session.config.seed,
        session.plan.batch,
        session.plan.sampler,
        session.threads,
        session.device,
    )


def _keep(
    session: Session,
    state: State,
    phase: Phase,
    seen: tuple[Epoch, Measured, float],
    learner: Learner,
    clock: _Clock,
) -> bool:
    """Count the epoch: history, best and last weights on disk. Whether it is the best so far."""
    epoch, measured, seconds = seen
    accuracy, loss = measured.accuracy, measured.loss
    state.epoch += 1
    is_best = state.take_if_better(accuracy, loss, len(measured.targets))
    state.history.append(
        {
            "epoch": state.epoch,
            "phase": phase.name,
            "lr": epoch.lr,
            "train_loss": epoch.loss,
            "train_accuracy": epoch.accuracy,
            "val_loss": loss,
            "val_accuracy": accuracy,
            "seconds": round(seconds, 3),
            "images_per_second": round(epoch.photos / max(seconds, 1e-9), 1),
        }
    )
    state.network = session.network.state_dict()
    state.optimiser = learner.optimiser.state_dict()
    if is_best:  # before last.pth: after a kill in between, the same epoch is run again, to the same end
        write_best(session.out / BEST, state.network)
    state.cpu_seconds, state.wall_seconds = clock.read()
    write_last(session.out / LAST, state)
    write_history(session.out, state.history)
    return is_best


def _line(row: dict[str, Any], epochs: int, is_best: bool) -> str:
    val = "" if row["val_accuracy"] is None else f"  val {row['val_accuracy']:.1%}"
    return (
        f"epoch {row['epoch']}/{epochs} {row['phase']}  loss {row['train_loss']:.3f}  "
        f"train {row['train_accuracy']:.1%}{val}  {row['images_per_second']:.0f} photos/s  "
        f"{row['seconds']:.0f} s{'  best' if is_best else ''}"
    )


def _measure_best(session: Session, state: State, clock: _Clock) -> dict[str, Any]:
    """The results of the best weights; the held-out part is read here and nowhere else."""
    parts, network = session.parts, session.network
    load_state(network, read_checkpoint(session.out / BEST), session.out / BEST)

    def measured(name: str, order: list[list[int]]) -> Measured:
        part = {"train": parts.train, "val": parts.val, "test": parts.test}[name]
        with Watch(f"measuring on {name}", sum(map(len, order))) as watch:
            pictures = batches(part, part.view, order, session.threads)
            return measure(network, pictures, session.device, watch.advance)

    random = torch.Generator().manual_seed(session.config.seed)
    sample = sorted(torch.randperm(len(parts.train), generator=random)[:TRAIN_SAMPLE].tolist())
    batch = session.plan.batch
    pieces = [sample[i : i + batch] for i in range(0, len(sample), batch)]
    train_part = measured("train", pieces)
    val = measured("val", plain_order(len(parts.val), batch))
    test = measured("test", plain_order(len(parts.test), batch))
    _write_predictions(session, test)
    cpu, wall = clock.read()
    return {
        "test_accuracy": test.accuracy,
        "val_accuracy": val.accuracy,
        "train_accuracy": train_part.accuracy,
        "test_photos": len(parts.test),
        "val_photos": len(parts.val),
        "train_photos": len(sample),
        "best_epoch": state.best_epoch,
        "epochs": state.epoch,
        "cpu_seconds": round(cpu, 2),
        "wall_seconds": round(wall, 2),
    }


def _write_predictions(session: Session, test: Measured) -> None:
    """Write test_predictions.csv: every held-out photo, what it is and what it was taken for."""
    labels = session.parts.labels
    probabilities = softmax(test.logits.numpy())
    rows = [
        dict(
            zip(PREDICTION_COLUMNS, (name, labels[target], labels[guess.argmax()], guess.max()), strict=True)
        )
        for name, target, guess in zip(
            session.parts.test.names, session.parts.test.targets, probabilities, strict=True
        )
    ]
    write_file(session.out / "test_predictions.csv", csv_text(PREDICTION_COLUMNS, rows))


def _write_run(session: Session, results: dict[str, Any] | None) -> None:
    """Write run.json, and the preparation notes with what training does to the photos."""
    config, parts, start = session.config, session.parts, session.start
    own = own_file(config.model) if is_own(config.model) else None
    write_json(
        session.out / "run.json",
        {
            "format": FORMAT,
            "format_version": VERSION,
            "status": "running" if results is None else "complete",
            "model": config.model,
            "model_options": dict(start.pretrained.options if start.pretrained else config.model_options),
            "model_file_sha256": sha256_file(own) if own else None,
            "labels": list(parts.labels),
            "preprocess": start.preprocess.to_json(),
            "weights": start.weights,
            "weights_license": start.license,
            "photos": session.prepared.source,
            "split": {
                "file": "split.json",
                "sha256": session.prepared.split.sha256,
                "train": len(parts.train),
                "val": len(parts.val),
                "test": len(parts.test),
            },
            "settings": config.to_json(),
            "given": config.given(),
            "derived": {**session.plan.to_json(), "augmentation": session.augmentation.describe()},
            "versions": versions(),
            "machine": machine(_device_name(session.device), session.threads),
            "results": results,
        },
    )
    if results is None:
        notes = preparation_notes(
            session.prepared.report,
            session.prepared.split,
            augmentation=session.augmentation.describe(),
            imbalance=_imbalance(session.plan),
            preprocess=start.preprocess,
        )
        write_file(session.out / "dataset_preparation_notes.md", notes)


def _imbalance(plan: Plan) -> str:
    if plan.sampler == "balanced":
        return "WeightedRandomSampler: each epoch draws as many photos as there are, every class as likely."
    if plan.class_weights is not None:
        return "Class-weighted loss: a photo counts by the inverse of its class's share."
    return "None: photos are drawn as often as they are there."


def _device_name(device: torch.device) -> str:
    return "cpu" if device.type == "cpu" else f"cuda: {torch.cuda.get_device_name(device)}"


def _result(out: Path, results: Any) -> TrainResult:
    return TrainResult(run=out, **results)
