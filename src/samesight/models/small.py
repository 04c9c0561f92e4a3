"""A small convolutional network for small pictures: trains from scratch in seconds on one core."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Small"]


class Small(nn.Module):  # type: ignore[misc]  # torch is not typed for mypy here
    """Four 3 × 3 convolutions (32, 64, 128, 128), each with BatchNorm and ReLU; the mean; one Linear.

    Takes any picture of at least 8 × 8; about 240,000 parameters.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_block(3, 32),
            nn.MaxPool2d(2),
            *_block(32, 64),
            nn.MaxPool2d(2),
            *_block(64, 128),
            nn.MaxPool2d(2),
            *_block(128, 128),
        )
        self.head = nn.Linear(128, num_classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits (n, classes) of pictures (n, 3, h, w)."""
        return self.head(self.features(pictures).mean(dim=(2, 3)))


def _block(inside: int, outside: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inside, outside, 3, padding=1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(inplace=True),
    ]
