"""Weights that learn with the rounding in place: `quantize --qat RUN`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from test_quantize_adapt import SHAPES, model
from tiny_bundle import LABELS, make_bundle, make_weights, write_photos

from samesight.bundle import Bundle, open_bundle
from samesight.cli import main
from samesight.errors import InputError
from samesight.quantize import aware
from samesight.quantize.aware import RoundedNetwork, check_trainable, trained_roundings
from samesight.quantize.correct import corrections
from samesight.quantize.graph import Graph, open_graph
from samesight.quantize.observe import observe
from samesight.quantize.plan import make_plan
from samesight.quantize.qdq import Rounding, write_qdq
from samesight.quantize.ranges import ranges
from samesight.quantize.torchgraph import OPERATORS, unknown
from samesight.quantize.weights import is_portable
from samesight.runner import softmax
from samesight.runtime import OnnxRunner

Array = NDArray[np.float32]
SHAPE = (2, 6, 9, 10)
VECTOR = np.array([0.5, 2.0, -1.0, 0.25, 1.5, 0.125], np.float32)
WINDOW = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


CASES: dict[str, tuple[str, list[Any], dict[str, Any]]] = {
    "add": ("Add", [VECTOR.reshape(6, 1, 1)], {}),
    "average pool": ("AveragePool", [], WINDOW),
    "average pool, pads counted": ("AveragePool", [], {**WINDOW, "count_include_pad": 1}),
    "average pool, ceiling": ("AveragePool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "normalisation": ("BatchNormalization", [VECTOR, VECTOR, VECTOR, VECTOR**2], {"epsilon": 1e-3}),
    "clip": ("Clip", [np.float32(0), np.float32(0.7)], {}),
    "clip below": ("Clip", [np.float32(-0.25)], {}),
    "concat": ("Concat", [np.ones((2, 3, 9, 10), np.float32)], {"axis": 1}),
    "convolution": ("Conv", ["weights:4,3,3,2", VECTOR[:4]], {**WINDOW, "group": 2, "dilations": [1, 2]}),
    "div": ("Div", [VECTOR.reshape(6, 1, 1)], {}),
    "elu": ("Elu", [], {"alpha": 0.5}),
    "erf": ("Erf", [], {}),
    "flatten": ("Flatten", [], {"axis": 1}),
    "global pool": ("GlobalAveragePool", [], {}),
    "hard sigmoid": ("HardSigmoid", [], {"alpha": 1 / 6}),
    "hard swish": ("HardSwish", [], {}),
    "identity": ("Identity", [], {}),
    "leaky": ("LeakyRelu", [], {"alpha": 0.2}),
    "matrices": ("MatMul", ["weights:10,7"], {}),
    "max": ("Max", [np.float32(0.3)], {}),
    "max pool": ("MaxPool", [], {**WINDOW, "dilations": [2, 1]}),
    "max pool, ceiling": ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "min": ("Min", [np.float32(0.3)], {}),
    "mul": ("Mul", [VECTOR.reshape(6, 1, 1)], {}),
    "pad": ("Pad", [ints(0, 0, 1, 2, 0, 0, 3, 0), np.float32(0.5)], {}),
    "pad mirrored": ("Pad", [ints(0, 0, 1, 2, 0, 0, 3, 0)], {"mode": "reflect"}),
    "power": ("Pow", [np.float32(2)], {}),
    "mean": ("ReduceMean", [], {"axes": [2, -1], "keepdims": 0}),
    "relu": ("Relu", [], {}),
    "reshape": ("Reshape", [ints(0, 3, -1)], {}),
    "sigmoid": ("Sigmoid", [], {}),
    "slice": ("Slice", [ints(1, -8), ints(6, 9), ints(1, 3), ints(2, 1)], {}),
    "softmax": ("Softmax", [], {"axis": 1}),
    "squeeze": ("Squeeze", [], {}),
    "sub": ("Sub", [VECTOR.reshape(6, 1, 1)], {}),
    "tanh": ("Tanh", [], {}),
    "transpose": ("Transpose", [], {"perm": [0, 2, 3, 1]}),
    "unsqueeze": ("Unsqueeze", [ints(1, -1)], {}),
}


def single(kind: str, inputs: list[Any], attributes: dict[str, Any]) -> onnx.ModelProto:
    """One node on a tensor of SHAPE, its other inputs constant."""
    random = np.random.default_rng(4)
    drawn = [
        random.standard_normal([int(n) for n in one.split(":")[1].split(",")]).astype(np.float32)
        if isinstance(one, str)
        else np.asarray(one)
        for one in inputs
    ]
    names = [f"in{place}" for place in range(len(drawn))]
    graph = helper.make_graph(
        [helper.make_node(kind, ["input", *names], ["output"], **attributes)],
        "single",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in zip(names, drawn, strict=True)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.row("Q3")
@pytest.mark.parametrize("case", CASES)
def test_operators_compute_what_onnx_runtime_computes(case: str) -> None:
    proto = single(*CASES[case])
    tensor = np.random.default_rng(5).standard_normal(SHAPE).astype(np.float32)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"input": tensor})
    node = proto.graph.node[0]
    constants = [torch.from_numpy(numpy_helper.to_array(one).copy()) for one in proto.graph.initializer]
    found = OPERATORS[node.op_type](node, torch.from_numpy(tensor), *constants).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_every_operator_has_a_case() -> None:
    of_networks = {"Dropout", "Gemm", "Sqrt"}
    assert {kind for kind, _, _ in CASES.values()} | of_networks == set(OPERATORS)


def drawn() -> dict[str, Array]:
    random = np.random.default_rng(8)
    return {
        name: (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def rounding_of(graph: Graph, tensors: Array, kept: frozenset[str] = frozenset()) -> Rounding:
    names = [
        *make_plan(graph).tensors,
        *(layer.input for layer in graph.layers),
        *(one.end for one in graph.layers),
    ]
    seen = observe(graph, list(dict.fromkeys(names)), tensors)
    first = Rounding(ranges(seen, "minmax"), kept)
    return Rounding(first.ranges, kept, corrections=corrections(graph, seen, first))


def pictures(count: int = 40) -> Array:
    return np.random.default_rng(9).standard_normal((count, 3, 20, 20)).astype(np.float32)


@pytest.mark.row("Q3")
@pytest.mark.parametrize("kept", [0, 2])
def test_the_network_in_pytorch_is_rounded_as_its_file_is(kept: int) -> None:
    graph, tensors = open_graph(model(drawn())), pictures()
    rounding = rounding_of(graph, tensors, frozenset(layer.name for layer in graph.layers[1 : 1 + kept]))
    expected = OnnxRunner(write_qdq(graph, rounding), copy="int8").logits(tensors)
    plain = OnnxRunner(model(drawn()), copy="fp32").logits(tensors)
    with torch.no_grad():
        found = RoundedNetwork(graph, rounding)(torch.from_numpy(tensors)).numpy()
        exact = RoundedNetwork(graph)(torch.from_numpy(tensors)).numpy()
    np.testing.assert_allclose(exact, plain, rtol=1e-4, atol=1e-5)
    # A value half-way between two levels may go either way, so the few that do are all that may differ.
    assert np.abs(found - expected).mean() < 0.01 * np.abs(expected - plain).mean()


@pytest.mark.row("Q3")
def test_learning_brings_the_answers_nearer_and_keeps_the_weights_portable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aware, "STEPS", 64)
    monkeypatch.setattr(aware, "BIAS_RATE", 0.1)  # there is much to make good
    weights = drawn()
    weights["matrix"] *= 100  # so that labels differ from photo to photo
    graph, tensors = open_graph(model(weights)), pictures(64)
    fine = rounding_of(graph, tensors)
    wrong = {name: one + np.float32(0.05) for name, one in fine.corrections.items()}
    rounding = replace(fine, corrections=wrong)
    logits = OnnxRunner(model(weights), copy="fp32").logits(tensors)
    start = RoundedNetwork(graph, rounding).learnt()
    assert write_qdq(graph, start) == write_qdq(graph, rounding)

    offered = list(trained_roundings(graph, rounding, tensors, logits))
    assert [count for count, _ in offered] == [16, 32, 48, 64]
    assert all(is_portable(whole) for _, one in offered for whole in one.weights.values())

    def distance(one: Rounding) -> float:
        right = softmax(logits)
        found = softmax(OnnxRunner(write_qdq(graph, one), copy="int8").logits(tensors))
        return float((right * np.log(right / found)).sum(axis=1).mean())

    assert distance(offered[-1][1]) < 0.05 * distance(rounding)
    again = list(trained_roundings(graph, rounding, tensors, logits))
    assert write_qdq(graph, again[-1][1]) == write_qdq(graph, offered[-1][1])


def test_what_cannot_learn_is_refused() -> None:
    proto = single("Selu", [], {})
    graph = Graph(proto)
    assert unknown(graph) == ["Selu"]
    with pytest.raises(InputError, match="fixed batch"):
        check_trainable(graph, pictures(), pictures())
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    with pytest.raises(InputError, match="operators that cannot learn") as error:
        check_trainable(Graph(proto), pictures(), pictures())
    assert "Selu" in str(error.value)
    sound = open_graph(model(drawn()))
    logits = OnnxRunner(model(drawn()), copy="fp32").logits(pictures())
    check_trainable(sound, pictures(), logits)
    with pytest.raises(InputError, match="otherwise"):
        check_trainable(sound, pictures(), logits + np.float32(0.1))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    """A folder as `data` leaves it, and a bundle of the same photos."""
    folder = tmp_path_factory.mktemp("aware")
    photos = write_photos(folder / "photos", per_class=5)
    random = np.random.default_rng(5)
    for hue, label in enumerate(LABELS):
        for index in range(5, 25):
            pixels = random.integers(0, 90, (48, 40 + index, 3), dtype=np.uint8)
            pixels[..., 2 - hue] += 140
            path = folder / "photos" / label / f"{index}.png"
            Image.fromarray(pixels).save(path)
            photos.append((path, label))
    assert main(["data", str(folder / "photos"), "--out", str(folder / "run")]) == 0
    return folder / "run", make_bundle(folder / "bundle", photos, make_weights(photos))


@pytest.mark.row("Q3")
def test_a_run_is_learnt_from_and_written_down(
    run: tuple[Path, Bundle],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, bundle = run
    monkeypatch.setattr(aware, "STEPS", 8)
    out = tmp_path / "new"
    capsys.readouterr()
    assert main(["quantize", str(bundle.folder), "--qat", str(folder), "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sum("of learning" in step["step"] for step in found["steps"]) == 4
    new = open_bundle(out)
    learnt = set(new.made["int8_training_photos"])
    split = json.loads((folder / "split.json").read_text())
    parts: dict[str, set[str]] = {}
    for item in split["items"]:
        parts.setdefault(item["part"], set()).add(item["sha256"])
    assert learnt <= parts["train"]
    assert found["photos"]["training"] == len(learnt)
    assert main(["verify", str(out)]) == 0


def test_what_is_no_run_is_told(run: tuple[Path, Bundle], capsys: pytest.CaptureFixture[str]) -> None:
    folder, bundle = run
    photos = folder.parent / "photos"
    assert main(["quantize", str(bundle.folder), "--qat", str(photos)]) == 2
    assert "samesight train" in capsys.readouterr().err
