"""Files that are whole or not there, and their hashes. Imports nothing of Samesight but its errors."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from samesight.errors import InputError

MANY_FILES = 500  # to be synced together
JSON_LIMIT_BYTES = 64 << 20  # no JSON that Samesight writes comes near it


def sha256_bytes(data: bytes | memoryview) -> str:
    """The SHA-256 of `data`, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file, read in pieces, 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_file(path: Path, data: bytes | str) -> None:
    """Write `data` aside, fsync and rename, so that `path` holds the old bytes or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    aside = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data.encode() if isinstance(data, str) else data)
            stream.flush()
            os.fsync(stream.fileno())
        aside.chmod(0o666 & ~_umask())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _fsync_folder(path.parent)


def json_text(value: Any) -> str:
    """`value` as the JSON text that every file of ours has: indented, UTF-8, keys in their order, no NaN."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_file(path, json_text(value))


def read_json(path: Path, limit_bytes: int = JSON_LIMIT_BYTES) -> Any:
    """The JSON value in `path`.

    Raises InputError where the file is missing, larger than `limit_bytes`, or not JSON.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(limit_bytes + 1)
    except OSError as error:
        raise InputError("cannot read a file", where=path, found=error.strerror or error) from error
    if len(data) > limit_bytes:
        raise InputError("a JSON file is too large", where=path, expected=f"at most {limit_bytes} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError("a file is not JSON", where=path, found=error) from error


@contextlib.contextmanager
def new_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder to fill that becomes `path` when the block ends well, and is removed when it does not.

    Raises InputError where `path` exists and `replace` is false. With `replace`, the old folder is moved
    away only after the new one is complete and on disk.
    """
    if path.exists() and not replace:
        raise InputError("there is something at the output path already", where=path, fix="another --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield aside
        aside.chmod(0o777 & ~_umask())
        _fsync_tree(aside)
        if path.exists():
            _swap(aside, path)
            _remove(aside)
        else:
            aside.rename(path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    _fsync_folder(path.parent)


def cache_folder() -> Path:
    """Where unpacked archives and other things that can be made again are kept.

    `SAMESIGHT_CACHE`, else `XDG_CACHE_HOME/samesight`, else `~/.cache/samesight`.
    """
    if named := os.environ.get("SAMESIGHT_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "samesight"


def _swap(one: Path, other: Path) -> None:
    """Exchange two paths: in one step where the system can (Linux), else in two renames."""
    exchange = 2  # RENAME_EXCHANGE of renameat2(2)
    here = -100  # AT_FDCWD
    with contextlib.suppress(OSError, AttributeError):
        if ctypes.CDLL(None).renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0:
            return
    away = Path(tempfile.mkdtemp(dir=other.parent, prefix=f".{other.name}.")) / "old"
    other.rename(away)
    one.rename(other)
    away.rename(one)
    away.parent.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _fsync_tree(folder: Path) -> None:
    """Put all of a folder on the disk: file by file or, of very many, the whole system's files at once.

    5000 small files took 22 s one by one and 0.1 s together; only Linux's sync() waits until it is done.
    """
    inside = sorted(folder.rglob("*"))
    if len(inside) >= MANY_FILES and sys.platform == "linux":
        os.sync()
        return
    for path in inside:
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        else:
            _fsync_folder(path)
    _fsync_folder(folder)


def _fsync_folder(path: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
