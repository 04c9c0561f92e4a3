"""Networks with the weights that they were pretrained with, and the preprocessing those weights expect."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from samesight.errors import CheckpointError, InputError
from samesight.models.checkpoints import load_state, open_checkpoint
from samesight.models.create import TIMM_PREFIX, create, import_timm, source_of
from samesight.models.download import cached_weights, timm_weights
from samesight.models.heads import head_layers
from samesight.models.purpose import OPTION, fitted
from samesight.models.shipped import SHIPPED
from samesight.preprocess import Preprocess

__all__ = [
    "Pretrained",
    "create_pretrained",
    "default_preprocess",
    "license_of",
    "named_weights",
    "stated_license",
]

UNTRAINED = "none"
IMAGENET_CLASSES = 1000
OWN_SIZE = 224  # a network of one's own says nothing about its pictures; this is what most are made for


@dataclass(frozen=True)
class Pretrained:
    """A network with its original head, and what is known about its weights."""

    network: nn.Module
    preprocess: Preprocess
    weights: str  # what they are, with their SHA-256
    license: str
    labels: tuple[str, ...] | None  # of the original head
    options: Mapping[str, str] = field(default_factory=dict)  # what `create` needs to make it again
    notes: tuple[str, ...] = ()


def create_pretrained(
    model: str,
    weights: str | Path | None = None,
    *,
    offline: bool = False,
    options: Mapping[str, str] = {},
) -> Pretrained:
    """A network with pretrained weights and the head that they came with.

    `weights`: None for the ones torchvision (or timm) recommends, through its cache; "none" for an untrained
    network; a name such as IMAGENET1K_V1; or a file. Nothing is downloaded when `offline`.
    Raises InputError and CheckpointError.
    """
    source = source_of(model)
    word = None if weights is None else str(weights)
    if word == UNTRAINED or (word is None and source in ("samesight", "own file")):
        network = create(model, IMAGENET_CLASSES, options=options)
        preprocess = default_preprocess(model, UNTRAINED)
        return Pretrained(network, preprocess, "none: untrained", "no pretrained weights", None, options)
    if source == "torchvision" and (word is None or word in _enum_names(model)):
        return _from_enum(model, word, offline, options)
    if source == "timm" and word is None:
        return _from_timm(model, offline, options)
    path = Path(str(word)).expanduser()
    if not path.is_file():
        raise CheckpointError(
            "there are no such weights",
            where=model,
            expected=", ".join(
                ["a file", UNTRAINED, *(_enum_names(model) if source == "torchvision" else ())]
            ),
            found=word,
        )
    return _from_file(model, path, options)


def default_preprocess(model: str, weights: str | Path | None) -> Preprocess:
    """What the weights were trained to see, from torchvision's or timm's own description of them.

    Of a file: what the torchvision weights with the digits in its name want; if there are none, what the
    network's first published weights want. Torchvision's second generation (resize 232) is rarer in files
    from elsewhere, and the packs' files score as published only by the first (256).
    """
    source = source_of(model)
    if source == "samesight":
        return SHIPPED[model].preprocess
    if source == "own file":
        return Preprocess(resize=(OWN_SIZE, OWN_SIZE), crop=None)
    if source == "timm":
        return _timm_preprocess(model)
    chosen = _enum_of(model, weights)
    preset = chosen.transforms()
    return Preprocess(
        resize=int(preset.resize_size[0]),
        crop=(int(preset.crop_size[0]), int(preset.crop_size[0])),
        interpolation=str(preset.interpolation.value),
        mean=_three(preset.mean),
        std=_three(preset.std),
    )


def _from_enum(model: str, name: str | None, offline: bool, options: Mapping[str, str]) -> Pretrained:
    chosen = _enum(model).DEFAULT if name is None else _enum(model)[name]
    file = cached_weights(chosen.url, offline=offline)
    labels = _labels(chosen)
    needed = dict(options)
    if model.startswith("vit_"):
        needed.setdefault("image_size", str(chosen.meta["min_size"][0]))
    network = create(model, len(labels or ()) or IMAGENET_CLASSES, options=needed)
    checkpoint = open_checkpoint(file)
    load_state(network, checkpoint.state, file)
    return Pretrained(
        network=network,
        preprocess=default_preprocess(model, chosen.name),
        weights=f"{chosen.name} {file.name} sha256:{checkpoint.sha256}",
        license=license_of(chosen),
        labels=labels,
        options=needed,
        notes=checkpoint.notes,
    )


def _from_file(model: str, path: Path, options: Mapping[str, str]) -> Pretrained:
    checkpoint = open_checkpoint(path)
    network = create(model, IMAGENET_CLASSES, options=options)
    classes = _classes_in(checkpoint.state, network)
    if classes not in (None, IMAGENET_CLASSES):
        network = create(model, int(classes or 0), options=options)
    load_state(network, checkpoint.state, path)
    license, labels = "unknown", None
    if source_of(model) == "torchvision":
        named = _enum_by_hash(model, path.name)
        if named is not None and checkpoint.sha256.startswith(_hash_in(named.url) or "-"):
            license, labels = license_of(named), _labels(named)
    return Pretrained(
        network=network,
        preprocess=default_preprocess(model, path),
        weights=f"{path.name} sha256:{checkpoint.sha256}",
        license=license,
        labels=labels,
        options=options,
        notes=checkpoint.notes,
    )


def _classes_in(state: Mapping[str, Tensor], network: nn.Module) -> int | None:
    """How many classes the weights were made for: the rows of the head's weight, by its name's end."""
    head = f"{head_layers(network)[-1]}.weight"
    inner = (tensor for name, tensor in state.items() if name.endswith(f".{head}"))
    weight = state[head] if head in state else next(inner, None)
    return None if weight is None or weight.ndim < 2 else int(weight.shape[0])


def _from_timm(model: str, offline: bool, options: Mapping[str, str]) -> Pretrained:
    """Weights from timm's hub, through its cache, put in by timm itself, which renames where it must."""
    from samesight.models.create import option_values

    file = timm_weights(model, offline=offline)
    timm = import_timm()
    name = model.removeprefix(TIMM_PREFIX)
    overlay = {"file": str(file.path)}
    own = {key: value for key, value in option_values(options).items() if key != OPTION}
    network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **own)
    if OPTION in options:
        network = fitted(network, options[OPTION])
    text = f"{file.name} sha256:{file.sha256}"
    return Pretrained(network, _timm_preprocess(model), text, file.license, None, options)


def _timm_preprocess(model: str) -> Preprocess:
    """What timm's `resolve_data_config` and its evaluation transform make of the network's description."""
    config = import_timm().get_pretrained_cfg(model.removeprefix(TIMM_PREFIX))
    if config is None:
        return Preprocess(resize=(OWN_SIZE, OWN_SIZE), crop=None)
    width, height = int(config.input_size[2]), int(config.input_size[1])
    squashed = config.crop_mode == "squash" or width != height
    return Preprocess(
        resize=(width, height) if squashed else int(width / config.crop_pct),
        crop=None if squashed else (width, height),
        interpolation=str(config.interpolation),
        mean=_three(config.mean),
        std=_three(config.std),
    )


def _enum(model: str) -> Any:
    import torchvision

    return torchvision.models.get_model_weights(model)


def _enum_names(model: str) -> list[str]:
    return [*(weights.name for weights in _enum(model)), "DEFAULT"]


def named_weights(model: str, weights: str | None) -> Any:
    """Torchvision's weights of that name for `model`; None: the recommended ones. Raises InputError."""
    if weights is not None and weights not in _enum_names(model):
        raise InputError(
            "there are no such weights", where=model, expected=", ".join(_enum_names(model)), found=weights
        )
    return _enum_of(model, weights)


def _enum_of(model: str, weights: str | Path | None) -> Any:
    """The torchvision weights that `weights` names, or whose preprocessing a file is given."""
    if weights is None:
        return _enum(model).DEFAULT
    if str(weights) in _enum_names(model):
        return _enum(model)[str(weights)]
    named = _enum_by_hash(model, Path(weights).name)
    return next(iter(_enum(model))) if named is None else named


def _enum_by_hash(model: str, file_name: str) -> Any:
    digits = _hash_in(file_name)
    return next((w for w in _enum(model) if digits and _hash_in(w.url) == digits), None)


def _labels(weights: Any) -> tuple[str, ...] | None:
    """The classes of the head; None for VGG-16's weights of features alone, whose head holds no numbers."""
    return tuple(map(str, weights.meta["categories"])) if weights.meta["categories"] else None


def _hash_in(name: str) -> str | None:
    found = re.search(r"-([0-9a-f]{8,})\.\w+$", name)
    return found[1] if found else None


def stated_license(weights: Any) -> str | None:
    """The licence that torchvision states for its `weights`: for Meta's SWAG only, None for all others."""
    return "CC-BY-NC-4.0" if weights.meta.get("license") else None


def license_of(weights: Any) -> str:
    """What is known of the licence of torchvision's `weights`, in a sentence."""
    if stated := stated_license(weights):
        return f"{stated} ({weights.meta['license']})"
    return "none stated by torchvision (its code: BSD-3-Clause); trained on ImageNet, whose own terms apply"


def _three(values: Iterable[float]) -> tuple[float, float, float]:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != 3:
        raise InputError("the network is not for RGB pictures", found=f"{len(numbers)} channels")
    return numbers[0], numbers[1], numbers[2]
