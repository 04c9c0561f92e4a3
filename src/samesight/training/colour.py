"""Changes of colour and shape by torchvision's own functions, each drawn from a generator that is given.

Torchvision's classes draw from one generator of the process; here photos are changed in threads, and a
resumed run must see the views that it would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as change

__all__ = ["POLICIES", "apply_policy", "jitter_colour"]

POLICIES = {
    "randaugment": "RandAugment, 2 changes of magnitude 9 of 30 (https://arxiv.org/abs/1909.13719)",
    "trivialaugment": "TrivialAugment, 1 change of any magnitude (https://arxiv.org/abs/2103.10158)",
}
# The largest amount of each change: torchvision's RandAugment and TrivialAugmentWide.
SIGNED = ("brightness", "color", "contrast", "sharpness", "shear-x", "shear-y", "move-x", "move-y", "rotate")
OTHERS = ("identity", "posterize", "solarize", "autocontrast", "equalize")
LARGEST = {
    "randaugment": {"colour": 0.9, "shear": 0.3, "move": 150 / 331, "rotate": 30.0, "posterize": 4},
    "trivialaugment": {"colour": 0.99, "shear": 0.99, "move": 32 / 224, "rotate": 135.0, "posterize": 6},
}
RAND_CHANGES, RAND_MAGNITUDE = 2, 9 / 30


def jitter_colour(
    pixels: NDArray[np.uint8], amounts: Sequence[float], random: np.random.Generator
) -> NDArray[np.uint8]:
    """`pixels` (h, w, 3) with brightness, contrast, saturation and hue changed by up to `amounts`.

    Torchvision's ColorJitter: factors from 1 - amount to 1 + amount, hue shifted by up to its amount, in
    random order.
    """
    image = Image.fromarray(pixels)
    changes = (change.adjust_brightness, change.adjust_contrast, change.adjust_saturation, change.adjust_hue)
    for place in random.permutation(4):
        if amounts[place]:
            middle = 0.0 if changes[place] is change.adjust_hue else 1.0
            image = changes[place](
                image, float(random.uniform(middle - amounts[place], middle + amounts[place]))
            )
    return np.array(image)


def apply_policy(pixels: NDArray[np.uint8], policy: str, random: np.random.Generator) -> NDArray[np.uint8]:
    """`pixels` (h, w, 3) after the changes that RandAugment or TrivialAugment draws."""
    image = Image.fromarray(pixels)
    is_rand = policy == "randaugment"
    for _ in range(RAND_CHANGES if is_rand else 1):
        name = str(random.choice((*SIGNED, *OTHERS)))
        magnitude = RAND_MAGNITUDE if is_rand else float(random.random())
        sign = float(random.choice((-1.0, 1.0)))
        image = _changed(image, name, magnitude, sign, LARGEST[policy])
    return np.array(image)


def _changed(
    image: Image.Image, name: str, magnitude: float, sign: float, largest: dict[str, float]
) -> Image.Image:
    """`image` after the change `name`, by `magnitude` (0 to 1) of its largest amount."""
    colour = 1 + sign * magnitude * largest["colour"]
    plain: dict[str, Callable[[], Image.Image]] = {
        "identity": lambda: image,
        "brightness": lambda: change.adjust_brightness(image, colour),
        "color": lambda: change.adjust_saturation(image, colour),
        "contrast": lambda: change.adjust_contrast(image, colour),
        "sharpness": lambda: change.adjust_sharpness(image, colour),
        "posterize": lambda: change.posterize(image, 8 - round(magnitude * largest["posterize"])),
        "solarize": lambda: change.solarize(image, 255 - round(255 * magnitude)),
        "autocontrast": lambda: change.autocontrast(image),
        "equalize": lambda: change.equalize(image),
    }
    if name in plain:
        return plain[name]()
    angle, shift, slant = 0.0, [0, 0], [0.0, 0.0]
    axis = 0 if name.endswith("-x") else 1
    if name == "rotate":
        angle = sign * magnitude * largest["rotate"]
    elif name.startswith("move"):
        shift[axis] = round(sign * magnitude * largest["move"] * image.size[axis])
    else:
        slant[axis] = math.degrees(math.atan(sign * magnitude * largest["shear"]))
    moved: Image.Image = change.affine(image, angle, shift, 1.0, slant, InterpolationMode.BILINEAR)
    return moved
