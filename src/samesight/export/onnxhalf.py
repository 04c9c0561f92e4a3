"""A float32 ONNX file as its float16 copy: the same graph, the same tensor names, half the bytes.

Values are half precision wherever ONNX allows it, with these exceptions, which stay float32 behind a Cast:
inputs that the operator takes in float32 only (the scales of Resize), numbers computed from shapes and not
from the photo (a size above 2048 is not exact in half), constants that half precision cannot hold (larger
than 65504, or an epsilon below 6e-5), the variance of a normalisation that is spelt out as
Pow → ReduceMean → Sqrt (a value of 256 squared is out of range), and what is named as too large.

Where the output is asked for in float32, the layer that gives the logits computes in it too, from weights
that are stored in half: float16 logits of 16 and more are steps of 0.016, and near labels tie.
SqueezeNet named another label than PyTorch on 3 of 520 photos before, on none since, and differs by a fifth.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from samesight.errors import ExportError

__all__ = ["to_half"]

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
HALF_MAX = float(np.finfo(np.float16).max)  # 65504
HALF_TINY = float(np.finfo(np.float16).smallest_normal)  # 6.1e-5; some hardware takes less for 0
VARIANCE = {"Add", "Mul", "Pow", "ReduceMean"}  # what stands between a value and the Sqrt of its variance
LARGE = 1024  # a weight of so many numbers is stored in half even where it is computed with in float32
SHAPE_OF = {"Shape", "Size"}


def to_half(
    model: bytes, edges: Literal["float32", "float16"] = "float32", wide: Collection[str] = ()
) -> bytes:
    """`model`, a float32 ONNX file, in float16; its one input and one output are of the type `edges`.

    The tensors named in `wide` stay float32, with the nodes that make and read them. Raises ExportError
    where the graph has branches, whose values would need both types.
    """
    proto = onnx.load_from_string(model)
    for node in proto.graph.node:
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            raise ExportError(
                f"a network with a branch ({node.op_type}) cannot be written in float16",
                where=node.name,
                fix="--copies fp32",
            )
    _Halving(proto, HALF if edges == "float16" else FLOAT, wide).turn()
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        found = str(error).strip().splitlines()[0]
        raise ExportError("the float16 file is not valid ONNX", found=found, fix="--copies fp32") from error
    return bytes(proto.SerializeToString(deterministic=True))


class _Halving:
    """A graph while it is being turned: which type each tensor has by now, and the nodes so far."""

    def __init__(self, model: onnx.ModelProto, edges: int, wide: Collection[str] = ()) -> None:
        self.graph = model.graph
        self.edges = edges
        self.wide = set(wide)
        self.opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        self.floats = _float_tensors(model)
        self.constants: dict[str, TensorProto] = dict(_constants(self.graph))
        self.kind: dict[str, int] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.casts: set[str] = set()

    def turn(self) -> None:
        """Rewrite the graph in place."""
        edges = self.edges
        kept = self._kept() | (set(self._last_layer()) if edges == FLOAT else set())
        wanted = [self._wanted(node, index in kept) for index, node in enumerate(self.graph.node)]
        self._turn_constants(wanted)
        for value in self.graph.input:
            self.kind[value.name] = edges
            value.type.tensor_type.elem_type = edges
        for node, (inputs, outputs) in zip(self.graph.node, wanted, strict=True):
            self._turn_node(node, inputs, outputs)
        for value in self.graph.output:
            self._turn_output(value, edges)
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in self.nodes]
        del self.graph.node[:], self.graph.value_info[:]
        self.graph.node.extend(nodes)

    def _kept(self) -> set[int]:
        """The nodes (by place) that compute in float32 throughout."""
        producer = {name: at for at, node in enumerate(self.graph.node) for name in node.output}
        from_photo, from_shape = {value.name for value in self.graph.input}, set[str]()
        kept = set()
        for at, node in enumerate(self.graph.node):
            shape = node.op_type in SHAPE_OF
            if not shape and from_photo.intersection(node.input):
                from_photo.update(node.output)
            elif shape or from_shape.intersection(node.input):
                from_shape.update(node.output)
                kept.add(at)
            if self.wide.intersection((*node.input, *node.output)):
                kept.add(at)
            if any(_unfit(self.constants[name]) for name in node.input if name in self.constants):
                kept.add(at)
            if node.op_type == "Sqrt":
                kept.update({at, *self._variance(node.input[0], producer)})
        return kept

    def _last_layer(self) -> Iterator[int]:
        """The nodes from the last one that has a matrix of weights to the output."""
        producer = {name: at for at, node in enumerate(self.graph.node) for name in node.output}
        name = self.graph.output[0].name
        while (at := producer.get(name)) is not None:
            yield at
            inputs = [one for one in self.graph.node[at].input if one in self.floats]
            if any(len(self.constants[one].dims) > 1 for one in inputs if one in self.constants):
                return
            inputs = [one for one in inputs if one not in self.constants]
            if len(inputs) != 1:
                return
            name = inputs[0]

    def _variance(self, name: str, producer: dict[str, int], depth: int = 4) -> Iterator[int]:
        at = producer.get(name)
        if at is None or depth == 0 or self.graph.node[at].op_type not in VARIANCE:
            return
        yield at
        if self.graph.node[at].op_type not in ("Pow", "Mul"):
            for before in self.graph.node[at].input:
                yield from self._variance(before, producer, depth - 1)

    def _wanted(self, node: onnx.NodeProto, kept: bool) -> tuple[list[int | None], list[int | None]]:
        """The type that each input and output of a node should have; None where it is no float."""
        schema = onnx.defs.get_schema(node.op_type, self.opset, node.domain)
        constraints = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}

        def slot(name: str, parameters: Any, place: int) -> int | None:
            if name not in self.floats or node.op_type in SHAPE_OF:  # a shape is the same in any type
                return None
            parameter = parameters[min(place, len(parameters) - 1)]  # the last one may be repeated
            allowed: list[str] = constraints.get(parameter.type_str, [parameter.type_str])
            return int(HALF if "tensor(float16)" in allowed and not kept else FLOAT)

        return (
            [slot(name, schema.inputs, place) for place, name in enumerate(node.input)],
            [slot(name, schema.outputs, place) for place, name in enumerate(node.output)],
        )

    def _turn_constants(self, wanted: list[tuple[list[int | None], list[int | None]]]) -> None:
        """Halve each weight that half precision can hold; a small one only if no node wants it in float32."""
        uses: dict[str, set[int | None]] = defaultdict(set)
        for node, (inputs, _) in zip(self.graph.node, wanted, strict=True):
            for name, want in zip(node.input, inputs, strict=True):
                uses[name].add(want)
        for name, tensor in self.constants.items():
            if tensor.data_type != FLOAT:
                continue
            large = int(np.prod(tensor.dims)) >= LARGE
            half = not _unfit(tensor) and (large or uses[name] == {HALF})
            self.kind[name] = HALF if half else FLOAT
            if half:
                values = numpy_helper.to_array(tensor).astype(np.float16)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    def _turn_node(self, node: onnx.NodeProto, inputs: list[int | None], outputs: list[int | None]) -> None:
        if node.op_type == "Constant":
            self.nodes.append(node)
            return
        for place, (name, want) in enumerate(zip(node.input, inputs, strict=True)):
            if want is not None and self.kind[name] != want:
                node.input[place] = self._cast(name, want)
        for name, want in zip(node.output, outputs, strict=True):
            if want is not None:
                self.kind[name] = want
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == FLOAT and HALF in outputs:
                attribute.i = HALF
            if node.op_type == "ConstantOfShape" and attribute.name == "value" and HALF in outputs:
                values = numpy_helper.to_array(attribute.t).astype(np.float16)
                attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
        self.nodes.append(node)

    def _cast(self, name: str, to: int) -> str:
        """The name of `name` in the other type; the Cast is added where it is first wanted."""
        new = f"{name}/{'half' if to == HALF else 'float'}"
        if new not in self.casts:
            self.casts.add(new)
            self.nodes.append(helper.make_node("Cast", [name], [new], name=f"{new}/Cast", to=to))
        return new

    def _turn_output(self, value: onnx.ValueInfoProto, edges: int) -> None:
        """Give the graph's output the type `edges` under its own name."""
        value.type.tensor_type.elem_type = edges
        if self.kind[value.name] == edges:
            return
        inner = f"{value.name}/{'float' if edges == HALF else 'half'}"
        for node in self.nodes:
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    if name == value.name:
                        names[place] = inner
        self.nodes.append(helper.make_node("Cast", [inner], [value.name], name=f"{inner}/Cast", to=edges))


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    """The names of all float32 tensors. Raises ExportError where a tensor's type cannot be told."""
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        kinds[value.name] = value.type.tensor_type.elem_type
    for node in graph.node:
        for name in node.output:
            if name and name not in kinds:
                raise ExportError(
                    f"the type of what {node.op_type} gives is not known",
                    where=node.name,
                    fix="--copies fp32",
                )
    return {name for name, kind in kinds.items() if kind == FLOAT}


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, TensorProto]]:
    """Each weight and each constant, by the tensor's name; changing one changes the graph."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield node.output[0], attribute.t


def _unfit(tensor: TensorProto) -> bool:
    """Whether half precision cannot hold a constant: too large, or a single number near 0 (an epsilon)."""
    if tensor.data_type != FLOAT:
        return False
    values: NDArray[np.float32] = np.abs(numpy_helper.to_array(tensor))
    finite = values[np.isfinite(values)]
    if finite.size and float(finite.max()) > HALF_MAX:
        return True
    return values.size == 1 and 0 < float(values.max()) < HALF_TINY
