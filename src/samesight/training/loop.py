"""One epoch of learning, and measuring without learning."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from samesight.errors import InputError
from samesight.training.average import Average
from samesight.training.config import Plan
from samesight.training.mixing import mix
from samesight.training.optimise import set_rates
from samesight.training.parallel import ALONE, Ranks

__all__ = ["Epoch", "Learner", "Measured", "learn", "measure", "steps_of"]

Batches = Iterable[tuple[Tensor, Tensor]]
OnBatch = Callable[[int], None]
"""Told of each batch's number of photos, for progress."""


@dataclass(frozen=True)
class Epoch:
    """What an epoch of learning saw; the accuracy is that on augmented photos while learning."""

    loss: float
    accuracy: float
    photos: int
    lr: float


@dataclass(frozen=True)
class Measured:
    """Logits (n, classes) float32 and targets (n,) on the CPU."""

    logits: Tensor
    targets: Tensor

    @property
    def accuracy(self) -> float | None:
        """The share of photos whose top-1 is right; None without photos."""
        if not len(self.targets):
            return None
        return float((self.logits.argmax(1) == self.targets).double().mean())

    @property
    def loss(self) -> float | None:
        """The mean cross-entropy, without smoothing or weights; None without photos."""
        return float(functional.cross_entropy(self.logits, self.targets)) if len(self.targets) else None


@dataclass(frozen=True)
class Learner:
    """A network in training: what learns, by which steps, where."""

    network: nn.Module  # within DistributedDataParallel where processes share the batches
    optimiser: torch.optim.Optimizer
    plan: Plan
    epochs: int  # of the phase
    device: torch.device
    average: Average | None = None
    ranks: Ranks = ALONE
    mixing: tuple[float, float] = (0.0, 0.0)  # alphas of mixup and CutMix
    seed: int = 0
    amp: torch.dtype | None = None
    memory_format: torch.memory_format = torch.contiguous_format


def learn(
    learner: Learner, batches: Batches, first_step: int, batches_an_epoch: int, on_batch: OnBatch
) -> Epoch:
    """Learn from every batch once, beginning with optimiser step `first_step` of the phase.

    Raises InputError where the loss is no longer a number.
    """
    plan, device, optimiser = learner.plan, learner.device, learner.optimiser
    weights = None if plan.class_weights is None else torch.tensor(plan.class_weights, device=device)
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    steps = steps_of(batches_an_epoch, plan) * learner.epochs
    scaler = torch.amp.GradScaler(device.type, enabled=learner.amp is torch.float16)
    random = np.random.default_rng([learner.seed, first_step, learner.ranks.rank])
    total = right = rate = 0.0
    photos, step = 0, first_step
    for place, (pictures, targets) in enumerate(batches):
        groups = min(plan.accumulate, batches_an_epoch - place // plan.accumulate * plan.accumulate)
        is_last = place % plan.accumulate == groups - 1
        rate = set_rates(optimiser, step, steps, plan, learner.epochs)
        pictures = _placed(pictures, learner)
        targets = targets.to(device)
        with _unsynchronised(learner.network, not is_last):
            with torch.autocast(device.type, learner.amp, enabled=learner.amp is not None):
                logits, loss = _loss(learner, pictures, targets, weights, random)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise InputError(
                    "training went astray: the loss is no longer a number",
                    found=f"at step {step + 1} with a learning rate of {rate:.2g}",
                    fix=f"--lr {rate / 10:.1g}",
                )
            scaler.scale(loss / groups).backward()  # type: ignore[no-untyped-call, unused-ignore]
        if is_last:
            if plan.clip_norm:
                scaler.unscale_(optimiser)
                nn.utils.clip_grad_norm_(parameters, plan.clip_norm)
            scaler.step(optimiser)
            scaler.update()
            optimiser.zero_grad(set_to_none=True)
            if learner.average is not None:
                learner.average.update(step)
            step += 1
        total += value * len(targets)
        right += float((logits.detach().argmax(1) == targets).sum())
        photos += len(targets)
        on_batch(len(targets) * learner.ranks.count)
    total, right, count = learner.ranks.sums(total, right, photos)
    return Epoch(total / count, right / count, int(count), rate)


def steps_of(batches: int, plan: Plan) -> int:
    """The optimiser's steps for so many batches."""
    return -(-batches // plan.accumulate)


def _loss(
    learner: Learner,
    pictures: Tensor,
    targets: Tensor,
    weights: Tensor | None,
    random: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Logits (n, classes) and the mean loss of a batch, its photos mixed where that is asked for."""
    smoothing = learner.plan.label_smoothing
    if not any(learner.mixing):
        logits = _logits(learner.network(pictures)).float()
        return logits, functional.cross_entropy(logits, targets, weight=weights, label_smoothing=smoothing)
    mixed, others, kept = mix(pictures, learner.mixing, random)
    logits = _logits(learner.network(mixed)).float()
    losses = [
        functional.cross_entropy(logits, wanted, weight=weights, label_smoothing=smoothing)
        for wanted in (targets, targets[others])
    ]
    return logits, kept * losses[0] + (1 - kept) * losses[1]


def _placed(pictures: Tensor, learner: Learner) -> Tensor:
    """The batch where the network is, and in its order of memory."""
    if pictures.ndim != 4:
        return pictures.to(learner.device)
    return pictures.to(learner.device, memory_format=learner.memory_format)


def _unsynchronised(network: nn.Module, wanted: bool) -> contextlib.AbstractContextManager[Any]:
    """Gradients stay in this process within the block, where processes share and it is `wanted`."""
    if wanted and isinstance(network, nn.parallel.DistributedDataParallel):
        quiet: contextlib.AbstractContextManager[Any] = network.no_sync()
        return quiet
    return contextlib.nullcontext()


def measure(
    network: nn.Module, batches: Batches, device: torch.device, on_batch: OnBatch | None = None
) -> Measured:
    """The logits of all batches in evaluation mode; every layer's mode is then as it was."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    logits, targets = [torch.empty(0, 1)], [torch.empty(0, dtype=torch.int64)]
    try:
        with torch.inference_mode():
            for pictures, wanted in batches:
                logits.append(network(pictures.to(device)).float().cpu())
                targets.append(wanted)
                if on_batch is not None:
                    on_batch(len(wanted))
    finally:
        for module in training:
            module.training = True
    return Measured(torch.cat(logits[1:] or logits), torch.cat(targets))


def _logits(out: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The logits; GoogLeNet and Inception with auxiliary heads put more beside them while training."""
    return out if isinstance(out, Tensor) else out[0]
