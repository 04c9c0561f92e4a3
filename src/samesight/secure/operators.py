"""What each ONNX operator is as steps: a rule each, which looks at every input and attribute.

A rule raises NotUnderstood for what it does not know; nothing is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from samesight.secure.graph import Attribute, pool_size

__all__ = ["RULES", "Node", "NotUnderstood", "Reader", "advice", "normalisation"]

Array: TypeAlias = NDArray[Any]


class NotUnderstood(Exception):
    """What is not known of a node, and what to do about it."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what, self.fix = what, fix


class Reader(Protocol):
    """What a rule needs of the graph that is being read."""

    nodes: list[Any]
    constants: dict[str, Array]
    """By their names in the file."""
    values: dict[str, str]
    """Names in the file → names of values in the graph."""
    shapes: dict[str, tuple[int, ...]]
    opset: int

    def add(self, kind: str, inputs: tuple[str, ...], name: str, **attributes: Attribute) -> str:
        """The name of the value that a new step gives."""
        ...

    def add_weight(self, values: Array) -> str:
        """The name of a weight, which is private."""
        ...


class Node:
    """One node for its rule: inputs by place, and attributes, each of which must be looked at."""

    def __init__(self, reader: Reader, node: Any, attributes: Mapping[str, Any]) -> None:
        self.reader = reader
        self.node = node
        self.left = dict(attributes)
        self.name: str = node.name or node.output[0]

    def value(self, place: int) -> str:
        """The value at an input."""
        name = self.node.input[place]
        if name not in self.reader.values:
            raise NotUnderstood("takes a constant where a value is expected", "export it anew")
        return self.reader.values[name]

    def shape(self, place: int = 0) -> tuple[int, ...]:
        """The shape of the value at an input, for one image."""
        return self.reader.shapes[self.value(place)]

    def is_constant(self, place: int) -> bool:
        """Whether the input does not depend on the image."""
        return self.has(place) and self.node.input[place] in self.reader.constants

    def has(self, place: int) -> bool:
        """Whether there is such an input."""
        return place < len(self.node.input) and bool(self.node.input[place])

    def constant(self, place: int) -> Array:
        """The constant at an input."""
        if not self.is_constant(place):
            raise NotUnderstood(f"input {place} depends on the image", "export it anew")
        return self.reader.constants[self.node.input[place]]

    def take(self, name: str, default: Any = None) -> Any:
        """An attribute; None where it is not there and there is no default."""
        found = self.left.pop(name, default)
        return found.decode("utf-8", "replace") if isinstance(found, bytes) else found

    def only(self, name: str, *allowed: Any) -> None:
        """Refuse the attribute where it has another value than those; absent is the first."""
        found = self.take(name, allowed[0])
        if found not in allowed:
            raise NotUnderstood(f"{name} is {found}, not {allowed[0]}", "export it anew")

    def check_all_read(self) -> None:
        """Refuse attributes that the rule has not looked at."""
        if self.left:
            raise NotUnderstood(
                f"has attributes that are not known: {', '.join(self.left)}", "export it anew"
            )

    def gives(self, value: str) -> None:
        """Name the node's first output."""
        self.reader.values[self.node.output[0]] = value
        if any(self.node.output[1:]):
            used = {name for one in self.reader.nodes for name in one.input}
            if used.intersection(self.node.output[1:]):
                raise NotUnderstood("its second output is used", "export it anew")

    def step(self, kind: str, inputs: tuple[str, ...], **attributes: Attribute) -> None:
        """Let the node be this step."""
        self.gives(self.reader.add(kind, inputs, self.name, **attributes))

    def weight(self, values: Array) -> str:
        """A new weight."""
        return self.reader.add_weight(values)


def _numbers(found: Any, length: int, default: int) -> tuple[int, ...]:
    if found is None:
        return (default,) * length
    if len(found) != length:
        raise NotUnderstood(f"is not of two dimensions: {list(found)}", "use a network of images")
    return tuple(int(one) for one in found)


def _pads(node: Node, kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]) -> Any:
    auto = node.take("auto_pad", "NOTSET")
    pads = _numbers(node.take("pads"), 4, 0)
    if auto in ("NOTSET", "VALID", ""):
        return pads
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise NotUnderstood(f"auto_pad is {auto}", "export it with explicit pads")
    sides = node.shape()[2:]
    ends = []
    for side, k, stride, dilation in zip(sides, kernel, strides, dilations, strict=True):
        total = max((math.ceil(side / stride) - 1) * stride + dilation * (k - 1) + 1 - side, 0)
        small, large = total // 2, total - total // 2
        ends.append((small, large) if auto == "SAME_UPPER" else (large, small))
    return (ends[0][0], ends[1][0], ends[0][1], ends[1][1])


def _conv(node: Node) -> None:
    weight = node.constant(1)
    if weight.ndim != 4:
        raise NotUnderstood(f"a convolution of {weight.ndim - 2} dimensions", "use a network of images")
    kernel = _numbers(node.take("kernel_shape"), 2, 0)
    kernel = kernel if any(kernel) else tuple(weight.shape[2:])
    strides, dilations = _numbers(node.take("strides"), 2, 1), _numbers(node.take("dilations"), 2, 1)
    bias = node.constant(2) if node.has(2) else np.zeros(weight.shape[0], np.float32)
    pads = _pads(node, kernel, strides, dilations)
    node.step(
        "Conv",
        (node.value(0), node.weight(weight), node.weight(bias)),
        kernel=kernel,
        strides=strides,
        pads=pads,
        dilations=dilations,
        group=int(node.take("group", 1)),
    )


def _gemm(node: Node) -> None:
    node.only("transA", 0)
    alpha, beta = float(node.take("alpha", 1.0)), float(node.take("beta", 1.0))
    weight = node.constant(1)
    weight = weight if node.take("transB", 0) else weight.T
    bias = node.constant(2) if node.has(2) else np.zeros(weight.shape[0], np.float32)
    bias = np.broadcast_to(bias.reshape(-1), weight.shape[:1])
    if alpha != 1 or beta != 1:
        weight, bias = weight * np.float32(alpha), bias * np.float32(beta)
    node.step("Gemm", (node.value(0), node.weight(weight), node.weight(bias)))


def _matmul(node: Node) -> None:
    weight = node.constant(1)
    if weight.ndim != 2 or len(node.shape()) != 2:
        raise NotUnderstood("a product of more than two dimensions", "use a network of convolutions")
    bias = node.weight(np.zeros(weight.shape[1], np.float32))
    node.step("Gemm", (node.value(0), node.weight(weight.T), bias))


def _normalisation(node: Node) -> None:
    node.only("training_mode", 0)
    node.only("spatial", 1)
    node.take("momentum")
    scale, shift = normalisation(
        *(node.constant(place) for place in (1, 2, 3, 4)), epsilon=float(node.take("epsilon", 1e-5))
    )
    node.step("Scale", (node.value(0), node.weight(scale), node.weight(shift)))


def normalisation(
    gamma: Array, beta: Array, mean: Array, variance: Array, *, epsilon: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A batch normalisation as x · scale + shift, computed in float64."""
    scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
    shift = beta.astype(np.float64) - mean.astype(np.float64) * scale
    return scale.astype(np.float32), shift.astype(np.float32)


def _clip(node: Node) -> None:
    low, high = node.take("min"), node.take("max")
    if node.reader.opset >= 11:
        low = float(node.constant(1)) if node.has(1) else None
        high = float(node.constant(2)) if node.has(2) else None
    if low is None or not np.isfinite(low):
        raise NotUnderstood("a limit from above alone", "use ReLU or ReLU6")
    if high is None or high >= np.finfo(np.float32).max:
        if low != 0:
            raise NotUnderstood(f"a lower limit of {low}", "use ReLU or ReLU6")
        node.step("Relu", (node.value(0),))
    else:
        node.step("Clip", (node.value(0),), low=float(low), high=float(high))


def _relu(node: Node) -> None:
    node.step("Relu", (node.value(0),))


def _hard_sigmoid(node: Node) -> None:
    alpha, beta = float(node.take("alpha", 0.2)), float(node.take("beta", 0.5))
    node.step("HardSigmoid", (node.value(0),), alpha=alpha, beta=beta)


def _hard_swish(node: Node) -> None:
    value = node.value(0)
    gate = node.reader.add("HardSigmoid", (value,), node.name, alpha=1 / 6, beta=0.5)
    node.step("Mul", (value, gate))


def _pool(node: Node) -> None:
    kind = str(node.node.op_type)
    kernel = _numbers(node.take("kernel_shape"), 2, 1)
    strides = _numbers(node.take("strides"), 2, 1)
    dilations = _numbers(node.take("dilations"), 2, 1)
    if dilations != (1, 1):
        raise NotUnderstood(f"dilations are {dilations}", "use pooling without dilation")
    node.only("storage_order", 0)
    top, left, bottom, right = _pads(node, kernel, strides, dilations)
    more: dict[str, Attribute] = {}
    if kind == "AveragePool":
        more["count_include_pad"] = int(node.take("count_include_pad", 0))
    if node.take("ceil_mode", 0):
        ends = []
        for side, k, stride, before, after in zip(
            node.shape()[2:], kernel, strides, (top, left), (bottom, right), strict=True
        ):
            windows = -(-(side + before + after - k) // stride) + 1
            if (windows - 1) * stride >= side + before:  # a window may not begin in the padding
                windows -= 1
            ends.append(max((windows - 1) * stride + k - side - before, 0))
            if more.get("count_include_pad") and ends[-1] > after:
                raise NotUnderstood("ceil_mode with padding that counts", "use pooling without ceil_mode")
            assert pool_size(side, k, stride, (before, ends[-1])) == windows
        bottom, right = ends
    pads = (top, left, bottom, right)
    node.step(kind, (node.value(0),), kernel=kernel, strides=strides, pads=pads, **more)


def _global_average(node: Node) -> None:
    node.step("GlobalAveragePool", (node.value(0),))


def _reduce_mean(node: Node) -> None:
    axes = node.take("axes") or (node.constant(1).tolist() if node.has(1) else [])
    node.only("noop_with_empty_axes", 0)
    rank = len(node.shape())
    if rank != 4 or sorted(int(axis) % rank for axis in axes) != [2, 3]:
        raise NotUnderstood(f"a mean over axes {list(axes)}", "use global average pooling")
    value = node.reader.add("GlobalAveragePool", (node.value(0),), node.name)
    keep = node.take("keepdims", 1)
    node.gives(value if keep else node.reader.add("Flatten", (value,), node.name))


def _flatten(node: Node) -> None:
    axis = node.take("axis", 1)
    if axis not in (1, 1 - len(node.shape())):
        raise NotUnderstood(f"axis is {axis}", "flatten all but the batch")
    _to_matrix(node)


def _to_matrix(node: Node) -> None:
    if len(node.shape()) == 2:
        node.gives(node.value(0))
    else:
        node.step("Flatten", (node.value(0),))


def _reshape(node: Node) -> None:
    node.only("allowzero", 0)
    wanted = [int(one) for one in node.constant(1)]
    shape = node.shape()
    size = int(np.prod(shape))
    wanted = [shape[place] if one == 0 else one for place, one in enumerate(wanted)]
    if -1 in wanted:
        known = -int(np.prod(wanted))
        wanted[wanted.index(-1)] = size // known if known else 0
    if tuple(wanted) == shape:
        node.gives(node.value(0))
    elif wanted == [1, size]:
        _to_matrix(node)
    else:
        raise NotUnderstood(f"a reshape to {wanted}", "use a network that only flattens before its head")


def _squeeze(node: Node) -> None:
    axes = node.take("axes") or (node.constant(1).tolist() if node.has(1) else [2, 3])
    shape = node.shape()
    if len(shape) != 4 or shape[2:] != (1, 1) or sorted(int(axis) % 4 for axis in axes) != [2, 3]:
        raise NotUnderstood(f"a squeeze of {shape}", "use a network that only flattens before its head")
    node.step("Flatten", (node.value(0),))


def _same(node: Node) -> None:
    for name in ("ratio", "seed"):
        node.take(name)
    node.gives(node.value(0))


def _cast(node: Node) -> None:
    if node.take("to") != 1:  # onnx.TensorProto.FLOAT
        raise NotUnderstood("a cast to another type", "use the fp32 copy")
    node.gives(node.value(0))


def _arithmetic(node: Node) -> None:
    kind = str(node.node.op_type)
    if node.is_constant(0) or node.is_constant(1):
        _by_constant(node, kind)
    elif kind == "Sub":
        raise NotUnderstood("a difference of two values", "use a network of sums")
    else:
        node.step(kind, (node.value(0), node.value(1)))


def _by_constant(node: Node, kind: str) -> None:
    """x + c, c + x, x − c, c − x, x · c, x / c with c a number or one a channel, as a Scale."""
    at = 1 if node.is_constant(1) else 0
    constant, value = np.asarray(node.constant(at), np.float32), node.value(1 - at)
    shape = node.shape(1 - at)
    channels = shape[1]
    by_channel = constant.size == 1 or (
        constant.size == channels
        and (len(shape) == 2 or (constant.ndim >= 3 and constant.shape[-2:] == (1, 1)))
    )
    if not by_channel or (kind == "Div" and at == 0):
        raise NotUnderstood(f"{kind} with a constant of shape {constant.shape}", "use one number a channel")
    numbers = np.broadcast_to(constant.reshape(-1), (channels,)).astype(np.float32)
    ones = np.ones(channels, np.float32)
    rules = {
        "Add": (ones, numbers),
        "Sub": (ones, -numbers) if at == 1 else (-ones, numbers),
        "Mul": (numbers, 0 * ones),
        "Div": (np.float32(1) / numbers, 0 * ones),
    }
    scale, shift = (np.asarray(one, np.float32) for one in rules[kind])
    node.step("Scale", (value, node.weight(scale), node.weight(shift)))


def _concat(node: Node) -> None:
    axis = int(node.take("axis"))
    values = tuple(node.value(place) for place in range(len(node.node.input)))
    if axis % len(node.shape()) != 1:
        raise NotUnderstood(f"along axis {axis}", "concatenate channels")
    node.step("Concat", values)


def _slice(node: Node) -> None:
    shape = node.shape()
    starts, ends = (node.constant(place).tolist() for place in (1, 2))
    axes = node.constant(3).tolist() if node.has(3) else list(range(len(starts)))
    steps = node.constant(4).tolist() if node.has(4) else [1] * len(starts)
    ranges = {axis % 4: slice(a, b, c) for axis, a, b, c in zip(axes, starts, ends, steps, strict=True)}
    if len(shape) != 4 or ranges.get(0, slice(None)).indices(1) != (0, 1, 1) or min(steps) < 1:
        raise NotUnderstood(f"a slice of axes {axes}, steps {steps}", "slice channels, rows or columns")
    found = [ranges.get(axis, slice(None)).indices(shape[axis]) for axis in (1, 2, 3)]
    a, b, c = zip(*found, strict=True)
    node.step("Slice", (node.value(0),), starts=tuple(a), ends=tuple(b), steps=tuple(c))


def _pad(node: Node) -> None:
    node.only("mode", "constant")
    pads = node.take("pads") or node.constant(1).tolist()
    value = node.take("value", 0.0) if not node.has(2) else float(node.constant(2))
    axes = sorted(int(one) % 4 for one in node.constant(3)) if node.has(3) else [0, 1, 2, 3]
    if value or len(node.shape()) != 4 or len(axes) * 2 != len(pads) or min(pads) < 0:
        raise NotUnderstood(f"a padding of {pads} with {value}", "pad with zeros")
    half = len(pads) // 2
    before = dict(zip(axes, pads[:half], strict=True))
    after = dict(zip(axes, pads[half:], strict=True))
    if before.get(0) or after.get(0):
        raise NotUnderstood("a padding of the batch", "pad channels, rows or columns")
    node.step(
        "Pad",
        (node.value(0),),
        before=tuple(int(before.get(axis, 0)) for axis in (1, 2, 3)),
        after=tuple(int(after.get(axis, 0)) for axis in (1, 2, 3)),
    )


RULES: Mapping[str, Callable[[Node], None]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _normalisation,
    "Clip": _clip,
    "Relu": _relu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global_average,
    "ReduceMean": _reduce_mean,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Identity": _same,
    "Dropout": _same,
    "Cast": _cast,
    "Add": _arithmetic,
    "Sub": _arithmetic,
    "Mul": _arithmetic,
    "Div": _arithmetic,
    "Concat": _concat,
    "Slice": _slice,
    "Pad": _pad,
}


def advice(operator: str) -> str:
    return {
        "Sigmoid": "train a network with ReLU or hard activations: a sigmoid is only approximated in MPC",
        "Softmax": "export logits; softmax is taken by whoever learns the answer",
        "Erf": "train a network with ReLU: GELU has no exact form in MPC",
        "LayerNormalization": "train a network with BatchNorm, which folds into its convolutions",
    }.get(operator, "choose a network of convolutions, ReLU, pooling and linear layers")
