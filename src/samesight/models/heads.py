"""The head of a classifier: the last layer, the one that has an output for each class."""

from __future__ import annotations

import torch
from torch import nn

from samesight.errors import InputError

__all__ = ["head_layers", "head_parameters", "replace_head"]

AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # GoogLeNet's and Inception's extra heads, when they are on
INIT_STD = 0.01  # torchvision's own for its classifiers: near-zero logits, so training starts at ln(classes)


def head_layers(network: nn.Module) -> list[str]:
    """The names of the layers that make the logits: one, more with auxiliary heads or distilled networks.

    In every torchvision family the head is the Linear (or, in SqueezeNet, Conv2d) that is registered last.
    Raises InputError where the network has no such layer.
    """
    if hasattr(network, "get_classifier"):  # timm's own answer
        found = network.get_classifier()
        heads = {id(layer) for layer in (found if isinstance(found, tuple | list) else [found])}
        if names := [name for name, module in network.named_modules() if id(module) in heads and name]:
            return names
    layers = [
        name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d) and name
    ]
    if not layers:
        raise InputError("the network has no Linear or Conv2d layer that could be its head")
    outputs = _outputs(network.get_submodule(layers[-1]))
    extra = [
        name
        for name in layers[:-1]
        if name.startswith(AUXILIARY) and _outputs(network.get_submodule(name)) == outputs
    ]
    return [*extra, layers[-1]]


def head_parameters(network: nn.Module, model: str) -> list[str]:
    """The names of the head's parameters, in the network's order. `model` names the network in errors."""
    try:
        heads = tuple(f"{name}." for name in head_layers(network))
    except InputError as error:
        raise InputError(error.what, where=model) from error
    return [name for name, _ in network.named_parameters() if name.startswith(heads)]


def replace_head(network: nn.Module, model: str, classes: int) -> None:
    """Give `network` a fresh head with `classes` outputs, in place; every other layer stays as it is.

    Raises InputError where no head is found, or it is of a kind that cannot be made anew.
    """
    if hasattr(network, "reset_classifier"):  # timm
        network.reset_classifier(classes)
        return
    try:
        names = head_layers(network)
    except InputError as error:
        raise InputError(error.what, where=model) from error
    for name in names:
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, _fresh(network.get_submodule(name), classes))
    if isinstance(getattr(network, "num_classes", None), int):  # SqueezeNet and MNASNet remember it
        network.num_classes = classes


def _fresh(old: nn.Module, classes: int) -> nn.Module:
    """A layer like `old`, with `classes` outputs and new parameters."""
    place = {"device": old.weight.device, "dtype": old.weight.dtype}
    bias = old.bias is not None
    if isinstance(old, nn.Linear):
        new: nn.Module = nn.Linear(old.in_features, classes, bias=bias, **place)
    elif isinstance(old, nn.Conv2d):
        new = nn.Conv2d(
            old.in_channels,
            classes,
            old.kernel_size,
            old.stride,
            old.padding,
            old.dilation,
            bias=bias,
            **place,
        )
    else:
        raise InputError(f"a head of the kind {type(old).__name__} cannot be made anew")
    with torch.no_grad():
        nn.init.normal_(new.weight, std=INIT_STD)
        if bias:
            nn.init.zeros_(new.bias)
    return new.train(old.training)


def _outputs(layer: nn.Module) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)
