"""What a layer or a function is called in a picture of a network, and what it is there for.

Roles: "conv", "linear", "attention" and "pool" work on pixels or features; "norm", "activation" and "tail"
(dropout, flatten) belong to the step before them; "add", "multiply" and "concat" join branches; "other" is
whatever else there is; "through" changes nothing that a picture would show.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

__all__ = ["JOINS", "THROUGH", "function_words", "is_one_layer", "module_words"]

THROUGH = "through"
JOINS = ("add", "multiply", "concat")

# Parts that are drawn as one box, whoever wrote them: what is inside them is no help to a reader.
ONE_BOX = {
    "attention": ("Attention", "attention"),
    "squeezeexcit": ("Squeeze-and-excite", "other"),
    "semodule": ("Squeeze-and-excite", "other"),
}
NORMS = {
    "BatchNorm2d": "BN",
    "LayerNorm": "LN",
    "LayerNorm2d": "LN",
    "GroupNorm": "GN",
    "LocalResponseNorm": "LRN",
}
IDENTITIES = ("Identity", "StochasticDepth", "DropPath", "Permute")
ACTIVATIONS = {"Hardswish": "h-swish", "Hardsigmoid": "h-sigmoid"}

# Functions on tensors, by name without leading and trailing underscores.
FUNCTIONS = {
    **dict.fromkeys(("add", "iadd", "radd"), ("+", "add")),
    **dict.fromkeys(("mul", "imul", "rmul"), ("×", "multiply")),
    **dict.fromkeys(("cat", "concat", "concatenate"), ("concat", "concat")),
    **dict.fromkeys(("adaptive_avg_pool2d", "mean"), ("Mean", "pool")),
    **dict.fromkeys(("adaptive_max_pool2d", "amax"), ("Maximum", "pool")),
    **dict.fromkeys(("matmul", "bmm", "einsum"), ("Matrix product", "other")),
    "scaled_dot_product_attention": ("Attention", "attention"),
    "conv2d": ("Conv", "conv"),
    "linear": ("Linear", "linear"),
    "batch_norm": ("BN", "norm"),
    "layer_norm": ("LN", "norm"),
    "normalize": ("Normalise", "norm"),
    "relu": ("ReLU", "activation"),
    "relu6": ("ReLU6", "activation"),
    "leaky_relu": ("LeakyReLU", "activation"),
    "gelu": ("GELU", "activation"),
    "silu": ("SiLU", "activation"),
    "sigmoid": ("Sigmoid", "activation"),
    "tanh": ("Tanh", "activation"),
    "hardswish": ("h-swish", "activation"),
    "hardsigmoid": ("h-sigmoid", "activation"),
    "softmax": ("Softmax", "activation"),
    "log_softmax": ("LogSoftmax", "activation"),
    "flatten": ("Flatten", "tail"),
    "dropout": ("Dropout", "tail"),
    "pad": ("Pad", "other"),
    "interpolate": ("Resize", "other"),
}
# They only arrange numbers that are already there.
ARRANGING = frozenset(
    (
        *("view", "reshape", "unflatten", "permute", "transpose", "t", "movedim", "swapaxes", "contiguous"),
        *("unsqueeze", "squeeze", "expand", "repeat", "roll", "flip", "clone", "detach", "to", "type"),
        *("float", "half", "getitem", "chunk", "split", "tensor_split", "unbind", "narrow", "select"),
        *("index_select", "stack", "stochastic_depth"),
    )
)


def is_one_layer(module: nn.Module) -> bool:
    """Whether a picture shows `module` as one box: a layer of torch's own, attention, squeeze-and-excite."""
    if not any(True for _ in module.children()) or _one_box(module):
        return True
    containers = (
        nn.Sequential,
        nn.ModuleList,
        nn.ModuleDict,
        nn.TransformerEncoder,
        nn.TransformerEncoderLayer,
    )
    return type(module).__module__.startswith("torch.nn.") and not isinstance(module, containers)


def module_words(module: nn.Module) -> tuple[str, str]:
    """The words for a layer, and its role."""
    kind = type(module).__name__
    if boxed := _one_box(module):
        return boxed
    if isinstance(module, nn.Conv2d):
        return _convolution(module), "conv"
    if isinstance(module, nn.Linear):
        return f"Linear {module.out_features}", "linear"
    if kind in NORMS or "Norm" in kind:
        return NORMS.get(kind, "RMSNorm" if "Rms" in kind or "RMS" in kind else kind), "norm"
    if kind in IDENTITIES:
        return kind, THROUGH
    if "Dropout" in kind or isinstance(module, nn.Flatten):
        return "Flatten" if isinstance(module, nn.Flatten) else "Dropout", "tail"
    if "Pool" in kind:
        return _pooling(module), "pool"
    if type(module).__module__.startswith("torch.nn.modules.activation"):
        return ACTIVATIONS.get(kind, kind), "activation"
    return kind, "other"


def function_words(
    name: str, constant: str, sources: int, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] = {}
) -> tuple[str, str]:
    """The words for a function called with `args` and `kwargs`, and its role.

    `constant`: the name of a parameter among its arguments, "" for none; `sources`: how many steps' results
    are among them.
    """
    plain = name.strip("_")
    if plain in ("max_pool2d", "avg_pool2d"):
        return _pool_function(plain, args, kwargs), "pool"
    words, role = FUNCTIONS.get(plain, (plain, THROUGH if plain in ARRANGING else "other"))
    if constant and role in JOINS:
        return f"{words} {constant}", "other"
    if role in JOINS and sources < 2:
        return words, THROUGH  # with a number, or with itself
    if plain in ("sub", "isub", "div", "truediv", "idiv", "itruediv", "pow", "neg") and sources < 2:
        return words, THROUGH
    return words, role


def _one_box(module: nn.Module) -> tuple[str, str] | None:
    kind = type(module).__name__.lower()
    found = next((words for part, words in ONE_BOX.items() if part in kind), None)
    if found is None or found[1] != "attention":
        return found
    if any("attention" in type(inner).__name__.lower() for inner in module.modules() if inner is not module):
        return None  # more than attention: a layer of a transformer that is named after it
    heads = getattr(module, "num_heads", getattr(module, "n_heads", None))
    return (f"{found[0]}, {heads} heads" if isinstance(heads, int) else found[0]), found[1]


def _convolution(layer: nn.Conv2d) -> str:
    name = "Conv"
    if layer.groups == layer.in_channels and layer.groups > 1:
        name = "Depthwise"
    elif layer.groups > 1:
        name = f"Conv in {layer.groups} groups"
    words = f"{name} {_pair(layer.kernel_size)}, {layer.out_channels}"
    return (
        words
        + _halving(layer.stride)
        + (f", dilation {layer.dilation[0]}" if max(layer.dilation) > 1 else "")
    )


def _pooling(layer: nn.Module) -> str:
    kind = type(layer).__name__
    name = "Max pool" if "Max" in kind else "Average pool" if "Avg" in kind else kind
    out: Any = getattr(layer, "output_size", None)
    if out is not None:
        return f"{name} to {_pair(out)}"
    kernel: Any = getattr(layer, "kernel_size", None)
    if kernel is None:
        return "Pooling"
    return f"{name} {_pair(kernel)}{_halving(getattr(layer, 'stride', 1))}"


def _pool_function(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    kernel = kwargs.get("kernel_size", args[1] if len(args) > 1 else 1)
    stride = kwargs.get("stride", args[2] if len(args) > 2 else None)
    kind = "Max pool" if name == "max_pool2d" else "Average pool"
    return f"{kind} {_pair(kernel)}{_halving(kernel if stride is None else stride)}"


def _pair(value: Any) -> str:
    width, height = (value, value) if isinstance(value, int) else (value[-1], value[0])
    return f"{height}×{width}"


def _halving(stride: Any) -> str:
    sides = (stride, stride) if isinstance(stride, int) else tuple(stride)
    return "" if max(sides) == 1 else f", /{sides[0]}"
