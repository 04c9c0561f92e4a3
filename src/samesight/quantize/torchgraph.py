"""The operators of a float32 ONNX network in PyTorch, as far as classifiers of pictures have them.

Each function gets the node and its inputs and gives its only output; `unknown` names what is missing. What
they compute is told at https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import torch
from torch import Tensor
from torch.nn import functional

from samesight.quantize.graph import Graph, attribute

__all__ = ["OPERATORS", "unknown"]

Operator = Callable[..., Tensor]


def unknown(graph: Graph) -> list[str]:
    """The kinds of nodes of `graph` that cannot be computed here, sorted."""
    return sorted({node.op_type for node in graph.nodes if not _is_known(node)})


def _is_known(node: onnx.NodeProto) -> bool:
    if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
        return False
    if attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return False
    return len([name for name in node.output if name]) == 1


def _padded(node: onnx.NodeProto, pictures: Tensor, value: float = 0.0) -> Tensor:
    """`pictures` (n, c, h, w) with the node's pads around them."""
    pads = attribute(node, "pads", [0, 0, 0, 0])
    if not any(pads):
        return pictures
    top, left, bottom, right = pads
    return functional.pad(pictures, (left, right, top, bottom), value=value)


def _conv(node: onnx.NodeProto, pictures: Tensor, weights: Tensor, bias: Tensor | None = None) -> Tensor:
    pads = attribute(node, "pads", [0, 0, 0, 0])
    even = pads[:2] == pads[2:]
    return functional.conv2d(
        pictures if even else _padded(node, pictures),
        weights,
        bias,
        stride=attribute(node, "strides", [1, 1]),
        padding=pads[:2] if even else 0,
        dilation=attribute(node, "dilations", [1, 1]),
        groups=attribute(node, "group", 1),
    )


def _gemm(node: onnx.NodeProto, left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    if attribute(node, "transA", 0):
        left = left.T
    if attribute(node, "transB", 0):
        right = right.T
    result = attribute(node, "alpha", 1.0) * (left @ right)
    return result if bias is None else result + attribute(node, "beta", 1.0) * bias


def _clip(
    node: onnx.NodeProto, values: Tensor, low: Tensor | None = None, high: Tensor | None = None
) -> Tensor:
    return torch.clamp(values, low, high) if low is not None or high is not None else values


def _max_pool(node: onnx.NodeProto, pictures: Tensor) -> Tensor:
    return functional.max_pool2d(
        _padded(node, pictures, -torch.inf),
        attribute(node, "kernel_shape", None),
        attribute(node, "strides", [1, 1]),
        dilation=attribute(node, "dilations", [1, 1]),
        ceil_mode=bool(attribute(node, "ceil_mode", 0)),
    )


def _average_pool(node: onnx.NodeProto, pictures: Tensor) -> Tensor:
    kernel, strides = attribute(node, "kernel_shape", None), attribute(node, "strides", [1, 1])
    ceil = bool(attribute(node, "ceil_mode", 0))
    sums = functional.avg_pool2d(_padded(node, pictures), kernel, strides, ceil_mode=ceil, divisor_override=1)
    if attribute(node, "count_include_pad", 0) and not ceil:
        return sums / (kernel[0] * kernel[1])
    ones = torch.ones_like(pictures[:1, :1])
    shares = _padded(node, ones, float(attribute(node, "count_include_pad", 0)))
    return sums / functional.avg_pool2d(shares, kernel, strides, ceil_mode=ceil, divisor_override=1)


def _axes(node: onnx.NodeProto, given: Tensor | None, rank: int) -> list[int]:
    """The axes that a node names, in an input or, before opset 13 or 18, an attribute; else all."""
    axes = attribute(node, "axes", None) if given is None else given.tolist()
    return list(range(rank)) if axes is None else [int(axis) % rank for axis in axes]


def _reduce_mean(node: onnx.NodeProto, values: Tensor, axes: Tensor | None = None) -> Tensor:
    return values.mean(_axes(node, axes, values.ndim), keepdim=bool(attribute(node, "keepdims", 1)))


def _flatten(node: onnx.NodeProto, values: Tensor) -> Tensor:
    axis = attribute(node, "axis", 1) % (values.ndim + 1)
    return values.reshape((int(torch.tensor(values.shape[:axis]).prod()), -1))


def _reshape(node: onnx.NodeProto, values: Tensor, shape: Tensor) -> Tensor:
    keeps = not attribute(node, "allowzero", 0)
    wanted = [
        values.shape[place] if size == 0 and keeps else int(size) for place, size in enumerate(shape.tolist())
    ]
    return values.reshape(wanted)


def _transpose(node: onnx.NodeProto, values: Tensor) -> Tensor:
    return values.permute(attribute(node, "perm", list(reversed(range(values.ndim)))))


def _squeeze(node: onnx.NodeProto, values: Tensor, axes: Tensor | None = None) -> Tensor:
    if axes is None and attribute(node, "axes", None) is None:
        return values.squeeze()
    return values.squeeze(_axes(node, axes, values.ndim))


def _unsqueeze(node: onnx.NodeProto, values: Tensor, axes: Tensor | None = None) -> Tensor:
    named = attribute(node, "axes", None) if axes is None else axes.tolist()
    rank = values.ndim + len(named)
    for axis in sorted(int(axis) % rank for axis in named):
        values = values.unsqueeze(axis)
    return values


def _concat(node: onnx.NodeProto, *values: Tensor) -> Tensor:
    return torch.cat(values, attribute(node, "axis", None))


def _batch_normalisation(
    node: onnx.NodeProto, values: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    epsilon = attribute(node, "epsilon", 1e-5)
    return functional.batch_norm(values, mean, variance, scale, bias, eps=epsilon)


def _hard_sigmoid(node: onnx.NodeProto, values: Tensor) -> Tensor:
    return torch.clamp(attribute(node, "alpha", 0.2) * values + attribute(node, "beta", 0.5), 0, 1)


def _pad(
    node: onnx.NodeProto, values: Tensor, pads: Tensor | None = None, value: Tensor | None = None
) -> Tensor:
    given = attribute(node, "pads", None) if pads is None else [int(one) for one in pads.tolist()]
    mode = attribute(node, "mode", b"constant").decode()
    rank = values.ndim
    flat = [size for axis in reversed(range(rank)) for size in (given[axis], given[axis + rank])]
    if mode == "constant":
        return functional.pad(values, flat, value=0.0 if value is None else float(value))
    while len(flat) > 2 and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    return functional.pad(values, flat, mode={"reflect": "reflect", "edge": "replicate"}[mode])


def _slice(
    node: onnx.NodeProto,
    values: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    places = range(len(starts)) if axes is None else axes.tolist()
    strides = [1] * len(starts) if steps is None else steps.tolist()
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), places, strides, strict=True):
        if step < 0:
            raise NotImplementedError("a slice that goes backwards")
        index: list[Any] = [slice(None)] * values.ndim
        index[axis] = slice(start, end, step)
        values = values[tuple(index)]
    return values


def _join(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def of_all(node: onnx.NodeProto, first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = function(first, other)
        return first

    return of_all


def _each(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda node, values: function(values)


OPERATORS: dict[str, Operator] = {
    "Add": _join(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalisation,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": _join(torch.div),
    "Dropout": _each(lambda values: values),
    "Elu": lambda node, values: functional.elu(values, attribute(node, "alpha", 1.0)),
    "Erf": _each(torch.erf),
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda node, values: values.mean((2, 3), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda node, values: functional.hardswish(values),
    "Identity": _each(lambda values: values),
    "LeakyRelu": lambda node, values: functional.leaky_relu(values, attribute(node, "alpha", 0.01)),
    "MatMul": _join(torch.matmul),
    "Max": _join(torch.maximum),
    "MaxPool": _max_pool,
    "Min": _join(torch.minimum),
    "Mul": _join(torch.mul),
    "Pad": _pad,
    "Pow": _join(torch.pow),
    "ReduceMean": _reduce_mean,
    "Relu": _each(torch.relu),
    "Reshape": _reshape,
    "Sigmoid": _each(torch.sigmoid),
    "Slice": _slice,
    "Softmax": lambda node, values: torch.softmax(values, attribute(node, "axis", -1)),
    "Sqrt": _each(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _join(torch.sub),
    "Tanh": _each(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""Kinds of nodes, each a function of the node and its inputs (None for one that is left out)."""
