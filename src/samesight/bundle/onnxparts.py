"""Whether an ONNX model is whole: a tensor of it may name another file, which ONNX Runtime would then read
from wherever the process happens to stand. No bundle vouches for such a file, so it must not be read.

Reads protobuf's wire format (protobuf.dev/programming-guides/encoding) and of onnx.proto only the way to the
tensors; what they hold is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator

from samesight.errors import BundleInvalid

__all__ = ["check_whole", "names_other_files"]

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
