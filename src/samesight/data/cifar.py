"""CIFAR-10 and CIFAR-100 as torchvision keeps them, written out once as PNGs in the cache.

Format: https://www.cs.toronto.edu/~kriz/cifar.html. The pickles are read by an unpickler that knows only what
those files need and builds its own plain objects, so that no code which a file names is ever run.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samesight.errors import InputError, PhotosError
from samesight.files import cache_folder, new_folder, sha256_file
from samesight.progress import say, track

if TYPE_CHECKING:
    from samesight.data.folders import Listing
    from samesight.data.photos import Found

__all__ = ["BATCH_NAMES", "Layout", "find_batches", "open_batches"]

SIDE = 32
PHOTO_BYTES = 3 * SIDE * SIDE
BATCH_LIMIT_BYTES = 512 << 20  # CIFAR-100's train file has 155 MB


@dataclass(frozen=True)
class Layout:
    """The files of one form. Pickles have the keys `names_key` and `labels_key`; binary records begin with
    `label_bytes` bytes, the last of which is the label."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    names_key: str = ""
    labels_key: str = ""
    label_bytes: int = 0

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that the form needs."""
        return (*self.train, *self.test, self.names)


_FIVE = tuple(f"data_batch_{number}" for number in range(1, 6))
LAYOUTS = (
    Layout("CIFAR-10", _FIVE, ("test_batch",), "batches.meta", "label_names", "labels"),
    Layout("CIFAR-100", ("train",), ("test",), "meta", "fine_label_names", "fine_labels"),
    Layout(
        "CIFAR-10 (binary)",
        tuple(f"{name}.bin" for name in _FIVE),
        ("test_batch.bin",),
        "batches.meta.txt",
        label_bytes=1,
    ),
    Layout("CIFAR-100 (binary)", ("train.bin",), ("test.bin",), "fine_label_names.txt", label_bytes=2),
)
BATCH_NAMES = frozenset(name for layout in LAYOUTS for name in layout.files)


def find_batches(listing: Listing) -> tuple[Layout, Path] | None:
    """The form and folder of CIFAR's batches below a folder; None where there are none."""
    names: dict[str, set[str]] = {}
    for name in listing.others:
        folder, _, last = name.rpartition("/")
        if last in BATCH_NAMES:
            names.setdefault(folder, set()).add(last)
    found = [
        (layout, listing.root / folder)
        for folder, here in sorted(names.items())
        for layout in LAYOUTS
        if here.issuperset(layout.files)
    ]
    if len(found) > 1:
        raise PhotosError(
            "the folder holds several CIFAR datasets",
            where=listing.root,
            found=", ".join(f"{layout.name} in {folder.name}/" for layout, folder in found),
            fix=str(found[0][1]),
        )
    return found[0] if found else None


def open_batches(layout: Layout, folder: Path) -> Found:
    """The photos of the batches in `folder`, as PNGs in train and test folders in the cache."""
    from samesight.data import folders
    from samesight.data.photos import PhotoOptions

    hashes = "\n".join(sha256_file(folder / name) for name in layout.files)
    place = cache_folder() / "photos" / f"cifar-{hashlib.sha256(hashes.encode()).hexdigest()}"
    if not place.is_dir():
        say(f"Writing the photos of {layout.name} out as PNGs")
        try:
            with new_folder(place) as aside:
                _write_photos(layout, folder, aside)
                if place.is_dir():
                    raise InputError("another process has written them meanwhile")
        except PhotosError:
            raise
        except InputError:
            if not place.is_dir():
                raise
    return replace(folders.open_folder(place, PhotoOptions()), form=layout.name)


def _write_photos(layout: Layout, folder: Path, out: Path) -> None:
    """part/label/NNNNN.png for every photo, numbered as in the batches."""
    import numpy as np
    from PIL import Image

    names = _label_names(layout, folder)
    for part, files in (("train", layout.train), ("test", layout.test)):
        for name in names:
            (out / part / name).mkdir(parents=True, exist_ok=True)
        photos = (photo for file in files for photo in _records(layout, folder / file, len(names)))
        for number, (label, pixels) in enumerate(track(photos, f"Writing {part} photos")):
            planes = np.frombuffer(pixels, np.uint8).reshape(3, SIDE, SIDE)
            image = Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))
            image.save(out / part / names[label] / f"{number:05}.png", compress_level=1)


def _label_names(layout: Layout, folder: Path) -> list[str]:
    path = folder / layout.names
    if layout.label_bytes:
        names: Any = _read(path).decode("latin-1").split()
    else:
        names = _unpickle(path).get(layout.names_key)
    plain = isinstance(names, list) and all(isinstance(n, str) and re.fullmatch(r"[\w -]+", n) for n in names)
    if not plain or not 0 < len(set(names)) == len(names) <= 256:
        raise PhotosError("CIFAR's label names are not as they should be", where=path)
    return list(names)


def _records(layout: Layout, path: Path, classes: int) -> Iterator[tuple[int, bytes]]:
    """(label, 3072 bytes: red, green and blue plane) of each photo in a batch."""
    if layout.label_bytes:
        data, step = _read(path), layout.label_bytes + PHOTO_BYTES
        labels: Any = [data[start + layout.label_bytes - 1] for start in range(0, len(data), step)]
        photos = [data[start + layout.label_bytes : start + step] for start in range(0, len(data), step)]
    else:
        batch = _unpickle(path)
        labels, pixels = batch.get(layout.labels_key), batch.get("data")
        data = pixels.bytes() if isinstance(pixels, _Array) else b""
        photos = [data[start : start + PHOTO_BYTES] for start in range(0, len(data), PHOTO_BYTES)]
    whole = isinstance(labels, list) and len(labels) == len(photos) > 0 and len(photos[-1]) == PHOTO_BYTES
    if not whole or not all(type(label) is int and 0 <= label < classes for label in labels):
        raise PhotosError("a CIFAR batch is not as it should be", where=path)
    yield from zip(labels, photos, strict=True)


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        data = stream.read(BATCH_LIMIT_BYTES + 1)
    if len(data) > BATCH_LIMIT_BYTES:
        raise PhotosError(
            "a CIFAR batch is too large", where=path, expected=f"at most {BATCH_LIMIT_BYTES} bytes"
        )
    return data


class _Array:
    """What stands for a numpy array in a pickle: only its state, until it is asked for its bytes."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def bytes(self) -> bytes:
        """The bytes of a C-ordered uint8 array with 3072 columns; none of any other."""
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            return b""
        _, shape, dtype, fortran, raw = self.state
        data = raw.encode("latin-1") if isinstance(raw, str) else raw  # Python 2 wrote strings
        right = isinstance(dtype, _Dtype) and dtype.code in ("u1", "|u1") and not fortran
        if not right or not isinstance(data, bytes) or shape != (len(data) // PHOTO_BYTES, PHOTO_BYTES):
            return b""
        return data


class _Dtype:
    """What stands for a numpy dtype in a pickle."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        pass


def _new_array(*_: Any) -> _Array:
    return _Array()


def _encode(text: Any, encoding: Any = "") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("only text in latin1 is expected")
    return text.encode("latin-1")


# Every name that CIFAR's pickles use, and what stands for it here.
_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _new_array,
    ("numpy._core.multiarray", "_reconstruct"): _new_array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name here. Raises UnpicklingError for every name that CIFAR does not use."""
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which CIFAR's files do not")
        return _NAMES[module, name]


def _unpickle(path: Path) -> dict[str, Any]:
    """The dictionary in one of CIFAR's pickles."""
    data = _read(path)
    try:
        value = _Unpickler(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # a broken pickle can raise anything at all
        raise PhotosError("a CIFAR batch cannot be read", where=path, found=error) from error
    if not isinstance(value, dict):
        raise PhotosError("a CIFAR batch is not as it should be", where=path, expected="a dictionary")
    return value
