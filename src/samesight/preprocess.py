"""From a photo to a network's tensor: the one path of training, export, verification and inference.

Decode, turn upright, resize (horizontally first), crop the centre, normalise by a table of float32. Every
rule is in spec/preprocess.md; spec/vectors holds cases that every runtime must meet bit for bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samesight.errors import InputError
from samesight.images.decoding import decode, rgb
from samesight.images.parameters import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    INTERPOLATIONS,
    MAX_SIZE,
    Preprocess,
    middle,
    resized_size,
    rows_needed,
)
from samesight.images.photofile import PHOTO_SUFFIXES, read_photo
from samesight.images.picture import MAX_BYTES, MAX_PIXELS, resample

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "INTERPOLATIONS",
    "MAX_BYTES",
    "MAX_PIXELS",
    "MAX_SIZE",
    "PHOTO_SUFFIXES",
    "Preprocess",
    "decode",
    "normalise",
    "preprocess",
    "read_photo",
    "resize",
    "resize_exact",
    "rgb",
    "table",
]


def preprocess(data: bytes, spec: Preprocess) -> NDArray[np.float32]:
    """The tensor (3, height, width) float32 of a photo's bytes. Raises PhotoError."""
    return normalise(resize(decode(data), spec), spec)


def resize(pixels: NDArray[np.uint8], spec: Preprocess) -> NDArray[np.uint8]:
    """`pixels` (height, width, 3) resized and cropped as `spec` says: (h, w, 3) uint8, C-contiguous.

    Raises PhotoError of kind "too-large" where a picture so long and thin would grow beyond MAX_PIXELS.
    """
    height, width = _check(pixels)
    size = resized_size(width, height, spec)
    across, down = spec.size
    left, top = middle(size[0] - across), middle(size[1] - down)
    return _resample(pixels, size, spec.interpolation, (left, top, across, down))


def resize_exact(
    pixels: NDArray[np.uint8], size: tuple[int, int], interpolation: str = "bilinear"
) -> NDArray[np.uint8]:
    """`pixels` (height, width, 3) resized to `size` (width, height), horizontal pass first; contiguous."""
    _check(pixels)
    if interpolation not in INTERPOLATIONS or min(size) < 1:
        raise InputError("no such resize", found=f"{size} {interpolation}")
    return _resample(pixels, size, interpolation, (0, 0, *size))


def normalise(pixels: NDArray[np.uint8], spec: Preprocess) -> NDArray[np.float32]:
    """`pixels` (h, w, 3) as a tensor (3, h, w) float32, C-contiguous, each value as `table` has it."""
    height, width = _check(pixels)
    tensor = np.empty((3, height, width), np.float32)
    for channel, values in enumerate(table(spec)):
        np.take(values, pixels[:, :, channel], out=tensor[channel], mode="clip")
    return tensor


def table(spec: Preprocess) -> NDArray[np.float32]:
    """What each of the 256 values becomes in each channel: (3, 256) float32.

    ((v / 255) - mean) / std, each step rounded to float32: torchvision's ToTensor and Normalize.
    """
    return np.array(spec.table, np.float32)


def _resample(
    pixels: NDArray[np.uint8], size: tuple[int, int], interpolation: str, box: tuple[int, int, int, int]
) -> NDArray[np.uint8]:
    """The part `box` of `pixels` resized to `size`, for which only the rows that it needs are copied."""
    height = len(pixels)
    first, last = rows_needed(height, size[1], box[1], box[3])
    part = Image.fromarray(pixels[first:last])
    return np.array(resample(part, size, interpolation, box, rows=(first, height)))


def _check(pixels: NDArray[np.uint8]) -> tuple[int, int]:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        found = f"{pixels.shape} {pixels.dtype}"
        raise InputError("these are not RGB pixels", expected="(height, width, 3) uint8", found=found)
    return pixels.shape[0], pixels.shape[1]
