"""Reference pixels: what is written is what any PNG reader, and our own, reads back."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from samesight.errors import PhotoError
from samesight.images.pixelfile import read_pixels, write_pixels


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_back(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    data = write_pixels(pixels)
    np.testing.assert_array_equal(read_pixels(data), pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


PIXELS = np.arange(8 * 9 * 3, dtype=np.uint8).reshape(8, 9, 3)


@given(st.integers(0, len(write_pixels(PIXELS)) - 1), st.integers(1, 255))
@settings(max_examples=100, deadline=None)
def test_a_changed_byte_is_an_error(at: int, flip: int) -> None:
    data = bytearray(write_pixels(PIXELS))
    data[at] ^= flip
    with pytest.raises(PhotoError):
        read_pixels(bytes(data))


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda tail: b"\x89PNG\r\n\x1a\n" + tail))
def test_anything_else_is_an_error(data: bytes) -> None:
    with pytest.raises(PhotoError):
        read_pixels(data)


def test_a_png_of_another_writer_is_refused() -> None:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).convert("L").save(stream, "PNG")
    with pytest.raises(PhotoError):
        read_pixels(stream.getvalue())


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize(
    ("width", "height", "body"),
    [
        (1 << 16, 1 << 16, b""),  # more pixels than are ever asked for
        (0, 5, b""),
        (4, 4, zlib.compress(bytes(10_000_000))),  # unpacks to far more than it says
        (4, 4, zlib.compress(bytes(13 * 3))),  # to less
        (4, 4, zlib.compress(b"\1" + bytes(12) + (b"\2" + bytes(12)) * 3)),  # another filter
        (4, 4, zlib.compress((b"\2" + bytes(12)) * 4) + b"more"),
        (4, 4, b"not zlib"),
    ],
)
def test_what_does_not_fit_is_refused(width: int, height: int, body: bytes) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    with pytest.raises(PhotoError):
        read_pixels(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b""))
