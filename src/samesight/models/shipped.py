"""The networks that Samesight ships: untrained, made by name, trained from scratch."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from samesight.models.cifar_resnet import CifarResNet
from samesight.models.compact import Compact
from samesight.models.landmark import LandmarkCNN
from samesight.models.pruned_resnet import PrunedResNet
from samesight.models.small import Small
from samesight.preprocess import Preprocess

__all__ = ["SHIPPED", "Shipped"]

CIFAR_SIZE = (32, 32)
CIFAR = Preprocess(resize=CIFAR_SIZE, crop=None)
# Pixels in 0 … 1, nothing more: what the authors' program and its checkpoint take.
UNIT = Preprocess(resize=CIFAR_SIZE, crop=None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Shipped:
    """How a network is made, and what it is usually shown."""

    make: Callable[..., nn.Module]
    preprocess: Preprocess

    @property
    def has_size(self) -> bool:
        """Whether it is made for one size of picture, and has to be told which."""
        return "size" in inspect.signature(self.make).parameters


SHIPPED = {
    "small": Shipped(Small, CIFAR),
    "pruned_resnet": Shipped(PrunedResNet, UNIT),
    "compact": Shipped(Compact, CIFAR),
    "landmark_cnn": Shipped(LandmarkCNN, Preprocess(resize=(224, 224), crop=None)),
    **{
        f"resnet{depth}": Shipped(functools.partial(CifarResNet, depth=depth), CIFAR)
        for depth in (20, 32, 44, 56)
    },
}
