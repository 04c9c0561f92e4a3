"""Golden samples: real photos with what every stage must make of them, kept in a bundle's `golden/`.

golden/golden.json        a row a sample, a row a file of logits, and the preprocessing they were made by
golden/0001/photo.jpg     the photo's own bytes, less metadata (or a lossless PNG where that cannot be done)
golden/0001/decoded.png   its decoded pixels (the first 16 samples, up to one megapixel)
golden/0001/resized.png   its resized and cropped pixels
golden/logits/NAME.f32    logits of PyTorch and of each copy: float32, little-endian, samples × classes
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from samesight.bundle import strictjson
from samesight.errors import BundleInvalid, ExportError, InputError, PhotoError
from samesight.files import json_text, sha256_bytes
from samesight.images.imagefile import image_format, without_metadata
from samesight.images.pixelfile import write_pixels
from samesight.preprocess import MAX_PIXELS, Preprocess, decode, normalise, read_photo, resize
from samesight.verify.tolerances import Tolerance

if TYPE_CHECKING:
    from samesight.bundle import Bundle
    from samesight.runtime import Runner

__all__ = [
    "LIMIT",
    "MARGIN_FACTOR",
    "Candidate",
    "Golden",
    "GoldenSample",
    "array_sha256",
    "choose",
    "margin",
    "read_golden",
    "samples_per_class",
    "write_golden",
]

LIMIT = 200  # samples in all: what a bundle carries stays small
MARGIN_FACTOR = 2  # both logits of a pair may move by the tolerance, towards each other
LOSSLESS_SAMPLES = 16
LOSSLESS_PIXELS = 1_000_000
LARGE_BYTES = 4_000_000  # larger photos are taken only where a class has no other
REFERENCE = "pytorch"
_RECORD = "golden/golden.json"
_FORMAT = "samesight-golden"
_VERSION = 1
_KEYS = ("format", "format_version", "classes", "preprocess", "chosen", "samples", "logits")
_SUFFIXES = {"jpeg": "jpg", "png": "png", "webp": "webp"}


@dataclass(frozen=True)
class GoldenSample:
    """One photo and what each stage must make of it. Paths are within the bundle, hashes are SHA-256.

    The hashes are of the pixels (uint8, row by row, RGB) and of the tensor (float32 little-endian, CHW).
    """

    id: str
    label: str | None  # the true one, where it is known
    predicted: str  # PyTorch's
    photo: str
    original: bool  # whether `photo` has its own compressed bytes, or is a lossless copy of its pixels
    lossless: str | None
    resized: str
    width: int  # of the decoded photo
    height: int
    decoded_sha256: str
    resized_sha256: str
    tensor_sha256: str
    margin: float  # PyTorch's top-1 logit less its top-2 logit
    source_sha256: str  # of the file that it was taken from


@dataclass(frozen=True)
class Golden:
    """The golden samples of a bundle; `logits` has an array (samples, classes) float32 a name."""

    samples: tuple[GoldenSample, ...]
    logits: Mapping[str, NDArray[np.float32]]
    preprocess: Preprocess

    def first(self, count: int) -> Golden:
        """The first `count` samples alone."""
        logits = {name: rows[:count] for name, rows in self.logits.items()}
        return Golden(self.samples[:count], logits, self.preprocess)


@dataclass(frozen=True)
class Candidate:
    """A photo that may become a golden sample; `logits` has PyTorch's and each copy's, (classes,) float32."""

    path: Path
    label: str | None
    logits: Mapping[str, NDArray[np.float32]]


def array_sha256(array: NDArray[Any]) -> str:
    """The SHA-256 of an array's values in C order, floats as little-endian float32."""
    kind = "<f4" if array.dtype.kind == "f" else array.dtype
    return sha256_bytes(np.ascontiguousarray(array, kind).tobytes())


def margin(logits: NDArray[np.float32]) -> float:
    """The largest of `logits` (classes,) less the second largest; the largest's size if there is but one."""
    if logits.size < 2:
        return float(abs(logits[0]))
    second, first = np.partition(logits, -2)[-2:]
    return float(first - second)


def samples_per_class(classes: int) -> int:
    """How many golden samples a class has where nobody asks for another number."""
    return 2 if classes <= 100 else 1


def choose(
    candidates: Iterable[Candidate],
    labels: Sequence[str],
    tolerances: Mapping[str, Tolerance],
    per_class: int | None = None,
    limit: int = LIMIT,
    *,
    seed: int = 42,
) -> tuple[list[Candidate], list[str]]:
    """The candidates that become golden samples, and the labels for which there is none.

    `tolerances` has one a copy. A candidate is fit when no copy could change its label within its
    tolerance. Its class is its true label, else PyTorch's. Within a class the order is drawn by `seed`,
    large photos last; over `limit`, samples are spread evenly over the labels.
    """
    per_class = samples_per_class(len(labels)) if per_class is None else per_class
    found: dict[str, list[Candidate]] = {label: [] for label in labels}
    for candidate in sorted(candidates, key=lambda one: _order(one, seed)):
        label = candidate.label
        if label is None:
            label = labels[int(candidate.logits[REFERENCE].argmax())]
        elif label not in found:
            raise InputError("a photo has a label that the network lacks", where=candidate.path, found=label)
        if len(found[label]) < per_class and _is_clear(candidate.logits, tolerances):
            found[label].append(candidate)
    chosen: set[int] = set()
    for turn in range(per_class):
        row = [found[label][turn] for label in labels if len(found[label]) > turn]
        chosen.update(id(one) for one in _spread(row, limit - len(chosen)))
    return (
        [one for label in labels for one in found[label] if id(one) in chosen],
        [label for label in labels if not found[label]],
    )


def _order(candidate: Candidate, seed: int) -> tuple[bool, str]:
    """Small photos first, then by a draw that depends on nothing but the seed and the photo's name."""
    name = "/".join(candidate.path.parts[-2:])
    large = candidate.path.stat().st_size > LARGE_BYTES
    return large, hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def _is_clear(logits: Mapping[str, NDArray[np.float32]], tolerances: Mapping[str, Tolerance]) -> bool:
    """Whether PyTorch and every copy say the same, by more than the copies' tolerances could change."""
    if any(not np.isfinite(values).all() for values in logits.values()):
        return False
    reference = logits[REFERENCE]
    scale = float(np.abs(reference).max())
    return all(
        int(logits[name].argmax()) == int(reference.argmax())
        and min(margin(logits[name]), margin(reference)) > MARGIN_FACTOR * tolerance.absolute(scale)
        for name, tolerance in tolerances.items()
    )


def _spread(items: Sequence[Candidate], count: int) -> list[Candidate]:
    """`count` of the items, evenly over their order; all where they are fewer."""
    if count >= len(items):
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]


def write_golden(
    folder: Path,
    chosen: Sequence[Candidate],
    preprocess: Preprocess,
    labels: Sequence[str],
    runners: Sequence[Runner],
    *,
    per_class: int | None = None,
    limit: int = LIMIT,
) -> Golden:
    """The golden samples, after `folder`/golden has been filled with them.

    `runners` are PyTorch's (copy "pytorch") and one a copy; their logits are taken one photo at a time,
    from the bytes that are stored. `per_class` and `limit` are those that `choose` was given, for the record.
    Raises ExportError where a runner's logits are not finite, one a label.
    """
    samples: list[GoldenSample] = []
    rows: dict[str, list[NDArray[np.float32]]] = {runner.copy: [] for runner in runners}
    for number, candidate in enumerate(chosen, 1):
        tensor, sample = _write_sample(folder, number, candidate, preprocess)
        for runner in runners:
            rows[runner.copy].append(_logits(runner, tensor, len(labels), candidate.path))
        reference = rows[REFERENCE][-1]
        samples.append(
            GoldenSample(**sample, predicted=labels[int(reference.argmax())], margin=margin(reference))
        )
    logits = {
        name: np.array(values, np.float32).reshape(len(samples), len(labels)) for name, values in rows.items()
    }
    golden = Golden(tuple(samples), logits, preprocess)
    files = []
    (folder / "golden" / "logits").mkdir(parents=True, exist_ok=True)
    for name, values in logits.items():
        files.append({"copy": name, "file": f"golden/logits/{name}.f32"})
        (folder / files[-1]["file"]).write_bytes(values.astype("<f4").tobytes())
    record = {
        "format": _FORMAT,
        "format_version": _VERSION,
        "classes": len(labels),
        "preprocess": preprocess.to_json(),
        "chosen": {
            "per_class": samples_per_class(len(labels)) if per_class is None else per_class,
            "limit": limit,
            "margin_factor": MARGIN_FACTOR,
        },
        "samples": [asdict(sample) for sample in samples],
        "logits": files,
    }
    (folder / _RECORD).write_text(json_text(record), encoding="utf-8")
    return golden


def _write_sample(
    folder: Path, number: int, candidate: Candidate, preprocess: Preprocess
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """The tensor of one photo, and its sample's fields but PyTorch's, after its files have been written."""
    name = f"{number:04}"
    place = folder / "golden" / name
    place.mkdir(parents=True)
    data = read_photo(candidate.path)
    pixels = decode(data)
    stripped, original = _stripped(data, pixels)
    photo = f"golden/{name}/photo.{_SUFFIXES[image_format(stripped)]}"
    (folder / photo).write_bytes(stripped)
    lossless = None
    if number <= LOSSLESS_SAMPLES and pixels.shape[0] * pixels.shape[1] <= LOSSLESS_PIXELS:
        lossless = f"golden/{name}/decoded.png"
        (folder / lossless).write_bytes(write_pixels(pixels))
    small = resize(pixels, preprocess)
    (place / "resized.png").write_bytes(write_pixels(small))
    tensor = normalise(small, preprocess)
    return tensor, {
        "id": name,
        "label": candidate.label,
        "photo": photo,
        "original": original,
        "lossless": lossless,
        "resized": f"golden/{name}/resized.png",
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "decoded_sha256": array_sha256(pixels),
        "resized_sha256": array_sha256(small),
        "tensor_sha256": array_sha256(tensor),
        "source_sha256": sha256_bytes(data),
    }


def _stripped(data: bytes, pixels: NDArray[np.uint8]) -> tuple[bytes, bool]:
    """A photo's bytes without metadata and True; or a lossless copy and False where that cannot be done."""
    try:
        stripped = without_metadata(data)
        same = image_format(stripped) == image_format(data) and np.array_equal(decode(stripped), pixels)
        if same and image_format(data) in _SUFFIXES:
            return stripped, True
    except PhotoError:
        pass
    return write_pixels(pixels), False


def _logits(runner: Runner, tensor: NDArray[np.float32], classes: int, photo: Path) -> NDArray[np.float32]:
    """One photo's logits (classes,) by `runner`."""
    logits = runner.logits(tensor[None])
    if logits.shape != (1, classes):
        raise ExportError(
            f"the {runner.copy} copy does not give a logit a label",
            expected=f"shape (1, {classes})",
            found=f"shape {logits.shape}",
        )
    if not np.isfinite(logits).all():
        raise ExportError(f"the {runner.copy} copy gives logits that are not finite", where=photo)
    row: NDArray[np.float32] = logits[0]
    return row


def read_golden(bundle: Bundle) -> Golden:
    """The golden samples that `bundle` carries.

    Raises BundleInvalid where golden.json or a file of logits is not as the format says.
    """
    record = strictjson.table(strictjson.parse(bundle.read(_RECORD), _RECORD), _RECORD, _KEYS)
    strictjson.choice(record["format"], f"{_RECORD} format", [_FORMAT])
    strictjson.choice(record["format_version"], f"{_RECORD} format_version", [_VERSION])
    classes = len(bundle.labels)
    strictjson.choice(record["classes"], f"{_RECORD} classes", [classes])
    listed = {file.path for file in bundle.files if file.path.startswith("golden/")}
    samples = strictjson.each(
        record["samples"], f"{_RECORD} samples", lambda value, where: _sample(value, where, listed), high=9999
    )
    if len({sample.id for sample in samples}) != len(samples):
        raise BundleInvalid("two golden samples have one id", where=_RECORD)
    strictjson.choice(len(samples), f"{_RECORD} number of samples", [bundle.golden["samples"]])
    rows = strictjson.each(
        record["logits"],
        f"{_RECORD} logits",
        lambda value, where: _read_logits(bundle, value, where, (len(samples), classes), listed),
        high=100,
    )
    logits = dict(rows)
    if REFERENCE not in logits or len(logits) != len(rows):
        raise BundleInvalid(
            "the recorded logits are not complete",
            where=f"{_RECORD} logits",
            expected=f"one file for {REFERENCE} and one a copy",
            found=", ".join(name for name, _ in rows) or "none",
        )
    try:
        preprocess = Preprocess.from_json(record["preprocess"])
    except InputError as error:
        raise BundleInvalid(
            "the preprocessing is not valid", where=f"{_RECORD} preprocess", found=error
        ) from error
    return Golden(samples, logits, preprocess)


def _sample(value: object, where: str, listed: Collection[str]) -> GoldenSample:
    """A sample from its JSON object, every field checked."""
    table = strictjson.table(value, where, [field.name for field in fields(GoldenSample)])
    for name, found in table.items():
        place = f"{where} {name}"
        if found is None and name in ("label", "lossless"):
            continue
        if name in ("photo", "lossless", "resized"):
            _listed(found, place, listed)
        elif name.endswith("_sha256"):
            strictjson.text(found, place, 64, pattern="[0-9a-f]{64}")
        elif name in ("width", "height"):
            strictjson.whole(found, place, 1, MAX_PIXELS)
        elif name == "margin":
            strictjson.number(found, place)
        elif name == "original":
            strictjson.choice(found, place, [True, False])
        else:
            strictjson.text(found, place, 1000)
    return GoldenSample(**table)


def _read_logits(
    bundle: Bundle, value: object, where: str, shape: tuple[int, int], listed: Collection[str]
) -> tuple[str, NDArray[np.float32]]:
    """A name and its logits, from their row in golden.json."""
    table = strictjson.table(value, where, ["copy", "file"])
    name = strictjson.text(table["copy"], f"{where} copy", 100)
    data = bundle.read(_listed(table["file"], f"{where} file", listed))
    size = shape[0] * shape[1] * 4
    if len(data) != size:
        raise BundleInvalid(
            "a file of logits has the wrong size",
            where=table["file"],
            expected=f"{size} bytes: {shape[0]} samples × {shape[1]} classes × 4",
            found=f"{len(data)} bytes",
        )
    logits = np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)
    if not np.isfinite(logits).all():
        raise BundleInvalid("recorded logits are not finite", where=table["file"])
    return name, logits


def _listed(value: object, where: str, listed: Collection[str]) -> str:
    """`value`, which is the path of a file that bundle.json lists under golden/."""
    path = strictjson.text(value, where, 200)
    if path not in listed:
        raise BundleInvalid(
            "a path is not one that bundle.json lists under golden/",
            where=where,
            found=strictjson.shown(path),
        )
    return path
