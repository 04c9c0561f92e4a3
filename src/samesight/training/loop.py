"""One epoch of learning, and measuring without learning."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from samesight.errors import InputError
from samesight.training.config import Plan
from samesight.training.optimise import set_rates

__all__ = ["Epoch", "Learner", "Measured", "learn", "measure"]

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

    network: nn.Module
    optimiser: torch.optim.Optimizer
    plan: Plan
    steps: int  # of the phase
    device: torch.device


def learn(learner: Learner, batches: Batches, first_step: int, on_batch: OnBatch) -> Epoch:
    """Learn from every batch once, beginning with step `first_step` of the phase.

    Raises InputError where the loss is no longer a number.
    """
    plan, device = learner.plan, learner.device
    weights = None if plan.class_weights is None else torch.tensor(plan.class_weights, device=device)
    parameters = [p for group in learner.optimiser.param_groups for p in group["params"]]
    total = right = 0.0
    photos, rate = 0, 0.0
    for step, (pictures, targets) in enumerate(batches, first_step):
        pictures, targets = pictures.to(device), targets.to(device)
        rate = set_rates(learner.optimiser, step, learner.steps, plan)
        logits = _logits(learner.network(pictures))
        loss = functional.cross_entropy(logits, targets, weight=weights, label_smoothing=plan.label_smoothing)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise InputError(
                "training went astray: the loss is no longer a number",
                found=f"at step {step + 1} with a learning rate of {rate:.2g}",
                fix=f"--lr {rate / 10:.1g}",
            )
        learner.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, plan.clip_norm)
        learner.optimiser.step()
        total += value * len(targets)
        right += float((logits.detach().argmax(1) == targets).sum())
        photos += len(targets)
        on_batch(len(targets))
    return Epoch(total / photos, right / photos, photos, rate)


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
