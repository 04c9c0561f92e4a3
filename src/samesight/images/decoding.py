"""From a photo's bytes to upright RGB pixels, by the rules of spec/preprocess.md.

Changes no setting of Pillow, so that photos can be decoded in many threads and inside any program.
"""

from __future__ import annotations

import importlib
import io
import struct
import zlib
from typing import Any, Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from samesight.errors import InputError, PhotoError
from samesight.images.parts import (
    ORIENTATION_TAG,
    JpegFrame,
    image_format,
    image_size,
    jpeg_frame,
    orientation,
    refusal,
)
from samesight.images.plain import plain_jpeg, plain_png, plain_webp

__all__ = ["MAX_BYTES", "MAX_PIXELS", "decode", "rgb", "upright"]

MAX_PIXELS: Final = 8192 * 8192  # below the number from which Pillow itself warns of a decompression bomb
MAX_BYTES: Final = 256 << 20

READ_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended and progressive Huffman coding
# The samplings of colour in which simplejpeg and Pillow were compared pixel by pixel; others are Pillow's.
COMPARED_SAMPLINGS = frozenset(
    ((h, v), (1, 1), (1, 1))
    for h, v in ((1, 1), (2, 1), (2, 2), (1, 2), (4, 1))  # 4:4:4, 4:2:2 … 4:1:1
)
PLAIN_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK"})
# Pillow's modules by format. They are imported when a photo of theirs comes: together they take longer than
# Pillow itself, and most JPEGs need none.
PLUGINS = {"jpeg": "Jpeg", "png": "Png", "webp": "WebP", "bmp": "Bmp", "gif": "Gif", "tiff": "Tiff"}
DEEP_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
PILLOW_TROUBLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,
)


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The pixels of a photo: (height, width, 3) uint8 RGB, upright, C-contiguous.

    The size is read from the header and held to `max_pixels` (at most MAX_PIXELS) before anything is decoded.
    Raises PhotoError, with the kind of refusal, where the file has no rule in spec/preprocess.md.
    """
    kind = image_format(data)
    if len(data) > MAX_BYTES:
        raise refusal("too-large", expected=f"at most {MAX_BYTES} bytes", found=f"{len(data)} bytes")
    width, height = image_size(data)
    check_pixels(width, height, min(max_pixels, MAX_PIXELS))
    pixels = None
    if kind == "jpeg":
        frame = jpeg_frame(data)
        _check_frame(frame)
        pixels = _decode_fast(data, frame)
    if pixels is None:
        pixels = _decode_with_pillow(data, kind, (width, height))
    # Pillow turns TIFF by itself; turning twice would be once too often.
    return pixels if kind == "tiff" else upright(pixels, orientation(data))


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """`pixels` (height, width, 3) turned as Exif's orientation 1 to 8 asks, C-contiguous."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def rgb(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of a Pillow image by the rule of its mode: (height, width, 3) uint8, not turned.

    Alpha is dropped, 16-bit grey becomes its high byte, CMYK is converted by Pillow's integer formula.
    Raises PhotoError of kind "unsupported" for a mode without a rule.
    """
    image.load()
    mode = image.mode
    if mode in DEEP_MODES or (mode == "I" and image.format == "PNG"):  # Pillow 10 opens 16-bit PNG as "I"
        high = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(high[:, :, None], 3, axis=2)
    if mode not in PLAIN_MODES:
        raise refusal("unsupported", found=f"pixels of mode {mode}")
    if mode != "RGB":
        if "transparency" in image.info:  # Pillow would warn that it is dropped, and it is meant to be
            image = image.copy()
            del image.info["transparency"]
        image = image.convert("RGB")
    return np.array(image)


def check_pixels(width: int, height: int, limit: int) -> None:
    """Raise PhotoError of kind "too-large" where there are more than `limit` pixels."""
    if width * height > limit:
        raise refusal("too-large", expected=f"at most {limit} pixels", found=f"{width} x {height} pixels")


def _check_frame(frame: JpegFrame) -> None:
    """Raise PhotoError where a JPEG is of a coding that decoders do not share."""
    if frame.marker not in READ_FRAMES:
        raise refusal("unsupported", found=f"a JPEG of coding SOF{frame.marker - 0xC0}", fix="save it anew")
    if frame.bits != 8 or len(frame.sampling) not in (1, 3, 4):
        raise refusal("unsupported", found=f"a JPEG of {len(frame.sampling)} channels of {frame.bits} bits")


def _decode_fast(data: bytes, frame: JpegFrame) -> NDArray[np.uint8] | None:
    """The pixels by simplejpeg; None where Pillow has to decide."""
    if len(frame.sampling) != 1 and frame.sampling not in COMPARED_SAMPLINGS:
        return None
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except (ValueError, MemoryError):
        return None
    return pixels if pixels.shape[:2] == (frame.height, frame.width) else None


def _decode_with_pillow(data: bytes, kind: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The pixels by Pillow, which is shown only what decoding needs, so that no metadata can mislead it."""
    from PIL import ImageFile

    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise InputError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, so a cut photo would be filled in unnoticed",
            fix="leave it off while Samesight reads photos",
        )
    data = _prepared(data, kind)
    importlib.import_module(f"PIL.{PLUGINS[kind]}ImagePlugin")
    try:
        with Image.open(io.BytesIO(data), formats=(kind.upper(),)) as image:
            if kind == "tiff":
                _check_tiff(image, orientation(data))
            elif image.size != size:
                raise refusal("damaged", found=f"a header of {size} but a picture of {image.size} pixels")
            check_pixels(*image.size, MAX_PIXELS)
            return rgb(image)
    except PhotoError:
        raise
    except PILLOW_TROUBLE as error:
        words = f"{type(error).__name__}: {error}".replace(f"{io.BytesIO.__name__}", "file")
        raise refusal("truncated" if "truncated" in words.lower() else "damaged", found=words) from error


def _prepared(data: bytes, kind: str) -> bytes:
    """What Pillow is shown of a file of this kind."""
    writer = {"jpeg": plain_jpeg, "png": plain_png, "webp": plain_webp}.get(kind)
    return data if writer is None else writer(data)


def _check_tiff(image: Any, orientation: int) -> None:
    """Raise PhotoError for TIFF that Pillow would read as other than what the specification says it is."""
    turn = image.tag_v2.get(ORIENTATION_TAG)
    if turn in range(2, 9) and turn != orientation:
        raise refusal("unsupported", found="a TIFF whose orientation is not a single SHORT")
    if image.mode in DEEP_MODES:
        bits, zero = image.tag_v2.get(258), image.tag_v2.get(262)
        if bits != (16,) or zero != 1:
            raise refusal("unsupported", found=f"grey TIFF, {bits} bits, photometric interpretation {zero}")
