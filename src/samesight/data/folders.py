"""Photos in folders: a folder per class, train/val/test folders of those, CIFAR's batches, or no labels."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from samesight.data.photos import TABLE_SUFFIXES, Found, Part, Photo, PhotoOptions, natural, shown
from samesight.errors import PhotosError
from samesight.preprocess import PHOTO_SUFFIXES

__all__ = ["Listing", "ignored", "is_photo", "list_folder", "open_folder"]

PARTS: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# folders of these names hold photos of every class, so their name is no label
PLAIN_NAMES = frozenset(
    "data dataset files image images img imgs jpeg jpg photos pictures png samples".split()  # noqa: SIM905
)
# photos of kinds that no runtime of ours decodes: telephones' and cameras' own, and rare names of JPEG
UNREAD_SUFFIXES = frozenset(
    ".heic .heif .avif .jxl .jp2 .jfif .jpe .dng .cr2 .cr3 .nef .arw .raf .psd".split()  # noqa: SIM905
)
IGNORED_NAMES = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"})


@dataclass(frozen=True)
class Listing:
    """The files below `root` that could matter, as paths relative to it with `/`."""

    root: Path
    photos: tuple[str, ...]
    tables: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def below(self, folder: str) -> Listing:
        """The same for one sub-folder."""
        start = folder + "/"

        def cut(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(name[len(start) :] for name in names if name.startswith(start))

        return Listing(
            self.root / folder,
            cut(self.photos),
            cut(self.tables),
            cut(self.others),
            cut(self.empty),
            self.notes,
        )


def is_photo(name: str) -> bool:
    """Whether a file of this name counts as a photo."""
    return os.path.splitext(name)[1].lower() in PHOTO_SUFFIXES


def ignored(name: str) -> bool:
    """Whether a file or folder of this name is an operating system's own, or hidden."""
    return name.startswith(".") or name.casefold() in IGNORED_NAMES


def list_folder(root: Path) -> Listing:
    """What lies below `root`, sorted; links that lead out of it, and links to folders, are not followed."""
    root = root.resolve()
    photos: list[str] = []
    tables: list[str] = []
    others: list[str] = []
    empty: list[str] = []
    links: list[str] = []
    todo = [""]
    while todo:
        folder = todo.pop()
        entries = _entries(root / folder)
        if not entries and folder:
            empty.append(folder)
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_symlink() and not _stays_inside(root, entry):
                links.append(name)
            elif entry.is_dir():
                todo.append(name)
            elif not entry.is_file():
                continue
            elif is_photo(entry.name):
                photos.append(name)
            else:
                (tables if entry.name.lower().endswith(TABLE_SUFFIXES) else others).append(name)
    notes = [f"{len(links)} links were not followed ({shown(min(links))} …)"] if links else []
    notes += _unread(others)
    found = [tuple(sorted(names)) for names in (photos, tables, others, empty)]
    return Listing(root, found[0], found[1], found[2], found[3], tuple(notes))


def _unread(names: list[str]) -> list[str]:
    """A note on photos of kinds that Samesight does not read, where there are any."""
    kinds = {name: os.path.splitext(name)[1].lower() for name in names}
    unread = sorted(name for name, kind in kinds.items() if kind in UNREAD_SUFFIXES)
    if not unread:
        return []
    counts = Counter(kinds[name] for name in unread)
    words = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    return [
        f"photos of kinds that Samesight does not read were left out: {words} ({shown(unread[0])} …); "
        "save them as JPEG or PNG"
    ]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not ignored(entry.name)]
    except OSError as error:
        raise PhotosError("cannot read a folder", where=shown(str(folder)), found=error.strerror) from error


def _stays_inside(root: Path, entry: os.DirEntry[str]) -> bool:
    """Whether a link leads to a file inside `root`."""
    try:
        target = Path(entry.path).resolve(strict=True)
    except (OSError, RuntimeError):
        return False
    return target.is_file() and target.is_relative_to(root)


def open_folder(folder: Path, options: PhotoOptions, called: str | None = None) -> Found:
    """The photos of a folder, in whichever form they are; `called` is the archive's name, if it was one."""
    from samesight.data import cifar, tables

    listing = list_folder(folder)
    if options.csv is not None:
        return tables.open_table(Path(options.csv), listing, options)
    if batches := cifar.find_batches(listing):
        return cifar.open_batches(*batches)
    while True:
        if table := tables.find_table(listing, options):
            return table
        inner = _wrapped(listing, options)
        if inner is None:
            break
        listing = inner
    if options.images is not None or options.label_column is not None:
        raise PhotosError(
            "there is no table of labels in the folder", where=folder, fix="--csv FILE", found=listing.tables
        )
    if not listing.photos:
        raise PhotosError(
            "there are no photos in the folder",
            where=folder,
            expected=" ".join(sorted(PHOTO_SUFFIXES)),
            found=", ".join(map(shown, (*listing.tables, *listing.others)[:5])) or "nothing",
        )
    found = _open_listing(listing, called)
    if any(photo.label is not None for photo in found.items):
        return found
    return replace(found, notes=(*found.notes, *tables.unused(listing, options)))


def _tops(listing: Listing) -> Counter[str]:
    """How many photos each folder at the top holds, at any depth."""
    return Counter(name.split("/", 1)[0] for name in listing.photos if "/" in name)


def _direct(listing: Listing) -> list[str]:
    return [name for name in listing.photos if "/" not in name]


def _wrapped(listing: Listing, options: PhotoOptions) -> Listing | None:
    """The one folder at the top, where it only wraps class folders or a table."""
    from samesight.data import tables

    tops = _tops(listing)
    if len(tops) != 1 or _direct(listing):
        return None
    inner = listing.below(next(iter(tops)))
    if tables.usable(inner, options) or (_tops(inner) and not _direct(inner)):
        return inner
    return None


def _open_listing(listing: Listing, called: str | None) -> Found:
    tops, direct = _tops(listing), _direct(listing)
    parts = {name: PARTS[name.casefold()] for name in tops if name.casefold() in PARTS}
    labelled = [name for name in parts if _tops(listing.below(name))]
    if "train" in (parts[name] for name in labelled) and len(parts) > 1:
        return _open_parts(listing, parts, labelled)
    alone = next(iter(tops)) if len(tops) == 1 and not direct else None
    if alone is not None and alone.casefold() in PLAIN_NAMES | {(called or "").casefold()}:
        listing, tops = listing.below(alone), Counter()
        direct = list(listing.photos)
    if not tops:
        items = [Photo(shown(name), listing.root / name, None, None) for name in direct]
        return Found("photos without labels", items, notes=listing.notes)
    if len(direct) > sum(tops.values()):
        raise PhotosError(
            "most photos lie beside the class folders, not in them",
            where=listing.root,
            expected="each photo in the folder of its class",
            found=f"{len(direct)} beside, {sum(tops.values())} in {', '.join(sorted(map(shown, tops))[:5])}",
        )
    items, notes = _classes(listing, None)
    return Found("folder per class", items, notes=(*listing.notes, *notes))


def _open_parts(listing: Listing, parts: dict[str, Part], labelled: list[str]) -> Found:
    """train, val and test folders, each with a folder per class."""
    several = [part for part, count in Counter(parts[name] for name in labelled).items() if count > 1]
    if several:
        folders = sorted(name for name in labelled if parts[name] == several[0])
        raise PhotosError(
            f"two folders are the {several[0]} part", where=listing.root, found=" and ".join(folders)
        )
    items: list[Photo] = []
    notes = list(listing.notes)
    for name in sorted(labelled):
        more, more_notes = _classes(listing.below(name), parts[name], f"{name}/")
        items += more
        notes += more_notes
    for name, count in sorted(_tops(listing).items()):
        if name not in labelled:
            notes.append(f"{count} photos in {shown(name)}/ have no class folder and were left out")
    if direct := _direct(listing):
        notes.append(f"{len(direct)} photos beside the part folders were left out ({shown(direct[0])} …)")
    return Found(f"{'/'.join(sorted(labelled))} folders, folder per class", items, notes=tuple(notes))


def _classes(listing: Listing, part: Part | None, start: str = "") -> tuple[list[Photo], list[str]]:
    """The photos of a folder per class, and notes on what is unusual."""
    items, deep = [], Counter[str]()
    for name in listing.photos:
        label, _, rest = name.partition("/")
        if rest:
            items.append(Photo(shown(start + name), listing.root / name, shown(label), part))
            deep[shown(label)] += "/" in rest
    notes = []
    if direct := _direct(listing):
        notes.append(
            f"{len(direct)} photos beside the class folders were left out ({shown(start + direct[0])} …)"
        )
    if nested := sorted((label for label, count in deep.items() if count), key=natural):
        notes.append(
            f"photos lie in folders inside {len(nested)} class folders ({nested[0]}/ …): "
            "the outer folder's name is their label"
        )
    if empty := [shown(name) for name in listing.empty if "/" not in name]:
        notes.append(f"class folders without photos: {', '.join(sorted(empty, key=natural)[:10])}")
    if len(deep) == 1:
        notes.append(f"there is one class folder only: {next(iter(deep))}/")
    return items, notes
