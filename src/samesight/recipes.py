"""Recipes: a whole chain described in one TOML file, with the names its artefacts are to have.

The file's sections are the dataclasses below; a key that is not there is refused, so that a misspelt one
cannot be silently left out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from samesight.errors import InputError

__all__ = [
    "Artefacts",
    "Checkpoints",
    "Network",
    "Photos",
    "Recipe",
    "Secure",
    "Study",
    "Training",
    "read_recipe",
]

LIMIT_BYTES = 1 << 20
_OF_TRAINING = ("target", "weights", "epochs", "head_epochs", "batch", "lr", "published")
T = TypeVar("T")


@dataclass(frozen=True)
class Network:
    """One network to train: its model, what its files are called, and the accuracy that is wanted.

    `published`: the artefact `costs` shall also have a row of the network as its library publishes it.
    """

    model: str
    file: str
    target: float | None = None
    weights: str | None = None
    epochs: int | None = None
    head_epochs: int | None = None
    batch: int | None = None
    lr: float | None = None
    resize: str | None = None
    crop: str | None = None
    interpolation: str | None = None
    published: bool = False


@dataclass(frozen=True)
class Photos:
    """How the photos are read."""

    label_style: str = "as-is"
    label_column: str | None = None


@dataclass(frozen=True)
class Training:
    """How every network of the recipe learns; the names and defaults are those of `samesight train`."""

    train: str = "all"
    optimizer: str = "adamw"
    schedule: str = "cosine"
    step_every: int | None = None
    weight_decay: float | None = None
    label_smoothing: float = 0.1
    sampler: str | None = None
    class_weights: bool = False
    average: bool = True
    patience: int | None = None
    crop_mode: str = "resized"
    flip: bool = True
    vertical_flip: bool = False
    color_jitter: str = "0,0,0,0"
    auto_augment: str = "none"
    random_erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0


@dataclass(frozen=True)
class Checkpoints:
    """Networks that come trained: what --weights names is converted, and proved on the photos."""

    labels: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """How the photos are split."""

    seed: int = 42
    test: float = 0.2
    val: float = 0.1
    group: str | None = None


@dataclass(frozen=True)
class Export:
    """How the networks are written."""

    opset: int = 17
    batch: str = "dynamic"
    copies: tuple[str, ...] = ("fp32", "fp16")
    fp16_input: str = "float32"


@dataclass(frozen=True)
class Secure:
    """What is done under encryption, once the networks are proved; the names are those of `samesight secure`.

    `networks` by their file names, none: all. `photos` held-out ones, of as many labels; 0: those of the log.
    """

    networks: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    photos: int = 0


@dataclass(frozen=True)
class Study:
    """What is studied over an ImageNet subset, with pretrained weights and without training."""

    quantize: str | None = None  # the network that PyTorch's own ways of int8 are compared on
    calibration_batches: int = 1
    zoo: tuple[str, ...] = ()  # networks to be compared with each other


@dataclass(frozen=True)
class Artefacts:
    """The name of each thing in the output folder; what has none is not written.

    {file} is the network's, {copy} the copy's name, {accuracy} the held-out accuracy in hundredths of a
    per cent, as 8697.
    """

    notes: str | None = None
    labels: str | None = None
    onnx: str | None = None
    checkpoint: str | None = None
    table: str | None = None
    costs: str | None = None  # CSV of parameters, operations and accuracy; beside it the same as .md
    sample_log: str | None = None
    samples_per_class: int = 2
    info: str | None = None  # JSON: shapes, classes and preprocessing of each ONNX file
    checksums: str | None = None  # JSON: the SHA-256 of each ONNX file
    summary: str | None = None  # Markdown: what was converted, and how near it is to PyTorch
    site: str | None = None  # the folder of a web page with the first network
    secure_files: str | None = None  # a folder; {format} is filled in too
    secure_images: str | None = None  # a folder of the photos that are run under encryption
    secure_log: str | None = None
    quantization: str | None = None  # CSV of PyTorch's own int8; beside it the same as .json
    dynamic_plot: str | None = None
    static_plot: str | None = None
    zoo: str | None = None  # CSV of the networks compared; beside it .json and .png
    rust: str | None = None  # JSON of `samesight-rs verify`: the proof of the last runtime of the chain


@dataclass(frozen=True)
class Recipe:
    """A recipe as its file has it."""

    name: str
    title: str
    photos: str | None
    reading: Photos
    training: Training
    split: Split
    checkpoints: Checkpoints | None
    networks: tuple[Network, ...]
    export: Export
    artefacts: Artefacts
    study: Study = Study()  # frozen
    secure: Secure = Secure()  # frozen


def read_recipe(path: Path) -> Recipe:
    """The recipe in `path`. Raises InputError where it is not one."""
    try:
        with path.open("rb") as stream:
            text = stream.read(LIMIT_BYTES).decode()
        value = tomllib.loads(text)
    except OSError as error:
        raise InputError("cannot read the recipe", where=path, found=error.strerror or error) from error
    except ValueError as error:  # TOML or UTF-8
        raise InputError("the recipe is not TOML", where=path, found=error) from error
    known = {
        "recipe",
        "photos",
        "training",
        "split",
        "checkpoints",
        "network",
        "export",
        "artefacts",
        "study",
        "secure",
    }
    if unknown := sorted(set(value) - known):
        raise InputError("the recipe has sections that there are not", where=path, found=", ".join(unknown))
    head = _table(value.get("recipe"), "recipe", path, {"name", "title", "photos"})
    networks = value.get("network")
    if not isinstance(networks, list) or not networks:
        raise InputError(
            "the recipe names no network", where=path, expected="[[network]] with model and file"
        )
    trained = value.get("checkpoints")
    recipe = Recipe(
        name=_text(head, "name", path),
        title=_text(head, "title", path),
        photos=head.get("photos"),
        reading=_section(Photos, value.get("photos", {}), "photos", path),
        training=_section(Training, value.get("training", {}), "training", path),
        split=_section(Split, value.get("split", {}), "split", path),
        checkpoints=None if trained is None else _section(Checkpoints, trained, "checkpoints", path),
        networks=tuple(_section(Network, network, "network", path) for network in networks),
        export=_section(Export, value.get("export", {}), "export", path),
        artefacts=_section(Artefacts, value.get("artefacts", {}), "artefacts", path),
        study=_section(Study, value.get("study", {}), "study", path),
        secure=_section(Secure, value.get("secure", {}), "secure", path),
    )
    _check_names(recipe, path)
    if recipe.checkpoints is not None:
        _check_untrained(value, path)
    return recipe


def _section(kind: type[T], value: object, name: str, path: Path) -> T:
    """A section as its dataclass; every value of the type that the field has."""
    types = {field.name: str(field.type) for field in fields(kind)}  # type: ignore[arg-type]
    given = _table(value, name, path, set(types))
    for key, found in given.items():
        if isinstance(found, list):
            given[key] = found = tuple(found)
        allowed = types[key]
        right = (
            (isinstance(found, str) and "str" in allowed and "tuple" not in allowed)
            or (type(found) is int and ("int" in allowed or "float" in allowed))
            or (isinstance(found, float) and "float" in allowed)
            or (isinstance(found, bool) and "bool" in allowed)
            or (isinstance(found, tuple) and "tuple" in allowed and all(isinstance(x, str) for x in found))
        )
        if not right:
            raise InputError(
                f"the recipe's [{name}] {key} is of another kind",
                where=path,
                expected=allowed,
                found=repr(found),
            )
    try:
        return kind(**given)
    except TypeError as error:  # a required key is missing
        raise InputError(f"the recipe's [{name}] is not complete", where=path, found=error) from error


def _table(value: object, name: str, path: Path, known: set[str]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"the recipe has no [{name}]", where=path)
    if unknown := sorted(set(value) - known):
        raise InputError(
            f"the recipe's [{name}] has keys that there are not",
            where=path,
            expected=", ".join(sorted(known)),
            found=", ".join(unknown),
        )
    return dict(value)


def _text(table: Mapping[str, Any], key: str, path: Path) -> str:
    if not isinstance(table.get(key), str):
        raise InputError(f"the recipe's [recipe] has no {key}", where=path)
    return str(table[key])


def _check_untrained(value: Mapping[str, Any], path: Path) -> None:
    """Refuse what only a training leaves or takes in a recipe whose networks come trained."""
    found = [f"[{name}]" for name in ("training", "split", "secure") if name in value]
    for network in value["network"]:
        found += [f"[[network]] {name}" for name in _OF_TRAINING if name in network]
    names = ("notes", "checkpoint", "costs", "sample_log")
    found += [f"[artefacts] {name}" for name in names if name in value.get("artefacts", {})]
    if found:
        raise InputError(
            "the recipe has [checkpoints], so nothing is trained", where=path, found=", ".join(found)
        )


def _check_names(recipe: Recipe, path: Path) -> None:
    """Names of files stay in the output folder, and no two things share one."""
    files = [network.file for network in recipe.networks]
    if len(set(files)) < len(files):
        raise InputError("two networks of the recipe share a file name", where=path, found=", ".join(files))
    if strange := sorted(set(recipe.secure.networks) - set(files)):
        raise InputError("[secure] names networks that there are not", where=path, found=", ".join(strange))
    for field in fields(Artefacts):
        name = getattr(recipe.artefacts, field.name)
        if isinstance(name, str) and (Path(name).is_absolute() or ".." in Path(name).parts):
            raise InputError("a name in [artefacts] leaves the output folder", where=path, found=name)
    for name in files:
        if Path(name).name != name:
            raise InputError("a network's file is a name, not a path", where=path, found=name)
