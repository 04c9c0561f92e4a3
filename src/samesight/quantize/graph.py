"""A float32 ONNX network as quantisation sees it: folded, its layers found, who makes and who reads each
tensor.

A layer is a convolution, Gemm or MatMul with constant weights, with the ReLU or Clip right behind it. All
other nodes are either such that integers pass through them (pooling, sums, concatenations, reshapes) or
stay float32.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from samesight.errors import InputError

__all__ = ["JOINS", "PASSING", "Graph", "Layer", "fold", "open_graph"]

OPSET = 13  # the first whose QuantizeLinear and DequantizeLinear know channels
BOUNDED = ("Relu", "Clip")
PASSING = ("Flatten", "Identity", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze")  # keep values
# For these ONNX Runtime has integer kernels that take several numbers and give others; qdq.py makes
# HardSigmoid of one.
JOINS = ("Add", "AveragePool", "Concat", "GlobalAveragePool", "HardSigmoid", "LeakyRelu", "Mul", "Sigmoid")
FLOAT = onnx.TensorProto.FLOAT


@dataclass(frozen=True)
class Layer:
    """A node with a matrix of weights, and what bounds its output."""

    name: str  # of the node's output tensor, the same in every copy
    op_type: str
    at: int  # its place among the nodes
    input: str
    weight: str
    bias: str | None
    axis: int  # of the weights: the one that counts the output channels
    groups: int
    end: str  # the tensor behind its activation, or its own output
    bound: int | None  # the place of that activation

    @property
    def is_conv(self) -> bool:
        """Whether it is a convolution, whose channels are the second axis of what it takes and gives."""
        return self.op_type == "Conv"


class Graph:
    """A folded network; its protobuf is changed only through `with_constants`."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto
        self.nodes: Sequence[onnx.NodeProto] = list(proto.graph.node)
        self.input = proto.graph.input[0].name
        self.output = proto.graph.output[0].name
        self.constants: dict[str, NDArray[Any]] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer
        }
        self.maker: dict[str, int] = {
            name: at for at, node in enumerate(self.nodes) for name in node.output if name
        }
        self.readers: dict[str, list[int]] = defaultdict(list)
        for at, node in enumerate(self.nodes):
            for name in dict.fromkeys(node.input):
                if name:
                    self.readers[name].append(at)
        self.layers: tuple[Layer, ...] = tuple(self._layers())
        self.by_node: dict[int, Layer] = {layer.at: layer for layer in self.layers}

    @property
    def batch(self) -> int | None:
        """How many photos it takes at a time; None for any number."""
        return int(self.proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value) or None

    def flows(self, node: onnx.NodeProto) -> list[str]:
        """The inputs of a node that come from the photo, not from the file."""
        return [name for name in node.input if name and name not in self.constants]

    def with_constants(self, changed: dict[str, NDArray[np.float32]]) -> Graph:
        """The same network with other values for some of its constants."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        for tensor in proto.graph.initializer:
            if tensor.name in changed:
                values = np.ascontiguousarray(changed[tensor.name], np.float32)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        return Graph(proto)

    def bounded_by(self, name: str) -> int | None:
        """The place of the ReLU or Clip that alone reads tensor `name`, where its bounds are constant."""
        if name == self.output or len(self.readers[name]) != 1:
            return None
        at = self.readers[name][0]
        node = self.nodes[at]
        if node.op_type not in BOUNDED or node.input[0] != name:
            return None
        return at if all(one in self.constants for one in node.input[1:] if one) else None

    def bounds(self, at: int | None) -> tuple[float, float]:
        """Between what values the ReLU or Clip at that place keeps its output."""
        if at is None:
            return -np.inf, np.inf
        node = self.nodes[at]
        if node.op_type == "Relu":
            return 0.0, np.inf
        low, high = (*(self.constants[one] if one else None for one in node.input[1:]), None, None)[:2]
        return (
            -np.inf if low is None else float(low),
            np.inf if high is None else float(high),
        )

    def _layers(self) -> Iterator[Layer]:
        for at, node in enumerate(self.nodes):
            axis = self._weights_axis(node)
            if axis is None or node.input[0] in self.constants:
                continue
            bound = self.bounded_by(node.output[0])
            yield Layer(
                name=node.output[0],
                op_type=node.op_type,
                at=at,
                input=node.input[0],
                weight=node.input[1],
                bias=node.input[2] if len(node.input) > 2 and node.input[2] else None,
                axis=axis,
                groups=int(attribute(node, "group", 1)),
                end=node.output[0] if bound is None else self.nodes[bound].output[0],
                bound=bound,
            )

    def _weights_axis(self, node: onnx.NodeProto) -> int | None:
        """The axis of the output channels in a node's constant weights; None where it is no layer."""
        if node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[1] not in self.constants:
            return None
        weights = self.constants[node.input[1]]
        if weights.dtype != np.float32:
            return None
        if node.op_type == "MatMul":
            return 1 if weights.ndim == 2 else None
        axis = 0
        if node.op_type == "Gemm":
            if attribute(node, "transA", 0) or any(
                attribute(node, one, 1.0) != 1 for one in ("alpha", "beta")
            ):
                return None
            axis = 0 if attribute(node, "transB", 0) else 1
        if len(node.input) > 2 and node.input[2]:
            bias = self.constants.get(node.input[2])
            if bias is None or bias.size != weights.shape[axis]:
                return None
        return axis


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The value of a node's attribute, or `default`."""
    for one in node.attribute:
        if one.name == name:
            return onnx.helper.get_attribute_value(one)
    return default


def open_graph(model: bytes) -> Graph:
    """The graph of a float32 ONNX file, batch normalisation and other constants folded. Raises InputError."""
    proto = onnx.load_from_string(model)
    for node in proto.graph.node:
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            raise InputError(f"a network with a branch ({node.op_type}) cannot be quantised", where=node.name)
    graph = Graph(fold(proto))
    if not graph.layers:
        raise InputError(
            "the network has nothing to quantise", expected="Conv, Gemm or MatMul with constant weights"
        )
    return graph


def fold(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same network in ONNX's own operators, of opset 13 or later, after ONNX Runtime's basic folding.

    That merges batch normalisation into convolutions, computes what is constant, and drops Identity. What has
    no integer kernel takes the form of what has: a mean over height and width is a GlobalAveragePool, batch
    normalisation behind no convolution, as DenseNet has it, a convolution of each channel by itself.
    """
    import onnxruntime

    proto = _with_pools(proto)
    opset = next(one.version for one in proto.opset_import if one.domain in ("", "ai.onnx"))
    if opset < OPSET:
        proto = onnx.version_converter.convert_version(proto, OPSET)
        opset = OPSET
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        folded = onnx.load(options.optimized_model_filepath)
    if any(node.domain not in ("", "ai.onnx") for node in folded.graph.node):
        folded = proto
    del folded.opset_import[:]
    folded.opset_import.append(onnx.helper.make_opsetid("", opset))
    folded.ir_version = max(proto.ir_version, 7)
    return _with_norms_as_convolutions(_with_initializers(folded))


def _ranks(proto: onnx.ModelProto) -> dict[str, int]:
    """How many axes each tensor has, where that is known."""
    values = onnx.shape_inference.infer_shapes(proto).graph.value_info
    return {value.name: len(value.type.tensor_type.shape.dim) for value in values}


def _with_norms_as_convolutions(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same network, in place, with each BatchNormalization of maps as a depthwise convolution."""
    graph, ranks = Graph(proto), _ranks(proto)
    for node in proto.graph.node:
        parts = [graph.constants.get(name) for name in node.input[1:]]
        if node.op_type != "BatchNormalization" or ranks.get(node.input[0]) != 4:
            continue
        if any(part is None for part in parts) or len(node.output) > 1:
            continue
        scale, bias, mean, variance = (part.astype(np.float64) for part in parts if part is not None)
        weights = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        constants = {"gain": weights.reshape(-1, 1, 1, 1), "offset": bias - mean * weights}
        names = [f"{node.output[0]}/{name}" for name in constants]
        for name, values in zip(names, constants.values(), strict=True):
            proto.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
        made = onnx.helper.make_node(
            "Conv", [node.input[0], *names], node.output, node.name, group=len(weights), kernel_shape=[1, 1]
        )
        node.CopyFrom(made)
    used = {name for node in proto.graph.node for name in node.input}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name in used]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return proto


def _with_pools(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with each ReduceMean that keeps the axes (2, 3) of four as a GlobalAveragePool."""
    graph, ranks = Graph(_with_initializers(proto)), _ranks(proto)
    for node in graph.proto.graph.node:
        if node.op_type != "ReduceMean" or ranks.get(node.input[0]) != 4:
            continue
        given = [graph.constants.get(name) for name in node.input[1:] if name]
        axes = attribute(node, "axes", []) if not given else [] if given[0] is None else given[0].tolist()
        if sorted(axis % 4 for axis in axes) == [2, 3] and attribute(node, "keepdims", 1):
            node.op_type = "GlobalAveragePool"
            del node.input[1:], node.attribute[:]
    return graph.proto


def _with_initializers(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with its Constant nodes as initializers."""
    nodes = []
    for node in proto.graph.node:
        value = next((one.t for one in node.attribute if one.name == "value"), None)
        if node.op_type != "Constant" or value is None:
            nodes.append(node)
            continue
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
        proto.graph.initializer.append(tensor)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    return proto
