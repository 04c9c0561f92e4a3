"""A photo's file as such: its format and orientation, a copy without metadata, and lossless writing."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samesight.errors import InputError
from samesight.images.decoding import decode
from samesight.images.parts import image_format, image_size, orientation
from samesight.images.plain import plain_jpeg, plain_png, plain_webp

__all__ = ["encode_png", "image_format", "image_size", "orientation", "without_metadata"]


def without_metadata(data: bytes) -> bytes:
    """The photo's file with only its orientation and what decoding needs; it decodes to the same pixels.

    JPEG, PNG and WebP keep their compressed picture byte for byte. BMP, GIF and TIFF become an upright PNG.
    Raises PhotoError where the file cannot be followed to its end.
    """
    writer = {"jpeg": plain_jpeg, "png": plain_png, "webp": plain_webp}.get(image_format(data))
    if writer is None:
        return encode_png(decode(data))
    return writer(data, orientation(data))


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """`pixels` (height, width, 3) uint8 as the bytes of an RGB PNG."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise InputError("these are not RGB pixels", expected="(height, width, 3) uint8", found=pixels.shape)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
