"""A photo's file without what decoding does not need: no profile, no Exif but the orientation, no comment.

The pixels and their compressed form stay byte for byte as they were. Nothing here decodes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from samesight.images.parts import (
    APP0,
    APP1,
    APP14,
    APP15,
    COM,
    EOI,
    EXIF,
    NEXT_MARKER,
    ORIENTATION_TAG,
    PNG_SIGNATURE,
    SOS,
    Segment,
    jpeg_segments,
    png_chunks,
    refusal,
    webp_chunks,
)

__all__ = ["plain_jpeg", "plain_png", "plain_webp"]

KEPT_PNG = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
KEPT_WEBP = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"})
WEBP_METADATA_FLAGS = 0x20 | 0x08 | 0x04  # ICC, Exif, XMP in the flags of VP8X
WEBP_EXIF_FLAG = 0x08


def plain_jpeg(data: bytes, orientation: int = 1) -> bytes:
    """A JPEG without metadata, embedded thumbnails, and what follows its EOI.

    Raises PhotoError where the segments cannot be followed to an EOI.
    """
    kept = [b"\xff\xd8"]
    exif = [_segment(APP1, EXIF + _exif_block(orientation))] if orientation != 1 else []
    for segment in jpeg_segments(data):
        if exif and segment.marker != APP0:
            kept.append(exif.pop())
        kept.append(_kept_segment(data, segment))
        if segment.marker == SOS:
            kept.extend(_scans(data, segment.end))
            return b"".join(kept)
    raise refusal("damaged", found="a JPEG without a scan")


def plain_png(data: bytes, orientation: int = 1) -> bytes:
    """A PNG with only its critical chunks and tRNS: no text, profile, gamma, or animation.

    Raises PhotoError where the chunks cannot be followed to IEND.
    """
    kept = [PNG_SIGNATURE]
    for chunk in png_chunks(data):
        if chunk.name == b"IDAT" and orientation != 1:
            kept.append(_png_chunk(b"eXIf", _exif_block(orientation)))
            orientation = 1
        if chunk.name in KEPT_PNG:
            kept.append(data[chunk.start - 8 : chunk.end + 4])
    return b"".join(kept)


def plain_webp(data: bytes, orientation: int = 1) -> bytes:
    """A WebP file without profile, Exif (but for the orientation), XMP and unknown chunks.

    Raises PhotoError where the file is shorter than its header says.
    """
    kept = [b"WEBP"]
    for chunk in webp_chunks(data):
        payload = data[chunk.start : chunk.end]
        if chunk.name == b"VP8X" and payload:
            flags = payload[0] & ~WEBP_METADATA_FLAGS | (WEBP_EXIF_FLAG if orientation != 1 else 0)
            payload = bytes([flags]) + payload[1:]
        if chunk.name in KEPT_WEBP:
            kept.append(_riff_chunk(chunk.name, payload))
    if orientation != 1:
        kept.append(_riff_chunk(b"EXIF", _exif_block(orientation)))
    body = b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _kept_segment(data: bytes, segment: Segment) -> bytes:
    """What stays of a JPEG segment: JFIF without its thumbnail, Adobe's transform, all that is coding."""
    payload = data[segment.start : segment.end]
    if segment.marker == APP0 and payload.startswith(b"JFIF\0") and len(payload) >= 14:
        return _segment(APP0, payload[:12] + b"\0\0")
    if segment.marker == APP14 and payload.startswith(b"Adobe") and len(payload) >= 12:
        return _segment(APP14, payload[:12])
    if APP0 <= segment.marker <= APP15 or segment.marker == COM:
        return b""
    return _segment(segment.marker, payload)


def _scans(data: bytes, place: int) -> Iterator[bytes]:
    """From the first scan's entropy-coded data to EOI, without the metadata that may stand between scans."""
    while True:
        found = NEXT_MARKER.search(data, place)
        if found is None:
            raise refusal("truncated", found="the file ends within its picture")
        yield data[place : found.start()]
        marker, place = found.group(1)[0], found.end()
        if marker == EOI:
            yield b"\xff\xd9"
            return
        end = place + int.from_bytes(data[place : place + 2], "big")
        if end < place + 2 or end > len(data):
            raise refusal("truncated", found="the file ends within a segment")
        if NEXT_MARKER.match(data, end):
            yield _kept_segment(data, Segment(marker, place + 2, end))
        else:  # a scan's header; or damage, for metadata is followed by a marker, and decoders see it all
            yield data[found.start() : end]
        place = end


def _exif_block(orientation: int) -> bytes:
    """A TIFF block of one directory with one entry, the orientation."""
    return struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, ORIENTATION_TAG, 3, 1, orientation, 0, 0)


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def _png_chunk(name: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))


def _riff_chunk(name: bytes, payload: bytes) -> bytes:
    return name + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) & 1)
