"""predictions.npz: the logits of a run's inner validation and held-out photos, from which top-k answers,
calibration and a temperature can be worked out without the network.

Arrays: `labels` (classes,) text, and for each part, `val` and `test`: `PART_names` (n,) text, `PART_targets`
(n,) int64, indices into `labels`, and `PART_logits` (n, classes) float32, as the best weights give them. Text
is NumPy's own, so `numpy.load("predictions.npz")` reads all of it without pickle.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samesight.errors import InputError
from samesight.files import write_file

__all__ = ["FILE", "PARTS", "PartLogits", "Predictions", "read_predictions", "write_predictions"]

FILE = "predictions.npz"
PARTS = ("val", "test")
LIMIT_BYTES = 4 << 30  # unpacked; 1,000,000 photos of 1000 classes


@dataclass(frozen=True)
class PartLogits:
    """The photos of one part: their names, `targets` (n,) int64 and `logits` (n, classes) float32."""

    names: tuple[str, ...]
    targets: NDArray[np.int64]
    logits: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Predictions:
    """What predictions.npz holds; a part without photos is left out of `parts`."""

    labels: tuple[str, ...]
    parts: Mapping[str, PartLogits]


def write_predictions(path: Path, labels: Sequence[str], parts: Mapping[str, PartLogits]) -> None:
    """Write predictions.npz, whole or not at all; the same predictions give the same bytes."""
    assert set(parts) <= set(PARTS), parts.keys()
    arrays: dict[str, Any] = {"labels": np.array(labels, np.str_)}
    for name, part in parts.items():
        if len(part):
            assert part.logits.shape == (len(part), len(labels)), part.logits.shape
            arrays[f"{name}_names"] = np.array(part.names, np.str_)
            arrays[f"{name}_targets"] = np.asarray(part.targets, np.int64)
            arrays[f"{name}_logits"] = np.asarray(part.logits, np.float32)
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # dated 1980 inside, so the same bytes each time
    write_file(path, stream.getvalue())


def read_predictions(path: Path) -> Predictions | None:
    """The predictions in `path`; None where there is no such file. Raises InputError where it is broken."""
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as members:
            size_bytes = sum(member.file_size for member in members.infolist())
        if size_bytes > LIMIT_BYTES:
            raise InputError(
                "a file of predictions is too large",
                where=path,
                expected=f"at most {LIMIT_BYTES} bytes unpacked",
                found=size_bytes,
            )
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        raise _broken(path, error) from error
    labels = found.get("labels")
    if labels is None or labels.ndim != 1 or labels.dtype.kind != "U" or len(labels) < 1:
        raise _broken(path, "no labels")
    parts = {part: _part(found, part, len(labels), path) for part in PARTS if f"{part}_logits" in found}
    return Predictions(tuple(labels.tolist()), parts)


def _part(found: Mapping[str, NDArray[np.generic]], part: str, classes: int, path: Path) -> PartLogits:
    """One part, held to the shapes that the head of this file names."""
    names, targets = found.get(f"{part}_names"), found.get(f"{part}_targets")
    logits = found[f"{part}_logits"]
    if names is None or targets is None or names.dtype.kind != "U" or targets.dtype.kind not in "iu":
        raise _broken(path, f"no names and targets of part {part}")
    count = len(logits) if logits.ndim else 0
    if logits.dtype.kind != "f" or logits.shape != (count, classes):
        raise _broken(path, f"{part}_logits of shape {logits.shape} for {classes} labels")
    if names.shape != (count,) or targets.shape != (count,):
        raise _broken(
            path, f"{len(names)} names and {len(targets)} targets for {count} rows of {part}_logits"
        )
    whole = np.asarray(targets, np.int64)
    if count and (whole.min() < 0 or whole.max() >= classes):
        raise _broken(path, f"a target of part {part} that is no label's index")
    if not np.isfinite(logits).all():
        raise _broken(path, f"logits of part {part} that are not finite")
    return PartLogits(tuple(names.tolist()), whole, np.asarray(logits, np.float32))


def _broken(path: Path, found: object) -> InputError:
    return InputError("a file of predictions is not as Samesight writes it", where=path, found=found)
