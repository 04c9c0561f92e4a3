"""The inference protocol as bytes: what is read, what is refused, and that nothing else happens."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from samesight.runner import softmax
from samesight.serve.protocol import (
    Answers,
    ProtocolError,
    Shape,
    from_binary_strings,
    metadata,
    read_request,
    write_answer,
)

pytestmark = pytest.mark.row("R2")

SHAPE = Shape(4, 5, ("cat", "dog", "Eule ü"), 8)
ANSWERS = Answers("tiny", "1.0.0", "ab" * 32, np.array([[1, 3, 2], [0.5, -1, 0.25]], np.float32))


def request(**changes: Any) -> dict[str, Any]:
    return {
        "inputs": [
            {
                "name": "image",
                "datatype": "BYTES",
                "shape": [1],
                "data": [base64.b64encode(b"photo").decode()],
            }
        ],
        **changes,
    }


def tensor(shape: list[Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {"name": "input", "datatype": "FP32", "shape": shape or [2, 3, 4, 5], **changes}


def with_tail(value: dict[str, Any], tail: bytes) -> tuple[bytes, int]:
    head = json.dumps(value).encode()
    return head + tail, len(head)


def strings(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(one)) + one for one in elements)


def test_photos_in_json_are_base64() -> None:
    asked = read_request(json.dumps(request(id="7")).encode(), None, SHAPE)
    assert (asked.id, asked.photos, asked.tensor) == ("7", (b"photo",), None)
    assert [one.name for one in asked.outputs] == ["output", "probabilities", "index", "label"]
    assert not any(one.binary for one in asked.outputs)


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=8))
def test_photos_in_binary_come_through_whole(photos: list[bytes]) -> None:
    data = strings(*photos)
    image = {"name": "image", "datatype": "BYTES", "shape": [len(photos)]}
    image["parameters"] = {"binary_data_size": len(data)}
    body, length = with_tail({"inputs": [image]}, data)
    assert read_request(body, length, SHAPE).photos == tuple(photos)
    assert from_binary_strings(data) == photos


@given(st.integers(1, 8), st.randoms(use_true_random=False))
def test_tensors_come_through_bit_for_bit_in_every_form(count: int, random: Any) -> None:
    values = np.array([random.uniform(-9, 9) for _ in range(count * 60)], np.float32)
    wanted = values.reshape(count, 3, 4, 5)
    shape = [count, 3, 4, 5]
    raw = values.astype("<f4").tobytes()
    body, length = with_tail({"inputs": [tensor(shape, parameters={"binary_data_size": len(raw)})]}, raw)
    binary = read_request(body, length, SHAPE).tensor
    flat = read_request(json.dumps({"inputs": [tensor(shape, data=values.tolist())]}).encode(), None, SHAPE)
    deep = read_request(json.dumps({"inputs": [tensor(shape, data=wanted.tolist())]}).encode(), None, SHAPE)
    for found in (binary, flat.tensor, deep.tensor):
        assert found is not None
        assert found.dtype == np.float32
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "not a JSON object"),
        ({}, "one input is expected"),
        ({"inputs": []}, "found 0"),
        ({"inputs": [1]}, "the input is not a JSON object"),
        ({"inputs": [{"name": "x"}]}, "no input 'x'"),
        ({"inputs": [{"name": ["input"]}]}, "no input"),
        ({"inputs": [tensor(datatype="FP16", data=[])]}, "datatype FP32, not 'FP16'"),
        ({"inputs": [tensor()]}, "either data or binary_data_size"),
        ({"inputs": [tensor([1, 3, 4], data=[])]}, "shape of input is n × 3 × 4 × 5"),
        ({"inputs": [tensor([1, 3, 4, 6], data=[])]}, "shape of input"),
        ({"inputs": [tensor([True, 3, 4, 5], data=[])]}, "shape of input"),
        ({"inputs": [tensor([0, 3, 4, 5], data=[])]}, "1 to 8 photos, not 0"),
        ({"inputs": [tensor([9, 3, 4, 5], data=[])]}, "1 to 8 photos, not 9"),
        ({"inputs": [tensor([1, 3, 4, 5], data=[1.0] * 59)]}, "59 elements, where its shape says 60"),
        ({"inputs": [tensor([1, 3, 4, 5], data=["1"] * 60)]}, "not a list of numbers"),
        ({"inputs": [tensor([1, 3, 4, 5], data=[[1], 2])]}, "nested unevenly"),
        ({"inputs": [tensor([1, 3, 4, 5], data=[1e39] * 60)]}, "not finite"),
        ({"inputs": [tensor([1, 3, 4, 5], parameters={"binary_data_size": 240})]}, "240, of 0 bytes"),
        ({"inputs": [tensor([1, 3, 4, 5], parameters={"binary_data_size": -1})]}, "number of bytes"),
        ({"inputs": [tensor([1, 3, 4, 5], parameters={"binary_data_size": True})]}, "number of bytes"),
        ({"inputs": [tensor([1, 3, 4, 5], parameters=[])]}, "parameters of the input"),
        (request(id=3), "id is not a string"),
        (request(id="x" * 300), "id is not a string"),
        (request(id="\ud800"), "surrogate"),
        (request(outputs={}), "outputs is not a list"),
        (request(outputs=[{"name": "depth"}]), "no output 'depth'"),
        (request(outputs=[{"name": "label"}] * 2), "asked for twice"),
        (request(outputs=[{"name": "label", "parameters": {"binary_data": 1}}]), "not true or false"),
        (request(outputs=[{"name": "label", "parameters": {"classification": 1}}]), "not of label"),
        (request(outputs=[{"name": "output", "parameters": {"classification": -1}}]), "number of labels"),
        (request(parameters={"timeout": "soon"}), "microseconds"),
        (request(parameters={"timeout": -4}), "microseconds"),
    ],
)
def test_what_is_wrong_is_named(value: Any, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        read_request(json.dumps(value).encode(), None, SHAPE)


@pytest.mark.parametrize(
    ("body", "length", "words"),
    [
        (b"", None, "not JSON"),
        (b"\xff", None, "not JSON"),
        (b'{"inputs": [NaN]}', None, "NaN is not JSON"),
        (b"[" * 100_000, None, "not JSON"),
        (b"{}", 3, "of a body of 2 bytes"),
        (b"{}", 0, "Inference-Header-Content-Length is 0"),
        (b"9" * 5000, None, "not JSON|not a JSON object"),
    ],
)
def test_what_is_no_request_is_refused(body: bytes, length: int | None, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        read_request(body, length, SHAPE)


def test_binary_data_must_be_used_up() -> None:
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}
    body, length = with_tail({"inputs": [image]}, strings(b"a") + b"!")
    with pytest.raises(ProtocolError, match="1 bytes follow"):
        read_request(body, length, SHAPE)
    for tail, words in ((b"\1\0\0", "ends within the length"), (b"\xff\xff\xff\xffab", "ends within an el")):
        image["parameters"] = {"binary_data_size": len(tail)}
        body, length = with_tail({"inputs": [image]}, tail)
        with pytest.raises(ProtocolError, match=words):
            read_request(body, length, SHAPE)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["input"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "datatype", "shape", "data", "parameters", "binary_data_size", "inputs"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
PLACES = [
    ("id",),
    ("inputs",),
    ("outputs",),
    ("parameters",),
    *(("inputs", 0, name) for name in ("name", "datatype", "shape", "data", "parameters")),
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PLACES), JSON, st.binary(max_size=40), st.none() | st.integers(0, 400))
@example(("inputs", 0, "shape"), [2**70], b"", None)
@example(("inputs", 0, "data"), [2**70], b"", None)
@example(("inputs", 0, "data"), [[]], b"", None)
def test_anything_is_read_or_refused(
    place: tuple[Any, ...], value: Any, tail: bytes, length: int | None
) -> None:
    for whole in (request(), {"inputs": [tensor(data=[0.0] * 120)]}):
        inner: Any = whole
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = value
        head = json.dumps(whole).encode()
        try:
            asked = read_request(head + tail, length, SHAPE)
        except ProtocolError:
            continue
        else:
            assert 1 <= asked.count <= SHAPE.max_photos
            write_answer(asked, ANSWERS, SHAPE.labels)


@given(st.binary(max_size=300), st.none() | st.integers(-3, 400))
def test_noise_is_refused(body: bytes, length: int | None) -> None:
    with pytest.raises(ProtocolError):
        read_request(body, length, SHAPE)


def outputs_of(outputs: list[dict[str, Any]] | None, **parameters: Any) -> tuple[dict[str, Any], bytes]:
    value = request(id="7", parameters=parameters, **({} if outputs is None else {"outputs": outputs}))
    asked = read_request(json.dumps(value).encode(), None, SHAPE)
    body, head = write_answer(asked, ANSWERS, SHAPE.labels)
    return json.loads(body if head is None else body[:head]), b"" if head is None else body[head:]


def test_every_output_in_json() -> None:
    answer, tail = outputs_of(None)
    assert not tail
    assert {key: answer[key] for key in ("model_name", "model_version", "id")} == {
        "model_name": "tiny",
        "model_version": "1.0.0",
        "id": "7",
    }
    assert answer["parameters"] == {"bundle": "ab" * 32}
    rows = {row["name"]: row for row in answer["outputs"]}
    assert rows["output"] == {
        "name": "output",
        "datatype": "FP32",
        "shape": [2, 3],
        "data": ANSWERS.logits.ravel().tolist(),
    }
    assert rows["probabilities"]["data"] == softmax(ANSWERS.logits).ravel().tolist()
    assert (rows["index"]["datatype"], rows["index"]["data"]) == ("INT64", [1, 0])
    assert (rows["label"]["datatype"], rows["label"]["data"]) == ("BYTES", ["dog", "cat"])
    described = {row["name"]: row["datatype"] for row in metadata(SHAPE)["outputs"]}
    assert described == {name: row["datatype"] for name, row in rows.items()}


def test_outputs_in_binary_lie_behind_one_another() -> None:
    answer, tail = outputs_of(None, binary_data_output=True)
    sizes = [row["parameters"]["binary_data_size"] for row in answer["outputs"]]
    assert sum(sizes) == len(tail)
    assert tail[: sizes[0]] == ANSWERS.logits.astype("<f4").tobytes()
    assert from_binary_strings(tail[-sizes[-1] :]) == [b"dog", b"cat"]
    mixed, tail = outputs_of(
        [{"name": "index", "parameters": {"binary_data": False}}, {"name": "label"}], binary_data_output=True
    )
    assert mixed["outputs"][0]["data"] == [1, 0]
    assert from_binary_strings(tail) == [b"dog", b"cat"]


def test_labels_as_an_output_are_the_likeliest_first() -> None:
    answer, _ = outputs_of([{"name": "output", "parameters": {"classification": 2}}])
    assert answer["outputs"][0]["shape"] == [2, 2]
    assert answer["outputs"][0]["data"] == [
        "3.000000:1:dog",
        "2.000000:2:Eule ü",
        "0.500000:0:cat",
        "0.250000:2:Eule ü",
    ]
    answer, _ = outputs_of([{"name": "probabilities", "parameters": {"classification": 99}}])
    assert answer["outputs"][0]["shape"] == [2, 3]
