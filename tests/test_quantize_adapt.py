"""Weights rounded by what a layer reads, not each to its nearest integer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from samesight.quantize import adapt
from samesight.quantize.adapt import adapted_weights
from samesight.quantize.graph import open_graph
from samesight.quantize.qdq import Rounding, channel_rows, rounded_weights
from samesight.quantize.weights import is_portable, round_weights, weight_scales

KERNELS = {
    "strided": {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 0, 1, 1]},
    "grouped": {"kernel_shape": [3, 3], "group": 2, "pads": [1, 1, 1, 1], "dilations": [1, 2]},
    "depthwise": {"kernel_shape": [3, 3], "group": 8, "pads": [1, 1, 1, 1]},
    "pointwise": {"kernel_shape": [1, 1]},
}
SHAPES = {
    "first": (8, 3, 3, 3),
    "strided": (8, 8, 3, 3),
    "grouped": (8, 4, 3, 3),
    "depthwise": (8, 1, 3, 3),
    "pointwise": (16, 8, 1, 1),
    "matrix": (5, 16),
}


def model(weights: Mapping[str, np.ndarray]) -> bytes:
    """A convolution of each kind one after another, and a matrix."""
    nodes = [helper.make_node("Conv", ["input", "first"], ["t0"], kernel_shape=[3, 3])]
    for at, (name, attributes) in enumerate(KERNELS.items()):
        nodes.append(helper.make_node("Conv", [f"t{at}", name], [f"t{at + 1}"], **attributes))
    nodes += [
        helper.make_node("GlobalAveragePool", [f"t{len(KERNELS)}"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "matrix"], ["output"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "kinds",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 20, 20])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def outputs(data: bytes, tensors: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": tensors})[0])


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.standard_normal(shape).astype(np.float32) / 4 for name, shape in SHAPES.items()}


@pytest.fixture
def photos() -> np.ndarray:
    """Smooth pictures: neighbours are alike, as in photos, so one weight can make up for another."""
    coarse = np.random.default_rng(1).uniform(0, 1, (24, 3, 5, 5)).astype(np.float32)
    return coarse.repeat(4, axis=2).repeat(4, axis=3)


@pytest.mark.row("Q3")
@pytest.mark.parametrize("name", list(SHAPES))
def test_a_layers_output_changes_less_than_by_the_nearest_integers(
    name: str, weights: dict[str, np.ndarray], photos: np.ndarray
) -> None:
    """Each kind of layer alone rounded; the pictures it is judged on are others than it was adapted to."""
    graph = open_graph(model(weights))
    layer = next(one for one in graph.layers if one.weight == name)
    adapted = adapted_weights(graph, photos[:16])
    assert set(adapted) == {one.name for one in graph.layers}
    right = outputs(model(weights), photos[16:])

    def error(rounding: Rounding) -> float:
        rounded = {**weights, name: rounded_weights(graph, layer, rounding)}
        return float(np.square(outputs(model(rounded), photos[16:]) - right).mean())

    nearest, better = error(Rounding({})), error(Rounding({}, weights=adapted))
    assert better < (nearest if name in ("depthwise", "matrix", "pointwise") else 0.7 * nearest)


@pytest.mark.row("Q3")
def test_adapted_weights_are_portable_and_near(weights: dict[str, np.ndarray], photos: np.ndarray) -> None:
    graph = open_graph(model(weights))
    adapted = adapted_weights(graph, photos)
    for layer in graph.layers:
        rows = channel_rows(graph.constants[layer.weight], layer.axis)
        nearest = round_weights(rows, weight_scales(rows)).astype(int)
        assert is_portable(adapted[layer.name])
        assert np.abs(adapted[layer.name].astype(int) - nearest).max() <= 64
        assert (adapted[layer.name] != nearest).any()


@pytest.mark.row("Q3")
def test_large_layers_stay_nearest_and_lots_change_nothing(
    weights: dict[str, np.ndarray], photos: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = open_graph(model(weights))
    monkeypatch.setattr(adapt, "MOST", 40)
    large = {one.name for one in graph.layers if one.weight == "strided"}
    assert {one.name for one in graph.layers} - set(adapted_weights(graph, photos)) == large
    monkeypatch.setattr(adapt, "ROOM_BYTES", 1)  # each layer observed alone
    assert set(adapted_weights(graph, photos)) == {one.name for one in graph.layers} - large
