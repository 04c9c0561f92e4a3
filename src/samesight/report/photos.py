"""The held-out photos of a run, found again where they were, as the network sees them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samesight.data.photos import PhotoOptions, open_photos
from samesight.errors import InputError, SamesightError
from samesight.files import sha256_bytes
from samesight.preprocess import Preprocess, decode, read_photo, resize
from samesight.report.sources import RunFiles, pick

__all__ = ["Seen", "see"]

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Seen:
    """Pixels (height, width, 3) uint8 by the photo's name; `remark` says why any are missing."""

    pixels: Mapping[str, Pixels]
    remark: str


def see(run: RunFiles, names: Iterable[str]) -> Seen:
    """The photos of `run` called `names`, resized and cropped as for the network.

    A photo whose bytes are no longer those that were split is left out, since it is not what was answered.
    """
    wanted = tuple(names)
    try:
        spec = _preprocess(run)
        paths = _paths(run)
    except SamesightError as error:
        return Seen({}, f"The photos cannot be shown: {error.what}.")
    hashes = _hashes(run.split)
    pixels: dict[str, Pixels] = {}
    for name in wanted:
        path = paths.get(name)
        if path is None:
            continue
        try:
            data = read_photo(path)
            if sha256_bytes(data) == hashes.get(name):
                pixels[name] = resize(decode(data), spec)
        except SamesightError:
            continue
    missing = len(wanted) - len(pixels)
    gone = f"{missing} of {len(wanted)} photos are gone or have changed since the run, so they are not shown."
    return Seen(pixels, gone if missing else "")


def _preprocess(run: RunFiles) -> Preprocess:
    """How the network is shown photos. Raises InputError where run.json does not say."""
    recorded = pick(run.about, "preprocess")
    if recorded is None:
        raise InputError("run.json does not say how photos are preprocessed")
    return Preprocess.from_json(recorded)


def _paths(run: RunFiles) -> dict[str, Path]:
    """Where each photo is. Raises SamesightError where the photos are no longer there."""
    source = run.split.get("source")
    if not isinstance(source, str):
        raise InputError("split.json does not say where they were")
    options = PhotoOptions.from_json(run.split.get("photo_options"))
    photos = open_photos(source, dataclasses.replace(options, offline=True))
    return {photo.name: photo.path for photo in photos.items}


def _hashes(split: Mapping[str, Any]) -> dict[str, str]:
    items = split.get("items")
    rows = [row for row in items if isinstance(row, Mapping)] if isinstance(items, list) else []
    return {str(row.get("name")): str(row.get("sha256")) for row in rows}
