"""The Open Inference Protocol v2 as bytes: a request read, an answer written. Knows no HTTP and no network.

https://github.com/kserve/open-inference-protocol, with the extensions that Triton and KServe share: tensors
in binary behind the JSON object (binary_tensor_data), and labels as an output (classification).

A network is shown with two inputs, of which a request has one: `input`, FP32 [n, 3, height, width], and
`image`, BYTES [n], each element the file of a photo; in JSON, base64. Its outputs are `output`, FP32, the
logits; `probabilities`, FP64; `index`, INT64, and `label`, BYTES, the likeliest.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from samesight.runner import softmax

__all__ = ["Answers", "Asked", "Output", "ProtocolError", "Shape", "metadata", "read_request", "write_answer"]

TENSOR, IMAGE = "input", "image"
OUTPUTS = ("output", "probabilities", "index", "label")
MAX_ID = 256
MAX_OUTPUTS = 16


class ProtocolError(ValueError):
    """A request that is not one of the protocol; the message says which part, and what was expected."""


@dataclass(frozen=True)
class Shape:
    """What a network takes and gives, as far as the protocol tells."""

    height: int
    width: int
    labels: Sequence[str]
    max_photos: int


@dataclass(frozen=True)
class Output:
    """An output that was asked for; `classes` asks for so many of the likeliest as text instead."""

    name: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True)
class Asked:
    """A request: photos' files, or a tensor (n, 3, height, width) float32; never both."""

    id: str | None
    photos: tuple[bytes, ...]
    tensor: NDArray[np.float32] | None
    outputs: tuple[Output, ...]
    timeout_s: float | None

    @property
    def count(self) -> int:
        """How many photos it is about."""
        return len(self.photos) if self.tensor is None else len(self.tensor)


@dataclass(frozen=True)
class Answers:
    """What is answered: the logits (n, classes) of one version of a network."""

    name: str
    version: str
    bundle: str
    logits: NDArray[np.float32]


def metadata(shape: Shape) -> dict[str, Any]:
    """The inputs and outputs as the protocol describes them."""
    n, classes = -1, len(shape.labels)
    return {
        "inputs": [
            {"name": TENSOR, "datatype": "FP32", "shape": [n, 3, shape.height, shape.width]},
            {"name": IMAGE, "datatype": "BYTES", "shape": [n]},
        ],
        "outputs": [
            {"name": "output", "datatype": "FP32", "shape": [n, classes]},
            {"name": "probabilities", "datatype": "FP64", "shape": [n, classes]},
            {"name": "index", "datatype": "INT64", "shape": [n]},
            {"name": "label", "datatype": "BYTES", "shape": [n]},
        ],
    }


def read_request(body: bytes, header_bytes: int | None, shape: Shape) -> Asked:
    """The request in `body`, whose first `header_bytes` are JSON and the rest binary data; None for all JSON.

    Raises ProtocolError.
    """
    if header_bytes is not None and not 0 < header_bytes <= len(body):
        _refuse(f"Inference-Header-Content-Length is {header_bytes}, of a body of {len(body)} bytes")
    value = _object(_json(body if header_bytes is None else body[:header_bytes]), "the request")
    binary = _Binary(b"" if header_bytes is None else memoryview(body)[header_bytes:])
    parameters = _parameters(value, "the request")
    inputs = value.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1:
        found = len(inputs) if isinstance(inputs, list) else "none"
        _refuse(f"one input is expected, '{TENSOR}' (FP32) or '{IMAGE}' (BYTES); found {found}")
    photos, tensor = _input(_object(inputs[0], "the input"), binary, shape)
    binary.end()
    return Asked(
        id=_id(value.get("id")),
        photos=photos,
        tensor=tensor,
        outputs=_outputs(value.get("outputs"), _flag(parameters, "binary_data_output"), len(shape.labels)),
        timeout_s=_timeout(parameters.get("timeout")),
    )


def write_answer(asked: Asked, answers: Answers, labels: Sequence[str]) -> tuple[bytes, int | None]:
    """The body that answers `asked`, and the length of its JSON where binary data follows it."""
    written: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for output in asked.outputs:
        datatype, shape, values = _values(output, answers.logits, labels)
        row: dict[str, Any] = {"name": output.name, "datatype": datatype, "shape": shape}
        if output.binary:
            data = _to_binary(datatype, values)
            row["parameters"] = {"binary_data_size": len(data)}
            tail.append(data)
        else:
            row["data"] = values if isinstance(values, list) else values.ravel().tolist()
        written.append(row)
    answer: dict[str, Any] = {"model_name": answers.name, "model_version": answers.version}
    if asked.id is not None:
        answer["id"] = asked.id
    answer["parameters"] = {"bundle": answers.bundle}
    answer["outputs"] = written
    head = json.dumps(answer, allow_nan=False, separators=(",", ":")).encode()
    return (b"".join((head, *tail)), len(head)) if tail else (head, None)


def from_binary_strings(data: bytes | memoryview) -> list[bytes]:
    """The elements of a BYTES tensor: each four bytes of length, little-endian, and so many bytes.

    Raises ProtocolError where the data ends within an element.
    """
    elements, place = [], 0
    while place < len(data):
        start = place + 4
        if start > len(data):
            _refuse("binary data of BYTES ends within the length of an element")
        (size,) = struct.unpack_from("<I", data, place)
        place = start + size
        if place > len(data):
            _refuse(f"binary data of BYTES ends within an element of {size} bytes")
        elements.append(bytes(data[start:place]))
    return elements


class _Binary:
    """The bytes behind the JSON object, of which each input takes its part."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = data
        self.place = 0

    def take(self, size: object) -> bytes | memoryview:
        if type(size) is not int or size < 0:
            _refuse("binary_data_size is not a number of bytes")
        end = self.place + size
        if end > len(self.data):
            _refuse(f"binary_data_size is {size}, of {len(self.data) - self.place} bytes that are left")
        self.place, part = end, self.data[self.place : end]
        return part

    def end(self) -> None:
        if self.place != len(self.data):
            _refuse(f"{len(self.data) - self.place} bytes follow that belong to no input")


def _refuse(message: str) -> NoReturn:
    raise ProtocolError(message)


def _json(data: bytes) -> object:
    try:
        return json.loads(data, parse_constant=lambda word: _refuse(f"{word} is not JSON"))
    except ProtocolError:
        raise
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the request is not JSON: {error}") from error


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        _refuse(f"{what} is not a JSON object")
    return value


def _parameters(value: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    found = value.get("parameters")
    return {} if found is None else _object(found, f"parameters of {what}")


def _flag(parameters: Mapping[str, Any], name: str, otherwise: bool = False) -> bool:
    found = parameters.get(name, otherwise)
    if not isinstance(found, bool):
        _refuse(f"{name} is not true or false")
    return found


def _id(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_ID:
        _refuse(f"id is not a string of at most {MAX_ID} characters")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ProtocolError("id has half of a surrogate pair") from error
    return value


def _timeout(value: object) -> float | None:
    """Seconds, from the microseconds of Triton's clients; None and 0 for the server's own deadline."""
    if value is None or value == 0:
        return None
    if type(value) not in (int, float) or not 0 < value < math.inf:  # type: ignore[operator]
        _refuse("timeout is not a number of microseconds")
    return min(float(value) / 1e6, 86400.0)  # type: ignore[arg-type]


def _input(
    value: Mapping[str, Any], binary: _Binary, shape: Shape
) -> tuple[tuple[bytes, ...], NDArray[np.float32] | None]:
    """The photos of an `image`, or the tensor of an `input`."""
    kinds = {TENSOR: "FP32", IMAGE: "BYTES"}
    name, datatype = value.get("name"), value.get("datatype")
    if not isinstance(name, str) or name not in kinds:
        _refuse(f"there is no input {_shown(name)}; there are {TENSOR} and {IMAGE}")
    if datatype != kinds[name]:
        _refuse(f"the input {name} is of datatype {kinds[name]}, not {_shown(datatype)}")
    size = _parameters(value, "the input").get("binary_data_size")
    if (size is None) == ("data" not in value):
        _refuse("the input has either data or binary_data_size")
    wanted = [-1, 3, shape.height, shape.width] if name == TENSOR else [-1]
    count = _count(value.get("shape"), wanted, name, shape.max_photos)
    if name == IMAGE:
        elements = _from_json_strings(value["data"], count) if size is None else None
        photos = from_binary_strings(binary.take(size)) if elements is None else elements
        if len(photos) != count:
            _refuse(f"the input {IMAGE} has {len(photos)} elements, where its shape says {count}")
        return tuple(photos), None
    expected = count * math.prod(wanted[1:])
    values = _from_json_numbers(value["data"]) if size is None else _floats(binary.take(size))
    if values.size != expected:
        _refuse(f"the input {TENSOR} has {values.size} elements, where its shape says {expected}")
    return (), values.reshape(count, *wanted[1:])


def _count(found: object, wanted: Sequence[int], name: str, limit: int) -> int:
    """How many photos a shape speaks of."""
    words = " × ".join("n" if side == -1 else str(side) for side in wanted)
    if not isinstance(found, list) or [type(side) for side in found] != [int] * len(wanted):
        _refuse(f"the shape of {name} is {words}, not {_shown(found)}")
    if found[1:] != list(wanted[1:]):
        _refuse(f"the shape of {name} is {words}, not {_shown(found)}")
    if not 1 <= found[0] <= limit:
        _refuse(f"a request is of 1 to {limit} photos, not {_shown(found[0])}")
    count: int = found[0]
    return count


def _floats(data: bytes | memoryview) -> NDArray[np.float32]:
    if len(data) % 4:
        _refuse(f"{len(data)} bytes are no whole number of FP32 elements")
    return _finite(np.frombuffer(data, "<f4").astype(np.float32, copy=False))


def _from_json_numbers(data: object) -> NDArray[np.float32]:
    """The numbers in `data`, which may be nested as the shape is, in its order."""
    try:
        with np.errstate(over="ignore"):
            values = np.asarray(data)
    except ValueError as error:  # nested unevenly
        raise ProtocolError("the data of an FP32 input is nested unevenly") from error
    if not isinstance(data, list) or (values.dtype.kind not in "iuf" and values.size):
        _refuse("the data of an FP32 input is not a list of numbers")
    with np.errstate(over="ignore"):
        return _finite(values.astype(np.float32).ravel())


def _finite(values: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(values).all():
        _refuse(f"the input {TENSOR} has numbers that are not finite")
    return values


def _from_json_strings(data: object, count: int) -> list[bytes]:
    """The photos in `data`: a list of base64 strings."""
    if not isinstance(data, list) or len(data) != count or not all(isinstance(one, str) for one in data):
        _refuse(f"the data of {IMAGE} is not a list of {count} base64 strings")
    try:
        return [base64.b64decode(one, validate=True) for one in data]
    except (binascii.Error, ValueError) as error:
        raise ProtocolError(f"the data of {IMAGE} is not base64: {error}") from error


def _outputs(value: object, all_binary: bool, classes: int) -> tuple[Output, ...]:
    if value is None:
        return tuple(Output(name, all_binary) for name in OUTPUTS)
    if not isinstance(value, list) or len(value) > MAX_OUTPUTS:
        _refuse(f"outputs is not a list of at most {MAX_OUTPUTS}")
    found = [_output(_object(one, "an output"), all_binary, classes) for one in value]
    if len({one.name for one in found}) != len(found):
        _refuse("an output is asked for twice")
    return tuple(found) or tuple(Output(name, all_binary) for name in OUTPUTS)


def _output(value: Mapping[str, Any], all_binary: bool, classes: int) -> Output:
    name = value.get("name")
    if not isinstance(name, str) or name not in OUTPUTS:
        _refuse(f"there is no output {_shown(name)}; there are {', '.join(OUTPUTS)}")
    parameters = _parameters(value, f"the output {name}")
    count = parameters.get("classification", 0)
    if type(count) is not int or count < 0:
        _refuse("classification is not a number of labels")
    if count and name not in ("output", "probabilities"):
        _refuse(f"classification is of output or probabilities, not of {name}")
    return Output(name, _flag(parameters, "binary_data", all_binary), min(count, classes))


def _values(
    output: Output, logits: NDArray[np.float32], labels: Sequence[str]
) -> tuple[str, list[int], NDArray[Any] | list[str]]:
    """Datatype, shape and values of an output; text as a list, row by row."""
    n = len(logits)
    scores: NDArray[Any] = softmax(logits) if output.name == "probabilities" else logits
    if output.classes:
        order = np.argsort(-logits, axis=1, kind="stable")[:, : output.classes]
        words = [
            f"{row[i]:f}:{i}:{labels[i]}" for row, places in zip(scores, order, strict=True) for i in places
        ]
        return "BYTES", [n, output.classes], words
    if output.name == "output":
        return "FP32", list(logits.shape), logits
    if output.name == "probabilities":
        return "FP64", list(logits.shape), scores
    best = logits.argmax(axis=1).astype(np.int64)
    if output.name == "index":
        return "INT64", [n], best
    return "BYTES", [n], [labels[i] for i in best]


def _to_binary(datatype: str, values: NDArray[Any] | list[str]) -> bytes:
    if isinstance(values, list):
        encoded = [word.encode() for word in values]
        return b"".join(part for word in encoded for part in (struct.pack("<I", len(word)), word))
    kind = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8"}[datatype]
    return np.ascontiguousarray(values, kind).tobytes()


def _shown(value: object) -> str:
    """A value of a request as a message repeats it: printable and short."""
    words = ascii(value)
    return words if len(words) <= 60 else f"{words[:57]}..."
