"""Files that every runtime must refuse, each with the name of its refusal."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from pictures import chunk, noise, png
from PIL import Image


def invalid_files(valid: dict[str, bytes]) -> dict[str, tuple[str, bytes]]:
    """File name → kind of refusal and bytes, mostly spoilt copies of `valid`."""
    jpeg, progressive = valid["jpeg-420.jpg"], valid["jpeg-progressive.jpg"]
    rgb, webp = valid["png-rgb.png"], valid["webp-lossy.webp"]
    return {
        "bad-empty.jpg": ("empty", b""),
        "bad-text.jpg": ("unknown", b"This is not a photo.\n"),
        "bad-signature-only.jpg": ("truncated", jpeg[:3]),
        "bad-cut-header.jpg": ("truncated", jpeg[:100]),
        "bad-cut-half.jpg": ("truncated", jpeg[: len(jpeg) * 3 // 4]),
        "bad-cut-progressive.jpg": ("truncated", progressive[: len(progressive) * 3 // 4]),
        "bad-without-end.jpg": ("truncated", jpeg[:-2]),
        "bad-height-0.jpg": ("damaged", _frame(jpeg, 5, b"\0\0")),
        "bad-12-bits.jpg": ("unsupported", _frame(jpeg, 4, b"\x0c")),
        "bad-lossless.jpg": ("unsupported", _frame(jpeg, 1, b"\xc3")),
        "bad-arithmetic.jpg": ("unsupported", _frame(jpeg, 1, b"\xc9")),
        "bad-too-large.jpg": ("too-large", _frame(jpeg, 5, b"\xff\xff\xff\xff")),
        "bad-no-frame.jpg": ("damaged", jpeg[:2] + b"\xff\xd9"),
        "bad-cut.png": ("truncated", rgb[: len(rgb) // 2]),
        "bad-without-end.png": ("truncated", rgb[:-12]),
        "bad-checksum.png": ("damaged", rgb[:-17] + bytes([rgb[-17] ^ 1]) + rgb[-16:]),
        "bad-too-large.png": ("too-large", _png_of_size(100_000, 100_000)),
        "bad-size-0.png": ("damaged", _png_of_size(0, 5)),
        "bad-no-data.png": ("damaged", rgb[:33] + chunk(b"IEND", b"")),
        "bad-too-thin.png": ("too-large", png(np.zeros((1500, 1, 1), np.uint8), 8, 0)),
        "bad-cut.webp": ("truncated", webp[: len(webp) // 2]),
        "bad-cut.gif": ("truncated", valid["gif.gif"][:-60]),
        "bad-large-frame.gif": ("too-large", _gif_with_large_frame(valid["gif.gif"])),
        "bad-cut.bmp": ("truncated", valid["bmp-rgb.bmp"][:-60]),
        "bad-float.tif": ("unsupported", _tiff(Image.fromarray(noise(5, 4)[..., 0].astype(np.float32)))),
        "bad-32-bits.tif": ("unsupported", _tiff(Image.fromarray(noise(5, 4)[..., 0].astype(np.int32)))),
        "bad-lab.tif": ("unsupported", _tiff(Image.merge("LAB", Image.fromarray(noise(5, 4)).split()))),
        "bad-no-size.tif": ("damaged", b"II*\0\x08\0\0\0\0\0\0\0\0\0"),
    }


def _frame(jpeg: bytes, offset: int, value: bytes) -> bytes:
    """A JPEG with `value` at `offset` from its SOF0 marker."""
    place = jpeg.find(b"\xff\xc0") + offset
    return jpeg[:place] + value + jpeg[place + len(value) :]


def _png_of_size(width: int, height: int) -> bytes:
    data = png(noise(4, 4), 8, 2)
    header = struct.pack(">4sIIBBBBB", b"IHDR", width, height, 8, 2, 0, 0, 0)
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def _gif_with_large_frame(gif: bytes) -> bytes:
    place = 13 + (3 << (gif[10] & 7) + 1)
    while gif[place] == 0x21:
        place += 2
        while gif[place]:
            place += 1 + gif[place]
        place += 1
    return gif[: place + 5] + b"\xff\xff\xff\xff" + gif[place + 9 :]


def _tiff(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "TIFF")
    return stream.getvalue()
