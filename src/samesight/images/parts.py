"""What an image file says of itself before it is decoded: its format, size, orientation and parts.

Pure Python over bytes, so that every runtime can follow it; spec/preprocess.md has the same in words.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from samesight.errors import PhotoError

__all__ = [
    "PROBLEMS",
    "Chunk",
    "JpegFrame",
    "Segment",
    "image_format",
    "image_size",
    "jpeg_frame",
    "jpeg_segments",
    "orientation",
    "png_chunks",
    "refusal",
    "webp_chunks",
]

# The kinds of refusal, by the names that spec/vectors and every runtime use.
PROBLEMS = {
    "empty": "a photo's file is empty",
    "unreadable": "a photo cannot be read from the disk",
    "unknown": "a file is not a photo of a kind that Samesight reads",
    "unsupported": "a photo is of a kind that has no rule",
    "too-large": "a photo is too large",
    "truncated": "a photo is cut short",
    "damaged": "a photo is damaged",
}

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SOI, EOI, SOS, COM = 0xD8, 0xD9, 0xDA, 0xFE
APP0, APP1, APP14, APP15 = 0xE0, 0xE1, 0xEE, 0xEF
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 … SOF15; not DHT, JPG, DAC
LONELY = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length: TEM, RST0 … RST7
EXIF = b"Exif\0\0"
ORIENTATION_TAG = 0x0112
# In entropy-coded data; to it belong stuffed zeros, restarts, and a stray TEM, which decoders stumble over.
NEXT_MARKER = re.compile(rb"\xff+([^\x00\x01\xd0-\xd7\xff])", re.DOTALL)


@dataclass(frozen=True)
class Segment:
    """A JPEG segment; its payload is data[start:end], without marker and length."""

    marker: int
    start: int
    end: int


@dataclass(frozen=True)
class Chunk:
    """A PNG or RIFF chunk; its payload is data[start:end]."""

    name: bytes
    start: int
    end: int


@dataclass(frozen=True)
class JpegFrame:
    """A JPEG's frame header: its SOF marker, bits a sample, size, and sampling (horizontal, vertical)."""

    marker: int
    bits: int
    width: int
    height: int
    sampling: tuple[tuple[int, int], ...]


def refusal(
    kind: str, *, expected: object = None, found: object = None, fix: str | None = None
) -> PhotoError:
    """A PhotoError of one of the kinds in PROBLEMS, to be raised."""
    error = PhotoError(PROBLEMS[kind], expected=expected, found=found, fix=fix)
    error.kind = kind
    return error


def image_format(data: bytes) -> str:
    """The format by the first bytes: "jpeg", "png", "webp", "bmp", "gif" or "tiff".

    Raises PhotoError of kind "empty" or "unknown".
    """
    if not data:
        raise refusal("empty")
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:8] == PNG_SIGNATURE:
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return "tiff"
    if data[:2] == b"BM":
        return "bmp"
    raise refusal("unknown", expected="JPEG, PNG, WebP, BMP, GIF or TIFF", found=f"it begins {data[:8]!r}")


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels as the header gives them, before the orientation is applied.

    Raises PhotoError where the header is cut short, damaged, or of no known format.
    """
    reader = {"jpeg": _jpeg_size, "png": _png_size, "webp": _webp_size, "bmp": _bmp_size, "gif": _gif_size}
    try:
        width, height = reader.get(image_format(data), _tiff_size)(data)
    except (struct.error, IndexError) as error:
        raise refusal("truncated", found="the file ends within its header") from error
    if width < 1 or height < 1:
        raise refusal("damaged", found=f"a size of {width} x {height} pixels")
    return width, height


def orientation(data: bytes) -> int:
    """The Exif orientation, 1 to 8, of a JPEG, PNG, WebP or TIFF file.

    1 where there is none, or it is malformed, or the file is. Never raises.
    """
    try:
        return _exif_orientation(_exif(data))
    except (PhotoError, struct.error):
        return 1


def jpeg_segments(data: bytes) -> Iterator[Segment]:
    """The segments of a JPEG up to and with its first SOS, or to EOI; bytes between segments are passed over.

    Raises PhotoError where the file ends before, or a length is impossible.
    """
    place = 2
    while True:
        place = data.find(b"\xff", place)
        while 0 <= place < len(data) and data[place] == 0xFF:
            place += 1
        if place < 0 or place >= len(data):
            raise refusal("truncated", found="the file ends before its picture")
        marker = data[place]
        place += 1
        if marker in LONELY or marker in (0x00, SOI):
            continue
        if marker == EOI:
            return
        if place + 2 > len(data):
            raise refusal("truncated", found="the file ends within a segment")
        end = place + int.from_bytes(data[place : place + 2], "big")
        if end < place + 2:
            raise refusal("damaged", found=f"a JPEG segment {marker:02X} of impossible length")
        if end > len(data):
            raise refusal("truncated", found="the file ends within a segment")
        yield Segment(marker, place + 2, end)
        if marker == SOS:
            return
        place = end


def jpeg_frame(data: bytes) -> JpegFrame:
    """The first frame header of a JPEG.

    Raises PhotoError where there is none before the first scan.
    """
    for segment in jpeg_segments(data):
        if segment.marker in FRAMES:
            payload = data[segment.start : segment.end]
            if len(payload) < 6 or len(payload) < 6 + 3 * payload[5]:
                raise refusal("damaged", found="a JPEG frame header that is too short")
            bits, height, width, components = struct.unpack(">BHHB", payload[:6])
            factors = payload[7 : 6 + 3 * components : 3]
            return JpegFrame(segment.marker, bits, width, height, tuple((f >> 4, f & 15) for f in factors))
    raise refusal("damaged", found="a JPEG without a frame header")


def png_chunks(data: bytes) -> Iterator[Chunk]:
    """The chunks of a PNG up to and with IEND; the CRC of each critical chunk is checked.

    Raises PhotoError where the file ends before IEND, or a CRC is wrong.
    """
    place = 8
    while True:
        if place + 12 > len(data):
            raise refusal("truncated", found="the file ends before its IEND chunk")
        length, name = struct.unpack_from(">I4s", data, place)
        start, end = place + 8, place + 8 + length
        if end + 4 > len(data):
            raise refusal("truncated", found=f"the file ends within its {_ascii(name)} chunk")
        if not name[0] & 0x20 and zlib.crc32(memoryview(data)[place + 4 : end]) != _u32(data, end):
            raise refusal("damaged", found=f"a wrong checksum in the {_ascii(name)} chunk")
        yield Chunk(name, start, end)
        if name == b"IEND":
            return
        place = end + 4


def webp_chunks(data: bytes) -> Iterator[Chunk]:
    """The chunks of a WebP file, within the length that its RIFF header gives.

    Raises PhotoError where the file is shorter than that.
    """
    limit = 8 + struct.unpack_from("<I", data, 4)[0]
    if limit > len(data):
        raise refusal("truncated", found=f"{len(data)} bytes", expected=f"{limit} bytes")
    place = 12
    while place + 8 <= limit:
        name, length = struct.unpack_from("<4sI", data, place)
        start, end = place + 8, place + 8 + length
        if end > limit:
            raise refusal("truncated", found=f"the file ends within its {_ascii(name)} chunk")
        yield Chunk(name, start, end)
        place = end + (length & 1)


def _exif(data: bytes) -> bytes:
    """The TIFF block that an Exif orientation would stand in; empty where there is none."""
    kind = image_format(data)
    if kind == "tiff":
        return data
    if kind == "jpeg":
        for segment in jpeg_segments(data):
            if segment.marker == APP1 and data.startswith(EXIF, segment.start, segment.end):
                return data[segment.start + len(EXIF) : segment.end]
    if kind == "png":
        for chunk in png_chunks(data):
            if chunk.name == b"eXIf":
                return data[chunk.start : chunk.end]
    if kind == "webp" and data[12:16] == b"VP8X":
        for chunk in webp_chunks(data):
            if chunk.name == b"EXIF":
                return data[chunk.start : chunk.end].removeprefix(EXIF)
    return b""


def _exif_orientation(block: bytes) -> int:
    """The orientation in IFD0 of a TIFF block: its first entry 0x0112, if one SHORT from 1 to 8; else 1."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    for tag, kind, count, value in _ifd(block, order):
        if tag == ORIENTATION_TAG:
            number = struct.unpack(order + "H", value[:2])[0]
            return number if kind == 3 and count == 1 and 1 <= number <= 8 else 1
    return 1


def _ifd(block: bytes, order: str) -> Iterator[tuple[int, int, int, bytes]]:
    """The entries of a TIFF block's first directory: tag, type, count, the four bytes of value or offset."""
    place = struct.unpack_from(order + "I", block, 4)[0]
    entries = struct.unpack_from(order + "H", block, place)[0]
    for start in range(place + 2, place + 2 + 12 * entries, 12):
        if start + 12 > len(block):
            return
        yield struct.unpack_from(order + "HHI4s", block, start)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    frame = jpeg_frame(data)
    return frame.width, frame.height


def _png_size(data: bytes) -> tuple[int, int]:
    name, width, height = struct.unpack_from(">4sII", data, 12)
    if name != b"IHDR":
        raise refusal("damaged", found="a PNG that does not begin with IHDR")
    return width, height


def _webp_size(data: bytes) -> tuple[int, int]:
    name = data[12:16]
    if name == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if name == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if name == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise refusal("damaged", found=f"a WebP that begins with a {_ascii(name)} chunk")


def _bmp_size(data: bytes) -> tuple[int, int]:
    header = struct.unpack_from("<I", data, 14)[0]
    if header == 12:
        return struct.unpack_from("<HH", data, 18)
    width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)


def _gif_size(data: bytes) -> tuple[int, int]:
    """The logical screen, grown to hold the first frame."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    place = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while True:
        block, place = data[place], place + 1
        if block == 0x3B:
            raise refusal("damaged", found="a GIF without a picture")
        if block == 0x2C:
            left, top, across, down = struct.unpack_from("<HHHH", data, place)
            return max(width, left + across), max(height, top + down)
        if block == 0x21:
            place += 1
            while data[place]:
                place += 1 + data[place]
            place += 1


def _tiff_size(data: bytes) -> tuple[int, int]:
    order = "<" if data[:2] == b"II" else ">"
    found: dict[int, int] = {}
    for tag, kind, count, value in _ifd(data, order):
        if tag in (256, 257) and count == 1 and kind in (3, 4):
            code, length = ("H", 2) if kind == 3 else ("I", 4)
            found.setdefault(tag, struct.unpack(order + code, value[:length])[0])
    if len(found) < 2:
        raise refusal("damaged", found="a TIFF without a size")
    return found[256], found[257]


def _u32(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 4], "big")


def _ascii(name: bytes) -> str:
    return name.decode("ascii", "backslashreplace")
