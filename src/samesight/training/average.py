"""Averaged weights: an exponential moving average that looks back over a share of the steps there are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from samesight.training.config import AVERAGE_SHARE

__all__ = ["Average"]


class Average:
    """The moving average of a network's parameters over its steps, beside the network.

    The decay is 1 - 1 / (a tenth of the phase's steps), so that short runs are averaged over little and
    long ones over much; in the first steps it is (1 + n) / (10 + n), as TensorFlow's
    `ExponentialMovingAverage(num_updates)` has it, so that where training started from is soon forgotten.
    Buffers (BatchNorm's statistics) are the network's own.
    """

    def __init__(self, network: nn.Module, steps: int, values: Mapping[str, Tensor] | None = None) -> None:
        self.network = network
        self.decay = max(0.0, 1 - 1 / max(1.0, AVERAGE_SHARE * steps))
        learnt = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._learnt = learnt
        with torch.no_grad():
            given = values or {}
            self.values = {
                name: (given[name].to(p.device) if name in given else p.detach()).clone()
                for name, p in learnt.items()
            }

    def update(self, step: int) -> None:
        """Take in the parameters after `step` (from 0) of the phase."""
        decay = min(self.decay, (1 + step) / (10 + step))
        new = [parameter.detach() for parameter in self._learnt.values()]
        torch._foreach_lerp_(list(self.values.values()), new, 1 - decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the network has the averaged parameters."""
        with torch.no_grad():
            own = {name: p.detach().clone() for name, p in self._learnt.items()}
            self._put(self.values)
        try:
            yield
        finally:
            with torch.no_grad():
                self._put(own)

    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self._learnt.items():
            parameter.copy_(values[name])
