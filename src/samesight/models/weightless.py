"""Networks whose shapes are computed and whose numbers are not: on PyTorch's meta device, without memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from samesight.errors import InputError

__all__ = ["without_weights"]

T = TypeVar("T")


def without_weights(make: Callable[[], nn.Module], use: Callable[[nn.Module], T]) -> T:
    """What `use` gives for the network of `make`, made without its weights where that can be done.

    A network of the user's own may look at its numbers while it is made or run. It is then made as usual, and
    what goes wrong with it is told from there.
    """
    try:
        with _NoWeights():
            network = make()
        return use(network.to("meta"))
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError, InputError):
        return use(make())


class _NoWeights(TorchFunctionMode):  # type: ignore[misc]  # torch is not typed for mypy here
    """What `torch.empty` makes, so what layers keep their weights in, is on the meta device.

    `torch.device("meta")` would do the same to all tensors, and RegNet reads its widths from some.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)
