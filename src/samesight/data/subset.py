"""A small labelled subset of the ImageNet validation set: N classes, k photos each, drawn by a seed.

The official files are ILSVRC2012_img_val.tar (50,000 JPEGs without folders) and the development kit
ILSVRC2012_devkit_t12.tar.gz, whose meta.mat and ground truth tell each photo's class.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from samesight.data.labels import bind, imagenet_classes
from samesight.data.photos import open_photos
from samesight.errors import ArchiveError, InputError, MissingExtra, PhotosError
from samesight.files import new_folder
from samesight.progress import track

__all__ = ["SubsetOptions", "make_subset"]

VAL_NAME = re.compile(r"ILSVRC2012_val_([0-9]{8})\.JPEG")
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
META, TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"
DEVKIT_LIMIT_BYTES = 64 << 20  # of one file inside; the real ones have less than 1 MB
PHOTO_LIMIT_BYTES = 256 << 20


@dataclass(frozen=True)
class SubsetOptions:
    """How many classes, photos of each, by which seed; and where the development kit is."""

    classes: int = 500
    per_class: int = 1
    seed: int = 42
    devkit: Path | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.classes <= 1000 or self.per_class < 1:
            found = f"{self.classes} classes with {self.per_class} photos each"
            raise InputError("a subset has 1 to 1000 classes with 1 photo or more", found=found)


@dataclass(frozen=True)
class _Candidate:
    """A photo that could be taken: its ImageNet class, its name, and its bytes when asked for."""

    index: int
    name: str
    read: Callable[[], bytes]


def make_subset(val: str | Path, out: Path, options: SubsetOptions) -> int:
    """Write out/WNID/photo for each photo drawn, and out/labels.csv; the number of photos.

    `val` is the official archive, the folder of its JPEGs, or anything that `open_photos` takes whose labels
    are WordNet ids, ImageNet names or class indices. Raises InputError where there are not enough.
    """
    with _Official(Path(val)) as official:
        if official.found:
            truth = _ground_truth(_devkit(Path(val), options.devkit))
            candidates = official.candidates(truth)
        else:
            candidates = _labelled(val)
        chosen = _draw(candidates, options)
        with new_folder(out) as folder:
            _write(chosen, folder)
    return len(chosen)


class _Official:
    """The official validation set, in its archive or as the folder of its JPEGs; `found` if it is that."""

    def __init__(self, val: Path) -> None:
        self.val = val
        self.archive: tarfile.TarFile | None = None
        self.found = False

    def __enter__(self) -> _Official:
        if self.val.is_dir():
            self.found = any(VAL_NAME.fullmatch(path.name) for path in self.val.iterdir())
        elif self.val.is_file():
            try:
                self.archive = tarfile.open(self.val, "r:")
                first = self.archive.next()
            except (tarfile.TarError, OSError):
                return self
            self.found = first is not None and bool(VAL_NAME.fullmatch(PurePosixPath(first.name).name))
        return self

    def __exit__(self, *_: object) -> None:
        if self.archive is not None:
            self.archive.close()

    def candidates(self, truth: Sequence[int]) -> list[_Candidate]:
        """The photos, their classes by the number in their names."""
        readers: dict[str, Callable[[], bytes]] = {}
        try:
            for member in self.archive or ():
                if member.isfile():
                    readers[PurePosixPath(member.name).name] = self._reader(member)
        except tarfile.TarError as error:
            raise ArchiveError("an archive is broken", where=self.val, found=error) from error
        if self.archive is None:
            readers = {path.name: path.read_bytes for path in self.val.iterdir()}
        found = []
        for name, read in sorted(readers.items()):
            if match := VAL_NAME.fullmatch(name):
                number = int(match.group(1))
                if not 1 <= number <= len(truth):
                    raise InputError(
                        "a photo is not in the ground truth", where=name, expected=f"1 to {len(truth)}"
                    )
                found.append(_Candidate(truth[number - 1], name, read))
        return found

    def _reader(self, member: tarfile.TarInfo) -> Callable[[], bytes]:
        def read() -> bytes:
            stream = self.archive.extractfile(member) if self.archive else None
            if stream is None or member.size > PHOTO_LIMIT_BYTES:
                raise ArchiveError("an archive is broken", where=self.val, found=member.name)
            try:
                data = stream.read()
            except (tarfile.TarError, OSError) as error:
                raise ArchiveError("an archive is broken", where=self.val, found=error) from error
            if len(data) != member.size:
                raise ArchiveError(
                    "an archive is broken", where=self.val, found=f"{member.name} is cut short"
                )
            return data

        return read


def _labelled(val: str | Path) -> list[_Candidate]:
    """The photos of any other form, by what their labels say."""
    photos = open_photos(val)
    bound = bind(photos, [name for _, name in imagenet_classes()])
    found = [
        _Candidate(index, PurePosixPath(photo.name).name, photo.path.read_bytes)
        for photo, index in zip(photos.items, bound, strict=True)
        if index is not None
    ]
    if not found:
        raise PhotosError(
            "the photos have no labels",
            where=val,
            expected="ILSVRC2012_img_val.tar, the folder of its JPEGs, or a folder per WordNet id",
        )
    return found


def _devkit(val: Path, given: Path | None) -> Path:
    """The development kit: as given, or beside the validation set."""
    places = [given] if given else [folder / DEVKIT for folder in (val, val.parent)]
    for place in places:
        if place.exists():
            return place
    raise InputError(
        "the official photos need the development kit that tells their classes",
        where=places[0],
        fix=f"--devkit {DEVKIT}",
    )


def _ground_truth(devkit: Path) -> list[int]:
    """The ImageNet class index of each validation photo, in their order."""
    meta, truth = _devkit_files(devkit)
    wnids = _wnids(meta, devkit)
    index_of = {wnid: index for index, (wnid, _) in enumerate(imagenet_classes())}
    try:
        return [index_of[wnids[int(word)]] for word in truth.split()]
    except (KeyError, ValueError) as error:
        raise InputError(
            "the ground truth names a class that meta.mat does not", where=devkit, found=error
        ) from error


def _devkit_files(devkit: Path) -> tuple[bytes, bytes]:
    """The bytes of meta.mat and of the ground truth, from the archive or the unpacked folder."""
    found: dict[str, bytes] = {}
    if devkit.is_dir():
        for name in (META, TRUTH):
            for path in sorted(devkit.rglob(name)):
                found[name] = path.read_bytes()
    else:
        try:
            with tarfile.open(devkit) as archive:
                for member in archive:
                    name = "/".join(PurePosixPath(member.name).parts[-2:])
                    if name in (META, TRUTH) and member.isfile() and member.size <= DEVKIT_LIMIT_BYTES:
                        stream = archive.extractfile(member)
                        found[name] = stream.read() if stream else b""
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise ArchiveError("the development kit cannot be read", where=devkit, found=error) from error
    for name in (META, TRUTH):
        if name not in found:
            raise InputError("the development kit lacks a file", where=devkit, expected=name)
    return found[META], found[TRUTH]


def _wnids(meta: bytes, devkit: Path) -> dict[int, str]:
    """ILSVRC2012_ID → WordNet id of the 1000 classes (those of meta.mat's synsets without children)."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingExtra("reading the development kit", "train") from error
    import numpy as np

    try:
        synsets: Any = np.atleast_1d(loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"])
        leaves = [synset for synset in synsets if int(synset["num_children"]) == 0]
        return {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in leaves}
    except Exception as error:  # a broken file can raise anything at all inside scipy
        raise InputError("meta.mat cannot be read", where=devkit, found=error) from error


def _draw(candidates: Sequence[_Candidate], options: SubsetOptions) -> list[_Candidate]:
    """`per_class` photos of `classes` classes, in the order of SHA-256(seed, name)."""

    def order(name: str) -> bytes:
        return hashlib.sha256(f"{options.seed}\0{name}".encode("utf-8", "surrogateescape")).digest()

    counts = Counter(candidate.index for candidate in candidates)
    enough = [index for index, count in counts.items() if count >= options.per_class]
    if len(enough) < options.classes:
        raise InputError(
            "there are not enough photos for the subset",
            expected=f"{options.classes} classes with {options.per_class} photos each",
            found=f"{len(enough)} such classes among {len(candidates)} photos of {len(counts)}",
            fix=f"--classes {len(enough)}" if enough else "--per-class 1",
        )
    classes = set(sorted(enough, key=lambda index: order(imagenet_classes()[index][0]))[: options.classes])
    taken: Counter[int] = Counter()
    chosen = []
    for candidate in sorted(candidates, key=lambda one: (order(one.name), one.name)):
        if candidate.index in classes and taken[candidate.index] < options.per_class:
            taken[candidate.index] += 1
            chosen.append(candidate)
    return sorted(chosen, key=lambda one: (one.index, one.name))


def _write(chosen: Sequence[_Candidate], folder: Path) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["filename", "class_index", "wnid", "name"])
    used: set[str] = set()
    for candidate in track(chosen, "Writing photos"):
        wnid, label = imagenet_classes()[candidate.index]
        name = f"{wnid}/{candidate.name}"
        if name in used:  # two photos of a class may have had the same name
            name = f"{wnid}/{len(used)}_{candidate.name}"
        used.add(name)
        (folder / wnid).mkdir(exist_ok=True)
        (folder / name).write_bytes(candidate.read())
        table.writerow([name, candidate.index, wnid, label])
    (folder / "labels.csv").write_text(text.getvalue(), encoding="utf-8")
