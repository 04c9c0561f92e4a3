"""What a frozen part of the network gives, computed once: each epoch would compute it again."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from samesight.files import cache_folder, write_file
from samesight.models import head_layers
from samesight.training.cut import BlockInput
from samesight.training.parallel import ALONE, Ranks

__all__ = ["HeadInput", "Source", "backbone_hash", "features_of", "find_head_input", "kept_features", "mixed"]

LIMIT_BYTES = 512 << 20  # of one run's features
KEPT_BYTES = 2 << 30  # of all features in the cache; the longest unused go first
TOLERANCE = 1e-4  # the head alone against the whole network: rounding only


class HeadInput:
    """A network's head, and the way to what goes into it."""

    def __init__(self, network: nn.Module, head: nn.Module, width: int) -> None:
        self.network, self.head, self.width = network, head, width
        self.shape, self.dtype = (width,), torch.float32

    @property
    def rest(self) -> nn.Module:
        """What comes after the features."""
        return self.head

    def __call__(self, pictures: Tensor) -> Tensor:
        """The features (n, width) that the head is given for `pictures`."""
        seen: list[Tensor] = []
        hook = self.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            self.network(pictures)
        finally:
            hook.remove()
        return seen[0]


Source = HeadInput | BlockInput
"""The way to what some later part of the network is given, its shape, and the type that it is kept in."""


def find_head_input(network: nn.Module, size: tuple[int, int]) -> HeadInput | None:
    """The head's input where the head's output is the network's output; None otherwise.

    It is not where something follows the head, as SqueezeNet's pooling does. Found out by running pictures of
    noise; `network` must be in evaluation mode. `size` is (width, height).
    """
    names = head_layers(network)
    head = network.get_submodule(names[0])
    if len(names) != 1 or not isinstance(head, nn.Linear):
        return None
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 3, size[1], size[0], generator=random).to(head.weight.device)
    candidate = HeadInput(network, head, head.in_features)
    with torch.inference_mode():
        logits = network(noise)
        features = candidate(noise)
        if features.ndim != 2 or not isinstance(logits, Tensor):
            return None
        again = head(features)
    same = again.shape == logits.shape and torch.allclose(again, logits, rtol=TOLERANCE, atol=TOLERANCE)
    return candidate if same else None


def features_of(
    source: Source, pictures: Iterator[tuple[Tensor, Tensor]], count: int, device: torch.device
) -> Tensor:
    """The features (count, *shape) of all `pictures`, in their order, on the CPU in the source's type."""
    features = torch.empty(count, *source.shape, dtype=source.dtype)
    largest, done = torch.finfo(source.dtype).max, 0
    with torch.inference_mode():
        for batch, _ in pictures:
            rows = source(batch.to(device)).clamp(-largest, largest)
            features[done : done + len(rows)] = rows.cpu()
            done += len(rows)
    return features


def backbone_hash(source: Source) -> str:
    """The SHA-256 of everything that the features follow from, and of the version of torch that runs it."""
    digest = hashlib.sha256(torch.__version__.encode())
    later = {id(tensor) for tensor in source.rest.state_dict(keep_vars=True).values()}
    for name, tensor in source.network.state_dict(keep_vars=True).items():
        if id(tensor) not in later:
            digest.update(f"\n{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


def kept_features(ranks: Ranks, key: str | None, compute: Callable[[], Tensor]) -> Tensor:
    """The features (n, *shape) that are kept on disk under `key`, else computed and kept.

    `key` names all that they follow from; None where that is not known, and nothing is kept.
    """
    if key is None:
        return compute()
    file = cache_folder() / "features" / f"{key}.npy"
    held = _read(file) if ranks.is_first else None
    held = ranks.given(held)
    if held is not None:
        return held
    features = compute()
    if ranks.is_first:
        stream = io.BytesIO()
        np.save(stream, features.numpy(), allow_pickle=False)
        with contextlib.suppress(OSError):  # a cache that cannot be written is no reason to stop
            write_file(file, stream.getvalue())
            _forget_oldest(file.parent)
    return features


def _read(file: Path) -> Tensor | None:
    try:
        values = np.load(file, allow_pickle=False)
        os.utime(file)
    except (OSError, ValueError, EOFError):
        return None
    return torch.from_numpy(values)


def _forget_oldest(folder: Path) -> None:
    files = sorted(folder.glob("*.npy"), key=lambda file: file.stat().st_mtime, reverse=True)
    total = 0
    for file in files:
        total += file.stat().st_size
        if total > KEPT_BYTES:
            file.unlink(missing_ok=True)


def mixed(
    views: Sequence[Tensor],
    targets: Sequence[int],
    order: Sequence[Sequence[int]],
    random: torch.Generator,
    ranks: Ranks = ALONE,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of features, float32, and targets by the indices of `order`, each photo by one of its views.

    Which one is drawn from `random`. Of several processes each gets its share of every batch.
    """
    for indices in order:
        chosen = torch.randint(len(views), (len(indices),), generator=random).tolist()
        mine = ranks.share(list(zip(chosen, indices, strict=True)))
        rows = torch.stack([views[view][index] for view, index in mine]).float()
        yield rows, torch.tensor([targets[index] for _, index in mine])
