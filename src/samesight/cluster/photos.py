"""The bytes of a photo: a file, or with `s3://`, `gs://` and the like an object in a store."""

from __future__ import annotations

import errno
import os
import time
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import pyarrow
from pyarrow import fs

from samesight.errors import PhotoError
from samesight.images.decoding import MAX_BYTES
from samesight.images.parts import refusal
from samesight.preprocess import read_photo

__all__ = ["read_place"]


PAUSES_S = (0.5, 3.0)  # before another try, where a disk or a store may be better soon
# What another try will not change.
LASTING = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP}


def read_place(place: bytes) -> bytes:
    """The bytes of the photo that lies there. Raises PhotoError where it cannot be read, or is too large.

    A moment's trouble of a disk or a store is waited for, since an error would stand as the photo's answer.
    """
    for pause in PAUSES_S:
        try:
            return _read(os.fsdecode(place))
        except PhotoError as error:
            cause = error.__cause__
            if not isinstance(cause, OSError) or cause.errno in LASTING:
                raise
        time.sleep(pause)
    return _read(os.fsdecode(place))


def _read(words: str) -> bytes:
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
    local = parts.scheme == "file"
    store, root = _open(urlunsplit((parts.scheme, parts.netloc, "/" if local else "", parts.query, "")))
    path = unquote(parts.path)
    return store, path if local else f"{root.rstrip('/')}{path}"


@lru_cache(maxsize=16)
def _open(base: str) -> tuple[Any, str]:
    store, root = fs.FileSystem.from_uri(base)
    return store, root


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
