"""What must be known of an ONNX file without the onnx package: whether it is whole, what its head is given.

A tensor may name another file, which ONNX Runtime would then read from wherever the process happens to
stand. No bundle vouches for such a file, so it must not be read.

Reads protobuf's wire format (protobuf.dev/programming-guides/encoding) and of onnx.proto only the way to the
tensors and the names of nodes; what tensors hold is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator

from samesight.errors import BundleInvalid

__all__ = ["check_whole", "head_input", "names_other_files", "with_output"]

# message → field number → message, as in onnx.proto
_WAYS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of TensorProto
_GRAPH = 7  # field of ModelProto
_NODE, _OUTPUT = 1, 12  # fields of GraphProto
_NODE_INPUT, _NODE_OUTPUT, _NODE_KIND = 1, 2, 4  # fields of NodeProto
_VALUE_NAME = 1  # field of ValueInfoProto
_HEADS = frozenset({b"Gemm", b"MatMul", b"Conv"})
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def check_whole(model: bytes, copy: str) -> None:
    """Raise BundleInvalid where the model of that copy is not ONNX, or keeps a tensor in another file."""
    try:
        whole = not names_other_files(model)
    except ValueError as error:
        raise BundleInvalid("a model is not an ONNX file", where=f"the {copy} copy", found=error) from error
    if not whole:
        raise BundleInvalid(
            "a model keeps tensors in another file, which no bundle vouches for",
            where=f"the {copy} copy",
            fix="export it anew, with its tensors inside",
        )


def names_other_files(model: bytes) -> bool:
    """Whether any tensor of the model lies in another file. Raises ValueError where it is not protobuf."""
    waiting = [("model", 0, len(model))]
    while waiting:
        message, start, end = waiting.pop()
        ways = _WAYS[message]
        for field, value, begin in _fields(model, start, end):
            if field in ways and begin is not None:
                waiting.append((ways[field], begin, begin + value))
            elif message == "tensor" and (
                field == _EXTERNAL_DATA or (field == _DATA_LOCATION and (begin is not None or value))
            ):
                return True
    return False


def head_input(model: bytes) -> str | None:
    """The name of the tensor that the last matrix product or convolution before the output is given.

    None where the way back from the output forks before one. Raises ValueError where it is not protobuf.
    """
    made: dict[bytes, tuple[bytes, list[bytes]]] = {}
    wanted = b""
    for start, end in _parts(model, 0, len(model), _GRAPH):
        for at, to in _parts(model, start, end, _NODE):
            kind = b"".join(_texts(model, at, to, _NODE_KIND))
            inputs = _texts(model, at, to, _NODE_INPUT)
            made |= dict.fromkeys(_texts(model, at, to, _NODE_OUTPUT), (kind, inputs))
        for at, to in _parts(model, start, end, _OUTPUT):
            wanted = b"".join(_texts(model, at, to, _VALUE_NAME))
    for _ in range(len(made)):
        kind, inputs = made.get(wanted, (b"", []))
        ways = [name for name in inputs if name in made]
        if len(ways) != 1:
            return None
        wanted = ways[0]
        if kind in _HEADS:
            return wanted.decode("utf-8", "replace")
    return None


def with_output(model: bytes, tensor: str) -> bytes:
    """The ONNX model with one more output, the last: `tensor`, which it computes on its way.

    In protobuf what follows a message is merged into it, so the rest of the file stays as it is.
    """
    output = _field(_VALUE_NAME, tensor.encode())
    return model + _field(_GRAPH, _field(_OUTPUT, output))


def _parts(data: bytes, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Where the bytes of each field with the number `wanted` begin and end."""
    for field, size, begin in _fields(data, start, end):
        if field == wanted and begin is not None:
            yield begin, begin + size


def _texts(data: bytes, start: int, end: int, wanted: int) -> list[bytes]:
    return [data[at:to] for at, to in _parts(data, start, end, wanted)]


def _field(number: int, content: bytes) -> bytes:
    return _as_varint(number << 3 | _BYTES) + _as_varint(len(content)) + content


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _fields(data: bytes, place: int, end: int) -> Iterator[tuple[int, int, int | None]]:
    """Each field's number, its value or length, and where its bytes begin (None for a number)."""
    while place < end:
        tag, place = _varint(data, place, end)
        kind = tag & 7
        begin = None
        if kind == _VARINT:
            value, place = _varint(data, place, end)
        elif kind == _BYTES:
            value, begin = _varint(data, place, end)
            place = begin + value
        elif kind in (_FIXED32, _FIXED64):
            value = 0
            place += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind}")
        if place > end:
            raise ValueError("a field is longer than its message")
        yield tag >> 3, value, begin


def _varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while place < end and shift < 70:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError("a number is too long")
