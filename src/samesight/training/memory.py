"""Memory that training keeps between steps instead of giving it back and asking for it again."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

__all__ = ["kept_memory"]

# glibc's malloc.h and its defaults (man 3 mallopt)
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
DEFAULT_TRIM_THRESHOLD, DEFAULT_MMAP_MAX = 128 * 1024, 65536
NEVER = 2**31 - 1


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Within the block, let glibc keep freed memory; elsewhere this does nothing.

    Each step frees its activations and the next asks for as many; glibc would map and clear fresh pages every
    time. A step of MobileNetV2 on 32 photos: 158 ms of CPU time a photo without, 82 with (71 and 4 of them in
    the kernel), and 13 % more memory.
    """
    library = _glibc()
    if library is None:
        yield
        return
    library.mallopt(M_MMAP_MAX, 0)
    library.mallopt(M_TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        library.mallopt(M_MMAP_MAX, DEFAULT_MMAP_MAX)
        library.mallopt(M_TRIM_THRESHOLD, DEFAULT_TRIM_THRESHOLD)
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
