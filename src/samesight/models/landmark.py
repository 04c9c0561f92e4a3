"""A plain convolutional network with one very wide Linear layer, of the kind that facial expressions had."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from samesight.models.sides import pooled

__all__ = ["LandmarkCNN"]

CHANNELS = (32, 64, 128)


class LandmarkCNN(nn.Module):  # type: ignore[misc]  # torch is not typed for mypy here
    """Convolutions 3→32→64→128, each halved by max pooling; all pixels to 512 hidden units; `num_classes`.

    51,476,036 parameters (196.37 MiB) at 224 × 224 with 4 classes, all but 95,300 of them in one Linear
    layer: smaller pictures make a much smaller network.
    """

    def __init__(self, num_classes: int = 4, size: int | Sequence[int] = 224, dropout: float = 0.5) -> None:
        """`size`: of the pictures, one side or (width, height), at least 8. Raises ValueError below that."""
        super().__init__()
        width, height = pooled(size, len(CHANNELS))
        layers: list[nn.Module] = []
        for inside, outside in zip((3, *CHANNELS), CHANNELS, strict=False):
            layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(CHANNELS[-1] * width * height, 512),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(512, num_classes),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits (n, classes) of pictures (n, 3, h, w)."""
        return self.classifier(self.features(pictures))
