"""A graph from an ONNX file: every node that is understood, and every one that is not, by its name.

Nothing is guessed: an attribute that is not listed here is an obstacle, as the other compilers that read such
files compile them wrongly without a word. Needs the package onnx.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from samesight.bundle import Bundle
from samesight.bundle.onnxparts import names_other_files
from samesight.errors import BundleInvalid, InputError, MissingExtra
from samesight.secure.graph import Attribute, Graph, Step, Weights
from samesight.secure.operators import RULES, Node, NotUnderstood, advice

__all__ = ["Network", "Obstacle", "SourceFile", "read_network", "read_onnx"]

MAX_FOLDED = 1 << 20  # numbers in a constant that is computed while reading
Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Obstacle:
    """What keeps a network from running somewhere: the node, what is wrong there, and what to do."""

    operator: str
    node: str
    what: str
    fix: str

    def to_json(self) -> dict[str, str]:
        """The row of check's JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class SourceFile:
    """What the file itself says, before anything is rewritten."""

    opset: int
    ir_version: int
    batch: int | None  # None: any
    operators: Mapping[str, int]


@dataclass(frozen=True)
class Network:
    """A network: its public steps and its weights, and what the file looked like."""

    graph: Graph
    weights: Weights
    source: SourceFile


def read_network(bundle: Bundle, copy: str = "fp32") -> Network:
    """The network of a bundle's copy. Raises InputError with every obstacle where it cannot be read."""
    found = read_onnx(bundle.read(bundle.copy(copy).file))
    if isinstance(found, Network):
        return found
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    raise InputError(
        "the network has steps that no secure engine here knows",
        where=bundle.folder,
        found="; ".join(f"{one.operator} {one.node}: {one.what}" for one in found[:3]) + more,
        fix=f"samesight secure check {bundle.folder} --target spu",
    )


def read_onnx(model: bytes) -> Network | list[Obstacle]:
    """The network in an ONNX file; or all that is not understood in it.

    Raises BundleInvalid where it is not an ONNX file of one image to logits, MissingExtra without onnx.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("reading a network", "secure") from error
    try:
        if names_other_files(model):
            raise BundleInvalid("a model keeps weights in another file, which no bundle vouches for")
        proto = onnx.load_from_string(model)
    except (ValueError, onnx.onnx_cpp2py_export.checker.ValidationError) as error:
        raise BundleInvalid("this is not an ONNX file", found=error) from error
    except Exception as error:  # protobuf's own, whose class moves between its versions
        if type(error).__name__ != "DecodeError":
            raise
        raise BundleInvalid("this is not an ONNX file", found=error) from error
    reader = _Reader(proto)
    reader.read()
    return reader.obstacles or reader.network()


class _Reader:
    """An ONNX graph while it is being read, for one image; each step is the same for any number."""

    def __init__(self, proto: Any) -> None:
        from onnx import numpy_helper

        self.proto = proto
        self.nodes = list(proto.graph.node)
        # names in the file → constants; → names of values in the graph
        self.constants: dict[str, Array] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer
        }
        self.values: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.steps: list[Step] = []
        self.weights: dict[str, NDArray[np.float32]] = {}
        self.obstacles: list[Obstacle] = []
        self.lost: set[str] = set()  # what a node gives that was not understood: reported once
        self._count = 0
        self.opset = next((one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")), 0)

    def read(self) -> None:
        """Turn every node into steps, or into an obstacle."""
        inputs = [one for one in self.proto.graph.input if one.name not in self.constants]
        outputs = list(self.proto.graph.output)
        if len(inputs) != 1 or len(outputs) != 1:
            raise BundleInvalid(
                "the network should have one input and one output", found=f"{len(inputs)} and {len(outputs)}"
            )
        dims = inputs[0].type.tensor_type.shape.dim
        if len(dims) != 4 or any(one.dim_value < 1 for one in list(dims)[1:]):
            raise BundleInvalid("the network's input should be (n, 3, height, width)")
        self.batch = dims[0].dim_value or None
        shape = (1, dims[1].dim_value, dims[2].dim_value, dims[3].dim_value)
        self.values[inputs[0].name] = "image"
        self.shapes["image"] = self.input_shape = shape
        for node in self.nodes:
            self._read_node(node)
        self.output = outputs[0].name

    def network(self) -> Network:
        """What was read. Raises BundleInvalid where it does not end in logits."""
        output = self.values.get(self.output)
        if output is None or len(self.shapes[output]) != 2:
            raise BundleInvalid("the network does not end in logits (n, classes)")
        batch, channels, height, width = self.input_shape
        graph = Graph(
            "image",
            (batch, channels, height, width),
            output,
            tuple(self.steps),
            {name: values.shape for name, values in self.weights.items()},
        )
        counts: dict[str, int] = {}
        for node in self.nodes:
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
        source = SourceFile(self.opset, self.proto.ir_version, self.batch, counts)
        return Network(graph, self.weights, source)

    def _read_node(self, node: Any) -> None:
        from onnx import helper

        if self.lost.intersection(node.input):
            self.lost.update(node.output)
            return
        try:
            if node.domain not in ("", "ai.onnx"):
                raise NotUnderstood(f"is of the domain {node.domain}", "export it with standard operators")
            attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
            if self._fold(node, attributes):
                return
            rule = RULES.get(node.op_type)
            if rule is None:
                raise NotUnderstood("there is no secure form of this operator here", advice(node.op_type))
            reading = Node(self, node, attributes)
            rule(reading)
            reading.check_all_read()
        except NotUnderstood as trouble:
            self.lost.update(node.output)
            name = node.name or (node.output[0] if node.output else "")
            self.obstacles.append(Obstacle(node.op_type, name, trouble.what, trouble.fix))

    def _fold(self, node: Any, attributes: Mapping[str, Any]) -> bool:
        """Whether the node only computes a constant, as shapes do: then it is one from here on."""
        if node.op_type == "Shape" and node.input[0] in self.values and not attributes:
            shape = self.shapes[self.values[node.input[0]]]
            self.constants[node.output[0]] = np.array(shape, np.int64)
            return True
        if not all(name in self.constants for name in node.input if name):
            return False
        if node.op_type == "Identity":
            self.constants[node.output[0]] = self.constants[node.input[0]]
            return True
        from onnx.reference import ReferenceEvaluator

        size = sum(self.constants[name].size for name in node.input if name)
        if size > MAX_FOLDED or node.op_type in ("RandomNormal", "RandomUniform"):
            return False
        feeds = {name: self.constants[name] for name in node.input if name}
        try:
            made = ReferenceEvaluator(node).run(None, feeds)
        except Exception as error:  # whatever the evaluator says, the node is not understood
            raise NotUnderstood(f"a constant that cannot be computed ({error})", "export it anew") from error
        for name, value in zip(node.output, made, strict=True):
            if np.asarray(value).size > MAX_FOLDED:
                raise NotUnderstood("a constant that is too large", "export it anew")
            self.constants[name] = np.asarray(value)
        return True

    def add(self, kind: str, inputs: tuple[str, ...], name: str, **attributes: Attribute) -> str:
        """The name of the value that a new step gives."""
        self._count += 1
        step = Step(kind, inputs, f"t{self._count}", attributes, name)
        known = {**self.shapes, **{one: self.weights[one].shape for one in step.weights}}
        part = Graph(inputs[0], (1, 1, 1, 1), step.output, (step,), known)
        try:
            self.shapes[step.output] = part.shapes[step.output]
        except InputError as error:
            raise NotUnderstood(f"its inputs do not fit it ({error.found})", "export it anew") from error
        self.steps.append(step)
        return step.output

    def add_weight(self, values: Array) -> str:
        """The name of a weight, which is private."""
        if values.dtype != np.float32:
            raise NotUnderstood(f"weights of {values.dtype}", "use the fp32 copy")
        if not np.isfinite(values).all():
            raise NotUnderstood("weights that are not finite", "train it again")
        name = f"w{len(self.weights)}"
        self.weights[name] = np.ascontiguousarray(values)
        return name


def counted(operators: Mapping[str, int]) -> Iterator[str]:
    """The operators as words, most frequent first."""
    for name, count in sorted(operators.items(), key=lambda one: (-one[1], one[0])):
        yield f"{count} {name}"
