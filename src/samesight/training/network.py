"""The network that training starts from: made, given pretrained weights and a head for the classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from samesight.errors import InputError
from samesight.models import Pretrained, create, create_pretrained, default_preprocess, replace_head
from samesight.models.create import outputs_of, source_of
from samesight.models.pretrained import UNTRAINED
from samesight.preprocess import Preprocess
from samesight.training.config import NetworkFacts, TrainConfig
from samesight.training.features import find_head_input

__all__ = ["Start", "network_facts", "open_weights", "with_head"]


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
        network = create(config.model, classes, options=config.model_options)
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


def network_facts(network: nn.Module, start: Start) -> NetworkFacts:
    """What the plan needs to know; `network` is put into evaluation mode."""
    return NetworkFacts(
        pretrained=start.pretrained is not None,
        has_batch_norm=any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules()),
        head_can_be_cached=find_head_input(network.eval(), start.preprocess.size) is not None,
    )


def own_file(model: str) -> Path:
    """The file of a network of the user's own."""
    return Path(model.rpartition(":")[0])
