"""A network of one's own, for `--model benchmarks/networks/cifar_resnet.py:resnet20`."""

from __future__ import annotations

from samesight.models.cifar_resnet import CifarResNet


def resnet20(num_classes: int = 10) -> CifarResNet:
    """ResNet-20: 269,722 parameters with 10 classes."""
    return CifarResNet(num_classes, depth=20)
