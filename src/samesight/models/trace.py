"""What a network does with a picture, step by step: each layer and function, and whose results it takes.

The network runs once, on real tensors or on the meta device, so any network that runs can be traced.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from samesight.models.words import THROUGH, function_words, is_one_layer, module_words

__all__ = ["Place", "Step", "trace"]

PICTURE = 0  # the step that stands for the picture itself


@dataclass(frozen=True)
class Place:
    """One call of a module that has others inside."""

    call: int
    name: str
    kind: str
    parameters: int
    plain: bool  # a Sequential and the like: its kind says nothing


@dataclass(frozen=True)
class Step:
    """One layer or function, where it stands, and which steps' results it takes."""

    id: int
    words: str
    role: str  # see samesight.models.words
    places: tuple[Place, ...]  # from the outermost inwards, without the network itself
    inputs: tuple[int, ...]
    shape: tuple[int, ...]


def trace(network: nn.Module, size: tuple[int, int]) -> list[Step]:
    """The steps of `network` for one picture of (width, height) `size`, in order, the picture first."""
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    picture = torch.zeros(1, 3, size[1], size[0], device=device)
    tracer = _Tracer(network, picture)
    was_training = network.training
    with ExitStack() as stack:
        stack.callback(network.train, was_training)
        for name, module in network.named_modules():
            stack.callback(module.register_forward_pre_hook(tracer.enter(name)).remove)
            stack.callback(module.register_forward_hook(tracer.leave, with_kwargs=True).remove)
        network.eval()
        with torch.no_grad(), tracer:
            out = network(picture)
    last = tracer.made.get(id(out), tracer.steps[-1].id)
    return [step for step in tracer.steps if step.id <= last]


class _Tracer(TorchFunctionMode):  # type: ignore[misc]  # torch is not typed for mypy here
    def __init__(self, network: nn.Module, picture: Tensor) -> None:
        super().__init__()
        self.network = network
        self.counter = itertools.count(1)
        self.places: list[Place] = []
        self.inside = 0  # how many layers deep; what one does within is its own affair
        self.made: dict[int, int] = {id(picture): PICTURE}
        self.kept: list[Any] = [picture]  # so that no id is given twice
        self.own = {id(p): name.rpartition(".")[2] for name, p in network.named_parameters()}
        shape = tuple(picture.shape[1:])
        self.steps = [Step(PICTURE, "picture", "end", (), (), shape)]

    def enter(self, name: str) -> Any:
        """The hook that runs before the module `name`."""

        def hook(module: nn.Module, _: Any) -> None:
            if self.inside or is_one_layer(module):
                self.inside += 1
            elif module is not self.network:
                parameters = sum(p.numel() for p in module.parameters())
                plain = type(module) in (nn.Sequential, nn.ModuleList, nn.ModuleDict)
                place = Place(next(self.counter), name, type(module).__name__, parameters, plain)
                self.places.append(place)

        return hook

    def leave(self, module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        """The hook that runs after each module."""
        if self.inside:
            self.inside -= 1
            if not self.inside:
                words, role = module_words(module)
                self._add(words, role, list(_tensors((args, kwargs))), out)
        elif module is not self.network:
            self.places.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if self.inside or not any(True for _ in _tensors(out)):
            return out
        given = list(_tensors((args, kwargs)))
        name = (resolve_name(func) or getattr(func, "__name__", "")).rpartition(".")[2]
        if any(id(tensor) in self.made for tensor in given):
            constant = next((self.own[id(t)] for t in given if id(t) in self.own), "")
            sources = {self.made[id(tensor)] for tensor in given if id(tensor) in self.made}
            words, role = function_words(name, constant, len(sources), args, kwargs)
            self._add(words, role, given, out)
        else:  # made of parameters alone: remembered under its parameter's name
            names = [self.own[id(tensor)] for tensor in given if id(tensor) in self.own]
            for tensor in _tensors(out) if names else ():
                self.own.setdefault(id(tensor), names[0])
                self.kept.append(tensor)
        return out

    def _add(self, words: str, role: str, given: list[Tensor], out: Any) -> None:
        inputs = tuple(dict.fromkeys(self.made[id(tensor)] for tensor in given if id(tensor) in self.made))
        results = list(_tensors(out))
        if not inputs or not results:
            return
        if role == THROUGH:
            step = inputs[0]
        else:
            step = next(self.counter)
            shape = tuple(results[0].shape[1:])
            self.steps.append(Step(step, words, role, tuple(self.places), inputs, shape))
        for tensor in results:
            self.made[id(tensor)] = step
            self.kept.append(tensor)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in arguments or results, however they are nested."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
