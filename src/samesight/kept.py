"""Optimised graphs, kept from one run to the next where `samesight predict --cache` asks for that. Linux.

What ONNX Runtime makes of a model depends on the model, the library and the processor: a graph is named by
all of them. It is a file of ONNX Runtime's own with the weights beside it, which are mapped and used where
they lie, where those in a model are copied. Sums tell accidents. Whoever can write into the folder can change
answers, as whoever can change this program can; so a graph lies in a folder that is the user's alone.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Callable
from pathlib import Path

from samesight.files import cache_folder, new_folder, sha256_bytes

__all__ = ["GRAPH", "WEIGHTS", "find", "keep", "place_of"]

GRAPH, WEIGHTS = "graph.onnx", "weights"
_SUMS = "sums"
_PIECE_BYTES = 1 << 20


def place_of(model_sha256: str, library: Path) -> Path:
    """The folder where the graph that `library` makes of a model is kept, on this processor.

    Raises OSError where the processor is not told, RuntimeError where the user has no home.
    """
    about = f"{model_sha256} {library} {library.stat().st_size} {_processor()}"
    return cache_folder() / "graphs" / sha256_bytes(about.encode())


def find(place: Path) -> Path | None:
    """The kept graph in the folder `place`; None where there is none, it is spoilt, or others may write."""
    try:
        status = place.lstat()
        is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
        if is_own and not status.st_mode & 0o077 and (place / _SUMS).read_text() == _sums(place):
            return place / GRAPH
    except (OSError, ValueError):
        pass
    return None


def keep(place: Path, write: Callable[[Path], None]) -> None:
    """Keep in `place` what `write` puts into the folder it is given.

    Raises OSError, and what `write` raises; then nothing new is kept.
    """
    with new_folder(place, replace=True) as aside:
        write(aside)
        (aside / _SUMS).write_text(_sums(aside))
    place.chmod(0o700)


def _sums(folder: Path) -> str:
    """Size and CRC-32 of the files in `folder`, but for the sums themselves."""
    lines = []
    for path in sorted(folder.iterdir()):
        if path.name != _SUMS:
            sum_ = 0
            with path.open("rb") as stream:
                while piece := stream.read(_PIECE_BYTES):
                    sum_ = zlib.crc32(piece, sum_)
                lines.append(f"{sum_:08x} {stream.tell()} {path.name}\n")
    return "".join(lines)


def _processor() -> str:
    """What ONNX Runtime's choice of kernels and layouts depends on."""
    with open("/proc/cpuinfo") as stream:
        for line in stream:
            if line.startswith(("flags", "Features")):  # on x86, on ARM
                return f"{os.uname().machine} {line}"
    return os.uname().machine
