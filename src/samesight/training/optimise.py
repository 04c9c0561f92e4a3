"""Which parameters learn, and how fast."""

from __future__ import annotations

import math
import random

import numpy as np
import torch
from torch import nn

from samesight.models import head_parameters
from samesight.training.config import Phase, Plan

__all__ = ["freeze", "make_optimiser", "seed_everything", "set_rates"]

EPOCH_STRIDE = 1_000_003  # a prime, so that neighbouring seeds and epochs share no stream


def freeze(network: nn.Module, model: str, phase: Phase, plan: Plan) -> None:
    """Let only the head learn in the head phase, everything in the other, and set the modes for that.

    With a frozen backbone BatchNorm keeps its statistics and dropout is off; a plan may keep the statistics
    in the other phase too.
    """
    head = set(head_parameters(network, model))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(phase.name == "all" or name in head)
    network.train(phase.name == "all")
    if plan.frozen_statistics:
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def make_optimiser(network: nn.Module, model: str, phase: Phase, plan: Plan) -> torch.optim.AdamW:
    """AdamW over what learns: the head and the backbone at their own rates, no decay on norms and biases."""
    head = set(head_parameters(network, model))
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name in head, parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "peak": phase.lr if in_head else phase.backbone_lr,
                "lr": 0.0,
                "weight_decay": plan.weight_decay if decays else 0.0,
            }
            for (in_head, decays), parameters in sorted(groups.items())
        ]
    )


def set_rates(optimiser: torch.optim.Optimizer, step: int, steps: int, plan: Plan) -> float:
    """Set each group's rate for `step` of a phase of `steps`; the head's rate.

    A linear warm-up, then half a cosine to zero (https://arxiv.org/abs/1608.03983).
    """
    warm = max(1, round(steps * plan.warm_up))
    if step < warm:
        share = (step + 1) / warm
    else:
        share = 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * share
    return float(max(group["lr"] for group in optimiser.param_groups))


def seed_everything(seed: int, epoch: int) -> None:
    """Put every generator that a network may use into the state that belongs to this seed and epoch."""
    value = seed * EPOCH_STRIDE + epoch
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value % 2**63)
