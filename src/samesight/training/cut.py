"""A network cut before its last block: what flows in there, and the rest of the network as a module.

While everything before the cut is frozen, what flows in is computed once, and only the rest learns from it.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from samesight.training.blocks import first_of_last_block

__all__ = ["BlockInput", "find_block_input"]

TOLERANCE = 1e-4  # of the largest logit: the rest alone against the whole network, rounding only


class _Reached(Exception):  # no error: the way out of a network's forward
    def __init__(self, values: Tensor) -> None:
        self.values = values


class BlockInput:
    """The way to what flows into the last block, and the network from there on."""

    def __init__(
        self, network: nn.Module, place: str, shape: tuple[int, ...] = (), share: float = 1.0
    ) -> None:
        self.network, self.place, self.shape = network, place, shape
        self.share = share  # of the network's multiply-accumulates, that are left to `rest`
        self.dtype = torch.float16  # half the bytes; rounding is far below what augmentation changes
        self.rest = _from(network, place)  # shares its parameters with the network

    def __call__(self, pictures: Tensor) -> Tensor:
        """What the last block is given for `pictures`: (n, *shape). Nothing after it is computed."""

        def leave(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            raise _Reached(inputs[0])

        hook = self.network.get_submodule(self.place).register_forward_pre_hook(leave)
        try:
            self.network(pictures)
        except _Reached as reached:
            return reached.values
        finally:
            hook.remove()
        raise RuntimeError(f"{self.place} was not reached")


def find_block_input(network: nn.Module, model: str, size: tuple[int, int]) -> BlockInput | None:
    """The input of the last block where the rest of the network needs nothing else; None otherwise.

    It needs more where something leads around the block, as a transformer's tokens do. Found out by running
    pictures of noise; `network` must be in evaluation mode. `size` is (width, height).
    """
    place = first_of_last_block(network, model)
    if place is None:
        return None
    if any(True for part in _around(network, place) for _ in part.parameters(recurse=False)):
        return None  # parameters beside the modules: on which side of the cut they work is not known
    parameter = next(network.parameters())
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 3, size[1], size[0], generator=random).to(parameter.device)
    candidate = BlockInput(network, place)
    with torch.no_grad():
        with FlopCounterMode(display=False) as whole:
            logits = network(noise)
        try:
            values = candidate(noise)
            with FlopCounterMode(display=False) as left:
                again = candidate.rest(values)
        except (RuntimeError, TypeError, ValueError, IndexError, AssertionError, AttributeError):
            return None  # what comes before the block is more than a chain of modules
    if not (isinstance(logits, Tensor) and isinstance(again, Tensor) and again.shape == logits.shape):
        return None
    if not values.is_floating_point() or (again - logits).abs().max() > TOLERANCE * logits.abs().max():
        return None
    share = left.get_total_flops() / max(1, whole.get_total_flops())
    return BlockInput(network, place, tuple(values.shape[1:]), share) if share < 1 else None


def _around(network: nn.Module, place: str) -> list[nn.Module]:
    """The modules that the one at `place` lies in, from the network on."""
    names = place.split(".")
    return [network.get_submodule(".".join(names[:depth])) for depth in range(len(names))]


def _from(network: nn.Module, place: str) -> nn.Module:
    """`network` from the module at `place` on: those registered before it pass on what they are given."""
    rest = copy.copy(network)
    name, _, inner = place.partition(".")
    modules: dict[str, nn.Module | None] = dict(network._modules)
    for child in modules:
        if child == name:
            break
        modules[child] = nn.Identity()
    if inner:
        modules[name] = _from(network.get_submodule(name), inner)
    rest.__dict__["_modules"] = modules
    return rest
