"""A network's layers: shapes, parameters and multiply-accumulates, found by sending a picture through it.

Multiply-accumulates (MACs) are counted as the field counts them, and as torchvision does for what it calls
GFLOPS: those of convolutions, Linear layers and the matrix products of attention; not biases, normalisation,
activations, pooling or additions, which are about one in a hundred more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from samesight.models.create import outputs_of

__all__ = ["Layer", "Summary", "fold", "summarise"]


@dataclass(frozen=True)
class Layer:
    """One layer, at its first call. `macs` are of all its calls; parameters that layers share count once."""

    name: str  # as in the state dict; "" for what belongs to the network itself
    kind: str
    output: tuple[int, ...] | None  # without the batch; None where it gives no tensor
    parameters: int
    macs: int
    calls: int


@dataclass(frozen=True)
class Summary:
    """A network's layers in the order in which they are called, and what they amount to for one picture."""

    layers: tuple[Layer, ...]
    size: tuple[int, int]  # of the picture: width, height
    outputs: tuple[int, ...]
    parameters: int
    macs: int
    size_bytes: int  # of the state dict's tensors
    modules: Mapping[str, tuple[str, tuple[int, ...] | None]]  # name → kind, output; of all called


def summarise(network: nn.Module, size: tuple[int, int]) -> Summary:
    """The layers of `network` for one picture of (width, height) `size`.

    Raises InputError where the network cannot take such a picture.
    """
    outputs = outputs_of(network, size)
    with _watched(network) as seen:
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        network(torch.zeros(1, 3, size[1], size[0], device=device))
    layers = tuple(_layers(network, seen))
    return Summary(
        layers=layers,
        size=size,
        outputs=outputs,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        macs=sum(layer.macs for layer in layers),
        size_bytes=sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values()),
        modules={
            name: (type(module).__name__, seen.outputs[module])
            for name, module in network.named_modules()
            if module in seen.calls
        },
    )


def fold(summary: Summary, depth: int) -> tuple[Layer, ...]:
    """The layers of `summary`, those below `depth` parts of a name put together as one."""
    folded: dict[str, Layer] = {}
    for layer in summary.layers:
        name = ".".join(layer.name.split(".")[:depth])
        if name == layer.name and name not in folded:
            folded[name] = layer
            continue
        kind, output = summary.modules.get(name, ("", layer.output))
        before = folded.get(name, Layer(name, kind, output, 0, 0, 1))
        parameters, macs = before.parameters + layer.parameters, before.macs + layer.macs
        folded[name] = replace(before, kind=kind, output=output, parameters=parameters, macs=macs)
    return tuple(folded.values())


@dataclass
class _Seen:
    """What a network did with a picture."""

    stack: list[nn.Module]
    calls: Counter[nn.Module]
    parents: set[nn.Module]  # that call others
    outputs: dict[nn.Module, tuple[int, ...] | None]
    macs: Counter[nn.Module]  # of a module's own, not of those that it calls


class _CountMacs(TorchDispatchMode):  # type: ignore[misc]
    """Adds each operation's multiply-accumulates to the module that is running."""

    def __init__(self, seen: _Seen) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:  # an operation that is made of others is counted as those
                out = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if out is NotImplemented else out
        out = func(*args, **kwargs)
        if self.seen.stack:
            self.seen.macs[self.seen.stack[-1]] += formula(*args, **kwargs, out_val=out) // 2
        return out


@contextmanager
def _watched(network: nn.Module) -> Iterator[_Seen]:
    """What `network` does while the block runs; it is in evaluation mode meanwhile."""
    seen = _Seen([], Counter(), set(), {}, Counter())

    def enter(module: nn.Module, _: Any) -> None:
        if seen.stack:
            seen.parents.add(seen.stack[-1])
        seen.stack.append(module)
        seen.calls[module] += 1

    def leave(module: nn.Module, _: Any, out: Any) -> None:
        seen.stack.pop()
        first = out[0] if isinstance(out, tuple | list) and out else out
        seen.outputs.setdefault(module, tuple(first.shape[1:]) if isinstance(first, Tensor) else None)

    was_training, fast = network.training, torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.callback(network.train, was_training)
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
        for module in network.modules():
            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        network.eval()
        torch.backends.mha.set_fastpath_enabled(False)  # one operation for all of attention: not countable
        with torch.no_grad(), _CountMacs(seen):
            yield seen


def _layers(network: nn.Module, seen: _Seen) -> Iterator[Layer]:
    """The modules that call no other, and those that have parameters or products of their own besides."""
    names = {module: name for name, module in network.named_modules()}
    by_name = {name: module for module, name in names.items()}
    parameters: Counter[nn.Module] = Counter()
    for name, parameter in network.named_parameters():
        owner = name.rpartition(".")[0]
        while by_name.get(owner) not in seen.calls and owner:
            owner = owner.rpartition(".")[0]
        parameters[by_name[owner]] += parameter.numel()
    for module, calls in seen.calls.items():  # in the order of the first call
        if module not in seen.parents or parameters[module] or seen.macs[module]:
            kind = type(module).__name__
            yield Layer(
                names[module], kind, seen.outputs[module], parameters[module], seen.macs[module], calls
            )
