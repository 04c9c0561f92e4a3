"""Pixels and files that the vectors are made of, down to bits that Pillow does not write."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def noise(width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 pixels of a formula that every language has.

    Value i, counted along a row of red, green, blue, is the high byte of x(i + 1), where x(0) = 1 and
    x(n + 1) = (1664525 x(n) + 1013904223) mod 2**32.
    """
    values = np.empty(width * height * 3, np.uint8)
    state = 1
    for index in range(values.size):
        state = (1664525 * state + 1013904223) & 0xFFFFFFFF
        values[index] = state >> 24
    return values.reshape(height, width, 3)


def picture(width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 pixels of slopes with a little noise: a small file, no two parts alike."""
    across, down = np.arange(width)[None, :], np.arange(height)[:, None]
    slopes = [across * 9 + down, down * 11 + 20, across * 3 + (height - down) * 7]
    pixels = np.stack([np.broadcast_to(slope, (height, width)) for slope in slopes], axis=2)
    return (pixels + noise(width, height) // 16).clip(0, 255).astype(np.uint8)


def exif_block(orientation: int, order: str = ">", kind: int = 3, count: int = 1) -> bytes:
    """A TIFF block whose only entry is an orientation."""
    mark = b"MM" if order == ">" else b"II"
    value = struct.pack(
        order + ("HH" if kind == 3 else "I"), *([orientation, 0] if kind == 3 else [orientation])
    )
    return struct.pack(order + "2sHIHHHI", mark, 42, 8, 1, 0x0112, kind, count) + value + bytes(4)


def with_exif(jpeg: bytes, block: bytes) -> bytes:
    """A JPEG with an Exif segment first."""
    return jpeg[:2] + struct.pack(">BBH", 0xFF, 0xE1, len(block) + 8) + b"Exif\0\0" + block + jpeg[2:]


def chunk(name: bytes, payload: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))


def png(
    samples: NDArray[Any], depth: int, colour_type: int, chunks: bytes = b"", *, interlaced: bool = False
) -> bytes:
    """A PNG of `samples` (height, width, channels), which fit in `depth` bits; `chunks` go before IDAT."""
    height, width = samples.shape[:2]
    passes = [samples[y::down, x::across] for x, y, across, down in ADAM7] if interlaced else [samples]
    rows = b"".join(b"\0" + _row(row, depth) for part in passes if part.size for row in part)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, int(interlaced))
    body = chunk(b"IHDR", header) + chunks + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def gif_with_small_frame(transparent: int | None) -> bytes:
    """A GIF of 4 x 3 pixels with background colour 2, whose only frame is the pixel (1, 1) of colour 1."""
    palette = bytes(range(10, 130, 10))
    control = b"" if transparent is None else b"\x21\xf9\x04\x01\0\0" + bytes([transparent, 0])
    frame = struct.pack("<BHHHHB", 0x2C, 1, 1, 1, 1, 0)
    codes = 4 | 1 << 3 | 5 << 6  # clear, colour 1, end; three bits each
    picture = b"\x02\x02" + struct.pack("<H", codes) + b"\0"
    return b"GIF89a" + struct.pack("<HHBBB", 4, 3, 0x81, 2, 0) + palette + control + frame + picture + b";"


def webp_with_small_frame(still: bytes, width: int, height: int) -> bytes:
    """An animated WebP of 20 x 16 pixels on red, whose only frame is a still lossless WebP at (6, 4)."""
    canvas = struct.pack("<I", 0x02) + _u24(19) + _u24(15)
    frame = _u24(3) + _u24(2) + _u24(width - 1) + _u24(height - 1) + _u24(100) + b"\0" + still[12:]
    body = b"WEBP"
    for name, payload in ((b"VP8X", canvas), (b"ANIM", b"\0\0\xff\xff\0\0"), (b"ANMF", frame)):
        body += name + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) & 1)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _u24(value: int) -> bytes:
    return value.to_bytes(3, "little")


def _row(row: NDArray[Any], depth: int) -> bytes:
    values = row.reshape(-1)
    if depth == 16:
        return values.astype(">u2").tobytes()
    bits = np.unpackbits(values.astype(np.uint8)[:, None], axis=1)[:, 8 - depth :]
    return np.packbits(bits.reshape(-1)).tobytes()
