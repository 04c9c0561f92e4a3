"""Small distinct photos, and archives of them, for the tests of samesight.data."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def write_photo(path: Path, size: tuple[int, int] = (8, 6)) -> Path:
    """A photo whose pixels follow from its path's last two parts, so that no two are alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = hashlib.sha256("/".join(path.parts[-2:]).encode("utf-8", "surrogateescape")).digest()
    pixels = np.random.default_rng(list(seed)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    with path.open("wb") as stream:
        Image.fromarray(pixels).save(stream, "PNG" if path.suffix.lower() == ".png" else "JPEG")
    return path


def write_classes(folder: Path, counts: dict[str, int], suffix: str = ".png") -> Path:
    """A folder per class with so many photos each."""
    for label, count in counts.items():
        for index in range(count):
            write_photo(folder / label / f"{index}{suffix}")
    return folder


def packed(folder: Path, archive: Path, mode: str = "w") -> Path:
    """The folder's files, under the folder's name, as a tar (compressed as `mode` says) or zip."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
            for path in files:
                out.write(path, f"{folder.name}/{path.relative_to(folder).as_posix()}")
        return archive
    with tarfile.open(archive, mode) as tar:
        for path in files:
            tar.add(path, f"{folder.name}/{path.relative_to(folder).as_posix()}")
    return archive
