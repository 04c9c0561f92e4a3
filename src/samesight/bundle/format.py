"""What a bundle's bundle.json holds in format version 1, and which paths a bundle may list. Opens no file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from samesight.bundle.strictjson import shown
from samesight.errors import BundlePath, InputError
from samesight.images.parameters import Preprocess

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "BundleFile",
    "BundleInfo",
    "Copy",
    "check_path",
    "document",
    "role_of",
]

FORMAT = "samesight-bundle"
FORMAT_VERSION = 1
INPUT_NAME, OUTPUT_NAME = "input", "output"
REFERENCE_NAME = "pytorch"  # whose logits lie among those of the copies
PRECISIONS = ("fp32", "fp16", "int8")
DTYPES = ("float32", "float16")
ROLES = ("model", "golden", "labels", "info", "checksums", "document")

MAX_FILES = 20_000
MAX_FILE_BYTES = 2**31 - 1  # what one protobuf message, so one ONNX file, can hold
MAX_LABELS = 100_000
MAX_LABEL = 512  # characters of one
MAX_COPIES = 16
MAX_PATH = 200
MAX_DEPTH = 8

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
COPY_NAME = r"[a-z0-9][a-z0-9_-]*"
KEY = r"[a-z][a-z0-9_]*"
SHA256 = r"[0-9a-f]{64}"
CREATED = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z"
VERSION = (  # semver.org, the suggested regular expression
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(-(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?"
    r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
)
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)  # never files on Windows
_TOP = ("bundle.json", "bundle.sha256", "bundle.sig")


@dataclass(frozen=True)
class Copy:
    """One ONNX file of the network: its precision, what goes in and out, and what was measured of it."""

    name: str
    file: str
    precision: str
    opset: int
    input_dtype: str
    output_dtype: str
    recorded: Mapping[str, float | int | None]


@dataclass(frozen=True)
class BundleFile:
    """One file of the bundle beside bundle.json: where it lies, what it is for, and its fingerprint."""

    path: str
    role: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class BundleInfo:
    """All that bundle.json says but its format and its list of files."""

    name: str
    version: str
    created: str  # UTC, "2026-11-22T02:00:00Z"
    labels: tuple[str, ...]
    preprocess: Preprocess
    input_shape: tuple[int | str, ...]  # ("batch" or a number, 3, height, width)
    output_shape: tuple[int | str, ...]  # (the same, number of labels)
    copies: tuple[Copy, ...]
    reference: Mapping[str, Any]
    golden: Mapping[str, Any]
    made: Mapping[str, Any]
    license: Mapping[str, str]

    def copy(self, name: str) -> Copy:
        """The copy of that name. Raises InputError, which names those that there are."""
        for copy in self.copies:
            if copy.name == name:
                return copy
        names = ", ".join(copy.name for copy in self.copies)
        raise InputError("the bundle has no such copy", expected=names, found=name)


def document(info: BundleInfo, files: tuple[BundleFile, ...]) -> dict[str, Any]:
    """The value of bundle.json, keys in the order of the specification."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": info.name,
        "version": info.version,
        "created": info.created,
        "labels": list(info.labels),
        "preprocess": info.preprocess.to_json(),
        "input": {
            "name": INPUT_NAME,
            "dtype": "float32",
            "layout": "NCHW",
            "shape": list(info.input_shape),
        },
        "output": {"name": OUTPUT_NAME, "dtype": "float32", "shape": list(info.output_shape)},
        "copies": [{**vars(copy), "recorded": dict(copy.recorded)} for copy in info.copies],
        "reference": dict(info.reference),
        "golden": dict(info.golden),
        "made": dict(info.made),
        "license": dict(info.license),
        "files": [dict(vars(file)) for file in files],
    }


def role_of(path: str) -> str:
    """What a file is for, told by its path alone."""
    named = {"labels_mapping.json": "labels", "model_info.json": "info", "model_checksums.json": "checksums"}
    if path.startswith("golden/"):
        return "golden"
    if path in named:
        return named[path]
    return "model" if path.endswith(".onnx") else "document"


def check_path(path: str, where: str) -> str:
    """`path`, which is relative, normalised, and an ordinary file name on every system. Raises BundlePath."""
    parts = path.split("/")
    if len(path) > MAX_PATH or len(parts) > MAX_DEPTH or not all(map(_ordinary, parts)):
        raise BundlePath(
            "a listed path is not an ordinary one inside the bundle",
            where=where,
            expected="letters, digits, '_', '-' and '.', in parts joined by '/', none of them hidden or '..'",
            found=shown(path),
        )
    if path.lower() in _TOP:
        raise BundlePath("bundle.json, its hash and its signature are never listed", where=where, found=path)
    return path


def _ordinary(part: str) -> bool:
    return bool(_PART.fullmatch(part)) and not part.endswith(".") and not _DEVICE.fullmatch(part)
