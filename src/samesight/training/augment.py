"""Random changes to training photos. Validation and held-out photos never come here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samesight.errors import InputError
from samesight.preprocess import Preprocess, resize, resize_exact
from samesight.training.colour import POLICIES, apply_policy, jitter_colour

__all__ = ["CROPS", "AugmentOptions", "Augmentation", "color_jitter"]

CROPS = ("resized", "padded", "none")
SCALE = (0.35, 1.0)  # share of the photo's area; ImageNet's 0.08 hides the subject too often in short runs
RATIO = (3 / 4, 4 / 3)  # torchvision's RandomResizedCrop
ATTEMPTS = 10
PADDING = 1 / 8  # of each side: the 4 pixels of 32 that CIFAR networks are trained with
ERASED_AREA = (0.02, 0.33)  # torchvision's RandomErasing
ERASED_RATIO = (0.3, 3.3)


@dataclass(frozen=True)
class AugmentOptions:
    """What is done to training photos; the defaults suit most photos and short runs."""

    crop: str = "resized"
    flip: bool = True
    vertical_flip: bool = False
    color_jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    policy: str = "none"
    erasing: float = 0.0  # the share of photos that lose a rectangle
    mixup: float = 0.0  # alpha of the Beta distribution; 0: off
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        _one_of("--crop-mode", self.crop, CROPS)
        _one_of("--auto-augment", self.policy, ("none", *POLICIES))
        brightness, contrast, saturation, hue = self.color_jitter
        if not (all(0 <= value <= 1 for value in (brightness, contrast, saturation)) and 0 <= hue <= 0.5):
            raise InputError(
                "--color-jitter takes brightness, contrast and saturation from 0 to 1 and hue from 0 to 0.5",
                found=",".join(map(str, self.color_jitter)),
                fix="--color-jitter 0.2,0.2,0.2,0.1",
            )
        if not 0 <= self.erasing <= 1:
            raise InputError("--random-erasing is a share from 0 to 1", found=self.erasing)
        for option, value in (("--mixup", self.mixup), ("--cutmix", self.cutmix)):
            if not 0 <= value <= 10:
                raise InputError(f"{option} is the alpha of a Beta distribution", found=value, fix="0.2")

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AugmentOptions:
        """The options from a JSON object. Raises TypeError and KeyError where it is another."""
        known = {one.name: value[one.name] for one in fields(cls)}
        known["color_jitter"] = tuple(known["color_jitter"])
        return cls(**known)


@dataclass(frozen=True)
class Augmentation:
    """Random views of photos, as `options` ask, of (width, height) `size`."""

    spec: Preprocess
    options: AugmentOptions = field(default_factory=AugmentOptions)
    train_size: tuple[int, int] | None = None  # where it is not that of inference

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the views."""
        return self.train_size or self.spec.size

    def __call__(self, pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
        """One random view (h, w, 3) uint8 of `pixels` (any, any, 3) uint8."""
        options = self.options
        view = self._cropped(pixels, random)
        if options.flip and random.random() < 0.5:
            view = view[:, ::-1]
        if options.vertical_flip and random.random() < 0.5:
            view = view[::-1]
        view = np.ascontiguousarray(view)
        if options.policy != "none":
            view = apply_policy(view, options.policy, random)
        if any(options.color_jitter):
            view = jitter_colour(view, options.color_jitter, random)
        if options.erasing and random.random() < options.erasing:
            view = self._erased(view, random)
        return view

    def describe(self) -> list[str]:
        """What is done, for people."""
        options, (width, height) = self.options, self.size
        by = f"{width} x {height} ({self.spec.interpolation})"
        lines = {
            "resized": [
                f"random crop of {SCALE[0]:.0%} to {SCALE[1]:.0%} of the area, aspect ratio {RATIO[0]:.2f} "
                f"to {RATIO[1]:.2f}, resized to {by}"
            ],
            "padded": [f"random shift of up to {PADDING:.1%} of each side, mirrored at the edges, {by}"],
            "none": [],
        }[options.crop]
        if options.flip:
            lines.append("horizontal flip of every other photo, at random")
        if options.vertical_flip:
            lines.append("vertical flip of every other photo, at random")
        if options.policy != "none":
            lines.append(f"{POLICIES[options.policy]} on every photo")
        if any(options.color_jitter):
            names = ("brightness", "contrast", "saturation", "hue")
            parts = (f"{name} {value:g}" for name, value in zip(names, options.color_jitter, strict=True))
            lines.append(f"ColorJitter: {', '.join(parts)}")
        if options.erasing:
            lines.append(f"RandomErasing of {options.erasing:.0%} of the photos")
        if options.mixup:
            lines.append(f"mixup with alpha {options.mixup:g}")
        if options.cutmix:
            lines.append(f"CutMix with alpha {options.cutmix:g}")
        return lines

    def _cropped(self, pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
        if self.options.crop == "resized":
            height, width = pixels.shape[:2]
            left, top, w, h = self._crop(width, height, random)
            cut = np.ascontiguousarray(pixels[top : top + h, left : left + w])
            return resize_exact(cut, self.size, self.spec.interpolation)
        view = resize(pixels, self.spec)
        if self.size != self.spec.size:
            view = resize_exact(view, self.size, self.spec.interpolation)
        return _shifted(view, random) if self.options.crop == "padded" else view

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

    def _erased(self, view: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
        """`view` with a random rectangle in the mean colour, so in zeros once normalised.

        Torchvision's RandomErasing, https://arxiv.org/abs/1708.04896.
        """
        height, width = view.shape[:2]
        for _ in range(ATTEMPTS):
            area = width * height * random.uniform(*ERASED_AREA)
            ratio = math.exp(random.uniform(math.log(ERASED_RATIO[0]), math.log(ERASED_RATIO[1])))
            w, h = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < w < width and 0 < h < height:
                left, top = int(random.integers(0, width - w + 1)), int(random.integers(0, height - h + 1))
                view = view.copy()
                view[top : top + h, left : left + w] = [round(255 * mean) for mean in self.spec.mean]
                break
        return view


def color_jitter(words: str) -> tuple[float, float, float, float]:
    """Brightness, contrast, saturation and hue from `B,C,S,H`. Raises InputError where they are not."""
    try:
        brightness, contrast, saturation, hue = map(float, words.split(","))
    except ValueError as error:
        fix = "--color-jitter 0.2,0.2,0.2,0.1"
        raise InputError("--color-jitter wants four numbers", found=words, fix=fix) from error
    return brightness, contrast, saturation, hue


def _shifted(view: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """`view` moved at random by up to PADDING of its sides; what comes in mirrors what was at the edge."""
    height, width = view.shape[:2]
    across, down = max(1, round(width * PADDING)), max(1, round(height * PADDING))
    padded = np.pad(view, ((down, down), (across, across), (0, 0)), mode="reflect")
    left, top = int(random.integers(0, 2 * across + 1)), int(random.integers(0, 2 * down + 1))
    return padded[top : top + height, left : left + width]


def _one_of(option: str, value: str, words: tuple[str, ...]) -> None:
    if value not in words:
        raise InputError(f"{option} is none of its words", expected=" or ".join(words), found=value)
