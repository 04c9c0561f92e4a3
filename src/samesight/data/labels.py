"""Labels: read from what a user gives, bound to photos by name, and the 1000 classes of ImageNet."""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from samesight.data.photos import Photo, Photos
from samesight.errors import InputError, PhotosError
from samesight.files import read_json

__all__ = ["bind", "imagenet_classes", "is_imagenet", "labels_mapping", "read_labels"]

TEXT_LIMIT_BYTES = 4 << 20
WORDNET_ID = re.compile(r"(n[0-9]{8})(?:[_ -].*)?")


@functools.cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """(WordNet id, name) of the 1000 classes in the order of every network's outputs.

    The order is that of the sorted WordNet ids; the names are those of torchvision's weights, each unlike all
    others ("crane bird" is n02012849, and "crane", the machine, is n03126707).
    """
    text = resources.files("samesight.data").joinpath("imagenet_classes.json").read_text("utf-8")
    return tuple((wnid, name) for wnid, name in json.loads(text))


def is_imagenet(labels: Sequence[str]) -> bool:
    """Whether these are ImageNet's 1000 classes in their order, by name or by WordNet id."""
    given = tuple(labels)
    return len(given) == 1000 and any(given == column for column in zip(*imagenet_classes(), strict=True))


def labels_mapping(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The two mappings of labels_mapping.json: `class_to_int`, and `int_to_class` with decimal keys."""
    return {
        "class_to_int": {label: index for index, label in enumerate(labels)},
        "int_to_class": {str(index): label for index, label in enumerate(labels)},
    }


def read_labels(words: str) -> tuple[str, ...]:
    """Labels in the order of a network's outputs, from `imagenet`, a file, or a comma list.

    A file is a labels_mapping.json, a JSON list, or text with one label a line. Raises InputError where there
    are none, where one is empty, or where one stands twice.
    """
    if words == "imagenet":
        return tuple(name for _, name in imagenet_classes())
    path = Path(words).expanduser()
    if path.is_file():
        labels = _from_json(path) if path.suffix.lower() == ".json" else _from_text(path)
    elif "," not in words and ("/" in words or path.suffix.lower() in (".txt", ".json")):
        raise InputError("there is no such file of labels", where=words)
    else:
        labels = [label.strip() for label in words.split(",")]
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if not labels or twice or not all(label.strip() for label in labels):
        found = f"{twice[0]!r} twice" if twice else "an empty label" if labels else "none"
        raise InputError("labels must be there, not empty, and each once", where=words, found=found)
    return tuple(labels)


def _from_text(path: Path) -> list[str]:
    data = path.open("rb").read(TEXT_LIMIT_BYTES + 1)
    try:
        if len(data) > TEXT_LIMIT_BYTES:
            raise ValueError(f"more than {TEXT_LIMIT_BYTES} bytes")
        lines = data.decode("utf-8-sig").splitlines()
    except ValueError as error:
        raise InputError("a file of labels is not UTF-8 text", where=path, found=error) from error
    while lines and not lines[-1].strip():
        lines.pop()
    return [line.strip() for line in lines]


def _from_json(path: Path) -> list[str]:
    value = read_json(path, TEXT_LIMIT_BYTES)
    numbered: Mapping[Any, Any] | None = None
    if isinstance(value, dict) and isinstance(value.get("int_to_class"), dict):
        numbered = value["int_to_class"]
    elif isinstance(value, dict):
        names = value.get("class_to_int", value)
        if isinstance(names, dict) and all(type(index) is int for index in names.values()):
            numbered = {str(index): name for name, index in names.items()}
            if len(numbered) != len(names):
                raise InputError("two labels have the same number", where=path)
        elif isinstance(names, dict):
            numbered = names
    if numbered is not None:
        value = [numbered.get(str(index)) for index in range(len(numbered))]
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
        raise InputError(
            "a file of labels is not a mapping or a list",
            where=path,
            expected='{"int_to_class": {"0": "cat", …}} with every number from 0, or ["cat", …]',
        )
    return value


def bind(photos: Photos, labels: Sequence[str]) -> list[int | None]:
    """The index in `labels` of each photo's label, None for photos without one.

    Labels are bound by name. Where `labels` are ImageNet's 1000 classes, a class index, a WordNet id
    (`n01440764`, `n01440764_tench`) or a name with underscores will do as well. Raises PhotosError naming the
    labels that are not among `labels`.
    """
    known: dict[str, int] = {}
    for place, label in enumerate(labels):
        known.setdefault(_plain(label), place)
    known |= {label: place for place, label in enumerate(labels)}
    imagenet = is_imagenet(labels)
    bound: list[int | None] = []
    unknown: Counter[str] = Counter()
    for photo in photos.items:
        index: int | None = _imagenet_index(photo) if imagenet else None
        if index is None and photo.label is not None:
            index = known.get(photo.label, known.get(_plain(photo.label)))
            if index is None:
                unknown[photo.label] += 1
        bound.append(index)
    if unknown:
        some = ", ".join(repr(label) for label in list(unknown)[:5])
        raise PhotosError(
            f"{len(unknown)} labels of the photos are not among the model's",
            where=photos.source,
            expected=f"{len(labels)} labels: {', '.join(labels[:5])}{' …' if len(labels) > 5 else ''}",
            found=f"{some}{' …' if len(unknown) > 5 else ''} ({sum(unknown.values())} photos)",
            fix="rename the folders or the table's labels, or clean them with --label-style",
        )
    return bound


def _plain(label: str) -> str:
    """A label in one Unicode form: folders of macOS write é as two characters, tables as one."""
    return unicodedata.normalize("NFC", label)


@functools.cache
def _imagenet_keys() -> dict[str, int]:
    """WordNet ids and names → index; spoken names only where they are one class's ("Cardigan" is a dog)."""
    spoken = Counter(_spoken(name) for _, name in imagenet_classes())
    keys: dict[str, int] = {}
    for index, (wnid, name) in enumerate(imagenet_classes()):
        keys |= {wnid: index, name: index}
        if spoken[_spoken(name)] == 1:
            keys[_spoken(name)] = index
    return keys


def _spoken(name: str) -> str:
    return _plain(name).replace("_", " ").strip().casefold()


def _imagenet_index(photo: Photo) -> int | None:
    """The ImageNet class of a photo, from its class index, WordNet id or name, in this order."""
    if photo.class_index is not None:
        return photo.class_index if 0 <= photo.class_index < 1000 else None
    if photo.label is None:
        return None
    keys = _imagenet_keys()
    if named := WORDNET_ID.fullmatch(photo.label):
        return keys.get(named.group(1))
    return keys.get(photo.label.replace("_", " "), keys.get(_spoken(photo.label)))
