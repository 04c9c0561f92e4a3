"""Everything of a server that may be chosen; the defaults stand here and nowhere else."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from samesight.errors import InputError

__all__ = ["TOKEN_VARIABLE", "Settings", "Source", "read_tokens"]

TOKEN_VARIABLE = "SAMESIGHT_TOKEN"
MAX_TOKEN_FILE_BYTES = 65536
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{8,512}")  # what RFC 6750 allows, and not too short to guess
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Source:
    """A bundle that is to be served, and the name that it answers to; None for the bundle's own."""

    folder: Path
    name: str | None = None

    @classmethod
    def parse(cls, words: str) -> Source:
        """From `BUNDLE` or `NAME=BUNDLE`. A folder whose own name has a "=" is written `./a=b`."""
        name, equals, folder = words.partition("=")
        if equals and _NAME.fullmatch(name):
            return cls(Path(folder), name)
        return cls(Path(words))


@dataclass(frozen=True)
class Settings:
    """How a server behaves. `memory_mib`, `max_pixels`, `threads` and `batch` bound its memory."""

    sources: tuple[Source, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    """Processes; each has its own threads, queue and copy of the networks."""
    threads: int | None = None
    """That decode and run networks, in each process; None for the CPUs shared by the processes."""
    copy: str = "fp32"
    batch: int | None = None
    """Photos in one run of a network, at most; None for what is measured to pay, at the start."""
    queue: int = 64
    """Photos that may wait, in each process; more are refused with 429."""
    deadline_s: float = 10.0
    """From the whole request to its answer; what is later is refused with 503."""
    max_photos: int = 32
    """In one request."""
    max_bytes: int = 32 << 20
    """In one request, uncompressed."""
    max_pixels: int = 50_000_000
    """In one photo, as its header says, before it is decoded."""
    memory_mib: int = 256
    """Of request bodies at one time, in each process."""
    connections: int = 1000
    """At one time, in each process."""
    read_timeout_s: float = 20.0
    """For a client to send a request, and again to take its answer."""
    idle_timeout_s: float = 30.0
    """Between two requests on one connection."""
    stop_timeout_s: float = 30.0
    """To finish what was begun, when the server is told to stop."""
    reload_s: float = 2.0
    """Between two looks at the folders for a replaced bundle; 0 for never."""
    trust: Path | None = None
    """The public key that every bundle must be signed with."""
    unproved: bool = False
    """Serve bundles without golden samples too."""
    tokens: tuple[str, ...] = ()
    """Any one of them opens; none for a server that asks for none."""
    origins: tuple[str, ...] = ()
    """Whose pages may ask, beside the server's own."""
    log: str = "json"
    """`json`, `text` or `off`, on stderr."""

    def __post_init__(self) -> None:
        if self.max_photos > self.queue:
            raise InputError(
                "a request of so many photos would never find room in the queue",
                expected=f"--max-photos of at most --queue, {self.queue}",
                found=self.max_photos,
            )
        if self.max_bytes > self.memory_mib << 20:
            raise InputError(
                "the largest request is larger than the memory for requests",
                expected=f"--max-mib of at most --memory-mib, {self.memory_mib}",
                found=self.max_bytes >> 20,
            )
        for origin in self.origins:
            if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
                raise InputError(
                    "this is not an origin", expected="https://example.org, or * for any", found=origin
                )


def read_tokens(path: Path | None) -> tuple[str, ...]:
    """The bearer tokens in a file, one a line, or in the environment; none where neither is given.

    Raises InputError where a file cannot be read or holds no token, or a token is malformed.
    """
    if path is None:
        words = os.environ.get(TOKEN_VARIABLE, "").split()
        where = f"the environment variable {TOKEN_VARIABLE}"
        if TOKEN_VARIABLE in os.environ and not words:
            raise InputError("there is no token", where=where, fix=f"unset {TOKEN_VARIABLE}, or set it")
    else:
        where = str(path)
        try:
            with path.open("rb") as stream:
                text = stream.read(MAX_TOKEN_FILE_BYTES).decode()
        except (OSError, ValueError) as error:
            found = getattr(error, "strerror", None) or "not text"
            raise InputError("the file of tokens cannot be read", where=where, found=found) from error
        words = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
        if not words:
            raise InputError("the file holds no token", where=where, expected="one token a line")
    for number, word in enumerate(words, 1):  # the words themselves are secret, and never printed
        if not _TOKEN.fullmatch(word):
            raise InputError(
                f"token {number} is malformed",
                where=where,
                expected="8 to 512 letters, digits and . _ ~ + / = -",
                fix="openssl rand -hex 32",
            )
    return tuple(words)
