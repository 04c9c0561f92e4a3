"""Which engine answers a bundle's photos quickest on this machine, as `samesight bench` measured it.

A profile lies in the user's cache, named by the bundle's id, the machine and the versions: another bundle,
machine or version has none. What is read from it is held to names and small numbers that are valid here, so
that a spoilt one can make answers slow, and never other than the bundle's.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from samesight.bundle import Bundle
from samesight.errors import InputError
from samesight.files import cache_folder, json_text, read_json, sha256_bytes, write_json
from samesight.machine import processor, versions
from samesight.progress import say
from samesight.runner import MAX_THREADS, Settings, cpus
from samesight.runners import RUNNERS, installed

__all__ = ["Measured", "choose", "profile_path", "read_profile", "write_profile"]

FORMAT = "samesight-profile"
FORMAT_VERSION = 1
MAX_ROWS = 200
MAX_BATCH = 256
LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class Measured:
    """How quick one engine was with one copy; only such as give PyTorch's answer are kept."""

    engine: str
    copy: str
    threads: int
    lanes: int
    spinning: bool
    arena: bool
    batch: int  # at which `photo_ms` was measured
    load_seconds: float  # from the start of a process to the first photo
    photo_ms: float  # a photo, where there are many
    latency_ms: float  # a photo alone

    @property
    def settings(self) -> Settings:
        """How the engine is to use the machine."""
        return Settings(self.threads, self.lanes, self.spinning, self.arena)

    def seconds(self, photos: int) -> float:
        """What `photos` photos take, the start of the process included."""
        return self.load_seconds + photos * (self.latency_ms if photos == 1 else self.photo_ms) / 1000


def choose(
    bundle: Bundle, *, copy: str | None = None, threads: int | None = None, photos: int
) -> Measured | None:
    """The quickest for so many photos, of those with that `copy` and at most so many `threads`.

    None where nothing was measured here; a line on stderr then says how to.
    """
    known = [
        one
        for one in read_profile(bundle)
        if copy in (None, one.copy) and (threads is None or one.threads * one.lanes <= threads)
    ]
    if not known:
        say(f"note: no engine was measured here, so ONNX Runtime answers: samesight bench {bundle.folder}")
        return None
    return min(known, key=lambda one: one.seconds(photos))


def profile_path(bundle: str) -> Path:
    """Where the profile of the bundle of that id lies for this machine and these versions."""
    here = sha256_bytes(json_text(_here(bundle)).encode())
    return cache_folder() / "profiles" / f"{bundle[:16]}-{here[:16]}.json"


def write_profile(bundle: str, rows: Sequence[Measured]) -> Path:
    """Keep what was measured; where it lies."""
    path = profile_path(bundle)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    value = {"format": FORMAT, "format_version": FORMAT_VERSION, **_here(bundle)}
    write_json(path, {**value, "measured": [asdict(row) for row in rows]})
    path.chmod(0o600)
    return path


def read_profile(bundle: Bundle) -> list[Measured]:
    """What was measured for this bundle here, with these versions; nothing where anything in it is odd."""
    path = profile_path(bundle.id)
    if not _is_ours(path):
        return []
    try:
        value = read_json(path, LIMIT_BYTES)
    except InputError:
        return []
    head = {"format": FORMAT, "format_version": FORMAT_VERSION, **_here(bundle.id)}
    if not isinstance(value, dict) or {key: value.get(key) for key in head} != head:
        return []
    rows = value.get("measured")
    found = [_row(row, bundle) for row in rows[:MAX_ROWS]] if isinstance(rows, list) else []
    return [row for row in found if row is not None]


def _here(bundle: str) -> dict[str, Any]:
    return {"bundle": bundle, "processor": processor(), "cpus": cpus(), "versions": versions()}


def _is_ours(path: Path) -> bool:
    """Whether `path` is a plain file that only this user can write."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    if not stat.S_ISREG(status.st_mode):
        return False
    return not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o022)


def _row(row: object, bundle: Bundle) -> Measured | None:
    """A row whose names are known and whose numbers are possible; else None."""
    if not isinstance(row, dict) or set(row) != set(Measured.__dataclass_fields__):
        return None
    names = {copy.name for copy in bundle.copies}
    most = max(MAX_THREADS, cpus())
    counts = [(row["threads"], most), (row["lanes"], most), (row["batch"], MAX_BATCH)]
    times = [row["load_seconds"], row["photo_ms"], row["latency_ms"]]
    valid = (
        isinstance(row["engine"], str)
        and row["engine"] in RUNNERS
        and installed(row["engine"])
        and isinstance(row["copy"], str)
        and row["copy"] in names
        and all(type(count) is int and 1 <= count <= limit for count, limit in counts)
        and all(type(row[name]) is bool for name in ("spinning", "arena"))
        and all(type(time) in (int, float) and math.isfinite(time) and time >= 0 for time in times)
    )
    return Measured(**row) if valid else None
