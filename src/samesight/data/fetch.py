"""Files from URLs: only on request, and used only if their SHA-256 is the pinned one."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast
from urllib.response import addinfourl

from samesight import __version__
from samesight.errors import InputError
from samesight.files import cache_folder, sha256_file
from samesight.progress import say, track

__all__ = ["fetch", "fetch_pinned", "file_name", "pinned"]

SCHEMES = ("https", "http", "file")
LIMIT_BYTES = 1 << 38
PIECE_BYTES = 1 << 20
TIMEOUT_S = 60
ATTEMPTS = 3  # each goes on where the last one broke off
PIN = "#sha256="


class _Lost(Exception):
    """The connection broke off; what came is kept."""

    def __init__(self, reason: object) -> None:
        super().__init__(reason)
        self.reason = reason


def pinned(words: str) -> tuple[str, str | None]:
    """A URL and the SHA-256 that `URL#sha256=HEX` pins, or None. Raises InputError where one is malformed."""
    url, _, pin = words.partition(PIN)
    scheme = urllib.parse.urlsplit(url).scheme.lower()
    if scheme not in SCHEMES:
        raise InputError(
            "URLs of this kind are not read", where=url, expected=", ".join(SCHEMES), found=scheme
        )
    return url, _checked(pin) if PIN in words else None


def _checked(sha256: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise InputError("a SHA-256 has 64 hex digits", found=sha256)
    return sha256.lower()


def file_name(url: str) -> str:
    """The plain file name at the end of a URL's path."""
    last = urllib.parse.unquote(urllib.parse.urlsplit(url).path).rsplit("/", 1)[-1]
    return re.sub(r"[^\w.-]+", "_", last).lstrip(".") or "download"


def fetch_pinned(words: str, *, offline: bool = False) -> Path:
    """The file of `URL#sha256=HEX` in the cache, downloaded if it is not there yet, with that very hash.

    Raises InputError where there is no pin, or the file would have to be downloaded and `offline` is true.
    """
    url, sha256 = pinned(words)
    if sha256 is None:
        raise InputError(
            "a URL needs a pinned SHA-256, so that its photos are the same every time",
            where=url,
            expected=f"{url}{PIN}HEX",
            fix=f"samesight fetch {url}",
        )
    out = cache_folder() / "downloads" / sha256 / file_name(url)
    if offline and not out.is_file() and not url.lower().startswith("file:"):
        raise InputError("a URL is not in the cache, and --offline was asked for", where=url)
    return fetch(url, sha256, out)


def fetch(url: str, sha256: str | None, out: Path, *, limit_bytes: int = LIMIT_BYTES) -> Path:
    """`out`, holding the file at `url`, whose SHA-256 is `sha256` where that is given.

    Nothing is downloaded where `out` is that file already. A download that broke off is taken up where it
    ended if the hash is known. Raises InputError where it cannot be had, is larger than `limit_bytes`, or is
    another file; then nothing is left at `out`.
    """
    sha256 = None if sha256 is None else _checked(sha256)
    with _alone(out):
        if out.exists():
            if out.is_file() and sha256 is not None and sha256_file(out) == sha256:
                return out
            raise InputError("there is another file at the output path", where=out, fix="another --out")
        part = out.with_name(f".{out.name}.part")
        if sha256 is None:
            part.unlink(missing_ok=True)
        resumed = part.exists()
        _download(url, part, limit_bytes)
        found = sha256_file(part)
        if resumed and found != sha256:  # its beginning may have been another file's
            part.unlink()
            _download(url, part, limit_bytes)
            found = sha256_file(part)
        if sha256 is not None and found != sha256:
            part.unlink()
            raise InputError("a file is not the pinned one", where=url, expected=sha256, found=found)
        part.replace(out)
    return out


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold others that fetch the same file back until this one is done (not on Windows)."""
    path = out.with_name(f".{out.name}.lock")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = _locked(path)
        while not path.exists() or not os.path.samestat(os.fstat(lock.fileno()), path.stat()):
            lock.close()  # the one before has removed the file that was waited for
            lock = _locked(path)
    except OSError as error:
        raise InputError("cannot write there", where=out, found=error.strerror) from error
    with lock:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


def _locked(path: Path) -> IO[bytes]:
    lock = path.open("wb")
    with contextlib.suppress(ImportError):
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _download(url: str, part: Path, limit_bytes: int) -> None:
    """Fill `part`, going on from what it holds."""
    say(f"Downloading {url}")
    for attempt in range(ATTEMPTS):
        try:
            _attempt(url, part, limit_bytes)
        except _Lost as lost:
            if attempt == ATTEMPTS - 1:
                raise InputError(
                    "a download broke off", where=url, found=lost.reason, fix="the same command again"
                ) from lost
        else:
            return


def _attempt(url: str, part: Path, limit_bytes: int) -> None:
    start = part.stat().st_size if part.exists() else 0
    try:
        with _open(url, start) as response:
            length = response.headers.get("Content-Length", "")
            going_on = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
            start = start if start and going_on else 0
            total = start + int(length) if length.isdecimal() else None
            if total is not None and total > limit_bytes:
                raise InputError(
                    "a file is too large", where=url, expected=f"at most {limit_bytes} bytes", found=total
                )
            with part.open("ab" if start else "wb") as output:
                _copy(url, response, output, limit_bytes - start, None if total is None else total - start)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # all of it is there, or more: begin anew
            part.unlink()
            raise _Lost(error) from error
        raise InputError("a URL cannot be read", where=url, found=f"{error.code} {error.reason}") from error
    except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise _Lost(error or type(error).__name__) from error
    except (OSError, ValueError) as error:  # URLError, and what the disk says
        raise InputError("a URL cannot be read", where=url, found=getattr(error, "reason", error)) from error


def _copy(url: str, response: IO[bytes], output: IO[bytes], limit_bytes: int, expected: int | None) -> None:
    received = 0
    pieces = iter(lambda: response.read(PIECE_BYTES), b"")
    for piece in track(
        pieces, "Downloading (MiB)", None if expected is None else -(-expected // PIECE_BYTES)
    ):
        received += len(piece)
        if received > limit_bytes:
            raise InputError("a file is too large", where=url, expected=f"at most {limit_bytes} bytes more")
        output.write(piece)
    if expected is not None and received < expected:
        raise _Lost(f"{received} of {expected} bytes")


def _open(url: str, start: int) -> addinfourl:
    """The response to a request for the bytes from `start`; only our schemes, also after a redirect."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.FileHandler,
    ):
        opener.add_handler(handler())
    headers = {"User-Agent": f"samesight/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)
    return cast(addinfourl, opener.open(request, timeout=TIMEOUT_S))
