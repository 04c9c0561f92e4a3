"""Operations as ptflops counts them: the tool that S5's table of networks was made with."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import batchnorm, conv, pooling

__all__ = ["RULE", "count_operations"]

RULE = (
    "a product and its sum are one operation; biases, normalisation (two for each number), activations and "
    "pooling (one for each number) are counted too, dropout and additions are not: as ptflops 0.6.9 counts"
)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.PReLU, nn.ELU, nn.LeakyReLU, nn.GELU)
POOLINGS = (
    pooling._MaxPoolNd,
    pooling._AvgPoolNd,
    pooling._AdaptiveAvgPoolNd,
    pooling._AdaptiveMaxPoolNd,
)


def count_operations(network: nn.Module, size: tuple[int, int]) -> int:
    """The operations of `network`'s modules on one picture of (width, height) `size`.

    What a network does without a module of its own, such as `torch.relu`, is not seen. `summarise` counts
    products alone, which is what torchvision publishes.
    """
    counted = [0]

    def seen(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        counted[0] += _operations(module, inputs[0], output)

    was_training = network.training
    with ExitStack() as stack, torch.no_grad():
        stack.callback(network.train, was_training)
        for module in network.modules():
            if isinstance(module, (conv._ConvNd, nn.Linear, batchnorm._BatchNorm, *ACTIVATIONS, *POOLINGS)):
                stack.callback(module.register_forward_hook(seen).remove)
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        network.eval()(torch.zeros(1, 3, size[1], size[0], device=device))
    return counted[0]


def _operations(module: nn.Module, given: Tensor, made: Tensor) -> int:
    """What one call of `module` costs."""
    inputs, outputs = int(given.numel()), int(made.numel())
    if isinstance(module, conv._ConvNd):
        places = math.prod(made.shape[2:])
        return int(places * (module.weight.numel() + (0 if module.bias is None else len(module.bias))))
    if isinstance(module, nn.Linear):
        return inputs * int(module.out_features) + (0 if module.bias is None else int(module.out_features))
    if isinstance(module, batchnorm._BatchNorm):
        return inputs * (2 if module.affine else 1)
    return outputs if isinstance(module, ACTIVATIONS) else inputs
