"""A graph as a JAX function, written for secure computation: what is free there is not what is free here.

Under MPC sums, slices and transpositions cost nothing, products cost a message, comparisons cost ten. So

- values are NHWC, since the engine's convolution is: weights are laid out before they are shared
- a maximum over a window is two maxima in one dimension each (5 comparisons for 3 × 3 at stride 2, not 8),
  and padding it with zeros is as good as with minus infinity wherever a ReLU follows or came before
- an average is a sum of slices; dividing it goes into the next layer's weights where there is one
- ReLU6 is the difference of two ReLUs that are computed as one, in the rounds of one
- the label is found by a tournament: log2(classes) rounds

Imports jax, so it is imported in the engine's own environment alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from samesight.secure.graph import Graph, Step, is_not_negative
from samesight.secure.stages import not_negative

__all__ = ["forward", "laid_out", "top_label"]

Value: TypeAlias = Any  # a jax array, traced
LOWEST = -1024.0  # pads a maximum whose values may be negative; far below any activation, far above overflow


def forward(graph: Graph, *, label: bool) -> Callable[..., Value]:
    """A function of an image (n, 3, h, w) and the weights as `laid_out` gives them, in the graph's order.

    It gives logits (n, classes) float32, or with `label` the index of the largest, (n,) int32.
    """

    def function(image: Value, *weights: Value) -> Value:
        values = dict(zip(graph.weight_shapes, weights, strict=True))
        values[graph.input] = jnp.transpose(image, (0, 2, 3, 1))
        for step in graph.steps:
            values[step.output] = _RULES[step.kind](graph, step, *(values[name] for name in step.inputs))
        logits = values[graph.output]
        return top_label(logits) if label else logits

    return function


def laid_out(graph: Graph, weights: Mapping[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """The weights in the graph's order, as `forward` takes them: convolutions HWIO, matrices (i, o)."""
    orders = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
    return [
        np.ascontiguousarray(weights[name].transpose(orders[weights[name].ndim]))
        for name in graph.weight_shapes
    ]


def top_label(logits: Value) -> Value:
    """The index (n,) of the largest of `logits` (n, classes); the first where two are equal."""
    best = logits
    index = jnp.broadcast_to(jnp.arange(logits.shape[1], dtype=jnp.int32), logits.shape)
    while best.shape[1] > 1:
        half = (best.shape[1] + 1) // 2
        pairs = best.shape[1] - half
        # the left of each pair is of the lower index throughout, and stays where both are equal
        left, right = best[:, :pairs], best[:, half:]
        lower, higher = index[:, :pairs], index[:, half:]
        stays = not_negative(left - right)
        best = jnp.concatenate([jnp.where(stays, left, right), best[:, pairs:half]], axis=1)
        index = jnp.concatenate([jnp.where(stays, lower, higher), index[:, pairs:half]], axis=1)
    return index[:, 0]


def _conv(graph: Graph, step: Step, value: Value, weight: Value, bias: Value) -> Value:
    top, left, bottom, right = step.numbers("pads")
    made = jax.lax.conv_general_dilated(
        value,
        weight,
        window_strides=step.numbers("strides"),
        padding=((top, bottom), (left, right)),
        rhs_dilation=step.numbers("dilations"),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=int(step.number("group")),
    )
    return made + bias


def _gemm(graph: Graph, step: Step, value: Value, weight: Value, bias: Value) -> Value:
    return jnp.matmul(value, weight) + bias


def _scale(graph: Graph, step: Step, value: Value, scale: Value, shift: Value) -> Value:
    return value * scale + shift


def _relu(graph: Graph, step: Step, value: Value) -> Value:
    return _at_least_zero(value)


def _at_least_zero(value: Value) -> Value:
    return value * not_negative(value).astype(value.dtype)


def _larger(one: Value, other: Value) -> Value:
    return jnp.where(not_negative(one - other), one, other)


def _clip(graph: Graph, step: Step, value: Value) -> Value:
    return _between(value, step.number("low"), step.number("high"))


def _between(value: Value, low: Any, high: Any) -> Value:
    both = _at_least_zero(jnp.stack([value - low, value - high]))
    return low + both[0] - both[1]


def _hard_sigmoid(graph: Graph, step: Step, value: Value) -> Value:
    return _between(value * step.number("alpha") + step.number("beta"), 0.0, 1.0)


def _windows(value: Value, axis: int, kernel: int, stride: int) -> list[Value]:
    """The k-th numbers of all windows along `axis`, for each k."""
    count = (value.shape[axis] - kernel) // stride + 1
    return [jax.lax.slice_in_dim(value, k, k + (count - 1) * stride + 1, stride, axis) for k in range(kernel)]


def _padded(value: Value, step: Step, filler: float) -> Value:
    top, left, bottom, right = step.numbers("pads")
    if not (top or left or bottom or right):
        return value
    sides = ((0, 0), (top, bottom), (left, right), (0, 0))
    return jnp.pad(value, sides, constant_values=filler)


def _max_pool(graph: Graph, step: Step, value: Value) -> Value:
    users = graph.users(step.output)
    to_relu = bool(users) and all(
        one.kind == "Relu" or (one.kind == "Clip" and one.number("low") == 0) for one in users
    )
    safe = to_relu or is_not_negative(graph, step.inputs[0])
    value = _padded(value, step, 0.0 if safe else LOWEST)
    for axis, kernel, stride in _axes(step):
        value = _tree(_larger, _windows(value, axis, kernel, stride))
    return value


def _tree(operation: Callable[[Value, Value], Value], values: list[Value]) -> Value:
    """All of them under `operation`, in the fewest rounds."""
    while len(values) > 1:
        pairs = [operation(a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[len(pairs) * 2 :]
    return values[0]


def _axes(step: Step) -> list[tuple[int, int, int]]:
    kernel, strides = step.numbers("kernel"), step.numbers("strides")
    return [(2, kernel[1], strides[1]), (1, kernel[0], strides[0])]


def _average_pool(graph: Graph, step: Step, value: Value) -> Value:
    height, width = value.shape[1:3]
    value = _padded(value, step, 0.0)
    counts = np.ones((height, width), np.float32)
    top, left, bottom, right = step.numbers("pads")
    ones = 1.0 if step.number("count_include_pad") else 0.0
    counts = np.pad(counts, ((top, bottom), (left, right)), constant_values=ones)
    counts = counts[None, :, :, None]
    for axis, kernel, stride in _axes(step):
        value = sum(_windows(value, axis, kernel, stride))
        counts = np.sum(_windows_of(counts, axis, kernel, stride), axis=0)
    return value * (1 / counts if np.ptp(counts) else float(1 / counts.flat[0]))


def _windows_of(array: NDArray[np.float32], axis: int, kernel: int, stride: int) -> list[Any]:
    count = (array.shape[axis] - kernel) // stride + 1
    return [np.take(array, range(k, k + (count - 1) * stride + 1, stride), axis) for k in range(kernel)]


def _global_average(graph: Graph, step: Step, value: Value) -> Value:
    numbers = value.shape[1] * value.shape[2]
    return jnp.sum(value, axis=(1, 2), keepdims=True) * (1 / numbers)


def _flatten(graph: Graph, step: Step, value: Value) -> Value:
    return jnp.reshape(jnp.transpose(value, (0, 3, 1, 2)), (value.shape[0], -1))


def _slice(graph: Graph, step: Step, value: Value) -> Value:
    parts = zip(*(step.numbers(name) for name in ("starts", "ends", "steps")), strict=True)
    channels, rows, columns = (slice(*part) for part in parts)
    return value[:, rows, columns, channels]


def _pad(graph: Graph, step: Step, value: Value) -> Value:
    (c0, h0, w0), (c1, h1, w1) = step.numbers("before"), step.numbers("after")
    return jnp.pad(value, ((0, 0), (h0, h1), (w0, w1), (c0, c1)))


_RULES: Mapping[str, Callable[..., Value]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "Scale": _scale,
    "Relu": _relu,
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average,
    "Flatten": _flatten,
    "Add": lambda graph, step, a, b: a + b,
    "Mul": lambda graph, step, a, b: a * b,
    "Concat": lambda graph, step, *values: jnp.concatenate(values, axis=-1),
    "Slice": _slice,
    "Pad": _pad,
}
