"""From a photo's bytes to an upright RGB picture by Pillow alone, by the rules of spec/preprocess.md.

Imports no numpy. Changes no setting of Pillow, so that photos can be read in many threads and inside any
program.
"""

from __future__ import annotations

import importlib
import io
import struct
import sys
import zlib
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

from samesight.errors import InputError, PhotoError
from samesight.images.parameters import Preprocess, middle, resized_size, rows_needed
from samesight.images.parts import (
    ORIENTATION_TAG,
    JpegFrame,
    image_format,
    image_size,
    jpeg_frame,
    orientation,
    refusal,
)
from samesight.images.photofile import MAX_BYTES
from samesight.images.plain import plain_jpeg, plain_png, plain_webp

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "PILLOW_TROUBLE",
    "Header",
    "check_pixels",
    "open_picture",
    "picture",
    "read_header",
    "resample",
    "resize_picture",
    "rgb_picture",
]

MAX_PIXELS: Final = 8192 * 8192  # below the number from which Pillow itself warns of a decompression bomb

READ_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended and progressive Huffman coding
PLAIN_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK"})
# Pillow's modules by format. They are imported when a photo of theirs comes: together they take longer than
# Pillow itself, and most JPEGs need none.
PLUGINS = {"jpeg": "Jpeg", "png": "Png", "webp": "WebP", "bmp": "Bmp", "gif": "Gif", "tiff": "Tiff"}
# Grey of 16 bits: how many bytes a pixel takes, and which of them is the high one. Pillow 10 opens 16-bit PNG
# as "I", in the machine's order.
LITTLE = sys.byteorder == "little"
HIGH_BYTES = {
    "I;16": (2, 1),
    "I;16L": (2, 1),
    "I;16B": (2, 0),
    "I;16N": (2, 1 if LITTLE else 0),
    "I": (4, 1 if LITTLE else 2),
}
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
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


@dataclass(frozen=True)
class Header:
    """What a photo's file says before it is decoded, and passed the checks."""

    kind: str
    size: tuple[int, int]
    frame: JpegFrame | None


def picture(data: bytes) -> Image.Image:
    """The photo as an upright RGB picture. Raises PhotoError as `images.decoding.decode` does."""
    header = read_header(data)
    image = open_picture(data, header)
    # Pillow turns TIFF by itself; turning twice would be once too often.
    turn = None if header.kind == "tiff" else TURNS.get(orientation(data))
    return image if turn is None else image.transpose(turn)


def resize_picture(image: Image.Image, spec: Preprocess) -> Image.Image:
    """An RGB picture resized and cropped as `spec` says, as `preprocess.resize` does. Raises PhotoError."""
    size = resized_size(*image.size, spec)
    across, down = spec.size
    left, top = middle(size[0] - across), middle(size[1] - down)
    return resample(image, size, spec.interpolation, (left, top, across, down))


def read_header(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Header:
    """The header, held to the limits. Raises PhotoError, with the kind of refusal."""
    kind = image_format(data)
    if len(data) > MAX_BYTES:
        raise refusal("too-large", expected=f"at most {MAX_BYTES} bytes", found=f"{len(data)} bytes")
    width, height = image_size(data)
    check_pixels(width, height, min(max_pixels, MAX_PIXELS))
    frame = None
    if kind == "jpeg":
        frame = jpeg_frame(data)
        _check_frame(frame)
    return Header(kind, (width, height), frame)


def open_picture(data: bytes, header: Header) -> Image.Image:
    """The RGB picture by Pillow, not turned but for TIFF. Raises PhotoError.

    Pillow is shown only what decoding needs, so that no metadata can mislead it.
    """
    from PIL import ImageFile

    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise InputError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, so a cut photo would be filled in unnoticed",
            fix="leave it off while Samesight reads photos",
        )
    kind = header.kind
    data = _prepared(data, kind)
    try:
        with _opened(data, kind) as image:
            if kind == "tiff":
                _check_tiff(image, orientation(data))
            elif image.size != header.size:
                found = f"a header of {header.size} but a picture of {image.size} pixels"
                raise refusal("damaged", found=found)
            check_pixels(*image.size, MAX_PIXELS)
            return rgb_picture(image)
    except PhotoError:
        raise
    except PILLOW_TROUBLE as error:
        words = f"{type(error).__name__}: {error}".replace(f"{io.BytesIO.__name__}", "file")
        raise refusal("truncated" if "truncated" in words.lower() else "damaged", found=words) from error


def rgb_picture(image: Image.Image) -> Image.Image:
    """A Pillow image as RGB by the rule of its mode, not turned.

    Alpha is dropped, 16-bit grey becomes its high byte, CMYK is converted by Pillow's integer formula.
    Raises PhotoError of kind "unsupported" for a mode without a rule.
    """
    image.load()
    mode = image.mode
    if mode in HIGH_BYTES and (mode != "I" or image.format == "PNG"):
        step, high = HIGH_BYTES[mode]
        grey = Image.frombytes("L", image.size, image.tobytes()[high::step])
        return grey.convert("RGB")
    if mode not in PLAIN_MODES:
        raise refusal("unsupported", found=f"pixels of mode {mode}")
    if mode == "RGB":
        return image
    if "transparency" in image.info:  # Pillow would warn that it is dropped, and it is meant to be
        image = image.copy()
        del image.info["transparency"]
    return image.convert("RGB")


def resample(
    image: Image.Image,
    size: tuple[int, int],
    interpolation: str,
    box: tuple[int, int, int, int],
    *,
    rows: tuple[int, int] | None = None,
) -> Image.Image:
    """The part `box` (left, top, width, height) of an RGB picture resized to `size`.

    `rows` = (first, height) where `image` has only the `rows_needed` of a picture so high, from the first on.
    Two resizes of one direction each, horizontal first, since Pillow's own order depends on its version.
    Rows do not touch one another in the first pass, nor columns in the second: those that the box does not
    need are left out, which changes no pixel of it. Raises PhotoError of kind "too-large".
    """
    left, top, across, down = box
    first, height = rows or (0, image.height)
    check_pixels(*size, MAX_PIXELS)
    check_pixels(size[0], height, MAX_PIXELS)
    if rows is None:
        first, last = rows_needed(height, size[1], top, down)
        image = image.crop((0, first, image.width, last))
    how = Image.Resampling[interpolation.upper()]
    image = image.resize((size[0], image.height), how)
    if image.size != (across, height):
        part = image.crop((left, 0, left + across, image.height))
        image = Image.new("RGB", (across, height))
        image.paste(part, (0, first))
    return image.resize((across, size[1]), how).crop((0, top, across, top + down))


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


def _opened(data: bytes, kind: str) -> Image.Image:
    """The image by Pillow's reader of that format, not decoded yet. Raises PhotoError, or Pillow's trouble.

    `Image.open` would import the readers of five formats first, which takes as long as Pillow itself.
    """
    importlib.import_module(f"PIL.{PLUGINS[kind]}ImagePlugin")
    read, _ = Image.OPEN[kind.upper()]
    try:
        return read(io.BytesIO(data), "")
    except (SyntaxError, IndexError, TypeError, struct.error) as error:  # by which it says: not of my format
        raise refusal("damaged", found=f"{type(error).__name__}: {error}") from error


def _prepared(data: bytes, kind: str) -> bytes:
    """What Pillow is shown of a file of this kind."""
    writer = {"jpeg": plain_jpeg, "png": plain_png, "webp": plain_webp}.get(kind)
    return data if writer is None else writer(data)


def _check_tiff(image: Any, orientation: int) -> None:
    """Raise PhotoError for TIFF that Pillow would read as other than what the specification says it is."""
    turn = image.tag_v2.get(ORIENTATION_TAG)
    if turn in range(2, 9) and turn != orientation:
        raise refusal("unsupported", found="a TIFF whose orientation is not a single SHORT")
    if image.mode in HIGH_BYTES and image.mode != "I":
        bits, zero = image.tag_v2.get(258), image.tag_v2.get(262)
        if bits != (16,) or zero != 1:
            raise refusal("unsupported", found=f"grey TIFF, {bits} bits, photometric interpretation {zero}")
