"""Pictures that look like photos to the checks, and copies of them, for the tests of samesight.data."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

__all__ = ["COPIES", "natural", "write_set"]


def natural(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Noise with the amplitudes of natural pictures (1 over frequency), (width, height), in colour."""
    random = np.random.default_rng(seed)
    width, height = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) + 1 / max(size)
    bands = []
    for _ in range(3):
        spectrum = np.fft.fft2(random.standard_normal((height, width))) / frequency
        band = np.fft.ifft2(spectrum).real
        bands.append(np.clip(127 + 55 * band / band.std(), 0, 255))
    mixed = np.stack(bands, axis=2) @ np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    return Image.fromarray(mixed.astype(np.uint8))


def _jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved again": _jpeg,
    "half": lambda image: image.resize((image.width // 2, image.height // 2)),
    "cropped": lambda image: image.crop((4, 5, image.width - 3, image.height - 1)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.25),
    "paler": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "mirrored": ImageOps.mirror,
}


def write_set(folder: Path, count: int, labels: tuple[str, ...] = ("a", "b")) -> Path:
    """`count` different pictures in each of the classes, as PNG."""
    for at, label in enumerate(labels):
        (folder / label).mkdir(parents=True)
        for index in range(count):
            natural(1000 * at + index).save(folder / label / f"{index:02}.png")
    return folder
