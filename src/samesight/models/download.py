"""Pretrained weights through the caches that torchvision and timm keep, so that nothing is fetched twice."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

import torch

from samesight.errors import CheckpointError
from samesight.files import sha256_file
from samesight.models.create import TIMM_PREFIX, import_timm
from samesight.progress import say

__all__ = ["HubFile", "cached_weights", "timm_weights"]

TIMM_FILES = ("model.safetensors", "pytorch_model.bin")  # in timm's order of preference


@dataclass(frozen=True)
class HubFile:
    """A file of weights from timm's hub."""

    name: str  # hub repository and file
    path: Path
    sha256: str
    license: str


def cached_weights(url: str, *, offline: bool) -> Path:
    """The file of `url` in torch.hub's cache, fetched first if need be and allowed, its hash checked.

    Raises CheckpointError, naming file and cache, where it is not there and cannot be fetched.
    """
    name = PurePosixPath(urlparse(url).path).name
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / name
    if path.is_file():
        return path
    if offline:
        raise _not_here(name, folder, "it is not in the cache, and --offline forbids to fetch it")
    folder.mkdir(parents=True, exist_ok=True)
    digits = torch.hub.HASH_REGEX.search(name)
    say(f"fetching the pretrained weights {name}")
    try:
        torch.hub.download_url_to_file(
            url, str(path), hash_prefix=digits[1] if digits else None, progress=sys.stderr.isatty()
        )
    except (OSError, RuntimeError) as error:  # urllib's errors are OSErrors; a wrong hash is a RuntimeError
        raise _not_here(name, folder, f"{type(error).__name__}: {error}") from error
    return path


def timm_weights(model: str, *, offline: bool) -> HubFile:
    """The file of timm's weights for `model`, from the hub's cache, fetched first if need be and allowed.

    Raises CheckpointError where there are none, or they cannot be fetched.
    """
    config = import_timm().get_pretrained_cfg(model.removeprefix(TIMM_PREFIX))
    if config is None or not config.hf_hub_id:
        raise CheckpointError("timm has no weights for this network", where=model, fix="--weights none")
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE

    reason: object = "it is not in the cache, and --offline forbids to fetch it"
    for name in TIMM_FILES:
        found = try_to_load_from_cache(config.hf_hub_id, name)
        if not isinstance(found, str) and not offline:
            try:
                found = hf_hub_download(config.hf_hub_id, name)
            except Exception as error:  # the hub's client and what lies under it raise many kinds
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if isinstance(found, str):
            path = Path(found)
            license = str(config.license or "unknown")
            return HubFile(f"{config.hf_hub_id}/{name}", path, sha256_file(path), license)
    raise _not_here(f"{config.hf_hub_id}/{TIMM_FILES[0]}", Path(HF_HUB_CACHE), reason)


def _not_here(name: str, folder: Path, reason: object) -> CheckpointError:
    return CheckpointError(
        "the pretrained weights could not be had",
        where=folder,
        expected=name,
        found=reason,
        fix="--weights FILE with a copy of that file, or --weights none to train from scratch",
    )
