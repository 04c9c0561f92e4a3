"""A network as the secure engines see it: a list of steps, and weights apart from it.

The list of steps is public: every party knows it, compiles it, and compares its hash. The weights belong to
the model's owner alone. Tensors have short names of their own ("t3", "w7"), so that the public part tells
nothing of how the network's layers were called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from samesight.errors import InputError
from samesight.files import sha256_bytes

__all__ = ["KINDS", "Attribute", "Graph", "Step", "Weights", "is_not_negative", "pool_size"]

Attribute: TypeAlias = int | float | tuple[int, ...]
Weights: TypeAlias = Mapping[str, NDArray[np.float32]]

_WINDOW = {"kernel": 2, "strides": 2, "pads": 4}  # pads: top, left, bottom, right, as ONNX has them
# kind → the lengths of its attributes (0 for one number); inputs are values first, then weights
KINDS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "Conv": {**_WINDOW, "dilations": 2, "group": 0},  # value, weight OIHW, bias
        "Gemm": {},  # value (n, i), weight (o, i), bias (o)
        "Scale": {},  # value, scale (c), shift (c): what a normalisation is that nothing could take in
        "Relu": {},
        "Clip": {"low": 0, "high": 0},
        "HardSigmoid": {"alpha": 0, "beta": 0},
        "MaxPool": _WINDOW,
        "AveragePool": {**_WINDOW, "count_include_pad": 0},
        "GlobalAveragePool": {},
        "Flatten": {},
        "Add": {},
        "Mul": {},
        "Concat": {},  # along the channels
        "Slice": {"starts": 3, "ends": 3, "steps": 3},  # channels, rows, columns
        "Pad": {"before": 3, "after": 3},  # zeros; channels, rows, columns
    }
)
ANY_NUMBER = {"Concat"}
TWO_VALUES = {"Add", "Mul"}
WEIGHTS = {"Conv": 2, "Gemm": 2, "Scale": 2}  # how many of a step's inputs are weights
MAX_STEPS = 10_000
MAX_SIDE = 1 << 16
MAX_NUMBERS = 1 << 31  # in one tensor


@dataclass(frozen=True)
class Step:
    """One operation. `name` is the node's in the file it came from: for messages only."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Attribute]
    name: str = ""

    def numbers(self, name: str) -> tuple[int, ...]:
        """An attribute that is a list."""
        found = self.attributes[name]
        assert isinstance(found, tuple)
        return found

    def number(self, name: str) -> float:
        """An attribute that is one number."""
        found = self.attributes[name]
        assert isinstance(found, (int, float))
        return found

    @property
    def values(self) -> tuple[str, ...]:
        """The inputs that depend on the image."""
        return self.inputs[: len(self.inputs) - WEIGHTS.get(self.kind, 0)]

    @property
    def weights(self) -> tuple[str, ...]:
        """The inputs that belong to the model's owner."""
        return self.inputs[len(self.values) :]


@dataclass(frozen=True)
class Graph:
    """Steps in order, from an image (n, 3, h, w) to logits (n, classes)."""

    input: str
    shape: tuple[int, int, int, int]
    output: str
    steps: tuple[Step, ...]
    weight_shapes: Mapping[str, tuple[int, ...]]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every value and weight. Raises InputError where a step's inputs do not fit it."""
        found: dict[str, tuple[int, ...]] = {self.input: self.shape, **self.weight_shapes}
        for step in self.steps:
            try:
                shape = _SHAPES[step.kind](step, [found[name] for name in step.inputs])
            except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
                raise InputError(
                    f"the inputs of {step.kind} do not fit it", where=step.name or step.output, found=error
                ) from error
            if min(shape) < 1 or int(np.prod(shape, dtype=object)) > MAX_NUMBERS:
                raise InputError(f"{step.kind} gives no usable shape", where=step.name, found=shape)
            found[step.output] = shape
        return found

    @property
    def classes(self) -> int:
        """How many logits an image has."""
        return self.shapes[self.output][1]

    def users(self, name: str) -> list[Step]:
        """The steps that take `name`."""
        return [step for step in self.steps if name in step.inputs]

    def with_batch(self, batch: int) -> Graph:
        """The same network for `batch` images at once."""
        return replace(self, shape=(batch, *self.shape[1:]))

    def to_json(self) -> dict[str, Any]:
        """The public part: what every party knows."""
        return {
            "input": {"name": self.input, "shape": list(self.shape)},
            "output": self.output,
            "steps": [
                {
                    "kind": step.kind,
                    "inputs": list(step.inputs),
                    "output": step.output,
                    "attributes": {
                        name: list(value) if isinstance(value, tuple) else value
                        for name, value in sorted(step.attributes.items())
                    },
                }
                for step in self.steps
            ],
            "weights": {name: list(shape) for name, shape in self.weight_shapes.items()},
        }

    @property
    def id(self) -> str:
        """The SHA-256 of the public part."""
        import json

        return sha256_bytes(json.dumps(self.to_json(), sort_keys=True, separators=(",", ":")).encode())

    @classmethod
    def from_json(cls, value: object) -> Graph:
        """The graph that `to_json` wrote, held to the same rules. Raises InputError."""
        try:
            return _read(value)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError("this is not the public part of a network", found=repr(error)) from error


def _read(value: Any) -> Graph:
    steps = []
    if len(value["steps"]) > MAX_STEPS:
        raise ValueError(f"more than {MAX_STEPS} steps")
    for one in value["steps"]:
        lengths = KINDS[one["kind"]]
        if set(one["attributes"]) != set(lengths):
            raise ValueError(f"the attributes of {one['kind']}: {sorted(one['attributes'])}")
        attributes: dict[str, Attribute] = {}
        for name, found in one["attributes"].items():
            attributes[name] = _whole(found, lengths[name]) if lengths[name] else _number(found)
        step = Step(one["kind"], tuple(map(_name, one["inputs"])), _name(one["output"]), attributes)
        values = 2 if step.kind in TWO_VALUES else 1
        fits = len(step.values) >= 1 if step.kind in ANY_NUMBER else len(step.values) == values
        if not fits:
            raise ValueError(f"{step.kind} of {len(step.inputs)} inputs")
        steps.append(step)
    shape = _whole(value["input"]["shape"], 4)
    weights = {_name(name): _whole(shape, len(shape)) for name, shape in value["weights"].items()}
    batch, channels, height, width = shape
    graph = Graph(
        _name(value["input"]["name"]),
        (batch, channels, height, width),
        _name(value["output"]),
        tuple(steps),
        weights,
    )
    if set(value) != {"input", "output", "steps", "weights"}:
        raise ValueError(f"parts {sorted(value)}")
    names = [graph.input, *weights, *(step.output for step in steps)]
    if len(set(names)) != len(names) or len(graph.shapes[graph.output]) != 2:
        raise ValueError("a tensor is made twice, or the output is not (n, classes)")
    return graph


def _name(value: object) -> str:
    if not isinstance(value, str) or not value.isascii() or not value.isalnum() or len(value) > 32:
        raise ValueError(f"a tensor's name: {value!r:.40}")
    return value


def _number(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise ValueError(f"a number: {value!r:.40}")
    return value


def _whole(value: object, length: int) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) != length or not 1 <= length <= 8:
        raise ValueError(f"a list of {length} numbers: {value!r:.60}")
    for one in value:
        if type(one) is not int or not -MAX_SIDE <= one <= MAX_SIDE * 64:
            raise ValueError(f"a whole number: {one!r:.40}")
    return tuple(value)


def pool_size(side: int, kernel: int, stride: int, pads: tuple[int, int], dilation: int = 1) -> int:
    """How many windows fit into `side` and its padding."""
    reach = dilation * (kernel - 1) + 1
    if min(kernel, stride, dilation) < 1 or min(pads) < 0:
        raise ValueError(f"a window of {kernel}, stride {stride}, padding {pads}")
    return (side + sum(pads) - reach) // stride + 1


def _window(step: Step, shape: tuple[int, ...], channels: int) -> tuple[int, ...]:
    batch, _, *sides = shape
    kernel, strides, pads = (step.numbers(name) for name in ("kernel", "strides", "pads"))
    dilations = step.numbers("dilations") if step.kind == "Conv" else (1, 1)
    made = (
        pool_size(sides[i], kernel[i], strides[i], (pads[i], pads[i + 2]), dilations[i]) for i in range(2)
    )
    return (batch, channels, *made)


def _conv(step: Step, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    value, weight, bias = shapes
    group = int(step.number("group"))
    if value[1] != weight[1] * group or weight[0] % group or bias != weight[:1]:
        raise ValueError(f"{value}, {weight}, {bias}, {group} groups")
    if weight[2:] != step.numbers("kernel"):
        raise ValueError(f"a kernel {step.numbers('kernel')} with weights {weight}")
    return _window(step, value, weight[0])


def _gemm(step: Step, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    value, weight, bias = shapes
    if len(value) != 2 or value[1] != weight[1] or bias != weight[:1]:
        raise ValueError(f"{value}, {weight}, {bias}")
    return value[0], weight[0]


def _scale(step: Step, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    value, scale, shift = shapes
    if len(value) < 2 or not scale == shift == (value[1],):
        raise ValueError(f"{value}, {scale}, {shift}")
    return value


def _pairwise(step: Step, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(np.broadcast_shapes(*shapes))


def _concat(step: Step, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    first = shapes[0]
    if any((one[0], *one[2:]) != (first[0], *first[2:]) for one in shapes):
        raise ValueError(f"{shapes}")
    return first[0], sum(one[1] for one in shapes), *first[2:]


def _slice(step: Step, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    parts = zip(*(step.numbers(name) for name in ("starts", "ends", "steps")), strict=True)
    batch, *sides = shapes[0]
    ranges = (range(*slice(*part).indices(side)) for part, side in zip(parts, sides, strict=True))
    return (batch, *(len(one) for one in ranges))


def _pad(step: Step, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    before, after = step.numbers("before"), step.numbers("after")
    if min(*before, *after) < 0:
        raise ValueError(f"padding of {before}, {after}")
    batch, *sides = shapes[0]
    return (batch, *(a + n + b for a, n, b in zip(before, sides, after, strict=True)))


def _same(step: Step, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    return shapes[0]


_SHAPES: Mapping[str, Any] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "Scale": _scale,
    "Relu": _same,
    "Clip": _same,
    "HardSigmoid": _same,
    "MaxPool": lambda step, shapes: _window(step, shapes[0], shapes[0][1]),
    "AveragePool": lambda step, shapes: _window(step, shapes[0], shapes[0][1]),
    "GlobalAveragePool": lambda step, shapes: (*shapes[0][:2], 1, 1),
    "Flatten": lambda step, shapes: (shapes[0][0], int(np.prod(shapes[0][1:]))),
    "Add": _pairwise,
    "Mul": _pairwise,
    "Concat": _concat,
    "Slice": _slice,
    "Pad": _pad,
}


def is_not_negative(graph: Graph, name: str) -> bool:
    """Whether a value can only be zero or more, by the steps that make it."""
    for step in graph.steps:
        if step.output == name:
            if step.kind in ("Relu", "HardSigmoid"):
                return True
            if step.kind == "Clip":
                return step.number("low") >= 0
            through = {"MaxPool", "AveragePool", "GlobalAveragePool", "Flatten", "Concat", "Slice", "Pad"}
            if step.kind in through or step.kind in ("Add", "Mul"):
                return all(is_not_negative(graph, one) for one in step.values)
            return False
    return False
