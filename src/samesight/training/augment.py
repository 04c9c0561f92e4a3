"""Random changes to training photos. Validation and held-out photos never come here."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samesight.preprocess import Preprocess, resize_exact

__all__ = ["Augmentation"]

SCALE = (0.35, 1.0)  # share of the photo's area; ImageNet's 0.08 hides the subject too often in short runs
RATIO = (3 / 4, 4 / 3)  # torchvision's RandomResizedCrop
ATTEMPTS = 10


@dataclass(frozen=True)
class Augmentation:
    """A random crop resized to the network's size, and a random mirror image."""

    spec: Preprocess
    flip: bool = True

    def __call__(self, pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
        """One random view (h, w, 3) uint8 of the network's size, of `pixels` (any, any, 3) uint8."""
        height, width = pixels.shape[:2]
        left, top, w, h = self._crop(width, height, random)
        cut = np.ascontiguousarray(pixels[top : top + h, left : left + w])
        view = resize_exact(cut, self.spec.size, self.spec.interpolation)
        if self.flip and random.random() < 0.5:
            view = np.ascontiguousarray(view[:, ::-1])
        return view

    def describe(self) -> list[str]:
        """What is done, for people."""
        width, height = self.spec.size
        lines = [
            f"random crop of {SCALE[0]:.0%} to {SCALE[1]:.0%} of the area, aspect ratio {RATIO[0]:.2f} to "
            f"{RATIO[1]:.2f}, resized to {width} x {height} ({self.spec.interpolation})"
        ]
        return [*lines, "horizontal flip of every other photo, at random"] if self.flip else lines

    def _crop(self, width: int, height: int, random: np.random.Generator) -> tuple[int, int, int, int]:
        """Left, top, width and height of a random part, by torchvision's RandomResizedCrop.

        Where inference squashes the whole photo, the ratio is relative to the photo's own shape, so that
        training sees the same squash.
        """
        squashed = isinstance(self.spec.resize, tuple)
        shape = width / height if squashed else self.spec.size[0] / self.spec.size[1]
        for _ in range(ATTEMPTS):
            area = width * height * random.uniform(*SCALE)
            ratio = shape * math.exp(random.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                left = int(random.integers(0, width - w + 1))
                top = int(random.integers(0, height - h + 1))
                return left, top, w, h
        w, h = min(width, max(1, round(height * shape))), min(height, max(1, round(width / shape)))
        return (width - w) // 2, (height - h) // 2, w, h
