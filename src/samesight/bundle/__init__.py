"""A bundle: one folder with a network's copies, its labels, its preprocessing, and the proof that they agree.

`open_bundle` checks, in this order, and stops at the first that fails:

1. bundle.json and bundle.sha256 are there (BundleMissing, BundleFiles) and agree (BundleChanged)
2. the signature, where a key is given (SignatureError)
3. bundle.json is strict JSON (BundleInvalid) of a format that is known (BundleNewer) and says only what
   that format allows (BundleInvalid), with as many labels as outputs (BundleLabels), and paths that stay
   inside the folder (BundlePath)
4. the files in the folder are those that are listed, and plain files all (BundleFiles)
5. their sizes, then their SHA-256 (BundleChanged)

No file but bundle.json is parsed before all of this has passed. The order is that of `spec/bundle.md`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from io import BufferedReader
from pathlib import Path

from samesight.bundle.format import MAX_FILES, BundleFile, BundleInfo, Copy, check_path, document, role_of
from samesight.bundle.reading import read_document
from samesight.bundle.strictjson import parse
from samesight.errors import (
    BundleChanged,
    BundleError,
    BundleFiles,
    BundleInvalid,
    BundleMissing,
    InputError,
    SignatureError,
)
from samesight.files import json_text, new_folder, sha256_bytes, write_file
from samesight.meanwhile import Meanwhile

__all__ = ["Bundle", "BundleFile", "BundleInfo", "Copy", "open_bundle", "seal", "write_bundle"]

MAX_JSON_BYTES = 16 << 20
MAX_SIGNATURE_BYTES = 4096
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Bundle(BundleInfo):
    """A bundle that has passed every check: what bundle.json says, and where it lies."""

    folder: Path
    id: str  # SHA-256 of bundle.json
    files: tuple[BundleFile, ...]
    held: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)
    """Files whose bytes were kept as they were checked, until they are read."""

    def read(self, path: str) -> bytes:
        """The bytes of a listed file, the very ones that were checked: held, or checked as they are read.

        Raises InputError where none such is listed, BundleFiles or BundleChanged where it is not as listed.
        """
        if (data := self.held.pop(path, None)) is not None:
            return data
        for file in self.files:
            if file.path == path:
                return _read_listed(self.folder, file)
        raise InputError("the bundle lists no such file", where=self.folder, found=path)


def open_bundle(folder: Path | str, *, trust: Path | None = None, hold: str | None = None) -> Bundle:
    """The bundle in `folder`, after every check; with `trust`, signed by the key in that file too.

    The model of the copy `hold` is checked in a thread meanwhile, and held for the first who reads it.

    Raises a BundleError for the first check that fails, MissingExtra where signatures cannot be checked.
    """
    root = _root(Path(folder))
    data = _read_document_bytes(root)
    if trust is not None:
        _check_trust(root, data, trust)
    with _at(root):
        fields, files = read_document(parse(data, "bundle.json"))
    bundle = Bundle(folder=root, id=sha256_bytes(data), files=files, **fields)
    _check_present(root, files)
    for file in files:
        _check_size(root, file)
    model = next((copy.file for copy in bundle.copies if copy.name == hold), None)
    bundle.held.update(_check_hashes(root, files, model))
    return bundle


def seal(folder: Path, info: BundleInfo) -> str:
    """Write bundle.json and bundle.sha256 into `folder`, which holds all other files; the id of the bundle.

    What is written is held to the rules by the very code that opens a bundle, before and after it is written.
    Raises a BundleError as `open_bundle` does, InputError where the folder holds a signature already.
    """
    if os.path.lexists(folder / "bundle.sig"):
        raise InputError("a signed bundle is never changed in place", where=folder, fix="write a new bundle")
    own = {"bundle.json", "bundle.sha256"}
    files = tuple(_measure(folder, path) for path in sorted(_scan(folder)[0] - own))
    data = json_text(document(info, files)).encode()
    if len(data) > MAX_JSON_BYTES:
        raise BundleInvalid(
            "bundle.json is too large", expected=f"at most {MAX_JSON_BYTES} bytes", found=len(data)
        )
    read_document(parse(data, "bundle.json"))
    write_file(folder / "bundle.json", data)
    write_file(folder / "bundle.sha256", _hash_line(data))
    return open_bundle(folder).id


def write_bundle(out: Path, *, replace: bool = False) -> AbstractContextManager[Path]:
    """A folder to fill and seal, which becomes `out` when the block ends well; see `files.new_folder`."""
    return new_folder(out, replace=replace)


def _root(folder: Path) -> Path:
    if folder.is_file():
        fix = str(folder.parent) if folder.name == "bundle.json" else None
        raise BundleMissing("a bundle is a folder, and this is a file", where=folder, fix=fix)
    if not folder.is_dir():
        raise BundleMissing("there is no bundle here", where=folder, expected="a folder with bundle.json")
    if not os.path.lexists(folder / "bundle.json"):
        fix = None
        if (folder / "bundle" / "bundle.json").is_file():
            fix = str(folder / "bundle")
        elif (folder / "run.json").is_file():
            fix = f"samesight export {folder} --out BUNDLE"
        raise BundleMissing(
            "this folder is not a bundle", where=folder, expected="bundle.json in it", fix=fix
        )
    return folder.resolve()


def _read_document_bytes(root: Path) -> bytes:
    """bundle.json, which is what bundle.sha256 says."""
    data = _read_own(root, "bundle.json", MAX_JSON_BYTES)
    if not os.path.lexists(root / "bundle.sha256"):
        raise BundleFiles("the bundle lacks a file", where=root, expected="bundle.sha256")
    line = _read_own(root, "bundle.sha256", 200)
    if line != _hash_line(data):
        raise BundleChanged(
            "bundle.json is not the file that bundle.sha256 names",
            where=root / "bundle.json",
            expected=ascii(line.decode("utf-8", "replace").strip()),
            found=ascii(_hash_line(data).decode().strip()),
            fix="fetch the bundle again from where it came",
        )
    return data


def _hash_line(data: bytes) -> bytes:
    return f"{sha256_bytes(data)}  bundle.json\n".encode()


def _read_own(root: Path, name: str, limit_bytes: int) -> bytes:
    """bundle.json or a file that speaks of it: plain, and not larger than such a file can be."""
    with _open_plain(root, name) as stream:
        data = stream.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise BundleInvalid("a file is too large", where=root / name, expected=f"at most {limit_bytes} bytes")
    return data


def signature_of(folder: Path) -> bytes | None:
    """The bytes of bundle.sig, unchecked; None where there is none."""
    there = os.path.lexists(folder / "bundle.sig")
    return _read_own(folder, "bundle.sig", MAX_SIGNATURE_BYTES) if there else None


def _check_trust(root: Path, data: bytes, trust: Path) -> None:
    signature = signature_of(root)
    if signature is None:
        raise SignatureError("the bundle is not signed", where=root, expected=f"signed by the key in {trust}")
    from samesight.bundle.signing import check_signature

    with _at(root):
        check_signature(data, signature, trust)


def _check_present(root: Path, files: tuple[BundleFile, ...]) -> None:
    listed = {file.path for file in files} | {"bundle.json", "bundle.sha256"}
    folders = {path.rsplit("/", depth)[0] for path in listed for depth in range(1, path.count("/") + 1)}
    there, folders_there = _scan(root)
    _none_left("a listed file is missing", root, listed - there)
    _none_left("a file lies in the bundle that is not listed", root, there - listed - {"bundle.sig"})
    _none_left("a folder lies in the bundle that holds no listed file", root, folders_there - folders)


def _none_left(what: str, root: Path, names: set[str]) -> None:
    if names:
        some = sorted(names)
        more = f" and {len(some) - 5} more" if len(some) > 5 else ""
        raise BundleFiles(what, where=root, found=", ".join(map(ascii, some[:5])) + more)


def _scan(root: Path) -> tuple[set[str], set[str]]:
    """The files and the folders under `root`, as POSIX paths. Raises BundleFiles where anything else is."""
    files: set[str] = set()
    folders: set[str] = set()
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            with os.scandir(root / prefix) as entries:
                for entry in entries:
                    path = f"{prefix}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        folders.add(path)
                        waiting.append(f"{path}/")
                    elif entry.is_file(follow_symlinks=False):
                        files.add(path)
                    else:
                        raise _not_plain(root, path)
                    if len(files) + len(folders) > 2 * MAX_FILES:
                        raise BundleFiles(
                            "too many files for a bundle", where=root, expected=f"at most {MAX_FILES}"
                        )
        except OSError as error:
            raise BundleFiles(
                "a folder of the bundle cannot be read", where=root / prefix, found=error.strerror
            ) from error
    return files, folders


def _not_plain(root: Path, path: str) -> BundleFiles:
    return BundleFiles(
        "a bundle holds plain files and folders only", where=root, found=f"a link or device: {path!a}"
    )


def _check_size(root: Path, file: BundleFile) -> None:
    size = _status(root, file.path).st_size
    if size != file.size_bytes:
        raise _changed("size", root / file.path, f"{file.size_bytes} bytes", f"{size} bytes")


def _check_hashes(root: Path, files: tuple[BundleFile, ...], held: str | None) -> dict[str, bytes]:
    """Raise BundleChanged for the first file that is not as listed; the bytes of the one that is `held`."""
    reading = {file.path: Meanwhile(partial(_read_listed, root, file)) for file in files if file.path == held}
    for file in files:
        if file.path in reading:
            reading[file.path].result()
        else:
            _check_hash(root, file)
    return {path: one.result() for path, one in reading.items()}


def _check_hash(root: Path, file: BundleFile) -> None:
    digest = hashlib.sha256()
    with _open_plain(root, file.path) as stream:
        left = file.size_bytes + 1  # a file that grows while it is read is not read for ever
        while left and (piece := stream.read(min(_PIECE_BYTES, left))):
            digest.update(piece)
            left -= len(piece)
    if digest.hexdigest() != file.sha256:
        raise _changed("SHA-256", root / file.path, file.sha256, digest.hexdigest())


def _read_listed(root: Path, file: BundleFile) -> bytes:
    with _open_plain(root, file.path) as stream:
        data = stream.read(file.size_bytes + 1)
    if len(data) != file.size_bytes:
        raise _changed("size", root / file.path, f"{file.size_bytes} bytes", f"{len(data)} bytes or more")
    if (found := sha256_bytes(data)) != file.sha256:
        raise _changed("SHA-256", root / file.path, file.sha256, found)
    return data


def _changed(what: str, where: Path, expected: str, found: str) -> BundleChanged:
    return BundleChanged(
        f"a file of the bundle has changed: its {what} is not the recorded one",
        where=where,
        expected=expected,
        found=found,
        fix="fetch the bundle again from where it came",
    )


def _status(root: Path, path: str) -> os.stat_result:
    try:
        status = os.lstat(os.path.join(root, path))
    except OSError as error:
        raise BundleFiles(
            "a file of the bundle cannot be read", where=root / path, found=error.strerror
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise _not_plain(root, path)
    return status


@contextlib.contextmanager
def _open_plain(root: Path, path: str) -> Iterator[BufferedReader]:
    """The file opened for reading, which is a plain file and no link. Raises BundleFiles."""
    _status(root, path)
    try:
        with open(os.path.join(root, path), "rb") as stream:  # pathlib takes as long as reading a small file
            yield stream
    except OSError as error:
        raise BundleFiles(
            "a file of the bundle cannot be read", where=root / path, found=error.strerror
        ) from error


def _measure(folder: Path, path: str) -> BundleFile:
    check_path(path, where=str(folder))
    with _open_plain(folder, path) as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        size = stream.tell()
    return BundleFile(path=path, role=role_of(path), size_bytes=size, sha256=digest)


@contextlib.contextmanager
def _at(root: Path) -> Iterator[None]:
    """Errors from the parts of bundle.json also say which bundle they speak of."""
    try:
        yield
    except BundleError as error:
        error.where = f"{root / 'bundle.json'}{f' ({error.where})' if error.where else ''}"
        raise
