"""What is done to a photo, as numbers: the parameters of spec/preprocess.md, and what follows from them.

Imports neither numpy nor Pillow: a bundle is read, and one photo prepared, without waiting for either.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from samesight.errors import InputError

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "INTERPOLATIONS",
    "MAX_SIZE",
    "Preprocess",
    "middle",
    "resized_size",
    "rows_needed",
]

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
MAX_SIZE: Final = 8192  # pixels, of a side that is asked for
INTERPOLATIONS: Final = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
WIDEST_REACH = 3  # pixels of the smaller picture that Lanczos, the widest filter, looks to each side
FIELDS = ("resize", "crop", "interpolation", "mean", "std")


@dataclass(frozen=True)
class Preprocess:
    """What is done to a photo's pixels. Raises InputError where the parts do not fit together.

    `resize` is the length of the shortest edge, or an exact (width, height); `crop` is the (width, height)
    that is cut from the centre, None for none. `mean` and `std` are of red, green and blue in 0 … 1.
    """

    resize: int | tuple[int, int]
    crop: tuple[int, int] | None
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    table: tuple[array[float], ...] = field(init=False, repr=False, compare=False)
    """What each of the 256 values becomes in red, green and blue: float32."""

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(
                "no such interpolation", expected=" ".join(INTERPOLATIONS), found=self.interpolation
            )
        resized = self.resize if isinstance(self.resize, tuple) else (self.resize, self.resize)
        for side in (*resized, *(self.crop or ())):
            if type(side) is not int or not 1 <= side <= MAX_SIZE:
                raise InputError("a size is out of range", expected=f"1 to {MAX_SIZE} pixels", found=side)
        if self.crop is None:
            if not isinstance(self.resize, tuple):
                raise InputError(
                    "a shortest edge alone gives photos of different sizes",
                    found=f"resize {self.resize} and no crop",
                    fix=f"a crop of {self.resize}, or a resize to {self.resize}x{self.resize}",
                )
        elif self.crop[0] > resized[0] or self.crop[1] > resized[1]:
            raise InputError("the crop is larger than what it is cut from", expected=resized, found=self.crop)
        if len(self.mean) != 3 or len(self.std) != 3:
            raise InputError("mean and std are three numbers each", found=(self.mean, self.std))
        if not all(map(math.isfinite, self.mean)) or not all(0 < value < math.inf for value in self.std):
            raise InputError("mean must be finite, std above 0", found=(self.mean, self.std))
        object.__setattr__(self, "table", tuple(map(_column, self.mean, self.std)))
        if not all(map(math.isfinite, (value for column in self.table for value in column))):
            raise InputError("mean and std give numbers beyond float32", found=(self.mean, self.std))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the tensor, in pixels."""
        if self.crop is not None:
            return self.crop
        assert isinstance(self.resize, tuple)
        return self.resize

    def to_json(self) -> dict[str, Any]:
        """The JSON object that spec/preprocess.md describes."""
        if isinstance(self.resize, tuple):
            resize = {"kind": "exact", "width": self.resize[0], "height": self.resize[1]}
        else:
            resize = {"kind": "shortest_edge", "size": self.resize}
        crop = None if self.crop is None else {"width": self.crop[0], "height": self.crop[1]}
        return {
            "resize": resize,
            "crop": crop,
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @classmethod
    def from_json(cls, value: object) -> Preprocess:
        """Read what `to_json` writes. Raises InputError for anything else, also for a field too many."""
        fields = _fields(value, "preprocess", FIELDS)
        interpolation = fields["interpolation"]
        if not isinstance(interpolation, str):
            raise InputError("preprocess: interpolation is not a name", found=interpolation)
        return cls(
            resize=_resize_from_json(fields["resize"]),
            crop=None if fields["crop"] is None else _size_from_json(fields["crop"], "preprocess: crop"),
            interpolation=interpolation,
            mean=_three_from_json(fields["mean"], "preprocess: mean"),
            std=_three_from_json(fields["std"], "preprocess: std"),
        )

    @classmethod
    def parse(
        cls,
        *,
        resize: str,
        crop: str | None = None,
        interpolation: str = "bilinear",
        mean: str | None = None,
        std: str | None = None,
    ) -> Preprocess:
        """From words of a command line: resize "256" or "224x224" (width x height), crop "224" or "224x224",
        mean and std "0.485,0.456,0.406". A single number as resize is the shortest edge, and its crop, where
        none is given, the square of that length.
        """
        sides = _sizes(resize, "--resize")
        cut = None if crop is None else _sizes(crop, "--crop")
        if len(sides) == 1 and cut is None:
            cut = sides
        return cls(
            resize=sides[0] if len(sides) == 1 else (sides[0], sides[1]),
            crop=None if cut is None else (cut[0], cut[-1]),
            interpolation=interpolation,
            mean=IMAGENET_MEAN if mean is None else _three(mean, "--mean"),
            std=IMAGENET_STD if std is None else _three(std, "--std"),
        )


def rows_needed(height: int, resized_height: int, top: int, down: int) -> tuple[int, int]:
    """The rows of the source that the rows top … top + down of the resized picture draw on, or some more."""
    scale = height / resized_height
    reach = WIDEST_REACH * max(scale, 1.0) + 2
    return max(0, int(top * scale - reach)), min(height, int((top + down) * scale + reach) + 1)


def resized_size(width: int, height: int, spec: Preprocess) -> tuple[int, int]:
    """Width and height of a photo of that size after its resize, before its crop."""
    if isinstance(spec.resize, tuple):
        return spec.resize
    if width <= height:
        return spec.resize, spec.resize * height // width
    return spec.resize * width // height, spec.resize


def middle(spare: int) -> int:
    """Half of `spare`, a half rounded to the even neighbour, as Python and torchvision round."""
    half = spare // 2
    return half + (half & 1 if spare & 1 else 0)


def _column(mean: float, std: float) -> array[float]:
    """((v / 255) - mean) / std for the 256 values, each step rounded to float32; NaN where std rounds to 0.

    A double that is rounded to float32 after each step is what float32 itself gives: it has more than twice
    the bits (Figueroa, When is double rounding innocuous?, 1995).
    """
    centre, spread = array("f", (mean, std))
    shares = array("f", [value / 255 for value in range(256)])
    centred = array("f", [share - centre for share in shares])
    return array("f", [value / spread if spread else math.nan for value in centred])


def _fields(value: object, name: str, names: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, dict) or set(value) != set(names):
        found = sorted(map(str, value)) if isinstance(value, dict) else value
        raise InputError(f"{name} has other fields than it must", expected=" ".join(names), found=found)
    return value


def _resize_from_json(value: object) -> int | tuple[int, int]:
    if isinstance(value, dict) and value.get("kind") == "shortest_edge":
        _fields(value, "preprocess: resize", ("kind", "size"))
        return _whole(value["size"], "preprocess: resize")
    if isinstance(value, dict) and value.get("kind") == "exact":
        size = {name: part for name, part in value.items() if name != "kind"}
        return _size_from_json(size, "preprocess: resize")
    raise InputError("preprocess: resize is of no known kind", expected="shortest_edge or exact", found=value)


def _size_from_json(value: object, name: str) -> tuple[int, int]:
    fields = _fields(value, name, ("width", "height"))
    return _whole(fields["width"], name), _whole(fields["height"], name)


def _whole(value: object, name: str) -> int:
    if type(value) is not int:
        raise InputError(f"{name} is not a whole number", found=value)
    return value


def _three_from_json(value: object, name: str) -> tuple[float, float, float]:
    if (
        not isinstance(value, list)
        or len(value) != 3
        or any(type(part) not in (int, float) for part in value)
    ):
        raise InputError(f"{name} is not three numbers", found=value)
    try:
        return float(value[0]), float(value[1]), float(value[2])
    except OverflowError as error:
        raise InputError(f"{name} is too large", found=error) from error


def _sizes(words: str, option: str) -> tuple[int, ...]:
    parts = words.lower().split("x")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise InputError(f"{option} is not a size", expected="256 or 224x224 (width x height)", found=words)
    return tuple(map(int, parts))


def _three(words: str, option: str) -> tuple[float, float, float]:
    try:
        first, second, third = map(float, words.split(","))
    except ValueError as error:
        raise InputError(
            f"{option} is not three numbers", expected="0.485,0.456,0.406", found=words
        ) from error
    return first, second, third
