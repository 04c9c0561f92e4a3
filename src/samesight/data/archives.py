"""Archives of photos, unpacked safely and once: into the cache, under the archive's SHA-256.

Everything in an archive is checked, but only what photos need is written. Archives inside are not opened.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from samesight.data.cifar import BATCH_NAMES
from samesight.data.folders import ignored, is_photo
from samesight.data.photos import shown
from samesight.errors import ArchiveError, InputError
from samesight.files import cache_folder, new_folder, sha256_file
from samesight.progress import say, track

__all__ = ["Limits", "kind", "unpack"]

PIECE_BYTES = 1 << 20
TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".json")
KINDS = {
    b"PK\3\4": "zip",
    b"PK\5\6": "zip",
    b"\x1f\x8b": "tar.gz",
    b"BZh": "tar.bz2",
    b"\xfd7zXZ\0": "tar.xz",
}
BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,  # zipfile: a way of compressing that it does not know
    RuntimeError,
    ValueError,
    IndexError,
    OverflowError,
)


@dataclass(frozen=True)
class Limits:
    """What an archive may hold. Photos hardly shrink, so a great ratio is a bomb and no photos."""

    files: int = 4_000_000
    size_bytes: int = 1 << 40
    ratio: int = 200
    ratio_from_bytes: int = 256 << 20  # below this, any ratio will do


@dataclass(frozen=True)
class _Entry:
    """A regular file in an archive: its checked name, and its bytes when opened."""

    name: str
    size_bytes: int
    open: Callable[[], IO[bytes]]
    skipped_bytes: int  # what passing over it costs


def kind(path: Path) -> str:
    """zip, tar, tar.gz, tar.bz2 or tar.xz, by the first bytes. Raises ArchiveError for anything else."""
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise ArchiveError("cannot read an archive", where=path, found=error.strerror) from error
    for magic, name in KINDS.items():
        if head.startswith(magic):
            return name
    if head[257:262] == b"ustar" or (len(head) == 512 and path.suffix.lower() == ".tar"):
        return "tar"
    raise ArchiveError(
        "this is no photo, no table and no archive",
        where=path,
        expected="a folder, zip, tar, tar.gz, tar.bz2, tar.xz, CSV or photo",
        found=f"a file that begins {head[:8]!r}" if head else "an empty file",
    )


def unpack(path: Path, limits: Limits = Limits()) -> Path:
    """The folder in the cache with what photos need of the archive; unpacked only if it is not there yet.

    Raises ArchiveError where the archive is broken, encrypted, beyond `limits`, without photos, or holds a
    path outside its folder, a link, a device, or a file twice.
    """
    named = kind(path)
    place = cache_folder() / "photos" / sha256_file(path)
    if place.is_dir():
        return place
    say(f"Unpacking {shown(path.name)}")
    try:
        with new_folder(place) as folder:
            entries = _zip_entries(path) if named == "zip" else _tar_entries(path, named)
            _write(entries, folder, path, limits)
            if place.is_dir():
                raise InputError("another process has unpacked the archive meanwhile")
    except BROKEN as error:
        raise ArchiveError("an archive is broken", where=path, found=error or type(error).__name__) from error
    except OSError as error:  # of the gzip and bz2 readers too
        raise ArchiveError("an archive cannot be unpacked", where=path, found=error) from error
    except ArchiveError:
        raise
    except InputError:
        if not place.is_dir():
            raise
    return place


def _write(entries: Iterator[_Entry], folder: Path, path: Path, limits: Limits) -> None:
    """Write the wanted entries below `folder`, counting everything against the limits."""
    size_bytes = 0
    bound = min(limits.size_bytes, max(limits.ratio_from_bytes, limits.ratio * path.stat().st_size))
    seen: set[str] = set()

    def count(more: int) -> None:
        nonlocal size_bytes
        size_bytes += more
        if size_bytes > bound:
            raise ArchiveError(
                "an archive unpacks to far more than its size",
                where=path,
                expected=f"at most {bound} bytes",
                found="more",
            )

    for number, entry in enumerate(track(entries, "Unpacking"), start=1):
        if number > limits.files:
            raise ArchiveError("an archive holds too many files", where=path, expected=limits.files)
        if not _wanted(entry.name):
            count(entry.skipped_bytes)
            continue
        if entry.name in seen:
            raise ArchiveError("an archive holds a file twice", where=path, found=shown(entry.name))
        seen.add(entry.name)
        target = folder / entry.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with entry.open() as stream, target.open("xb") as output:
            while piece := stream.read(PIECE_BYTES):
                count(len(piece))
                output.write(piece)
    if not seen:
        raise ArchiveError("an archive holds no photos", where=path)


def _wanted(name: str) -> bool:
    parts = name.split("/")
    if any(map(ignored, parts)):
        return False
    last = parts[-1]
    return is_photo(last) or last.lower().endswith(TEXT_SUFFIXES) or last in BATCH_NAMES


def _safe(name: str, path: Path) -> str:
    """The name with plain `/`, if it stays inside the folder."""
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "" or re.match("[A-Za-z]:", name) or ".." in parts or "\0" in name:
        raise ArchiveError("an archive holds a path outside its folder", where=path, found=shown(name))
    return "/".join(part for part in parts if part not in ("", "."))


def _zip_entries(path: Path) -> Iterator[_Entry]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = _safe(info.orig_filename, path)
            mode = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir() or info.orig_filename.endswith("\\"):
                continue
            if mode not in (0, stat.S_IFREG):
                raise ArchiveError("an archive holds a link or a device", where=path, found=shown(name))
            if info.flag_bits & 0x1:
                raise ArchiveError(
                    "an archive is encrypted",
                    where=path,
                    found=shown(name),
                    fix="unpack it, and give the folder",
                )
            yield _Entry(name, info.file_size, lambda info=info: archive.open(info), 0)  # type: ignore[misc]


def _tar_entries(path: Path, named: str) -> Iterator[_Entry]:
    with _plain(path, named) as stream:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                archive.members.clear()  # type: ignore[attr-defined]  # else every entry passed is kept in memory
                name = _safe(member.name, path)
                if member.isdir():
                    continue
                if not member.isfile():
                    raise ArchiveError("an archive holds a link or a device", where=path, found=shown(name))
                yield _Entry(name, member.size, _opener(archive, member), member.size)
        while stream.read(PIECE_BYTES):  # to its end, where the checksum of a compressed file is
            pass


def _plain(path: Path, named: str) -> IO[bytes]:
    """The bytes of the tar inside a compressed one."""
    if named == "tar.gz":
        return cast(IO[bytes], gzip.open(path))
    if named == "tar.bz2":
        return cast(IO[bytes], bz2.open(path))
    if named == "tar.xz":
        return cast(IO[bytes], lzma.open(path))
    return path.open("rb")


def _opener(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def opener() -> IO[bytes]:
        stream = archive.extractfile(member)
        if stream is None:
            raise tarfile.ReadError(f"{member.name} has no bytes")
        return stream

    return opener
