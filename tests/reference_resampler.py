"""spec/preprocess.md from the resize on, written from its words alone: plain numbers, no Pillow, no torch.

Slow and simple on purpose. What it and samesight.preprocess share is the specification and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

BITS = 22


def box(x: float) -> float:
    return 1.0 if -0.5 < x <= 0.5 else 0.0


def bilinear(x: float) -> float:
    x = abs(x)
    return 1.0 - x if x < 1.0 else 0.0


def hamming(x: float) -> float:
    x = abs(x)
    if x == 0.0:
        return 1.0
    if x >= 1.0:
        return 0.0
    x = x * math.pi
    return math.sin(x) / x * (float(np.float32(0.54)) + float(np.float32(0.46)) * math.cos(x))


def bicubic(x: float) -> float:
    x = abs(x)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    if x < 2.0:
        return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return 0.0


def sinc(x: float) -> float:
    if x == 0.0:
        return 1.0
    x = x * math.pi
    return math.sin(x) / x


def lanczos(x: float) -> float:
    return sinc(x) * sinc(x / 3.0) if -3.0 <= x < 3.0 else 0.0


FILTERS: dict[str, tuple[Callable[[float], float], float]] = {
    "box": (box, 0.5),
    "bilinear": (bilinear, 1.0),
    "hamming": (hamming, 1.0),
    "bicubic": (bicubic, 2.0),
    "lanczos": (lanczos, 3.0),
}


def weights(source: int, target: int, interpolation: str) -> list[tuple[int, list[int]]]:
    """For each target place, the first source place that it draws on, and the whole weights from there."""
    function, reach = FILTERS[interpolation]
    scale = source / target
    stretch = max(scale, 1.0)
    support = reach * stretch
    result = []
    for place in range(target):
        centre = (place + 0.5) * scale
        first = max(0, int(centre - support + 0.5))
        last = min(source, int(centre + support + 0.5))
        inverse = 1.0 / stretch
        values = [function((index + first - centre + 0.5) * inverse) for index in range(last - first)]
        total = 0.0
        for value in values:
            total += value
        if total != 0.0:
            values = [value / total for value in values]
        whole = [int(value * (1 << BITS) + (-0.5 if value < 0 else 0.5)) for value in values]
        result.append((first, whole))
    return result


def along_rows(pixels: NDArray[np.uint8], target: int, interpolation: str) -> NDArray[np.uint8]:
    """The horizontal pass: (height, width, 3) to (height, target, 3)."""
    height, width, channels = pixels.shape
    if width == target:
        return pixels
    result = np.empty((height, target, channels), np.uint8)
    if interpolation == "nearest":
        scale = width / target
        at = scale * 0.5
        for place in range(target):
            result[:, place] = pixels[:, int(at)]
            at += scale
        return result
    for place, (first, whole) in enumerate(weights(width, target, interpolation)):
        total = np.full((height, channels), 1 << (BITS - 1), np.int64)
        for index, weight in enumerate(whole):
            total += pixels[:, first + index].astype(np.int64) * weight
        result[:, place] = np.clip(total >> BITS, 0, 255)
    return result


def resize_exact(pixels: NDArray[np.uint8], size: tuple[int, int], interpolation: str) -> NDArray[np.uint8]:
    """Horizontally, then vertically, which is horizontally with rows and columns changed over."""
    across = along_rows(pixels, size[0], interpolation)
    return along_rows(across.transpose(1, 0, 2), size[1], interpolation).transpose(1, 0, 2)


def resized_size(width: int, height: int, resize: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(resize, tuple):
        return resize
    long = resize * max(width, height) // min(width, height)
    return (resize, long) if width <= height else (long, resize)


def offset(spare: int) -> int:
    """The half of `spare`, rounded to even."""
    return {0: spare // 2, 1: spare // 2, 2: spare // 2, 3: spare // 2 + 1}[spare % 4]


def resize(
    pixels: NDArray[np.uint8],
    resize: int | tuple[int, int],
    crop: tuple[int, int] | None,
    interpolation: str,
) -> NDArray[np.uint8]:
    size = resized_size(pixels.shape[1], pixels.shape[0], resize)
    whole = resize_exact(pixels, size, interpolation)
    width, height = crop or size
    left, top = offset(size[0] - width), offset(size[1] - height)
    return whole[top : top + height, left : left + width]


def table(mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """Every step rounded to float32, one number at a time."""
    rows = [
        [(np.float32(value) / np.float32(255) - np.float32(m)) / np.float32(s) for value in range(256)]
        for m, s in zip(mean, std, strict=True)
    ]
    return np.array(rows, np.float32)


def tensor(pixels: NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    values = table(mean, std)
    return np.stack([values[channel][pixels[..., channel]] for channel in range(3)])


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Pixel by pixel, where each upright place is found in the stored picture."""
    height, width = pixels.shape[:2]
    shape = (width, height, 3) if orientation >= 5 else (height, width, 3)
    result = np.empty(shape, np.uint8)
    for y in range(shape[0]):
        for x in range(shape[1]):
            row, column = {
                1: (y, x),
                2: (y, width - 1 - x),
                3: (height - 1 - y, width - 1 - x),
                4: (height - 1 - y, x),
                5: (x, y),
                6: (height - 1 - x, y),
                7: (height - 1 - x, width - 1 - y),
                8: (x, width - 1 - y),
            }[orientation]
            result[y, x] = pixels[row, column]
    return result
