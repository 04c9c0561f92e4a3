"""From a golden photo to its tensor, stage by stage, each judged on the right input of that stage.

A fault in one stage is never reported as a fault of the next: where decoding differs, resizing is judged on
the recorded pixels, and so on. Where the right input of a stage is not known, the stage is not judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samesight.bundle import Bundle
from samesight.errors import InputError, PhotoError
from samesight.images.pixelfile import read_pixels
from samesight.preprocess import Preprocess, decode, normalise, resize
from samesight.verify.golden import Golden, GoldenSample, array_sha256

__all__ = ["PIXEL_AXES", "TENSOR_AXES", "Comparison", "Fault", "Judged", "compare", "judge"]

PIXEL_AXES = ("row", "column", "channel")
TENSOR_AXES = ("channel", "row", "column")


@dataclass(frozen=True)
class Comparison:
    """How two arrays of one shape differ. NaN on one side only counts as an infinite difference."""

    different: int  # how many values
    values: int
    max_abs_difference: float
    mean_abs_difference: float
    first: dict[str, int]  # where the first difference stands
    at: dict[str, int]  # where the largest stands
    expected: float  # the values there
    found: float

    def words(self) -> str:
        """The difference in one line."""
        first = " ".join(f"{name} {place}" for name, place in self.first.items())
        at = " ".join(f"{name} {place}" for name, place in self.at.items())
        return (
            f"{self.different} of {self.values} values differ, first at {first}, most by "
            f"{self.max_abs_difference:.4g} at {at} (expected {self.expected:.8g}, found {self.found:.8g})"
        )


@dataclass(frozen=True)
class Fault:
    """One stage of one sample that is not as recorded."""

    stage: str
    sample: str
    what: str
    comparison: Comparison | None = None

    def to_json(self) -> dict[str, Any]:
        """The fault as a JSON object."""
        values: dict[str, Any] = {"stage": self.stage, "sample": self.sample, "what": self.what}
        if self.comparison is not None:
            values |= {key: _finite(value) for key, value in vars(self.comparison).items()}
        return values


@dataclass
class Judged:
    """What was found of one sample; a stage that is missing in `faults` could not be judged."""

    faults: dict[str, Fault | None] = field(default_factory=dict)
    tensor: NDArray[np.float32] | None = None  # the right one, (3, height, width), where it is known


def compare(
    found: NDArray[Any], expected: NDArray[Any], axes: tuple[str, ...], allowed: float = 0.0
) -> Comparison | None:
    """How `found` differs from `expected`, of the same shape; None where no value by more than `allowed`."""
    wide, right = found.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore"):
        distance = np.abs(wide - right)
    distance[np.isnan(distance)] = np.inf
    distance[(wide == right) | (np.isnan(wide) & np.isnan(right))] = 0.0
    over = distance > allowed
    if not over.any():
        return None
    at = np.unravel_index(int(distance.argmax()), distance.shape)
    first = np.unravel_index(int(over.argmax()), distance.shape)
    return Comparison(
        different=int(over.sum()),
        values=distance.size,
        max_abs_difference=float(distance[at]),
        mean_abs_difference=float(distance.mean()),
        first=dict(zip(axes, map(int, first), strict=True)),
        at=dict(zip(axes, map(int, at), strict=True)),
        expected=float(right[at]),
        found=float(wide[at]),
    )


def judge(bundle: Bundle, golden: Golden, sample: GoldenSample) -> Judged:
    """The stages decode, resize and normalise of one golden sample.

    Raises a BundleError where a file of the bundle has changed since it was opened.
    """
    judged = Judged()
    pixels = _judge_decode(bundle, sample, judged)
    small = _judge_resize(bundle, golden, sample, pixels, judged)
    if small is not None:
        _judge_normalise(bundle.preprocess, golden.preprocess, sample, small, judged)
    return judged


def _judge_decode(bundle: Bundle, sample: GoldenSample, judged: Judged) -> NDArray[np.uint8] | None:
    """The right decoded pixels, where they are known."""
    kept = None if sample.lossless is None else _kept(bundle, sample.lossless)
    kept_is_right = kept is not None and array_sha256(kept) == sample.decoded_sha256
    comparison = None
    try:
        pixels = decode(bundle.read(sample.photo))
    except PhotoError as error:
        problem = f"{sample.photo} cannot be decoded: {error.what}"
    else:
        if array_sha256(pixels) == sample.decoded_sha256 and _fits(pixels, sample):
            fault = None
            if sample.lossless is not None and not kept_is_right:
                words = f"{sample.lossless} does not hold the pixels that golden.json records"
                fault = Fault("decode", sample.id, words)
            judged.faults["decode"] = fault
            return pixels
        problem = f"{sample.photo} gives other pixels than golden.json records"
        if kept is not None and kept_is_right:
            problem, comparison = _differ(problem, pixels, kept, PIXEL_AXES)
        elif not _fits(pixels, sample):
            problem += f": {_size(pixels)}, not {sample.width} × {sample.height}"
    judged.faults["decode"] = Fault("decode", sample.id, problem, comparison)
    return kept if kept_is_right else None


def _judge_resize(
    bundle: Bundle, golden: Golden, sample: GoldenSample, pixels: NDArray[np.uint8] | None, judged: Judged
) -> NDArray[np.uint8] | None:
    """The right resized pixels, where they are known."""
    kept = _kept(bundle, sample.resized)
    kept_is_right = kept is not None and array_sha256(kept) == sample.resized_sha256
    if pixels is None:
        return kept if kept_is_right else None
    comparison, small = None, None
    try:
        small = resize(pixels, bundle.preprocess)
    except InputError as error:
        problem = f"the photo cannot be resized: {error.what}"
    else:
        if array_sha256(small) == sample.resized_sha256:
            fault = None
            if not kept_is_right:
                words = f"{sample.resized} does not hold the pixels that golden.json records"
                fault = Fault("resize", sample.id, words)
            judged.faults["resize"] = fault
            return small
        problem = "resizing gives other pixels than golden.json records"
        if kept is not None and np.array_equal(small, kept):
            problem = f"the hash in golden.json fits neither {sample.resized} nor what resizing gives here"
            judged.faults["resize"] = Fault("resize", sample.id, problem)
            return small
        if kept is not None and kept_is_right:
            problem, comparison = _differ(problem, small, kept, PIXEL_AXES)
    problem += _other_words(bundle.preprocess, golden.preprocess, ("resize", "crop", "interpolation"))
    judged.faults["resize"] = Fault("resize", sample.id, problem, comparison)
    return kept if kept_is_right else None


def _judge_normalise(
    spec: Preprocess, recorded: Preprocess, sample: GoldenSample, small: NDArray[np.uint8], judged: Judged
) -> None:
    """Judge the tensor of the right pixels `small`, and set `judged.tensor` where the right one is known."""
    tensor = normalise(small, replace(recorded, mean=spec.mean, std=spec.std))
    if array_sha256(tensor) == sample.tensor_sha256:
        judged.faults["normalise"], judged.tensor = None, tensor
        return
    problem = "normalising gives another tensor than golden.json records"
    comparison = None
    for right in (normalise(small, recorded), _by_formula(small, recorded)):
        if array_sha256(right) == sample.tensor_sha256:
            problem, comparison = _differ(problem, tensor, right, TENSOR_AXES)
            judged.tensor = right
            break
    problem += _other_words(spec, recorded, ("mean", "std"))
    judged.faults["normalise"] = Fault("normalise", sample.id, problem, comparison)


def _by_formula(small: NDArray[np.uint8], spec: Preprocess) -> NDArray[np.float32]:
    """The tensor (3, h, w) by arithmetic on every pixel, each step rounded to float32; no table."""
    scaled = small.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    mean = np.array(spec.mean, np.float32)[:, None, None]
    std = np.array(spec.std, np.float32)[:, None, None]
    return np.ascontiguousarray((scaled - mean) / std)


def _kept(bundle: Bundle, path: str) -> NDArray[np.uint8] | None:
    """The pixels in a file of reference pixels; None where it is no such file."""
    try:
        return read_pixels(bundle.read(path))
    except PhotoError:
        return None


def _differ(
    problem: str, found: NDArray[Any], expected: NDArray[Any], axes: tuple[str, ...]
) -> tuple[str, Comparison | None]:
    if found.shape != expected.shape:
        return f"{problem}: {_size(found)}, not {_size(expected)}", None
    comparison = compare(found, expected, axes)
    return (f"{problem}: {comparison.words()}", comparison) if comparison else (problem, None)


def _other_words(spec: Preprocess, recorded: Preprocess, names: tuple[str, ...]) -> str:
    """What bundle.json says otherwise than the preprocessing that the golden samples were made by."""
    here, there = spec.to_json(), recorded.to_json()
    other = [f"{name} {here[name]}, not {there[name]}" for name in names if here[name] != there[name]]
    return f". bundle.json has {'; '.join(other)} as the golden samples were made by" if other else ""


def _fits(pixels: NDArray[np.uint8], sample: GoldenSample) -> bool:
    return pixels.shape == (sample.height, sample.width, 3)


def _size(pixels: NDArray[Any]) -> str:
    height, width = pixels.shape[:2] if pixels.shape[-1] == 3 else pixels.shape[-2:]
    return f"{width} × {height} pixels"


def _finite(value: object) -> object:
    """`value`, or its name where JSON has no word for it."""
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return dict(value) if isinstance(value, Mapping) else value
