"""The network that training starts from: made, given pretrained weights and a head for the classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from samesight.errors import InputError
from samesight.models import Pretrained, create, create_pretrained, default_preprocess, replace_head
from samesight.models.create import outputs_of, source_of
from samesight.models.pretrained import UNTRAINED
from samesight.preprocess import Preprocess
from samesight.training.config import NetworkFacts, TrainConfig
from samesight.training.cut import BlockInput
from samesight.training.features import find_head_input

__all__ = ["Start", "fitting_memory_format", "network_facts", "open_weights", "with_head"]

MANY_CONVOLUTIONS = 10  # transformers have one


@dataclass(frozen=True)
class Start:
    """What training starts from, before its classes are known; no network yet where it is untrained."""

    pretrained: Pretrained | None
    preprocess: Preprocess
    weights: str
    license: str


def open_weights(config: TrainConfig) -> Start:
    """The weights that `config` asks for, and the preprocessing with its changes.

    Raises InputError and CheckpointError before any photo is looked at.
    """
    source = source_of(config.model)
    untrained = config.weights == UNTRAINED or (
        config.weights is None and source in ("samesight", "own file")
    )
    if untrained:
        spec = default_preprocess(config.model, UNTRAINED)
        return Start(None, config.pictures.over(spec), "none: trained from scratch", "no pretrained weights")
    found = create_pretrained(
        config.model, config.weights, offline=config.offline, options=config.model_options
    )
    return Start(found, config.pictures.over(found.preprocess), found.weights, found.license)


def with_head(start: Start, config: TrainConfig, classes: int) -> nn.Module:
    """The network with `classes` outputs. Raises InputError where it cannot have them or take the size."""
    if start.pretrained is None:
        size = start.preprocess.size
        network = create(config.model, classes, options=config.model_options, size=size)
        if outputs_of(network, start.preprocess.size) != (classes,):
            replace_head(network, config.model, classes)
    else:
        network = start.pretrained.network
        replace_head(network, config.model, classes)
    found = outputs_of(network, start.preprocess.size)
    if found != (classes,):
        raise InputError(
            "the network's output does not fit the classes",
            where=config.model,
            expected=f"{classes} logits a photo",
            found="x".join(map(str, found)) or "one number",
        )
    return network


def network_facts(network: nn.Module, start: Start, block: BlockInput | None = None) -> NetworkFacts:
    """What the plan needs to know; `network` is put into evaluation mode. `block` leads to its last block."""
    return NetworkFacts(
        pretrained=start.pretrained is not None,
        has_batch_norm=any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules()),
        head_can_be_cached=find_head_input(network.eval(), start.preprocess.size) is not None,
        size=start.preprocess.size,
        block_values=math.prod(block.shape) if block else 0,
        block_share=block.share if block else 1.0,
    )


def fitting_memory_format(network: nn.Module, size: tuple[int, int]) -> torch.memory_format:
    """channels_last where the network can learn in it, as convolutions like it; else contiguous.

    Some networks' `.view` breaks on it, so it is tried: one step's way there and back, after which the
    gradients are removed. `network` must be in evaluation mode.
    """
    convolutions = sum(isinstance(module, nn.Conv2d) for module in network.modules())
    if convolutions < MANY_CONVOLUTIONS:
        return torch.contiguous_format
    device = next(network.parameters()).device
    picture = torch.zeros(2, 3, size[1], size[0], device=device).to(memory_format=torch.channels_last)
    learning = [p.requires_grad for p in network.parameters()]
    network.to(memory_format=torch.channels_last)
    try:
        network.requires_grad_(True)
        network(picture).sum().backward()
    except RuntimeError:
        network.to(memory_format=torch.contiguous_format)
        return torch.contiguous_format
    finally:
        network.zero_grad(set_to_none=True)
        for parameter, learns in zip(network.parameters(), learning, strict=True):
            parameter.requires_grad_(learns)
    return torch.channels_last


def own_file(model: str) -> Path:
    """The file of a network of the user's own."""
    return Path(model.rpartition(":")[0])
