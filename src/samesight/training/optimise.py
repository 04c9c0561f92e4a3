"""Which parameters learn, and how fast."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import torch
from torch import nn

from samesight.models import head_parameters
from samesight.training.blocks import blocks_of, last_block
from samesight.training.config import AVERAGE_SHARE, MOMENTUM, NORM_MOMENTUM, STEP_FACTOR, Phase, Plan

__all__ = ["freeze", "hasten_statistics", "make_optimiser", "seed_everything", "set_rates"]

EPOCH_STRIDE = 1_000_003  # a prime, so that neighbouring seeds and epochs share no stream


def freeze(network: nn.Module, model: str, phase: Phase, plan: Plan) -> None:
    """Let the head learn, and with it what the phase is named after, and set the modes for that.

    What is frozen keeps its BatchNorm statistics and drops nothing out; a plan may keep the statistics of
    what learns too.
    """
    learns = set(head_parameters(network, model))
    if phase.name == "last-block":
        learns |= last_block(network, model)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(phase.name == "all" or name in learns)
    network.train(phase.name == "all")
    for name, module in network.named_modules():
        own = [f"{name}.{own}" for own, _ in module.named_parameters()]
        if phase.name == "last-block" and own and learns.issuperset(own):
            module.train()
        if plan.frozen_statistics and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def hasten_statistics(network: nn.Module, batches: int) -> None:
    """Let BatchNorm's running statistics forget where they began within `batches`, as averaged weights do.

    Made for millions of batches, some are slow (momentum 0.01 in MobileNetV3, 0.0003 in MNASNet): after
    a few hundred they still tell of the beginning, and a network that learnt from scratch knows no label in
    evaluation mode. PyTorch's default is left as it is, and is the most that is set.
    """
    least = min(NORM_MOMENTUM, 1 / max(1.0, AVERAGE_SHARE * batches))
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None:
            module.momentum = max(module.momentum, least)


def make_optimiser(network: nn.Module, model: str, phase: Phase, plan: Plan) -> torch.optim.Optimizer:
    """AdamW or SGD over what learns: the head and each block at their own rates.

    The rate falls from block to block towards the input by the plan's layer decay
    (https://arxiv.org/abs/2106.08254). Norms and biases do not decay.
    """
    blocks = blocks_of(network, model)
    depth = {name: len(blocks) - 1 - place for place, block in enumerate(blocks) for name in block}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            below = depth.get(name)
            peak = phase.lr if below is None else phase.backbone_lr * plan.layer_decay**below
            groups.setdefault((peak, parameter.ndim > 1), []).append(parameter)
    settings: list[dict[str, Any]] = [
        {
            "params": parameters,
            "peak": peak,
            "lr": 0.0,
            "weight_decay": plan.weight_decay if decays else 0.0,
        }
        for (peak, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
    if plan.optimizer == "sgd":
        return torch.optim.SGD(settings, momentum=MOMENTUM, nesterov=True)
    return torch.optim.AdamW(settings)


def set_rates(optimiser: torch.optim.Optimizer, step: int, steps: int, plan: Plan, epochs: int = 1) -> float:
    """Set each group's rate for `step` of a phase of `steps` in `epochs`; the head's rate.

    A linear warm-up, then half a cosine to zero (https://arxiv.org/abs/1608.03983), steps down, or nothing.
    """
    warm = max(1, round(steps * plan.warm_up))
    if step < warm:
        share = (step + 1) / warm
    elif plan.schedule == "cosine":
        share = 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
    elif plan.schedule == "step":
        assert plan.step_every is not None
        share = STEP_FACTOR ** (step * epochs // steps // plan.step_every)
    else:
        share = 1.0
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * share
    return float(max(group["lr"] for group in optimiser.param_groups))


def seed_everything(seed: int, epoch: int) -> None:
    """Put every generator that a network may use into the state that belongs to this seed and epoch."""
    value = seed * EPOCH_STRIDE + epoch
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value % 2**63)
