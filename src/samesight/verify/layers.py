"""The first layer at which two copies of one network differ, named by comparing their intermediate tensors.

Needs onnx, to ask a model for the outputs of its layers, and ONNX Runtime, to compute them.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samesight.bundle import Bundle
from samesight.errors import InputError, MissingExtra
from samesight.verify.tolerances import TOLERANCES, Tolerance

__all__ = ["LayerDifference", "explain_by_layers", "first_differing_layer"]

CHUNK = 16  # outputs held at a time: a network's run is repeated rather than all its tensors kept
# What a change of precision adds to a graph, and what gives no tensor of the network's own.
_PASSED_OVER = frozenset({"Cast", "Constant", "DequantizeLinear", "Identity", "QuantizeLinear"})


@dataclass(frozen=True)
class LayerDifference:
    """The first layer whose parameters or output differ by more than is allowed."""

    node: str
    op_type: str
    output: str
    shape: tuple[int, ...]
    relative_l2: float | None  # null where the output is not finite, or has another shape
    max_abs_difference: float | None
    threshold: float  # for relative_l2
    parameter: str | None  # the one that differs, where one does
    parameter_difference: float | None  # the largest, as a part of the parameter's largest absolute value
    position: int  # among the layers compared, from 1
    layers: int
    before: str | None  # the layer compared just before
    before_relative_l2: float | None
    matched_by: str  # "name", or "order" and operator type

    def to_json(self) -> dict[str, Any]:
        """The object `layer` in verify's JSON."""
        return {**asdict(self), "shape": list(self.shape)}

    def words(self) -> str:
        """The layer in one line."""
        size = "in shape or finiteness" if self.relative_l2 is None else f"by {self.relative_l2:.3g}"
        text = f"layer {self.position} of {self.layers}, {self.op_type} {self.node or self.output}, differs "
        text += f"{size} (relative L2; {self.threshold:g} allowed)"
        if self.parameter is not None:
            text += f", as its parameter {self.parameter} is another"
        if self.before is not None:
            text += f"; {self.before} before it by {self.before_relative_l2:.3g}"
        return text


@dataclass(frozen=True)
class _Layer:
    node: str
    op_type: str
    output: str
    parameters: tuple[str, ...]


_Pair = tuple[_Layer, _Layer, str]  # ours, theirs, how they were matched


def first_differing_layer(
    model_a: bytes,
    model_b: bytes,
    tensor: NDArray[np.float32],
    tolerance: Tolerance,
    parameters: Tolerance | None = None,
) -> LayerDifference | None:
    """The first layer of `model_a` that differs from its partner in `model_b`; None where none does.

    `tensor` is (3, height, width) float32. Layers are taken in topological order, matched by the names of
    their outputs, or where those differ by order and operator type. `tolerance` is for their outputs; with
    `parameters`, their weights are compared too, which shows faults that rounding hides in the outputs.
    Raises MissingExtra without onnx, InputError where the two have no layers in common.
    """
    proto_a, proto_b = _parse(model_a), _parse(model_b)
    values_a, values_b = _values(proto_a), _values(proto_b)
    pairs = _pairs(_layers(proto_a, values_a), _layers(proto_b, values_b))
    if not pairs:
        raise InputError("the two networks have no layers in common", fix="another copy to compare with")
    changed: dict[int, tuple[str, float]] = {}
    for index, (a, b, _) in enumerate(pairs if parameters else []):
        for name_a, name_b in zip(a.parameters, b.parameters, strict=False):
            distance = _largest_part(values_a[name_a](), values_b[name_b]())
            if parameters and distance > parameters.rel:
                changed.setdefault(index, (name_a, distance))
    run_a = _runner(proto_a, [a.output for a, _, _ in pairs], tensor)
    run_b = _runner(proto_b, [b.output for _, b, _ in pairs], tensor)
    before: tuple[str, float] | None = None
    for index, (output_a, output_b) in enumerate(_outputs(pairs, run_a, run_b)):
        layer, _, matched_by = pairs[index]
        distance = _relative_l2(output_a, output_b)
        if distance > tolerance.rel or index in changed:
            known = bool(np.isfinite(distance))
            name, part = changed.get(index, (None, None))
            return LayerDifference(
                node=layer.node,
                op_type=layer.op_type,
                output=layer.output,
                shape=output_a.shape,
                relative_l2=distance if known else None,
                max_abs_difference=float(np.abs(output_a - output_b).max()) if known else None,
                threshold=tolerance.rel,
                parameter=name,
                parameter_difference=part if part is not None and np.isfinite(part) else None,
                position=index + 1,
                layers=len(pairs),
                before=before[0] if before else None,
                before_relative_l2=before[1] if before else None,
                matched_by=matched_by,
            )
        before = (layer.node or layer.output, distance)
    return None


def explain_by_layers(
    bundle: Bundle, against: Bundle | None = None
) -> Callable[[str, Sequence[str], NDArray[np.float32]], tuple[Mapping[str, Any] | None, str]]:
    """What `verify` calls to have a layer named: a copy that differs is compared with one that agrees.

    That is the same copy of the bundle `against` where one is given, else another copy of `bundle`.
    """

    def explain(
        guilty: str, agreeing: Sequence[str], tensor: NDArray[np.float32]
    ) -> tuple[Mapping[str, Any] | None, str]:
        if against is not None:
            other, name = against, guilty
            beside = f"the {guilty} copy of {against.name} {against.version}"
        elif agreeing:
            other, name = bundle, agreeing[0]
            beside = f"the {name} copy, which agrees with PyTorch"
        else:
            return None, (
                "no layer is named: no other copy agrees with PyTorch, so there is none to compare with; "
                "--against OTHER_BUNDLE gives one"
            )
        ours, theirs = bundle.copy(guilty), other.copy(name)
        same = ours.precision == theirs.precision
        if not same and "int8" in (ours.precision, theirs.precision):
            return None, (
                "no layer is named: an int8 copy rounds every layer; --against OTHER_BUNDLE compares it with "
                "another int8 copy"
            )
        suffix = "" if same else " fp16"
        allowed = TOLERANCES[f"layer{suffix}"], TOLERANCES[f"parameters{suffix}"]
        try:
            found = first_differing_layer(bundle.read(ours.file), other.read(theirs.file), tensor, *allowed)
        except MissingExtra as error:
            return None, f"no layer is named: that needs onnx ({error.fix})"
        except InputError as error:
            return None, f"no layer is named: {error.what}"
        if found is None:
            return None, (
                f"no layer is named: with graph optimisations off, each is as in {beside}; so they are the "
                "cause, or something too small to tell from rounding"
            )
        return {**found.to_json(), "against": beside}, f"{found.words()}; compared with {beside}"

    return explain


def _parse(model: bytes) -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("Naming the layer that differs", "train") from error
    return onnx.load_model_from_string(model)


def _values(proto: Any) -> dict[str, Callable[[], NDArray[np.float64]]]:
    """What gives the float values of each constant tensor, those behind a Cast or an Identity too."""
    import onnx

    def reader(tensor: Any) -> Callable[[], NDArray[np.float64]]:
        return lambda: onnx.numpy_helper.to_array(tensor).astype(np.float64)

    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    found = {one.name: reader(one) for one in proto.graph.initializer if one.data_type in kinds}
    for node in proto.graph.node:
        if node.op_type == "Constant":
            for given in node.attribute:
                if given.name == "value" and given.t.data_type in kinds:
                    found[node.output[0]] = reader(given.t)
        elif node.op_type in ("Cast", "Identity") and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _layers(proto: Any, values: Mapping[str, object]) -> list[_Layer]:
    """The nodes that compute something, in topological order, which is the order of an ONNX file."""
    return [
        _Layer(
            node.name,
            node.op_type,
            node.output[0],
            tuple(name for name in node.input if name in values),
        )
        for node in proto.graph.node
        if node.op_type not in _PASSED_OVER and node.output and node.output[0]
    ]


def _pairs(ours: Sequence[_Layer], theirs: Sequence[_Layer]) -> list[_Pair]:
    """Layers that compute the same in one and the other, in the order of `ours`; how each was matched."""
    by_name = {layer.output: layer for layer in theirs}
    partners: dict[_Layer, tuple[_Layer, str]] = {}
    for layer in ours:
        other = by_name.get(layer.output)
        if other is not None and other.op_type == layer.op_type:
            partners[layer] = other, "name"
    taken = {other for other, _ in partners.values()}
    kinds = [layer.op_type for layer in ours], [layer.op_type for layer in theirs]
    for block in difflib.SequenceMatcher(None, *kinds, autojunk=False).get_matching_blocks():
        for step in range(block.size):
            layer, other = ours[block.a + step], theirs[block.b + step]
            if layer not in partners and other not in taken:
                partners[layer] = other, "order"
    return [(layer, *partners[layer]) for layer in ours if layer in partners]


def _runner(
    proto: Any, outputs: Sequence[str], tensor: NDArray[np.float32]
) -> Callable[[Sequence[str]], list[NDArray[Any]]]:
    """A function that computes some of `outputs` for `tensor`, each by the operators as they stand."""
    import onnx
    import onnxruntime

    there = {value.name for value in proto.graph.output}
    for name in outputs:
        if name not in there:
            proto.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    entry = session.get_inputs()[0]
    batch = entry.shape[0] if isinstance(entry.shape[0], int) else 1
    dtype = np.float16 if entry.type == "tensor(float16)" else np.float32
    fed = {entry.name: np.repeat(tensor[None], batch, axis=0).astype(dtype)}

    def run(names: Sequence[str]) -> list[NDArray[Any]]:
        values: list[NDArray[Any]] = session.run(list(names), fed)
        return values

    return run


def _outputs(
    pairs: Sequence[_Pair],
    run_a: Callable[[Sequence[str]], list[NDArray[Any]]],
    run_b: Callable[[Sequence[str]], list[NDArray[Any]]],
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Both outputs of each pair, in order, a few held at a time."""
    for start in range(0, len(pairs), CHUNK):
        chunk = pairs[start : start + CHUNK]
        values_a, values_b = run_a([a.output for a, _, _ in chunk]), run_b([b.output for _, b, _ in chunk])
        for a, b in zip(values_a, values_b, strict=True):
            yield a.astype(np.float64), b.astype(np.float64)


def _relative_l2(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """|a − b| / |b|; infinite where shapes differ, or one is not finite."""
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    return _part(float(np.linalg.norm(a - b)), float(np.linalg.norm(b)))


def _largest_part(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The largest difference as a part of the largest of |b|; infinite as above."""
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    return _part(float(np.abs(a - b).max(initial=0)), float(np.abs(b).max(initial=0)))


def _part(distance: float, size: float) -> float:
    if size == 0.0:
        return 0.0 if distance == 0.0 else float("inf")
    return distance / size
