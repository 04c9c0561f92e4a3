"""From a photo's bytes to upright RGB pixels as an array, by the rules of spec/preprocess.md.

JPEG is decoded by simplejpeg, which is three times as quick as Pillow and gives the same pixels; what it
does not read, and every other format, is Pillow's (`images.picture`).
"""

from __future__ import annotations

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from samesight.images.parts import JpegFrame, orientation
from samesight.images.picture import (
    MAX_BYTES,
    MAX_PIXELS,
    PILLOW_TROUBLE,
    open_picture,
    read_header,
    rgb_picture,
)

__all__ = ["MAX_BYTES", "MAX_PIXELS", "PILLOW_TROUBLE", "decode", "rgb", "upright"]

# The samplings of colour in which simplejpeg and Pillow were compared pixel by pixel; others are Pillow's.
COMPARED_SAMPLINGS = frozenset(
    ((h, v), (1, 1), (1, 1))
    for h, v in ((1, 1), (2, 1), (2, 2), (1, 2), (4, 1))  # 4:4:4, 4:2:2 … 4:1:1
)


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The pixels of a photo: (height, width, 3) uint8 RGB, upright, C-contiguous.

    The size is read from the header and held to `max_pixels` (at most MAX_PIXELS) before anything is decoded.
    Raises PhotoError, with the kind of refusal, where the file has no rule in spec/preprocess.md.
    """
    header = read_header(data, max_pixels=max_pixels)
    pixels = None if header.frame is None else _decode_fast(data, header.frame)
    if pixels is None:
        pixels = np.array(open_picture(data, header))
    # Pillow turns TIFF by itself; turning twice would be once too often.
    return pixels if header.kind == "tiff" else upright(pixels, orientation(data))


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

    Raises PhotoError as `images.picture.rgb_picture` does.
    """
    return np.array(rgb_picture(image))


def _decode_fast(data: bytes, frame: JpegFrame) -> NDArray[np.uint8] | None:
    """The pixels by simplejpeg; None where Pillow has to decide."""
    if len(frame.sampling) != 1 and frame.sampling not in COMPARED_SAMPLINGS:
        return None
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except (ValueError, MemoryError):
        return None
    return pixels if pixels.shape[:2] == (frame.height, frame.width) else None
