"""Reference pixels as PNG files that any viewer shows and that zlib and numpy alone can read.

A golden sample's pixels must not pass through the image decoder that they are there to check. So they
are written in the plainest PNG there is (8-bit RGB, not interlaced, every row with the filter Up), and
read back here without any image library.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from samesight.errors import PhotoError

__all__ = ["read_pixels", "write_pixels"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_UP = 2  # the filter by which a row is stored as its difference to the row above, modulo 256
_MAX_PIXELS = 1 << 26  # 8192 × 8192, the largest that a network may ask for


def write_pixels(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of `pixels`, (height, width, 3) uint8 RGB."""
    height, width, _ = pixels.shape
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = _UP
    flat = np.ascontiguousarray(pixels).reshape(height, -1)
    rows[0, 1:] = flat[0]
    rows[1:, 1:] = flat[1:] - flat[:-1]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 9)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def read_pixels(data: bytes) -> NDArray[np.uint8]:
    """The pixels in a file that `write_pixels` wrote, (height, width, 3) uint8 RGB.

    Raises PhotoError for any other file, PNG or not.
    """
    chunks = dict(_chunks(data))
    if list(chunks) != [b"IHDR", b"IDAT", b"IEND"] or len(chunks[b"IHDR"]) != 13:
        raise _wrong("a PNG of the three chunks IHDR, IDAT and IEND")
    width, height, *form = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    if form != [8, 2, 0, 0, 0] or not 0 < width * height <= _MAX_PIXELS:
        raise _wrong(f"8-bit RGB, not interlaced, from 1 to {_MAX_PIXELS} pixels")
    size = height * (1 + 3 * width)
    reader = zlib.decompressobj()
    try:
        raw = reader.decompress(chunks[b"IDAT"], size + 1)
    except zlib.error as error:
        raise PhotoError("a file of reference pixels is damaged", found=error) from error
    if len(raw) != size or not reader.eof or reader.unused_data:
        raise _wrong(f"{size} bytes of pixels")
    rows = np.frombuffer(raw, np.uint8).reshape(height, -1)
    if (rows[:, 0] != _UP).any():
        raise _wrong("every row with the filter Up")
    pixels = np.add.accumulate(rows[:, 1:], axis=0, dtype=np.uint8)
    return pixels.reshape(height, width, 3)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a PNG file, in order, each checked against its sum."""
    if not data.startswith(_SIGNATURE):
        raise _wrong("a PNG file")
    found: list[tuple[bytes, bytes]] = []
    at = len(_SIGNATURE)
    while at < len(data):
        if len(found) == 3 or at + 12 > len(data):
            raise _wrong("three whole chunks")
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            raise _wrong("three whole chunks")
        kind, body = data[at + 4 : at + 8], data[at + 8 : end]
        if struct.unpack_from(">I", data, end)[0] != zlib.crc32(kind + body):
            raise PhotoError("a file of reference pixels is damaged", found=f"wrong sum of chunk {kind!r}")
        found.append((kind, body))
        at = end + 4
    return found


def _wrong(expected: str) -> PhotoError:
    return PhotoError("a file of reference pixels is not as Samesight writes it", expected=expected)
