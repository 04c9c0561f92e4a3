"""Networks read for secure computation: what is understood, what is refused, and what is rewritten."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx")

from secure_networks import draw, model, read  # noqa: E402

from samesight.errors import BundleInvalid, InputError  # noqa: E402
from samesight.secure.graph import Graph, is_not_negative  # noqa: E402
from samesight.secure.reading import Network, read_onnx  # noqa: E402
from samesight.secure.rewrite import fold_scales, for_compilers, for_mpc  # noqa: E402
from samesight.secure.writing import write_onnx  # noqa: E402

IMAGE = np.random.default_rng(2).standard_normal((2, 3, 12, 12)).astype(np.float32)
HEAD: list[tuple[str, list[str], str, dict[str, Any]]] = [
    ("GlobalAveragePool", ["x"], "pooled", {}),
    ("Flatten", ["pooled"], "flat", {}),
    ("Gemm", ["flat", "head", "bias"], "output", {"transB": 1}),
]


def logits(data: bytes, image: np.ndarray = IMAGE) -> np.ndarray:
    return onnxruntime.InferenceSession(data).run(None, {"input": image})[0]


def to_logits(nodes: list[Any], tensors: dict[str, Any], channels: int, **more: Any) -> bytes:
    """A file whose nodes give "x" of so many channels, with a head behind them."""
    return model(nodes + HEAD, {**tensors, "head": draw(3, channels), "bias": draw(3, 1)[:, 0]}, **more)


CONV = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}
KINDS: dict[str, tuple[list[Any], dict[str, Any], int]] = {
    "conv": ([("Conv", ["input", "w", "b"], "x", CONV)], {"w": draw(4, 3, 3, 3), "b": draw(4, 1)[:, 0]}, 4),
    "no bias": ([("Conv", ["input", "w"], "x", {"strides": [2, 1]})], {"w": draw(4, 3, 3, 2)}, 4),
    "depthwise": ([("Conv", ["input", "w"], "x", {"group": 3})], {"w": draw(6, 1, 3, 3)}, 6),
    "dilated": ([("Conv", ["input", "w"], "x", {"dilations": [2, 2]})], {"w": draw(4, 3, 3, 3)}, 4),
    "same": ([("Conv", ["input", "w"], "x", {"auto_pad": "SAME_UPPER"})], {"w": draw(4, 3, 2, 2)}, 4),
    "clip": ([("Clip", ["input", "l", "h"], "x", {})], {"l": np.float32(0), "h": np.float32(1)}, 3),
    "clip low": ([("Clip", ["input", "l", "h"], "x", {})], {"l": np.float32(-1), "h": np.float32(1)}, 3),
    "hard swish": ([("HardSwish", ["input"], "x", {})], {}, 3),
    "max": ([("MaxPool", ["input"], "x", {"kernel_shape": [3, 3], "strides": [2, 2]})], {}, 3),
    "max ceil": (
        [("MaxPool", ["input"], "x", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1})],
        {},
        3,
    ),
    "average padded": (
        [("AveragePool", ["input"], "x", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})],
        {},
        3,
    ),
    "average counted": (
        [
            (
                "AveragePool",
                ["input"],
                "x",
                {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "count_include_pad": 1},
            )
        ],
        {},
        3,
    ),
    "residual": ([("Relu", ["input"], "r", {}), ("Add", ["r", "input"], "x", {})], {}, 3),
    "gate": ([("HardSigmoid", ["input"], "r", {}), ("Mul", ["r", "input"], "x", {})], {}, 3),
    "concat": ([("Relu", ["input"], "r", {}), ("Concat", ["r", "input"], "x", {"axis": 1})], {}, 6),
    "slice and pad": (
        [
            ("Slice", ["input", "s", "e", "a", "st"], "r", {}),
            ("Pad", ["r", "p"], "x", {}),
        ],
        {
            "s": np.array([0, 0]),
            "e": np.array([9999, 9999]),
            "a": np.array([2, 3]),
            "st": np.array([2, 2]),
            "p": np.array([0, 2, 0, 0, 0, 1, 0, 0]),
        },
        6,
    ),
    "scalar": ([("Sub", ["c", "input"], "x", {})], {"c": np.full((3, 1, 1), 0.5, np.float32)}, 3),
    "normalised": (
        [("BatchNormalization", ["input", "g", "be", "m", "v"], "x", {})],
        {"g": draw(3, 1)[:, 0], "be": draw(3, 1)[:, 0], "m": draw(3, 1)[:, 0], "v": np.float32([1, 2, 3])},
        3,
    ),
    "conv normalised": (
        [
            ("Conv", ["input", "w"], "c", {}),
            ("BatchNormalization", ["c", "g", "be", "m", "v"], "n", {}),
            ("Relu", ["n"], "r", {}),
            ("MaxPool", ["r"], "x", {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0]}),
        ],
        {
            "w": draw(3, 3, 3, 3),
            "g": draw(3, 1)[:, 0],
            "be": draw(3, 1)[:, 0],
            "m": draw(3, 1)[:, 0],
            "v": np.float32([1, 2, 3]),
        },
        3,
    ),
}


@pytest.mark.row("X1")
@pytest.mark.parametrize("rewrite", [for_compilers, for_mpc])
@pytest.mark.parametrize("kind", KINDS)
def test_a_rewritten_file_gives_the_same_answer(kind: str, rewrite: Any) -> None:
    nodes, tensors, channels = KINDS[kind]
    data = to_logits(nodes, tensors, channels)
    found = rewrite(read(data))
    written = write_onnx(found.graph.with_batch(2), found.weights)
    assert np.abs(logits(written) - logits(data)).max() <= 2e-6
    proto = onnx.load_from_string(written)
    assert proto.ir_version <= 8
    assert proto.opset_import[0].version <= 17
    assert all(one.dim_value for one in proto.graph.input[0].type.tensor_type.shape.dim)
    assert "Clip" not in {node.op_type for node in proto.graph.node}


@pytest.mark.row("X1")
def test_normalisations_go_into_the_weights_and_relu_behind_the_maximum() -> None:
    nodes, tensors, channels = KINDS["conv normalised"]
    kinds = [step.kind for step in for_mpc(read(to_logits(nodes, tensors, channels))).graph.steps]
    assert kinds == ["Conv", "MaxPool", "Relu", "GlobalAveragePool", "Flatten", "Gemm"]


def test_a_convolution_with_two_users_keeps_its_weights() -> None:
    nodes, tensors, _ = KINDS["conv normalised"]
    both = [*nodes[:2], ("Add", ["c", "n"], "x", {})]
    data = to_logits(both, tensors, 3)
    found = fold_scales(read(data))
    assert [step.kind for step in found.graph.steps][:3] == ["Conv", "Scale", "Add"]
    assert np.abs(logits(write_onnx(found.graph.with_batch(2), found.weights)) - logits(data)).max() <= 2e-6


def test_a_dynamic_reshape_is_a_flatten() -> None:
    nodes = [
        ("Relu", ["input"], "r", {}),
        ("Shape", ["r"], "s", {}),
        ("Gather", ["s", "zero"], "g", {"axis": 0}),
        ("Unsqueeze", ["g", "first"], "u", {}),
        ("Concat", ["u", "rest"], "sides", {"axis": 0}),
        ("Reshape", ["r", "sides"], "flat", {}),
        ("Gemm", ["flat", "w", "b"], "output", {"transB": 1}),
    ]
    tensors = {
        "zero": np.array(0),
        "first": np.array([0]),
        "rest": np.array([-1]),
        "w": draw(3, 432),
        "b": draw(3, 1)[:, 0],
    }
    found = read(model(nodes, tensors))
    assert [step.kind for step in found.graph.steps] == ["Relu", "Flatten", "Gemm"]


@pytest.mark.row("X1")
@pytest.mark.parametrize(
    ("node", "tensors", "words"),
    [
        (("Sigmoid", ["input"], "x", {}), {}, "no secure form"),
        (("LeakyRelu", ["input"], "x", {"alpha": 0.1}), {}, "no secure form"),
        (("Transpose", ["input"], "x", {"perm": [0, 1, 3, 2]}), {}, "no secure form"),
        (("Clip", ["input", "", "h"], "x", {}), {"h": np.float32(1)}, "limit from above"),
        (("MaxPool", ["input"], "x", {"kernel_shape": [2, 2], "dilations": [2, 2]}), {}, "dilations"),
        (("Softmax", ["input"], "x", {}), {}, "no secure form"),
        (
            ("Pad", ["input", "p"], "x", {"mode": "reflect"}),
            {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])},
            "mode",
        ),
        (("Concat", ["input", "input"], "x", {"axis": 2}), {}, "axis 2"),
        (("ReduceMean", ["input"], "x", {"axes": [1], "keepdims": 1}), {}, "axes"),
        (("Mul", ["input", "c"], "x", {}), {"c": draw(3, 12, 12)}, "constant of shape"),
    ],
)
def test_what_is_not_understood_is_named(node: Any, tensors: dict[str, Any], words: str) -> None:
    found = read_onnx(to_logits([node, ("Relu", ["x"], "y", {})], tensors, 3))
    assert isinstance(found, list)
    assert len(found) == 1  # what comes behind it is not reported too
    assert (found[0].operator, found[0].node) == (node[0], "/x")
    assert words in found[0].what
    assert found[0].fix


def test_files_that_are_none() -> None:
    for data in (b"nothing", b"\x00" * 40):
        with pytest.raises(BundleInvalid):
            read_onnx(data)


def test_the_public_part_has_neither_weights_nor_names() -> None:
    nodes, tensors, channels = KINDS["conv"]
    found = read(to_logits(nodes, tensors, channels))
    words = json.dumps(found.graph.to_json())
    assert "/x" not in words
    assert Graph.from_json(json.loads(words)) == Graph(
        found.graph.input,
        found.graph.shape,
        found.graph.output,
        tuple(
            type(step)(step.kind, step.inputs, step.output, dict(step.attributes), "")
            for step in found.graph.steps
        ),
        found.graph.weight_shapes,
    )


PUBLIC = read(to_logits(*KINDS["conv normalised"])).graph.to_json()
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_public_part_from_a_stranger_is_read_or_refused(data: st.DataObject) -> None:
    value = json.loads(json.dumps(PUBLIC))
    place: Any = value
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
            place = place[key]
            continue
        place[key] = data.draw(junk)
        break
    try:
        graph = Graph.from_json(value)
    except InputError:
        return
    assert len(graph.shapes[graph.output]) == 2


def test_what_cannot_be_negative() -> None:
    nodes, tensors, channels = KINDS["conv normalised"]
    graph = for_compilers(read(to_logits(nodes, tensors, channels))).graph
    by_kind = {step.kind: step.output for step in graph.steps}
    assert is_not_negative(graph, by_kind["MaxPool"])
    assert not is_not_negative(graph, by_kind["Conv"])
    assert not is_not_negative(graph, graph.input)


def test_reading_is_a_network() -> None:
    assert isinstance(read_onnx(to_logits(*KINDS["conv"])), Network)
