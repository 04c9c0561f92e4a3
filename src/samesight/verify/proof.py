"""A bundle proved with what is at hand: its golden samples, its runtimes, and photos where there are some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from samesight.bundle import Bundle
from samesight.data.labels import bind
from samesight.data.photos import PhotoOptions, open_photos
from samesight.data.prepare import is_prepared, open_prepared
from samesight.errors import InputError
from samesight.progress import say
from samesight.runners import open_runners
from samesight.verify import verify
from samesight.verify.golden import read_golden
from samesight.verify.layers import explain_by_layers
from samesight.verify.verification import Verification

__all__ = ["LabelledPaths", "held_out", "prove"]

LabelledPaths = tuple[list[Path], list[int | None]]  # photos, and the index of each one's label where known


def prove(
    bundle: Bundle,
    *,
    photos: LabelledPaths | None = None,
    runners: Sequence[str] = ("onnxruntime",),
    copies: Sequence[str] | None = None,
    against: Bundle | None = None,
) -> Verification:
    """Every stage of every golden sample in each of `runners`, and accuracy over `photos`.

    Raises InputError where the bundle carries no golden samples, or has no such copy or runner.
    """
    golden = read_golden(bundle)
    if not golden.samples:
        raise InputError(
            "the bundle has no golden samples, so there is nothing to prove it by",
            where=bundle.folder,
            fix="export it again, with --samples PHOTOS",
        )
    names = list(dict.fromkeys(copies or (copy.name for copy in bundle.copies)))
    opened = open_runners(bundle, runners, names)
    return verify(bundle, golden, opened, photos=photos, explain=explain_by_layers(bundle, against))


def held_out(
    source: str | Path,
    labels: Sequence[str],
    options: PhotoOptions = PhotoOptions(),  # noqa: B008
    *,
    whole: bool = False,
) -> LabelledPaths:
    """The photos of `source` that were held out, where it is split, or all of them.

    `source` is a folder that `data` or `train` wrote, or photos in any form; with `whole`, all are taken.
    Raises PhotosError where the photos have labels that are not among `labels`.
    """
    if is_prepared(source):
        photos, split, _ = open_prepared(Path(source))
        parts = {item.name: item.part for item in split.items}
    else:
        photos = open_photos(source, options)
        parts = {photo.name: photo.part for photo in photos.items if photo.part is not None}
    rows = list(zip(photos.items, bind(photos, labels), strict=True))
    part = next((part for part in ("test", "val") if part in parts.values()), None)
    if part is not None and not whole:
        rows = [(photo, target) for photo, target in rows if parts.get(photo.name) == part]
        say(f"{len(rows)} of {len(photos.items)} photos: the part '{part}'")
    return [photo.path for photo, _ in rows], [target for _, target in rows]
