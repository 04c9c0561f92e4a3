"""A new version of a bundle, with the int8 copy in it: every other file as it was, byte for byte, but the
documents, which tell of the copies. The old signature does not hold for it and is left out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samesight import __version__
from samesight.bundle import Bundle, BundleInfo, Copy, open_bundle, seal, write_bundle
from samesight.errors import ExportError
from samesight.export.documents import MIB, Weights, write_documents
from samesight.files import json_text
from samesight.runners import open_runners
from samesight.verify import verify
from samesight.verify.golden import Golden, read_golden

__all__ = ["COPY", "DOCUMENT", "FILE", "Int8Copy", "next_version", "write_new_bundle"]

COPY, FILE = "int8", "model.int8.onnx"
DOCUMENT = "quantization.json"
_LOGITS = f"golden/logits/{COPY}.f32"
_RECORD = "golden/golden.json"
_TABLE = "accuracy_and_model_size.csv"


@dataclass(frozen=True)
class Int8Copy:
    """What is added: the file, its opset, its figures, its logits on the golden samples, how it was made."""

    model: bytes
    opset: int
    recorded: Mapping[str, float | int | None]
    golden: NDArray[np.float32]  # (samples, classes)
    made: Mapping[str, Any]  # for bundle.json
    document: Mapping[str, Any]  # for quantization.json


def next_version(version: str) -> str:
    """The semantic version after `version` that adds something and breaks nothing: 1.2.3-rc.1+x → 1.3.0."""
    major, minor, _ = version.split("+")[0].split("-")[0].split(".")
    return f"{major}.{int(minor) + 1}.0"


def write_new_bundle(bundle: Bundle, out: Path, copy: Int8Copy, *, replace_old: bool) -> Path:
    """`out`, the next version of `bundle` with the int8 copy in place of any it had; proved before it is
    there.

    Raises ExportError where the new bundle does not verify; then nothing is at `out` that was not there.
    """
    with write_bundle(out, replace=replace_old) as folder:
        for file in bundle.files:
            if file.path not in (FILE, _LOGITS, DOCUMENT):
                place = folder / file.path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(bundle.read(file.path))
        (folder / FILE).write_bytes(copy.model)
        (folder / DOCUMENT).write_text(json_text(dict(copy.document)), encoding="utf-8")
        _add_logits(folder, copy.golden)
        info = _info(bundle, copy)
        if weights := _weights(bundle):
            write_documents(folder, info, weights)
        seal(folder, info)
        _prove(folder)
    return out


def _add_logits(folder: Path, logits: NDArray[np.float32]) -> None:
    path = folder / _LOGITS
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(logits.astype("<f4").tobytes())
    record = json.loads((folder / _RECORD).read_bytes())
    record["logits"] = [row for row in record["logits"] if row["copy"] != COPY]
    record["logits"].append({"copy": COPY, "file": _LOGITS})
    (folder / _RECORD).write_text(json_text(record), encoding="utf-8")


def _info(bundle: Bundle, copy: Int8Copy) -> BundleInfo:
    """What bundle.json says of the new bundle."""
    old = BundleInfo(**{field.name: getattr(bundle, field.name) for field in fields(BundleInfo)})
    added = Copy(COPY, FILE, COPY, copy.opset, "float32", "float32", copy.recorded)
    return replace(
        old,
        version=next_version(bundle.version),
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        copies=(*(one for one in bundle.copies if one.name != COPY), added),
        made={
            **bundle.made,
            **copy.made,
            "quantized_by": f"samesight {__version__}",
            "quantized_from": bundle.id,
        },
    )


def _weights(bundle: Bundle) -> Weights | None:
    """The file of weights as the bundle's own table tells it; None where a bundle has no such documents."""
    if not any(file.path == _TABLE for file in bundle.files):
        return None
    rows = list(csv.DictReader(io.StringIO(bundle.read(_TABLE).decode("utf-8", "replace"))))
    try:
        return Weights(rows[0]["file"], round(float(rows[0]["size_mib"]) * MIB))
    except (IndexError, KeyError, TypeError, ValueError):
        return None


def _prove(folder: Path) -> None:
    """Open the bundle as any user would, and verify every copy of it."""
    bundle = open_bundle(folder)
    golden: Golden = read_golden(bundle)
    found = verify(bundle, golden, open_runners(bundle, ["onnxruntime"], [one.name for one in bundle.copies]))
    if not found.ok:
        raise ExportError(
            "the bundle with the int8 copy does not verify",
            found=found.first_difference or "not everything could be judged",
            fix=f"samesight verify {bundle.name}, to see whether the bundle itself does",
        )
