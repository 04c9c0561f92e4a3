"""A photo's file as it lies on the disk: which names have photos, and its bytes, within the limit."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from samesight.images.parts import refusal

__all__ = ["MAX_BYTES", "PHOTO_SUFFIXES", "read_photo"]

MAX_BYTES: Final = 256 << 20
PHOTO_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


def read_photo(path: Path) -> bytes:
    """The bytes of a photo's file. Raises PhotoError where it cannot be read or has more than MAX_BYTES."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        problem = refusal("unreadable", found=getattr(error, "strerror", None) or error)
        problem.where = path
        raise problem from error
    if len(data) > MAX_BYTES:
        problem = refusal("too-large", expected=f"at most {MAX_BYTES} bytes")
        problem.where = path
        raise problem
    return data
