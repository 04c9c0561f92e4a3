"""The bytes of a photo: a file, or with `s3://`, `gs://` and the like an object in a store."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pyarrow
from pyarrow import fs

from samesight.images.decoding import MAX_BYTES
from samesight.images.parts import refusal
from samesight.preprocess import read_photo

__all__ = ["read_place"]


def read_place(place: bytes) -> bytes:
    """The bytes of the photo that lies there. Raises PhotoError where it cannot be read, or is too large."""
    words = os.fsdecode(place)
    if "://" in words:
        return _read_object(words)
    if os.path.exists(words) and not os.path.isfile(words):  # a pipe would keep its reader waiting for ever
        raise refusal("unreadable", expected="a file")
    return read_photo(Path(words))


def _read_object(uri: str) -> bytes:
    try:
        store, path = _store_of(uri)
        with store.open_input_stream(path) as stream:
            data: bytes = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise refusal("unreadable", found=_first_line(error)) from error
    if len(data) > MAX_BYTES:
        raise refusal("too-large", expected=f"at most {MAX_BYTES} bytes")
    return data


def _store_of(uri: str) -> tuple[Any, str]:
    """The store that an address speaks of, opened once, and the path in it."""
    parts = urlsplit(uri)
    base = urlunsplit((parts.scheme, parts.netloc, "/" if parts.scheme == "file" else "", parts.query, ""))
    store, root = _open(base)
    return store, (parts.path if parts.scheme == "file" else f"{root.rstrip('/')}{parts.path}")


@lru_cache(maxsize=16)
def _open(base: str) -> tuple[Any, str]:
    store, root = fs.FileSystem.from_uri(base)
    return store, root


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
