"""The 7-layer network for CIFAR-10 that FANNG-MPC runs on shares: six convolutions, two Linear layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from samesight.models.sides import pooled

__all__ = ["PrunedResNet"]

POOLINGS = 3


class PrunedResNet(nn.Module):  # type: ignore[misc]  # torch is not typed for mypy here
    """Convolutions 3→32→64→128→128→256→256, halved after every second; 32 hidden units; `num_classes`.

    1,259,242 parameters and 133,136,704 multiply-accumulates at 32 × 32 with 10 classes. The layers stand in
    one Sequential under the name, and in the order, of its authors' own (github.com/Crypto-TII/FANNG-MPC,
    pytorch-implementations/Pruned-Resnet), so that their state dict fits; a layer's number in the files for
    SCALE-MAMBA is 1 + its index there, dropout counted. It has no residual branches, whatever its name says.
    """

    def __init__(self, num_classes: int = 10, size: int | Sequence[int] = 32, dropout: float = 0.25) -> None:
        """`size`: of the pictures, one side or (width, height), at least 8. Raises ValueError below that."""
        super().__init__()
        width, height = pooled(size, POOLINGS)
        self.network = nn.Sequential(
            *_convolution(3, 32),
            nn.Dropout(dropout),
            *_convolution(32, 64),
            nn.AvgPool2d(2),
            *_convolution(64, 128),
            nn.Dropout(dropout),
            *_convolution(128, 128),
            nn.AvgPool2d(2),
            *_convolution(128, 256),
            nn.Dropout(dropout),
            *_convolution(256, 256),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(256 * width * height, 32),
            nn.Dropout(dropout),
            nn.ReLU(),
            nn.Linear(32, num_classes),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits (n, classes) of pictures (n, 3, h, w)."""
        return self.network(pictures)


def _convolution(inside: int, outside: int) -> list[nn.Module]:
    return [nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU()]
