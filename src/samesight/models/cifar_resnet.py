"""The ResNets for CIFAR-10 of He et al. 2015 (arxiv.org/abs/1512.03385, section 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CifarResNet"]


class CifarResNet(nn.Module):  # type: ignore[misc]  # torch is not typed for mypy here
    """6n + 2 layers for 32 × 32 pictures; `depth` is 20, 32, 44, 56, 110.

    Shortcuts are the paper's option A, without parameters: 269,722 parameters at depth 20 with 10 classes.
    Tensors are named as in github.com/akamaster/pytorch_resnet_cifar10, whose checkpoints fit.
    Takes pictures of any size.
    """

    def __init__(self, num_classes: int = 10, depth: int = 20) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if blocks < 1 or rest:
            raise ValueError(f"a depth is 6n + 2, such as 20 or 56, not {depth}")
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")  # the paper's [13]

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits (n, classes) of pictures (n, 3, h, w)."""
        out = functional.relu(self.bn1(self.conv1(pictures)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(out.mean(dim=(2, 3)))


class BasicBlock(nn.Module):  # type: ignore[misc]
    """Two 3 × 3 convolutions; the shortcut takes every `stride`-th pixel and pads channels with zeros."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.stride, self.extra = stride, (outside - inside) // 2

    def forward(self, x: Tensor) -> Tensor:
        """What goes in, with what was learnt about it added; of `outside` channels."""
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.extra:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra, self.extra))
        return torch.relu(out + x)


def _stage(inside: int, outside: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [BasicBlock(outside, outside, 1) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(inside, outside, stride), *rest)
