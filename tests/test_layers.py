"""The first layer that differs between two real ONNX files."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tiny_bundle import Weights, make_bundle, make_weights, onnx_model, write_photos

import samesight.verify.layers
from samesight.errors import InputError, MissingExtra
from samesight.verify.layers import explain_by_layers, first_differing_layer
from samesight.verify.tolerances import TOLERANCES

SAME, HALF = TOLERANCES["layer"], TOLERANCES["layer fp16"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    return write_photos(tmp_path_factory.mktemp("layers") / "photos")


@pytest.fixture(scope="module")
def weights(photos: list[tuple[Path, str]]) -> Weights:
    return make_weights(photos)


@pytest.fixture(scope="module")
def tensor() -> NDArray[np.float32]:
    return np.random.default_rng(5).standard_normal((3, 32, 32)).astype(np.float32)


def scaled(weights: Weights, name: str, factor: float) -> Weights:
    return weights | {name: weights[name] * np.float32(factor)}


@pytest.mark.row("V1")
def test_copies_of_one_network_do_not_differ(weights: Weights, tensor: NDArray[np.float32]) -> None:
    single = onnx_model(weights)
    assert first_differing_layer(single, single, tensor, SAME) is None
    half = onnx_model(weights, half=True)
    assert first_differing_layer(half, half, tensor, SAME) is None
    for names in ("", "half_"):
        other = onnx_model(weights, half=True, names=names)
        assert first_differing_layer(other, single, tensor, HALF) is None
        assert first_differing_layer(other, single, tensor, SAME) is not None, "it does compare"


@pytest.mark.row("V1")
@pytest.mark.parametrize(("name", "output", "before"), [("w1", "c1", None), ("w2", "c2", "/r1/Relu")])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("chunk", [1, 2, 16])
def test_the_layer_is_named(
    weights: Weights,
    tensor: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    output: str,
    before: str | None,
    half: bool,
    chunk: int,
) -> None:
    monkeypatch.setattr(samesight.verify.layers, "CHUNK", chunk)
    guilty, right = onnx_model(scaled(weights, name, 1.1)), onnx_model(weights, half=half)
    found = first_differing_layer(guilty, right, tensor, HALF if half else SAME)
    assert found is not None
    assert (found.output, found.op_type, found.node) == (output, "Conv", f"/{output}/Conv")
    assert found.before == before
    assert found.relative_l2 is not None
    assert 0.05 < found.relative_l2 < 0.11, "a tenth of the weights' part; the bias is as it was"
    assert found.max_abs_difference is not None
    assert found.max_abs_difference > 0
    assert found.shape[0] == 1
    assert (found.layers, found.matched_by, found.parameter) == (7, "name", None)
    assert output in found.words()
    assert "Conv" in found.to_json()["op_type"]


@pytest.mark.row("V1")
@pytest.mark.parametrize("half", [False, True])
def test_a_weight_that_rounding_hides_in_the_output_is_found_all_the_same(
    weights: Weights, tensor: NDArray[np.float32], half: bool
) -> None:
    changed = weights["w2"].copy()
    changed[3, 1, 1, 1] += 0.005 * np.abs(changed).max()
    guilty, right = onnx_model(weights | {"w2": changed}), onnx_model(weights, half=half, names="right_")
    outputs, parameters = (TOLERANCES[f"{what}{' fp16' if half else ''}"] for what in ("layer", "parameters"))
    if half:
        assert first_differing_layer(guilty, right, tensor, outputs) is None
    assert first_differing_layer(onnx_model(weights), right, tensor, outputs, parameters) is None
    found = first_differing_layer(guilty, right, tensor, outputs, parameters)
    assert found is not None
    assert (found.output, found.parameter) == ("c2", "w2")
    assert found.parameter_difference == pytest.approx(0.005, rel=0.1)
    assert "its parameter w2 is another" in found.words()


def test_layers_are_matched_by_order_where_names_differ(
    weights: Weights, tensor: NDArray[np.float32]
) -> None:
    other = onnx_model(scaled(weights, "w2", 1.1), half=True, names="another_")
    found = first_differing_layer(other, onnx_model(weights), tensor, HALF)
    assert found is not None
    assert (found.output, found.position, found.layers, found.matched_by) == ("another_c2", 3, 7, "order")


def test_a_model_of_a_fixed_batch_and_half_precision_input(
    weights: Weights, tensor: NDArray[np.float32]
) -> None:
    model = onnx.load_model_from_string(onnx_model(weights))
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    fixed = model.SerializeToString()
    assert first_differing_layer(fixed, fixed, tensor, SAME) is None
    half = onnx.load_model_from_string(onnx_model(weights, half=True))
    half.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    assert first_differing_layer(half.SerializeToString(), onnx_model(weights), tensor, HALF) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_differs(weights: Weights, tensor: NDArray[np.float32], value: float) -> None:
    broken = {name: values.copy() for name, values in weights.items()}
    broken["b2"][4] = value
    found = first_differing_layer(onnx_model(broken), onnx_model(weights), tensor, SAME)
    assert found is not None
    assert (found.output, found.relative_l2, found.max_abs_difference) == ("c2", None, None)
    assert "finite" in found.words()


def test_networks_with_nothing_in_common(weights: Weights, tensor: NDArray[np.float32]) -> None:
    node = helper.make_node("Sigmoid", ["input"], ["output"])
    shape = ["batch", 3, 32, 32]
    graph = helper.make_graph(
        [node],
        "other",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
    )
    other = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(InputError, match="no layers in common"):
        first_differing_layer(other.SerializeToString(), onnx_model(weights), tensor, SAME)


@pytest.mark.row("R1")
def test_without_onnx_it_is_said_what_is_missing(
    weights: Weights,
    tensor: NDArray[np.float32],
    photos: list[tuple[Path, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = make_bundle(tmp_path / "bundle", photos, weights)
    model = onnx_model(weights)
    real = builtins.__import__

    def without_onnx(name: str, *rest: Any, **more: Any) -> Any:
        if name == "onnx":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    with pytest.raises(MissingExtra, match="Naming the layer"):
        first_differing_layer(model, model, tensor, SAME)
    layer, words = explain_by_layers(bundle)("fp32", ["fp16"], tensor)
    assert layer is None
    assert 'pip install "samesight[train]"' in words


def test_a_difference_too_small_for_any_layer_is_said(
    weights: Weights, tensor: NDArray[np.float32], photos: list[tuple[Path, str]], tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "bundle", photos, weights)
    layer, words = explain_by_layers(bundle)("fp32", ["fp16"], tensor)
    assert layer is None
    assert "too small to tell from rounding" in words
    layer, words = explain_by_layers(bundle)("fp32", [], tensor)
    assert layer is None
    assert "--against OTHER_BUNDLE" in words
