"""A network cut before its last block: what flows in there, and the rest of the network as a module.

While everything before the cut is frozen, what flows in is computed once, and only the rest learns from it.
The rest is the network with what comes before the cut passing on what it is given; where more than modules in
a chain come before, as a transformer's class token, it is what torch.fx finds to follow from the cut.
"""

from __future__ import annotations

import copy
import inspect

import torch
from torch import Tensor, fx, nn
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
        self,
        network: nn.Module,
        place: str,
        rest: nn.Module,
        shape: tuple[int, ...] = (),
        share: float = 1.0,
    ) -> None:
        self.network, self.place, self.shape = network, place, shape
        self.share = share  # of the network's multiply-accumulates, that are left to `rest`
        self.dtype = torch.float16  # half the bytes; rounding is far below what augmentation changes
        self.rest = rest  # shares its parameters with the network

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

    Found out by running pictures of noise; `network` must be in evaluation mode. `size` is (width, height).
    """
    place = first_of_last_block(network, model)
    if place is None:
        return None
    parameter = next(network.parameters())
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 3, size[1], size[0], generator=random).to(parameter.device)
    with torch.no_grad(), FlopCounterMode(display=False) as whole:
        logits = network(noise)
    if not isinstance(logits, Tensor):
        return None
    for rest_of in (_chained, _traced):
        try:
            candidate = BlockInput(network, place, rest_of(network, place))
            with torch.no_grad():
                values = candidate(noise)
                with FlopCounterMode(display=False) as left:
                    again = candidate.rest(values)
        except (RuntimeError, TypeError, ValueError, LookupError, AssertionError, AttributeError, NameError):
            continue  # this is not how the network goes on from there
        fits = isinstance(again, Tensor) and again.shape == logits.shape and values.is_floating_point()
        if fits and (again - logits).abs().max() <= TOLERANCE * logits.abs().max():
            share = left.get_total_flops() / max(1, whole.get_total_flops())
            shape = tuple(values.shape[1:])
            return BlockInput(network, place, candidate.rest, shape, share) if share < 1 else None
    return None


def _around(network: nn.Module, place: str) -> list[nn.Module]:
    """The modules that the one at `place` lies in, from the network on."""
    names = place.split(".")
    return [network.get_submodule(".".join(names[:depth])) for depth in range(len(names))]


def _chained(network: nn.Module, place: str) -> nn.Module:
    """`network` from the module at `place` on: those registered before it pass on what they are given.

    Raises ValueError where parameters lie beside the modules: on which side they work is not known.
    """
    if any(True for part in _around(network, place) for _ in part.parameters(recurse=False)):
        raise ValueError(place)
    rest = copy.copy(network)
    name, _, inner = place.partition(".")
    modules: dict[str, nn.Module | None] = dict(network._modules)
    for child in modules:
        if child == name:
            break
        modules[child] = nn.Identity()
    if inner:
        modules[name] = _chained(network.get_submodule(name), inner)
    rest.__dict__["_modules"] = modules
    return rest


class _Around(fx.Tracer):  # type: ignore[misc]
    """Looks into the modules that lie around `place` alone: all others keep their modes and their secrets."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = place

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is taken as it is."""
        return not self.place.startswith(f"{module_qualified_name}.")


def _traced(network: nn.Module, place: str) -> nn.Module:
    """What follows from the input of the module at `place`, in the modules around it as they now are.

    Raises ValueError where something else that the pictures lead to is needed too, and what torch.fx raises
    where a forward goes ways of its own.
    """
    asked = list(inspect.signature(network.forward).parameters.values())[1:]
    unasked = {
        one.name: one.default for one in asked if one.default is not one.empty
    }  # as a mask that is None
    graph = _Around(place).trace(network, concrete_args=unasked)
    cut = next((node for node in graph.nodes if node.op == "call_module" and node.target == place), None)
    if cut is None or not cut.args or not isinstance(cut.args[0], fx.Node):
        raise ValueError(place)
    flow = cut.args[0]
    with graph.inserting_before(next(iter(graph.nodes))):
        given = graph.placeholder("values")
    flow.replace_all_uses_with(given)
    for node in reversed(graph.nodes):
        if node.op not in ("placeholder", "output") and not node.users:
            graph.erase_node(node)
    for node in graph.find_nodes(op="placeholder"):
        if node is not given:
            if node.users:
                raise ValueError(place)
            graph.erase_node(node)
    return fx.GraphModule(network, graph)
