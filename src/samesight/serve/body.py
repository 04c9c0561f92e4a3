"""What a client sends, read within limits of bytes, time and memory; compression and multipart undone."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import python_multipart
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from samesight.serve.refusal import Refusal

__all__ = ["Budget", "Part", "read_body", "split_parts"]

PIECE_BYTES = 1 << 18
DRAIN_S = 2.0
DRAIN_BYTES = 256 << 20
MAX_PART_HEADER_BYTES = 4096
GZIP_OR_ZLIB = 47  # of zlib's window bits: 15, and 32 to tell the two by their first bytes


class Budget:
    """Memory for the bodies of all requests that are held at one time."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0

    def take(self, size: int) -> None:
        """Take `size` bytes of it. Raises Refusal, 429, where they are not left."""
        if self.held_bytes + size > self.limit_bytes:
            raise Refusal(429, "memory", "the memory for requests is taken; try again", retry_s=1)
        self.held_bytes += size

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self.held_bytes -= size


class Lease:
    """What one request holds of the budget; given back when the block ends."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.give(self._size)

    def upto(self, size: int) -> None:
        """Hold at least `size` bytes. Raises Refusal."""
        if size > self._size:
            self._budget.take(size - self._size)
            self._size = size


async def read_body(request: Request, lease: Lease, *, limit_bytes: int, timeout_s: float) -> bytes:
    """The whole body, uncompressed.

    Raises Refusal: 413 where it is longer than `limit_bytes`, compressed or not, 408 where it takes longer
    than `timeout_s`, 415 for a compression that is not known, 400 where it cannot be read, 429 where all
    requests together hold too much.
    """
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip", "deflate", ""):
        raise Refusal(415, "encoding", "the body's Content-Encoding is none of gzip, deflate and identity")
    declared = _declared(request)
    try:
        if declared > limit_bytes:
            raise _too_long(limit_bytes)
        lease.upto(declared)
        async with asyncio.timeout(timeout_s):
            body = await _gather(request.receive, lease, limit_bytes)
    except TimeoutError:
        raise Refusal(408, "slow", f"the body did not come within {timeout_s:g} s") from None
    except Refusal as refusal:
        if refusal.status == 413:
            await _drain(request.receive)
        raise
    if coding in ("identity", ""):
        return body
    if len(body) > PIECE_BYTES:
        return await asyncio.to_thread(_uncompress, body, lease, limit_bytes)
    return _uncompress(body, lease, limit_bytes)


def _declared(request: Request) -> int:
    words = request.headers.get("content-length", "0")
    return int(words) if words.isascii() and words.isdigit() and len(words) < 19 else 0


async def _gather(receive: Callable[[], Awaitable[Any]], lease: Lease, limit_bytes: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "gone", "the client went away")
        if piece := message.get("body", b""):
            size += len(piece)
            if size > limit_bytes:
                raise _too_long(limit_bytes)
            lease.upto(size)
            pieces.append(piece)
        if not message.get("more_body", False):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _drain(receive: Callable[[], Awaitable[Any]]) -> None:
    """Read on for a moment and keep nothing: many clients read no answer before they have sent everything."""
    left = DRAIN_BYTES
    try:
        async with asyncio.timeout(DRAIN_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def _uncompress(data: bytes, lease: Lease, limit_bytes: int) -> bytes:
    """gzip or zlib, piece by piece, so that a small body cannot become a large one unseen."""
    pieces: list[bytes] = []
    size = 0
    reader = zlib.decompressobj(GZIP_OR_ZLIB)
    try:
        while True:
            piece = reader.decompress(data, PIECE_BYTES)
            size += len(piece)
            if size > limit_bytes:
                raise _too_long(limit_bytes)
            lease.upto(len(data) + size)
            pieces.append(piece)
            data = reader.unconsumed_tail
            if reader.eof or (not data and not piece):
                break
    except zlib.error as error:
        raise Refusal(400, "encoding", f"the body is not what its Content-Encoding says: {error}") from error
    if not reader.eof or reader.unused_data:
        raise Refusal(400, "encoding", "the compressed body does not end where it should")
    return b"".join(pieces)


def _too_long(limit_bytes: int) -> Refusal:
    return Refusal(413, "bytes", f"the body is longer than {limit_bytes} bytes")


@dataclass
class Part:
    """One part of a multipart body."""

    name: str
    filename: str | None
    data: bytes


def split_parts(body: bytes, content_type: str, max_parts: int) -> list[Part]:
    """The parts of a multipart/form-data body. Raises Refusal, 400 or 413."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise Refusal(400, "multipart", "the multipart body has no boundary")
    reader = _PartReader(max_parts)
    try:
        parser = python_multipart.MultipartParser(boundary, reader.callbacks())  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except (MultipartParseError, ValueError) as error:
        raise Refusal(400, "multipart", f"the multipart body cannot be read: {error}") from error
    if not reader.ended:
        raise Refusal(400, "multipart", "the multipart body ends before its last boundary")
    return reader.parts


class _PartReader:
    """Gathers parts as the parser comes upon them."""

    def __init__(self, max_parts: int) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._max_parts = max_parts
        self._field = self._value = b""
        self._disposition = b""
        self._data = bytearray()

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_part_begin": self._begin,
            "on_part_data": self._more,
            "on_part_end": self._finish,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == self._max_parts:
            raise Refusal(413, "photos", f"a request is of at most {self._max_parts} photos")
        self._disposition, self._data = b"", bytearray()
        self._field = self._value = b""

    def _more(self, data: bytes, start: int, end: int) -> None:
        self._data += memoryview(data)[start:end]

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field = self._within(self._field + data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value = self._within(self._value + data[start:end])

    def _within(self, words: bytes) -> bytes:
        if len(words) > MAX_PART_HEADER_BYTES:
            raise Refusal(400, "multipart", "a header of a part is too long")
        return words

    def _header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def _finish(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind != b"form-data":
            raise Refusal(400, "multipart", "a part has no Content-Disposition of form-data")
        filename = options.get(b"filename")
        self.parts.append(
            Part(
                name=options.get(b"name", b"").decode("utf-8", "replace"),
                filename=None if filename is None else filename.decode("utf-8", "replace"),
                data=bytes(self._data),
            )
        )
        self._data = bytearray()

    def _end(self) -> None:
        self.ended = True
