"""Networks by name: torchvision's classifiers, timm's, our own, the user's own. All untrained."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from samesight.errors import InputError, MissingExtra
from samesight.models.own import create_own, is_own
from samesight.models.purpose import OPTION, fitted
from samesight.models.shipped import SHIPPED

__all__ = ["create", "import_timm", "model_names", "near_names", "option_values", "outputs_of", "source_of"]

TIMM_PREFIX = "timm/"

# Torchvision's pretrained GoogLeNet and Inception v3 expect their input re-normalised by the network itself,
# and it sets this when it loads the weights. Auxiliary heads matter to training from scratch only.
SPECIAL_OPTIONS: dict[str, dict[str, object]] = {
    "googlenet": {"transform_input": True, "aux_logits": False, "init_weights": True},
    "inception_v3": {"transform_input": True, "aux_logits": False, "init_weights": True},
}


def model_names() -> list[str]:
    """The names that `create` knows without timm: ours, then torchvision's classifiers."""
    import torchvision

    return [*SHIPPED, *torchvision.models.list_models(module=torchvision.models)]


def source_of(model: str) -> str:
    """Where `model` comes from: "own file", "timm", "samesight" or "torchvision".

    Raises InputError, with the nearest names, where nobody knows it.
    """
    if is_own(model):
        return "own file"
    if model in SHIPPED:
        return "samesight"
    if model.startswith(TIMM_PREFIX):
        if import_timm().is_model(model.removeprefix(TIMM_PREFIX).split(".")[0]):
            return "timm"
    elif model in model_names():
        return "torchvision"
    raise InputError(
        f"there is no network named '{model}'",
        expected=f"a torchvision classifier, timm/NAME, {', '.join(SHIPPED)}, or path/to/file.py:Name",
        fix=" or ".join(f"--model {name}" for name in near_names(model)) or "--model mobilenet_v2",
    )


def near_names(model: str) -> list[str]:
    """Up to three names that `model` may have been meant to be."""
    if model.startswith(TIMM_PREFIX):
        name = model.removeprefix(TIMM_PREFIX)
        near = difflib.get_close_matches(name, import_timm().list_models(), n=3, cutoff=0.5)
        return [TIMM_PREFIX + other for other in near]
    simple = {name.replace("_", "").replace("-", ""): name for name in model_names()}
    near = difflib.get_close_matches(model.lower().replace("_", "").replace("-", ""), simple, n=3, cutoff=0.5)
    return [simple[name] for name in near]


def create(
    model: str,
    classes: int | None,
    *,
    options: Mapping[str, str] = {},
    size: tuple[int, int] | None = None,
) -> nn.Module:
    """An untrained network with `classes` outputs; None: as many as it has when nothing is said.

    `model`: a torchvision classifier's name, `timm/NAME`, one that ships with Samesight, or
    `path/to/file.py:Name`. `options` are words for its constructor, and `for=secure` (purpose.py). `size` is
    the (width, height) of the pictures, for the networks that are made for one size, where `options` do not
    give it: `pruned_resnet`, `landmark_cnn`, ViT. Raises InputError where the name or an option is wrong.
    """
    if classes is not None and classes < 1:
        raise InputError("a network needs at least one class", found=classes)
    source = source_of(model)
    if OPTION in options:
        others = {name: word for name, word in options.items() if name != OPTION}
        return fitted(create(model, classes, options=others, size=size), options[OPTION])
    values = option_values(options)
    if source == "own file":
        return create_own(model, classes, values)
    if classes is not None and "num_classes" in values:
        raise InputError("the labels say how many classes there are", found="--model-arg num_classes")
    values = {**_size_option(model, size), **values}
    if classes is not None:
        values["num_classes"] = classes
    try:
        if source == "samesight":
            return SHIPPED[model].make(**values)
        if source == "timm":
            name = model.removeprefix(TIMM_PREFIX)
            return import_timm().create_model(name, pretrained=False, **values)
        import torchvision

        given = {**SPECIAL_OPTIONS.get(model, {}), **values}
        return torchvision.models.get_model(model, weights=None, **given)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        if not options and size is None:
            raise
        for_size = f"for pictures of {size[0]}x{size[1]}" if size and not options else "with these options"
        raise InputError(
            f"{model} cannot be made {for_size}",
            found=f"{type(error).__name__}: {' '.join(str(error).split())}",
        ) from error


def _size_option(model: str, size: tuple[int, int] | None) -> dict[str, Any]:
    """The option that tells the network its pictures' size; none where it takes any, or nothing is known."""
    if size is None:
        return {}
    if model in SHIPPED:
        return {"size": size} if SHIPPED[model].has_size else {}
    return {"image_size": size[0]} if model.startswith("vit_") and size[0] == size[1] else {}


def option_values(options: Mapping[str, str]) -> dict[str, Any]:
    """The options as Python values: numbers, true/false, none, lists; anything else stays a word."""
    values: dict[str, Any] = {}
    for name, word in options.items():
        plain = {"true": "True", "false": "False", "none": "None"}.get(str(word).lower(), str(word))
        try:
            values[name] = ast.literal_eval(plain)
        except (ValueError, SyntaxError):
            values[name] = word
    return values


def import_timm() -> Any:
    """The package timm. Raises MissingExtra where it is not installed."""
    try:
        import timm
    except ImportError as error:
        raise MissingExtra("a network of timm", "timm") from error
    return timm


def outputs_of(network: nn.Module, size: tuple[int, int]) -> tuple[int, ...]:
    """The shape of what `network` gives for one black picture of (width, height) `size`, without the batch.

    Raises InputError where the network cannot take such a picture.
    """
    was_training = network.training
    network.eval()
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    try:
        with torch.inference_mode():
            out = network(torch.zeros(1, 3, size[1], size[0], device=device))
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise InputError(
            f"the network cannot take a picture of {size[0]}x{size[1]}",
            found=" ".join(str(error).split())[:300],
            fix="another --resize (and --crop)",
        ) from error
    finally:
        network.train(was_training)
    if not isinstance(out, torch.Tensor):
        raise InputError("the network gives no plain tensor of logits", found=type(out).__name__)
    return tuple(out.shape[1:])
