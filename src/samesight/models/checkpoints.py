"""Weights from files, read without running any code that they may hold, and put into a network.

A checkpoint is a state dict (tensor names → tensors), or a mapping that holds one under a key of `NESTED`.
It is read by `torch.load(weights_only=True)`, in the zip form and the older pickle form, or as safetensors.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from samesight.errors import CheckpointError, MissingExtra
from samesight.files import sha256_file

__all__ = ["Checkpoint", "load_state", "open_checkpoint", "read_checkpoint"]

# Where training programs keep the network, averaged weights first, since those are what they report: timm
# `state_dict_ema`; torchvision's references `model_ema` and `model`; Lightning and many others `state_dict`.
NESTED = (
    "state_dict_ema", "model_ema", "ema_state_dict", "ema",
    "state_dict", "model_state_dict", "model_state", "model", "network", "net", "weights", "params",
)  # fmt: skip
PREFIXES = ("module.", "_orig_mod.")  # what DataParallel, AveragedModel and torch.compile put in front
# Names that torchvision's published files still have and its networks no longer: DenseNet's, ViT's.
RENAMED = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3."),
)
AVERAGED = re.compile(r"(?:^|[._])(?:ema|swa|averaged?)(?:[._]|$)", re.IGNORECASE)  # in a name's beginning
SHOWN = 4  # how many tensors a message names

# Kinds that training programs keep beside the weights and that run nothing when they are made.
HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    np.ndarray,
    *(np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType, np.dtypes.Int32DType),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    np.float64(0).__reduce__()[0],
    np.zeros(1).__reduce__()[0],
]


@dataclass(frozen=True)
class Checkpoint:
    """The weights in a file: plain names, float32, on the CPU; and what had to be done to them."""

    path: Path
    state: dict[str, Tensor]
    sha256: str
    notes: tuple[str, ...]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The state dict in `path`, as `open_checkpoint` gives it."""
    return open_checkpoint(path).state


def open_checkpoint(path: Path) -> Checkpoint:
    """The weights in `path`.

    Raises CheckpointError where there is no such file, where it is cut off or of another kind, where it would
    have to run code, or where no weights are in it.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError("there is no such file of weights", where=path)
    loaded = _load(path)
    notes: list[str] = []
    state, key = _find_state(loaded, path)
    if key:
        notes.append(f"the weights under '{key}' were taken")
    state = _plain_names(state)
    other = sorted({str(t.dtype) for t in state.values() if t.is_floating_point()} - {"torch.float32"})
    if other:
        notes.append(f"{', '.join(other).replace('torch.', '')} weights were widened or cut to float32")
    state = {
        name: (tensor.float() if tensor.is_floating_point() else tensor) for name, tensor in state.items()
    }
    sha256 = sha256_file(path)
    if mismatch := _hash_mismatch(path, sha256):
        notes.append(mismatch)
    return Checkpoint(path, state, sha256, tuple(notes))


def load_state(network: nn.Module, state: Mapping[str, Tensor], where: object) -> None:
    """Put `state` into `network`, every tensor of it.

    Heads that the network has switched off (GoogLeNet's auxiliary ones) and missing BatchNorm counters are
    passed over. Raises one CheckpointError that names the first tensors that do not fit; the network is then
    as it was.
    """
    own = network.state_dict()
    given = _matching_names(_present_names(state, own), own, where)
    given = {name: tensor for name, tensor in given.items() if not _is_switched_off(network, name)}
    missing = [name for name in own if name not in given and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in given if name not in own]
    misshapen = [
        f"{name} is {_shape(given[name])}, the network's {_shape(own[name])}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    if missing or unexpected or misshapen:
        parts = [_some("misshapen", misshapen), _some("missing", missing), _some("unexpected", unexpected)]
        raise CheckpointError(
            "the weights do not fit the network",
            where=where,
            expected=f"{len(own)} tensors of {type(network).__name__}",
            found=f"{len(given)} tensors; " + "; ".join(part for part in parts if part),
            fix=_advice(len(own), misshapen, missing, unexpected),
        )
    fitting = OrderedDict(given)
    # Without the versions of its modules MNASNet refuses a state, and names and shapes are today's by now.
    fitting._metadata = getattr(own, "_metadata", None)  # type: ignore[attr-defined]
    network.load_state_dict(fitting, strict=False)


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(HARMLESS):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch raises some ten kinds, KeyError and EOFError among them
        _explain(path, error)


def _load_safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingExtra("reading a .safetensors file", "timm") from error
    try:
        return load_file(path, device="cpu")
    except SafetensorError as error:
        raise CheckpointError("the file of weights is broken", where=path, found=error) from error


def _explain(path: Path, error: Exception) -> NoReturn:
    """Raise the one error that says why `path` cannot be read as weights."""
    said = " ".join(str(error).split())
    hint = "save only the weights: torch.save(network.state_dict(), 'weights.pth')"
    if "TorchScript" in said:
        raise CheckpointError("this is a TorchScript program, not weights", where=path, fix=hint) from error
    named = re.search(r"(?:Unsupported global: GLOBAL|unsupported GLOBAL) ([\w.]+)", said)
    if named:
        is_network = named[1].startswith(("torch.nn.", "torchvision.", "timm.", "__main__."))
        what = (
            "this is a whole pickled network, and reading one would run code out of the file"
            if is_network
            else "reading this file would run code out of it, so it was refused"
        )
        found = f"it names {named[1]}"
        raise CheckpointError(what, where=path, expected="a state dict", found=found, fix=hint) from error
    size = path.stat().st_size
    found = f"{size:,} bytes"
    if mismatch := _hash_mismatch(path, sha256_file(path)):
        found += f"; {mismatch}"
    with path.open("rb") as stream:
        start = stream.read(64)
    if _is_checkpoint_start(start):
        raise CheckpointError(
            "the file of weights is truncated or broken", where=path, found=found, fix="fetch it again"
        ) from error
    kind = "a web page" if start.lstrip()[:1] == b"<" else "something else"
    raise CheckpointError(
        "this is not a file of weights",
        where=path,
        expected="a .pth file of torch.save, or .safetensors",
        found=f"{kind}, {found}",
    ) from error


def _is_checkpoint_start(start: bytes) -> bool:
    """Whether a file begins as torch.save writes: a zip, or a pickle of protocol 2 and later."""
    return start[:2] == b"PK" or start[:1] == b"\x80"


def _hash_mismatch(path: Path, sha256: str) -> str | None:
    """What to say where a SHA-256's start in the name (`resnet18-f37072fd.pth`) is not the file's."""
    named = re.search(r"-([0-9a-f]{8,64})\.\w+$", path.name)
    if named is None or sha256.startswith(named[1]):
        return None
    return f"its SHA-256 begins with {sha256[:8]}, not with the {named[1]} in its name"


def _find_state(loaded: Any, path: Path) -> tuple[dict[str, Tensor], str]:
    """The state dict in what a file held, and the keys that lead to it, joined by '.'.

    Tensors that lie beside a state dict, as the best accuracy or a generator's state, are no weights.
    """
    keys: list[str] = []
    while isinstance(loaded, Mapping) and (key := _inner_key(loaded)) is not None:
        keys.append(key)
        loaded = loaded[key]
    if isinstance(loaded, Mapping):
        state = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
        if state:
            return state, ".".join(keys)
    found = (
        "keys " + ", ".join(map(str, list(loaded)[:8]))
        if isinstance(loaded, Mapping)
        else f"a {type(loaded).__name__}"
    )
    raise CheckpointError(
        "no weights were found in the file",
        where=path,
        expected=f"a state dict, or one under {', '.join(NESTED)}",
        found=found,
    )


def _inner_key(loaded: Mapping[Any, Any]) -> str | None:
    """The key of the mapping with weights inside `loaded`: a usual one, or the only one that there is."""
    usual = (key for key in NESTED if _holds_tensors(loaded.get(key)))
    if (key := next(usual, None)) is not None:
        return key
    named = [key for key, value in loaded.items() if isinstance(key, str) and _is_state(value)]
    beside = sum(isinstance(value, Tensor) for value in loaded.values())
    return named[0] if len(named) == 1 and len(loaded[named[0]]) > beside else None


def _is_state(value: Any) -> bool:
    """Whether a value is names → tensors."""
    return isinstance(value, Mapping) and any(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
    )


def _holds_tensors(value: Any) -> bool:
    """Whether there is a tensor anywhere in nested mappings."""
    return isinstance(value, Mapping) and any(
        isinstance(inner, Tensor) or _holds_tensors(inner) for inner in value.values()
    )


def _plain_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` without the prefixes that wrappers put in front of every name."""
    while True:
        names = [name for name in state if name != "n_averaged"]  # AveragedModel's own counter
        prefix = next((p for p in PREFIXES if names and all(name.startswith(p) for name in names)), None)
        if prefix is None:
            return state
        state = {name.removeprefix(prefix): state[name] for name in names}


def _present_names(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the names of RENAMED as the network has them now; its own names are never changed."""
    found = dict(state)
    for old, new in RENAMED:
        if not any(old.search(name) for name in own):
            found = {old.sub(new, name): tensor for name, tensor in found.items()}
    return found


def _matching_names(given: dict[str, Tensor], own: Mapping[str, Tensor], where: object) -> dict[str, Tensor]:
    """`given`, without the name in front (Lightning's `model.`) where it fits only that way.

    Beside a network of that name others may lie, as a loss with weights. Averaged weights are taken first; of
    several networks that fit otherwise, nobody knows which is meant, and CheckpointError is raised.
    """
    wanted = [name for name in own if not name.endswith("num_batches_tracked")]
    if set(given) & set(own) or not wanted:
        return given
    ends = [name[: -len(wanted[0])] for name in given if name.endswith(f".{wanted[0]}")]
    fits = [start for start in sorted(ends) if all(start + name in given for name in wanted)]
    if len(fits) > 1:
        fits = [start for start in fits if AVERAGED.search(start)] or fits
    if len(fits) > 1:
        raise CheckpointError(
            "the file holds several networks that fit",
            where=where,
            expected="one of them",
            found="names that begin with " + ", ".join(fits[:SHOWN]),
            fix="save the one that is meant: torch.save(network.state_dict(), 'weights.pth')",
        )
    if not fits and len({name.partition(".")[0] for name in given}) == 1:
        fits = [next(iter(given)).partition(".")[0] + "."]  # so that a message names what does not fit
        if not {name.removeprefix(fits[0]) for name in given} & set(own):
            return given
    if not fits:
        return given
    return {name.removeprefix(fits[0]): tensor for name, tensor in given.items() if name.startswith(fits[0])}


def _is_switched_off(network: nn.Module, name: str) -> bool:
    """Whether `name` belongs to a part that the network could have and has set to None."""
    return getattr(network, name.partition(".")[0], network) is None


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _some(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {what}: " + ", ".join(names[:SHOWN]) + more


def _advice(count: int, misshapen: list[str], missing: list[str], unexpected: list[str]) -> str:
    if misshapen and len(misshapen) <= 2 and not missing and not unexpected:
        return "only the head differs: give as many labels as these weights have classes"
    if len(missing) > count // 2:
        return "the --model that these weights were made with"
    return "the --model, and its --model-arg options, that these weights were made with"
