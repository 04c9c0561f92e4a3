"""A graph as an ONNX file again: fixed batch, float32, explicit attributes, opset ≤ 17, IR ≤ 8.

The operators that are written mean the same at every opset from 13 to 17. Needs the package onnx.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from samesight.errors import MissingExtra
from samesight.secure.graph import Graph, Step, Weights

__all__ = ["IR_VERSION", "OPSET", "write_onnx"]

OPSET = 17
IR_VERSION = 8
EPSILON = 1e-5  # of a normalisation that only scales and shifts: its variance is 1 less this


def write_onnx(graph: Graph, weights: Weights, *, opset: int = OPSET, outputs: Sequence[str] = ()) -> bytes:
    """The file; the same bytes for the same network. Weights stand in the order in which the nodes use them.

    `outputs` names values that the file gives beside the logits.
    """
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise MissingExtra("writing ONNX", "secure") from error
    writer = _Writer(graph, weights)
    nodes = [node for step in graph.steps for node in writer.nodes(step)]
    shapes = graph.shapes
    gives = {"output": shapes[graph.output], **{name: shapes[name] for name in outputs}}
    tensors = [numpy_helper.from_array(values, name) for name, values in writer.tensors.items()]
    made = helper.make_graph(
        nodes,
        "samesight",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, graph.shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in gives.items()],
        tensors,
    )
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(made, producer_name="samesight", opset_imports=imports, ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


class _Writer:
    """Nodes of steps; `tensors` collects weights and constants as they are first used."""

    def __init__(self, graph: Graph, weights: Weights) -> None:
        self.graph, self.weights = graph, weights
        self.tensors: dict[str, Any] = {}
        self.names = {graph.input: "input", graph.output: "output"}

    def nodes(self, step: Step) -> Iterator[Any]:
        """One node, or several where ONNX's form has more."""
        inputs = [self.names.get(name, name) for name in step.inputs]
        output = self.names.get(step.output, step.output)
        for name in step.weights:
            self.tensors.setdefault(name, self.weights[name])
        for number, (kind, ins, out, more) in enumerate(self._forms(step, inputs, output)):
            from onnx import helper

            suffix = f"_{number}" if number else ""
            yield helper.make_node(kind, ins, [out], name=f"{step.kind}_{step.output}{suffix}", **more)

    def _constant(self, name: str, values: Any, dtype: Any = np.float32) -> str:
        self.tensors[name] = np.asarray(values, dtype)
        return name

    def _forms(
        self, step: Step, inputs: list[str], output: str
    ) -> Iterator[tuple[str, list[str], str, dict[str, Any]]]:
        kind, own, name = step.kind, dict(step.attributes), step.output
        if kind == "Conv" or kind in ("MaxPool", "AveragePool"):
            own["kernel_shape"] = own.pop("kernel")
            yield kind, inputs, output, own
        elif kind == "Gemm":
            yield kind, inputs, output, {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
        elif kind == "Scale":
            channels = self.weights[step.weights[0]].shape[0]
            mean = self._constant(f"{name}mean", np.zeros(channels))
            variance = self._constant(f"{name}var", np.full(channels, 1 - EPSILON))
            yield "BatchNormalization", [*inputs, mean, variance], output, {"epsilon": EPSILON}
        elif kind == "Clip":
            yield from self._clip(step, inputs, output)
        elif kind == "Concat" or kind == "Flatten":
            yield kind, inputs, output, {"axis": 1}
        elif kind == "Slice":
            parts = [
                self._constant(f"{name}{part}", own[part], np.int64) for part in ("starts", "ends", "steps")
            ]
            axes = self._constant(f"{name}axes", [1, 2, 3], np.int64)
            yield kind, [*inputs, parts[0], parts[1], axes, parts[2]], output, {}
        elif kind == "Pad":
            sides = [0, *step.numbers("before"), 0, *step.numbers("after")]
            pads = self._constant(f"{name}pads", sides, np.int64)
            yield kind, [*inputs, pads], output, {"mode": "constant"}
        else:
            yield kind, inputs, output, own

    def _clip(
        self, step: Step, inputs: list[str], output: str
    ) -> Iterator[tuple[str, list[str], str, dict[str, Any]]]:
        """low + Relu(x − low) − Relu(x − high); exact where low is 0."""
        low, high, name = step.number("low"), step.number("high"), step.output
        lower = inputs[0]
        if low:
            yield "Sub", [lower, self._constant(f"{name}low", low)], f"{name}a", {}
            lower = f"{name}a"
        yield "Relu", [lower], f"{name}b", {}
        yield "Sub", [inputs[0], self._constant(f"{name}high", high)], f"{name}c", {}
        yield "Relu", [f"{name}c"], f"{name}d", {}
        yield "Sub", [f"{name}b", f"{name}d"], f"{name}e" if low else output, {}
        if low:
            yield "Add", [f"{name}e", f"{name}low"], output, {}
