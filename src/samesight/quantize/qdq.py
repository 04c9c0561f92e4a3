"""A network with its weights and the tensors between its layers rounded to 8 bits, as ONNX writes it: QDQ.

QuantizeLinear and DequantizeLinear stand around operators of ONNX's own, so any runtime can compute the file;
those with integer kernels merge them. Tensors keep their float names, so copies can be compared by layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from samesight.quantize.graph import BOUNDED, PASSING, Graph, Layer, attribute
from samesight.quantize.plan import Plan, make_plan
from samesight.quantize.weights import round_weights, weight_scales

__all__ = ["Rounding", "channel_rows", "from_rows", "rounded_weights", "tensor_steps", "write_qdq"]

LEVELS = 255
FLOAT_MAX = float(np.finfo(np.float32).max)
BIAS_LIMIT = 2**30  # of a bias in units of its scale; int32 holds twice that


@dataclass(frozen=True)
class Rounding:
    """How a network is rounded: the range of each tensor, the layers left alone, corrections of biases."""

    ranges: Mapping[str, tuple[float, float]]
    kept: frozenset[str] = frozenset()
    symmetric: bool = False
    shrink: bool = False
    corrections: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)  # layer → added to its bias
    weights: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)  # layer → integers, not the nearest


def channel_rows(weights: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Weights as (output channels, weights)."""
    return np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)


def from_rows(rows: NDArray[Any], like: NDArray[Any], axis: int) -> NDArray[Any]:
    """The inverse of `channel_rows`."""
    moved = np.moveaxis(like, axis, 0).shape
    return np.ascontiguousarray(np.moveaxis(rows.reshape(moved), 0, axis))


def rounded_weights(graph: Graph, layer: Layer, rounding: Rounding) -> NDArray[np.float32]:
    """What a layer's weights are after rounding, in the shape of the float ones."""
    weights = graph.constants[layer.weight]
    rows = channel_rows(weights, layer.axis)
    scales = weight_scales(rows, shrink=rounding.shrink)
    whole = rounding.weights.get(layer.name)
    if whole is None:
        whole = round_weights(rows, scales)
    return from_rows(whole * scales[:, None], weights, layer.axis).astype(np.float32)


def write_qdq(graph: Graph, rounding: Rounding) -> bytes:
    """`graph` as a QDQ file. Raises KeyError where `rounding` lacks the range of a tensor."""
    plan = make_plan(graph, rounding.kept)
    return _Writer(graph, rounding, plan).write()


def scale_of(low: float, high: float, *, symmetric: bool = False) -> tuple[np.float32, int]:
    """The step between two of 256 levels, and the level of 0, for values from `low` to `high`."""
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric and low < 0:
        high = max(high, -low)
        step = np.float32(2 * high / LEVELS)
        return (step, 128) if step > 0 else (np.float32(1), 128)
    step = np.float32((high - low) / LEVELS)
    if not step > 0:
        return np.float32(1), 0
    return step, int(np.clip(np.rint(-low / float(step)), 0, LEVELS))


def tensor_steps(plan: Plan, rounding: Rounding) -> dict[str, tuple[np.float32, int]]:
    """Of each rounded tensor the step between its levels, and the level of 0; tied ones share both."""
    members: dict[str, list[str]] = {}
    for name, leader in plan.leader.items():
        members.setdefault(leader, []).append(name)
    found = {}
    for leader, names in members.items():
        ranges = [rounding.ranges[name] for name in names]
        low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
        found[leader] = scale_of(low, high, symmetric=rounding.symmetric)
    return {name: found[leader] for name, leader in plan.leader.items()}


class _Writer:
    """The file while it is written."""

    def __init__(self, graph: Graph, rounding: Rounding, plan: Plan) -> None:
        self.graph, self.rounding, self.plan = graph, rounding, plan
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, onnx.TensorProto] = {}
        self.names = {name: f"{name}/rounded" for name in plan.inputs}  # float tensor → rounded
        self.steps = tensor_steps(plan, rounding)
        self.dropped = self._replaced_bounds()
        self.guarded = {
            layer.at if layer.bound is None else layer.bound
            for layer in graph.layers
            if layer.at not in plan.nodes and layer.op_type != "MatMul" and self._is_rounded(layer.end)
        }

    def write(self) -> bytes:
        graph = self.graph
        names = self.names
        if graph.input in names:
            self._round(graph.input, graph.input, names[graph.input])
        for at, node in enumerate(graph.nodes):
            if at in self.dropped:
                continue
            node = onnx.NodeProto.FromString(node.SerializeToString())
            if at in self.guarded:
                self._guard(at, node)
                continue
            if at in self.plan.nodes:
                for place, name in enumerate(node.input):
                    node.input[place] = names.get(name, name)
                if node.op_type == "HardSigmoid" and self._cuts_at_one(node.output[0]):
                    self._round_hard_sigmoid(node)
                    continue
                if at in graph.by_node:
                    self._round_weights(node, graph.by_node[at])
            self.nodes.append(node)
            for name in list(node.output):
                self._after(node, name)
        return self._file()

    def _after(self, node: onnx.NodeProto, name: str) -> None:
        """Round what a node gives, where it is to be rounded."""
        end = self.dropped_end.get(name, name)
        if end in self.plan.outputs:
            raw = name
            if end == name:
                raw = f"{name}/exact"
                node.output[list(node.output).index(name)] = raw
            self._round(end, raw, end)
        elif name in self.names:
            self._round(name, name, self.names[name])

    def _guard(self, at: int, node: onnx.NodeProto) -> None:
        """Write what ends a layer that stays float32 so that ONNX Runtime leaves its weights alone.

        Where a convolution or Gemm stands between rounded tensors, with a ReLU or Clip or nothing behind
        it, its optimiser (WeightBiasQuantization) rounds the float weights by itself, with one scale for
        all channels. It does not look through Max and Min, which compute the same.
        """
        low, high = self.graph.bounds(at) if node.op_type in BOUNDED else (-np.inf, np.inf)
        end = node.output[0]
        source = node.input[0]
        if node.op_type not in BOUNDED:
            source = node.output[0] = f"{end}/exact"
            self.nodes.append(node)
        limits = [("Max", max(low, -FLOAT_MAX))] + ([("Min", high)] if np.isfinite(high) else [])
        for place, (kind, limit) in enumerate(limits):
            given = end if place == len(limits) - 1 else f"{end}/{kind}"
            bound = self._constant(f"{end}/{kind}/limit", np.array(limit, np.float32))
            self.nodes.append(helper.make_node(kind, [source, bound], [given], name=f"{given}/guard"))
            source = given
        self._after(self.nodes[-1], end)

    def _is_rounded(self, name: str) -> bool:
        """Whether a float tensor is rounded, itself or after reshapes and the like."""
        if name in self.plan.inputs:
            return True
        readers = [self.graph.nodes[at] for at in self.graph.readers[name] if at not in self.plan.nodes]
        return any(node.op_type in PASSING and self._is_rounded(node.output[0]) for node in readers)

    def _replaced_bounds(self) -> set[int]:
        """The places of ReLUs and Clips that rounding makes superfluous, since it cuts no less."""
        self.dropped_end: dict[str, str] = {}
        dropped = set()
        for end, at in self.plan.bounds.items():
            (step, zero), (low, high) = self.steps[end], self.graph.bounds(at)
            if -zero * step >= low - 0.01 * step and (LEVELS - zero) * step <= high + 0.01 * step:
                dropped.add(at)
                self.dropped_end[self.graph.nodes[at].input[0]] = end
        return dropped

    def _round(self, tensor: str, source: str, target: str) -> None:
        """QuantizeLinear and DequantizeLinear from `source` to `target`, by the step of `tensor`."""
        step, zero = self.steps[tensor]
        leader = self.plan.leader[tensor]
        scale = self._constant(f"{leader}/step", np.array(step, np.float32))
        level = self._constant(f"{leader}/zero", np.array(zero, np.uint8))
        whole = f"{tensor}/whole"
        for kind, taken, given in (("Quantize", source, whole), ("Dequantize", whole, target)):
            self.nodes.append(
                helper.make_node(f"{kind}Linear", [taken, scale, level], [given], name=f"{tensor}/{kind}")
            )

    def _round_weights(self, node: onnx.NodeProto, layer: Layer) -> None:
        weights = self.graph.constants[layer.weight]
        rows = channel_rows(weights, layer.axis)
        scales = weight_scales(rows, shrink=self.rounding.shrink)
        source = self.plan.leader[layer.input]
        step = self.steps[source][0]
        bias = self._bias(layer)
        integers = self.rounding.weights.get(layer.name)
        if integers is None:
            integers = round_weights(rows, scales)
        if bias is not None:  # a channel of almost nothing but bias: its int32 must hold the bias
            least = (np.abs(bias) / (np.float32(BIAS_LIMIT) * step)).astype(np.float32)
            narrow = scales < least
            scales = np.maximum(scales, least)
            integers = np.where(narrow[:, None], round_weights(rows, scales), integers)
        whole = from_rows(integers, weights, layer.axis)
        node.input[1] = self._dequantize(f"{layer.name}/weights", whole, scales, layer.axis)
        if bias is not None:
            steps = (scales * step).astype(np.float32)
            whole_bias = np.rint(bias.astype(np.float64) / steps).astype(np.int32)
            del node.input[2:]
            node.input.append(self._dequantize(f"{layer.name}/bias", whole_bias, steps, 0))

    def _bias(self, layer: Layer) -> NDArray[np.float32] | None:
        """The layer's bias (channels,), corrected."""
        correction = self.rounding.corrections.get(layer.name)
        bias = None if layer.bias is None else self.graph.constants[layer.bias].reshape(-1)
        if correction is None or layer.op_type == "MatMul":
            return bias
        return correction if bias is None else bias + correction

    def _dequantize(self, name: str, whole: NDArray[Any], scales: NDArray[np.float32], axis: int) -> str:
        inputs = [
            self._constant(f"{name}/whole", whole),
            self._constant(f"{name}/step", scales),
            self._constant(f"{name}/zero", np.zeros(len(scales), whole.dtype)),
        ]
        self.nodes.append(
            helper.make_node("DequantizeLinear", inputs, [name], name=f"{name}/Dequantize", axis=axis)
        )
        return name

    def _cuts_at_one(self, name: str) -> bool:
        """Whether a tensor's levels reach from 0 to 1 at most, so that rounding cuts as HardSigmoid does."""
        step, zero = self.steps[name]
        return zero == 0 and float(LEVELS * step) <= 1 + 0.01 * float(step)

    def _round_hard_sigmoid(self, node: onnx.NodeProto) -> None:
        """Write max(0, min(1, αx + β)), which has no integer kernel, as a sum that rounding cuts.

        x + β/α is rounded by the output's step over α, and so cut where αx + β is; then it is read by the
        output's own step.
        """
        name = node.output[0]
        alpha, beta = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
        leader = self.plan.leader[name]
        offset = [
            self._constant(f"{name}/offset/whole", np.array(1, np.uint8)),
            self._constant(f"{name}/offset/step", np.array(beta / alpha, np.float32)),
            self._constant(f"{name}/offset/zero", np.array(0, np.uint8)),
        ]
        add = [node.input[0], f"{name}/offset"]
        self.nodes += [
            helper.make_node("DequantizeLinear", offset, [add[1]], name=f"{add[1]}/Dequantize"),
            helper.make_node("Add", add, [f"{name}/exact"], name=f"{name}/Add"),
        ]
        self._round(name, f"{name}/exact", name)
        step = np.array(self.steps[name][0] / np.float32(alpha), np.float32)
        self.nodes[-2].input[1] = self._constant(f"{leader}/step/{alpha:g}", step)

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        if name not in self.tensors:
            self.tensors[name] = numpy_helper.from_array(values, name)
        return name

    def _file(self) -> bytes:
        old = self.graph.proto
        used = {name for node in self.nodes for name in node.input}
        proto = helper.make_model(
            helper.make_graph(
                self.nodes,
                old.graph.name,
                list(old.graph.input),
                list(old.graph.output),
                [one for one in old.graph.initializer if one.name in used]
                + [one for name, one in self.tensors.items() if name in used],
            ),
            opset_imports=list(old.opset_import),
            ir_version=old.ir_version,
        )
        onnx.checker.check_model(proto, full_check=True)
        return bytes(proto.SerializeToString(deterministic=True))
