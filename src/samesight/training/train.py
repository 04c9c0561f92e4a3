"""From photos to a run folder: prepare, train the head, then all, choose, read the held-out part once."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from samesight.data.notes import preparation_notes
from samesight.data.prepare import Prepared, is_prepared, prepare
from samesight.errors import InputError
from samesight.files import sha256_file, write_file, write_json
from samesight.models import load_state, read_checkpoint
from samesight.models.create import outputs_of
from samesight.models.own import is_own
from samesight.progress import say
from samesight.report.predictions import FILE as PREDICTIONS
from samesight.report.predictions import PartLogits, write_predictions
from samesight.runner import cpus, softmax
from samesight.training.augment import Augmentation
from samesight.training.average import Average
from samesight.training.config import Phase, Plan, TrainConfig, make_plan
from samesight.training.cut import BlockInput, find_block_input
from samesight.training.dataset import Parts, batches, open_parts, plain_order
from samesight.training.loop import Epoch, Learner, Measured, learn, measure, steps_of
from samesight.training.memory import kept_memory
from samesight.training.network import (
    Start,
    fitting_memory_format,
    network_facts,
    open_weights,
    own_file,
    with_head,
)
from samesight.training.optimise import freeze, hasten_statistics, make_optimiser, seed_everything
from samesight.training.parallel import ALONE, Ranks, open_ranks
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
from samesight.training.stage import Stage, StageOptions, make_stage
from samesight.training.state import State, epochs_without_gain, read_last, write_best, write_last
from samesight.training.watch import Watch

__all__ = ["TrainResult", "train"]

TRAIN_SAMPLE = 300  # photos of the training part on which the best weights are measured
# Validation photos without a mistake after which nothing more is trained. By the rule of three fewer than 1 %
# go wrong, with 95 % confidence; after the last block, fewer than 6 %, since what comes then costs most.
FLAWLESS_FROM = {"head": 300, "last-block": 50}


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
    block: BlockInput | None  # the way into its last block, where views are kept for that
    plan: Plan
    device: torch.device
    threads: int
    ranks: Ranks
    amp: torch.dtype | None
    memory_format: torch.memory_format

    @property
    def augmentation(self) -> Augmentation:
        """What is done to training photos."""
        return Augmentation(self.start.preprocess, self.config.augment, self.plan.train_size)


def train(config: TrainConfig) -> TrainResult:
    """Train as `config` says and leave a run folder, or go on with the one that is there.

    Under torchrun every process calls this, and all return the same. Raises InputError, PhotosError and
    CheckpointError for what the user can mend.
    """
    clock = _Clock()
    out = config.out or default_out(config)
    ranks = open_ranks(config.device)
    # The first process decides; where it raises, torchrun ends the others, which wait here.
    config = ranks.given(begin(config, out) if ranks.is_first else config)
    if ranks.given(config.resume and (out / "run.json").is_file() and open_run(out).is_complete):
        _say(ranks, f"the run in {out} is complete already")
        return _result(out, open_run(out).results)
    with kept_memory():
        results = _train(config, out, ranks, clock)
    ranks.end()
    return _result(out, results)


def _train(config: TrainConfig, out: Path, ranks: Ranks, clock: _Clock) -> dict[str, Any]:
    """Train from the start or from the last complete epoch to the end; the results."""
    is_begun = ranks.given(config.resume and (out / LAST).is_file())
    session = _open(config, out, ranks)
    state = read_last(out / LAST) if is_begun else State()
    if state.epoch:
        _say(ranks, f"going on after epoch {state.epoch} of {session.plan.epochs}")
        load_state(session.network, state.network, out / LAST)
    elif ranks.is_first:
        _write_run(session, None)
    clock.add(state.cpu_seconds, state.wall_seconds)
    with _events(session, state.epoch) as tell:
        while state.epoch < session.plan.epochs and state.ended is None:
            _phase(session, state, clock, tell)
    if state.ended:
        _say(ranks, f"ended after epoch {state.epoch}: {state.ended}")
    results = ranks.given(_measure_best(session, state, clock))
    if ranks.is_first:
        _write_run(session, results)
    return results


def _say(ranks: Ranks, text: str) -> None:
    if ranks.is_first:
        say(text)


@contextlib.contextmanager
def _events(session: Session, done: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Who is told of each epoch besides history.csv: TensorBoard, where it is wanted."""
    if not (session.config.tensorboard and session.ranks.is_first):
        yield lambda row: None
        return
    from samesight.training.tensorboard import TensorBoard

    board = TensorBoard(session.out / "tensorboard", done)
    try:
        yield board.epoch
    finally:
        board.close()


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


def _open(config: TrainConfig, out: Path, ranks: Ranks) -> Session:
    """Read weights and photos, make the network and the plan."""
    threads = config.threads or max(1, cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    torch.set_num_threads(threads)
    device = _device(config.device, ranks)
    amp = _amp(config.amp, device)
    start = open_weights(config)
    for note in start.pretrained.notes if start.pretrained else ():
        _say(ranks, f"note: {note}")
    source = out if config.resume and is_prepared(out) else str(config.photos)
    prepared = prepare(source, config.photo_options, config.split, out) if ranks.is_first else None
    ranks.wait()
    if prepared is None:
        prepared = prepare(out, config.photo_options, config.split)
    parts = open_parts(prepared.photos, prepared.split, start.preprocess)
    seed_everything(config.seed, 0)
    network = with_head(start, config, len(parts.labels)).to(device)
    block = None
    if start.pretrained is not None:
        block = find_block_input(network.eval(), config.model, start.preprocess.size)
    plan = make_plan(config, parts.counts, network_facts(network, start, block))
    block = block if plan.block_views else None
    if plan.train_size is not None:
        outputs_of(network, plan.train_size)  # raises InputError where it cannot take the size
    if len(parts.train) // math.ceil(len(parts.train) / plan.batch) < ranks.count:
        fix = f"--batch {2 * ranks.count}"
        raise InputError("a batch has fewer photos than there are processes", found=plan.batch, fix=fix)
    memory_format = fitting_memory_format(network, plan.train_size or start.preprocess.size)
    network = network.to(memory_format=memory_format)
    return Session(
        config, out, prepared, parts, start, network, block, plan, device, threads, ranks, amp, memory_format
    )


def _device(name: str, ranks: Ranks) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("PyTorch finds no CUDA device here", fix="--device cpu")
    on_gpu = name != "cpu" and torch.cuda.is_available()
    return torch.device("cuda", ranks.local) if on_gpu else torch.device("cpu")


def _amp(name: str, device: torch.device) -> torch.dtype | None:
    """The type that matrix products are computed in; None for float32.

    By itself only GPUs get a smaller one: on CPUs without AMX bfloat16 took 1.3 to 4 times as long.
    """
    if name == "float16" and device.type == "cpu":
        raise InputError("float16 is for GPUs", found="--amp float16 on a CPU", fix="--amp bfloat16")
    if name == "auto" and device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(name)


def _phase(session: Session, state: State, clock: _Clock, tell: Callable[[dict[str, Any]], None]) -> None:
    """Train to the end of the phase that the next epoch is in."""
    phase, done = session.plan.at(state.epoch)
    seed_everything(session.config.seed, state.epoch)
    freeze(session.network, session.config.model, phase, session.plan)
    stage = make_stage(session.network, session.parts, phase, _stage_options(session))
    hasten_statistics(session.network, stage.steps * phase.epochs)
    learner = _learner(session, state, (phase, done), stage)
    steps = steps_of(stage.steps, session.plan)
    ranks = session.ranks if stage.is_shared else ALONE
    photos = (phase.epochs - done) * len(session.parts.train)
    with Watch(phase.name, photos, session.ranks.is_first) as watch:
        for within in range(done, phase.epochs):
            began = time.perf_counter()
            seed_everything(session.config.seed, state.epoch)
            epoch = learn(learner, stage.train(state.epoch), within * steps, stage.steps, watch.advance)
            seconds = time.perf_counter() - began
            with learner.average.in_place() if learner.average else contextlib.nullcontext():
                measured = measure(stage.forward, stage.val(), session.device)
                measured = Measured(ranks.whole(measured.logits), ranks.whole(measured.targets))
                weights = {name: tensor.clone() for name, tensor in session.network.state_dict().items()}
            is_best = _keep(session, state, phase, (epoch, measured, seconds), learner, weights, clock)
            tell(state.history[-1])
            watch.line(_line(state.history[-1], session.plan.epochs, is_best))
            if state.ended:
                return


def _learner(session: Session, state: State, place: tuple[Phase, int], stage: Stage) -> Learner:
    """What learns in the phase of `place`, so many of whose epochs are done."""
    (phase, done), plan, config = place, session.plan, session.config
    optimiser = make_optimiser(session.network, config.model, phase, plan)
    if done:
        optimiser.load_state_dict(dict(state.optimiser))
    average = None
    if plan.average and phase.name != "head":
        steps = steps_of(stage.steps, plan) * phase.epochs
        average = Average(session.network, steps, state.average if done else None)
    learning: nn.Module = stage.forward
    if session.ranks.count > 1 and stage.is_shared:
        ids = [session.device] if session.device.type == "cuda" else None
        learning = nn.parallel.DistributedDataParallel(
            stage.forward, device_ids=ids, broadcast_buffers=not plan.frozen_statistics
        )
    return Learner(
        learning,
        optimiser,
        plan,
        phase.epochs,
        session.device,
        average,
        session.ranks if stage.is_shared else ALONE,
        (config.augment.mixup, config.augment.cutmix) if phase.name != "head" else (0.0, 0.0),
        config.seed,
        session.amp,
        session.memory_format,
    )


def _stage_options(session: Session) -> StageOptions:
    return StageOptions(
        session.augmentation,
        session.config.seed,
        session.plan.batch,
        session.plan.sampler,
        session.threads,
        session.device,
        session.ranks,
        session.block,
        session.plan.block_views,
    )


def _keep(
    session: Session,
    state: State,
    phase: Phase,
    seen: tuple[Epoch, Measured, float],
    learner: Learner,
    weights: Mapping[str, Tensor],
    clock: _Clock,
) -> bool:
    """Count the epoch: history, best and last weights on disk. Whether it is the best so far.

    `weights` are those that were measured: the averaged ones, where there are any.
    """
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
    if phase.name == "last-block" and state.epoch == session.plan.end_of(phase):
        # What everything learns from is the best so far, be it the block's or the head's.
        best = weights if is_best else read_checkpoint(session.out / BEST)
        load_state(session.network, best, session.out / BEST)
    state.network = session.network.state_dict()
    state.optimiser = learner.optimiser.state_dict()
    state.average = learner.average.values if learner.average else {}
    state.ended = _why_end(session, state, phase, measured)
    state.cpu_seconds, state.wall_seconds = clock.read()
    if session.ranks.is_first:
        if is_best:  # before last.pth: after a kill in between, the same epoch is run again, to the same end
            write_best(session.out / BEST, weights)
        write_last(session.out / LAST, state)
        write_history(session.out, state.history)
    session.ranks.wait()
    return is_best


def _why_end(session: Session, state: State, phase: Phase, measured: Measured) -> str | None:
    """Why training should end after this epoch; None where it should not."""
    plan = session.plan
    photos = len(measured.targets)
    if state.epoch == plan.end_of(phase) and phase is not plan.phases[-1]:
        flawless = measured.accuracy == 1 and photos >= FLAWLESS_FROM[phase.name]
        what = phase.name.replace("-", " ")
        return f"with the {what} it is right on all {photos} inner validation photos" if flawless else None
    if plan.patience is None or phase.name == "head" or phase is not plan.phases[-1]:
        return None
    rows = [row for row in state.history if row["phase"] == phase.name]
    if epochs_without_gain(rows) >= plan.patience:
        return f"nothing gained in the last {plan.patience} epochs"
    return None


def _line(row: dict[str, Any], epochs: int, is_best: bool) -> str:
    val = "" if row["val_accuracy"] is None else f"  val {row['val_accuracy']:.1%}"
    return (
        f"epoch {row['epoch']}/{epochs} {row['phase']}  loss {row['train_loss']:.3f}  "
        f"train {row['train_accuracy']:.1%}{val}  {row['images_per_second']:.0f} photos/s  "
        f"{row['seconds']:.0f} s{'  best' if is_best else ''}"
    )


def _measure_best(session: Session, state: State, clock: _Clock) -> dict[str, Any]:
    """The results of the best weights; the held-out part is read here and nowhere else."""
    parts, network, ranks = session.parts, session.network, session.ranks
    load_state(network, read_checkpoint(session.out / BEST), session.out / BEST)

    def measured(name: str, order: list[list[int]]) -> Measured:
        part = {"train": parts.train, "val": parts.val, "test": parts.test}[name]
        with Watch(f"measuring on {name}", sum(map(len, order)), ranks.is_first) as watch:
            pictures = batches(part, part.view, order, session.threads)
            found = measure(network, pictures, session.device, watch.advance)
        return Measured(ranks.whole(found.logits), ranks.whole(found.targets))

    random = torch.Generator().manual_seed(session.config.seed)
    sample = sorted(torch.randperm(len(parts.train), generator=random)[:TRAIN_SAMPLE].tolist())
    mine = ranks.share(sample)
    batch = session.plan.batch
    pieces = [list(mine[i : i + batch]) for i in range(0, len(mine), batch)]
    train_part = measured("train", pieces)
    val = measured("val", plain_order(len(parts.val), batch, ranks))
    test = measured("test", plain_order(len(parts.test), batch, ranks))
    if ranks.is_first:
        _write_predictions(session, test)
        _write_logits(session, {"val": val, "test": test})
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


def _write_logits(session: Session, measured: Mapping[str, Measured]) -> None:
    """Write predictions.npz: the logits of the inner validation and held-out photos."""
    parts = {"val": session.parts.val, "test": session.parts.test}
    write_predictions(
        session.out / PREDICTIONS,
        session.parts.labels,
        {
            name: PartLogits(parts[name].names, found.targets.numpy(), found.logits.numpy())
            for name, found in measured.items()
        },
    )


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
            "derived": {
                **session.plan.to_json(),
                "augmentation": session.augmentation.describe(),
                "amp": "float32" if session.amp is None else str(session.amp).removeprefix("torch."),
                "memory_format": str(session.memory_format).removeprefix("torch."),
                "processes": session.ranks.count,
            },
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
