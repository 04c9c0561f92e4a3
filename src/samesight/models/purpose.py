"""A network made fit for a purpose: the option `for=secure` of any network, `--for secure` in training.

Under encryption sums cost nothing, products little and comparisons most. A ReLU is one comparison a number, a
ReLU6 two, a maximum of 3 × 3 about five, and a smooth activation has no exact form at all. The weights are
those of the network as it was, so it has to learn again: docs/secure.md tells what that costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from samesight.errors import InputError

__all__ = ["OPTION", "PURPOSES", "fitted"]

OPTION = "for"
PURPOSES = ("secure",)


def fitted(network: nn.Module, purpose: object) -> nn.Module:
    """`network`, changed in place for `purpose`. Raises InputError where there is no such purpose."""
    if purpose not in PURPOSES:
        raise InputError("a network can be made fit for", expected=" or ".join(PURPOSES), found=str(purpose))
    for name, module in list(network.named_modules()):
        change = _FOR_SECURE.get(type(module))
        if change is not None and name:
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, change(module))
    return network


def _relu(module: nn.Module) -> nn.Module:
    return nn.ReLU(inplace=bool(getattr(module, "inplace", False)))


def _gate(module: nn.Module) -> nn.Module:
    return nn.Hardsigmoid(inplace=bool(getattr(module, "inplace", False)))


def _average(module: Any) -> nn.Module:
    """The average of the same windows; where they are dilated, the maximum stays."""
    if module.dilation not in (1, (1, 1)):
        kept: nn.Module = module
        return kept
    return nn.AvgPool2d(
        module.kernel_size, module.stride, module.padding, module.ceil_mode, count_include_pad=False
    )


# By exact type: a subclass may do something else.
_FOR_SECURE: Mapping[type[nn.Module], Callable[[Any], nn.Module]] = {
    **dict.fromkeys((nn.ReLU6, nn.SiLU, nn.Hardswish, nn.GELU, nn.Mish, nn.ELU, nn.LeakyReLU), _relu),
    nn.Sigmoid: _gate,
    nn.MaxPool2d: _average,
}
