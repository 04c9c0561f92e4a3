"""What the head sees, computed once: with a frozen backbone each epoch would compute it again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from samesight.models import head_layers

__all__ = ["HeadInput", "features_of", "find_head_input", "mixed"]

LIMIT_BYTES = 512 << 20
TOLERANCE = 1e-4  # the head alone against the whole network: rounding only


class HeadInput:
    """A network's head, and the way to what goes into it."""

    def __init__(self, network: nn.Module, head: nn.Module, width: int) -> None:
        self.network, self.head, self.width = network, head, width

    def __call__(self, pictures: Tensor) -> Tensor:
        """The features (n, width) that the head is given for `pictures`."""
        seen: list[Tensor] = []
        hook = self.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            self.network(pictures)
        finally:
            hook.remove()
        return seen[0]


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


def features_of(source: HeadInput, pictures: Iterator[tuple[Tensor, Tensor]], device: torch.device) -> Tensor:
    """The features (n, width) float32 on the CPU of all `pictures`, in their order."""
    with torch.inference_mode():
        rows = [source(batch.to(device)).cpu() for batch, _ in pictures]
    return torch.cat(rows).clone() if rows else torch.empty(0, source.width)


def mixed(
    views: Sequence[Tensor], targets: Sequence[int], order: Sequence[Sequence[int]], random: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of features and targets by the indices of `order`, each photo by one of its views at random."""
    together = torch.stack(list(views))
    wanted = torch.tensor(targets)
    for indices in order:
        places = torch.tensor(indices)
        chosen = torch.randint(len(views), (len(indices),), generator=random)
        yield together[chosen, places], wanted[places]
