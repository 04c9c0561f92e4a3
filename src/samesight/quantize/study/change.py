"""A network quantised in one of PyTorch's ways."""

from __future__ import annotations

import copy
import io
import platform
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from samesight.errors import InputError
from samesight.quantize.study.ways import Way

__all__ = ["Changed", "change", "state_bytes"]

KINDS = ("Conv2d", "Linear")
MAX_COMPILED = 64  # sizes of a batch; after so many torch.compile would give up without a word


@dataclass(frozen=True)
class Changed:
    """What came of it."""

    call: Callable[[Tensor], Tensor]  # (n, 3, height, width) → (n, classes); of int8 layers, or as it was
    layers: dict[str, tuple[int, int]]  # kind → how many became int8, of how many
    size_bytes: int  # of its state dict in a file
    engine: str | None
    fixed_batch: bool = False  # each other batch is compiled anew


def change(network: nn.Module, way: Way, calibration: Sequence[Tensor], batch: int) -> Changed:
    """`network` quantised in that `way`; itself is not changed.

    `calibration` are batches (n, 3, height, width) that static ways are calibrated on. Raises InputError
    where PyTorch has no such way on this machine.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao says with every call that torchao is to follow it
        return {"float": _float, "dynamic": _dynamic, "fx": _fx, "pt2e": _pt2e}[way.kind](
            network, way, calibration, batch
        )


def state_bytes(module: nn.Module) -> int:
    """The size of the module's state dict as a file."""
    stream = io.BytesIO()
    torch.save(module.state_dict(), stream)
    return len(stream.getvalue())


def _float(network: nn.Module, way: Way, calibration: Sequence[Tensor], batch: int) -> Changed:
    counts = {kind: (0, count) for kind, count in _floats(network).items()}
    return Changed(network, counts, state_bytes(network), None)


def _dynamic(network: nn.Module, way: Way, calibration: Sequence[Tensor], batch: int) -> Changed:
    with _removed("dynamic quantisation"):
        from torch.ao.quantization import quantize_dynamic
    engine = _set_engine(way.engine)
    made = quantize_dynamic(copy.deepcopy(network), {getattr(nn, str(way.target))}, dtype=torch.qint8)
    return Changed(made, _counted(network, made), state_bytes(made), engine)


def _fx(network: nn.Module, way: Way, calibration: Sequence[Tensor], batch: int) -> Changed:
    with _removed("FX graph mode quantisation"):
        from torch.ao.quantization import QConfigMapping, get_default_qconfig_mapping
        from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
    engine = _set_engine(way.engine)
    if way.custom:
        mapping = QConfigMapping().set_global(_custom())
    else:
        mapping = get_default_qconfig_mapping(engine)
    try:
        prepared = prepare_fx(copy.deepcopy(network), mapping, (calibration[0],))
    except Exception as error:  # whatever a network's own code says to a symbolic tensor
        raise InputError("FX cannot trace the network", found=_first_line(error)) from error
    _calibrate(prepared, calibration)
    made = convert_fx(prepared)
    return Changed(made, _counted(network, made), state_bytes(made), engine)


def _custom() -> Any:
    """The QConfig of histograms for activations and plain extremes for weights.

    Activations have 7 bits, as in PyTorch's own mappings for x86: sums of two products of 8 bits overflow 16
    on processors without VNNI.
    """
    from torch.ao.quantization import HistogramObserver, MinMaxObserver, QConfig

    weight = MinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_tensor_symmetric)
    return QConfig(activation=HistogramObserver.with_args(reduce_range=True), weight=weight)


def _pt2e(network: nn.Module, way: Way, calibration: Sequence[Tensor], batch: int) -> Changed:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise InputError("X86InductorQuantizer is for x86 processors", found=platform.machine())
    if sys.platform == "win32" or not any(map(shutil.which, ("g++", "c++", "clang++"))):
        raise InputError("Inductor needs a C++ compiler", expected="g++ or clang++ on the PATH")
    try:
        from torchao.quantization.pt2e import move_exported_model_to_eval
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86
    except ImportError as error:
        raise InputError(
            "torchao is not installed, or not one that fits this PyTorch",
            found=_first_line(error),
            fix='pip install "samesight[torchao]"',
        ) from error
    import torch._inductor.config as inductor

    inductor.freezing = True  # without it Inductor leaves weights in float32
    torch._dynamo.config.recompile_limit = MAX_COMPILED
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    try:
        any_batch = ({0: torch.export.Dim("batch", min=1, max=1024)},)
        example = calibration[0].repeat(2, 1, 1, 1)[
            :2
        ]  # of one photo alone the batch would be taken as fixed
        exported = torch.export.export(network, (example,), dynamic_shapes=any_batch).module()
    except Exception as error:
        raise InputError("torch.export cannot export the network", found=_first_line(error)) from error
    prepared = prepare_pt2e(exported, quantizer)
    _calibrate(prepared, calibration)
    made = convert_pt2e(prepared)
    move_exported_model_to_eval(made)
    compiled = torch.compile(made, dynamic=False)
    try:
        with torch.no_grad():
            compiled(calibration[0][:1].repeat(batch, 1, 1, 1))
    except Exception as error:
        raise InputError("Inductor cannot compile the network", found=_first_line(error)) from error
    counts = {kind: (count - left, count) for (kind, count), left in _left(network, made)}
    return Changed(compiled, counts, state_bytes(made), None, fixed_batch=True)


def _calibrate(prepared: nn.Module, calibration: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for tensors in calibration:
            prepared(tensors)


def _set_engine(name: str | None) -> str:
    """Make the engine that of PyTorch's quantised kernels; its name."""
    known = [one for one in torch.backends.quantized.supported_engines if one != "none"]
    if name is None:
        name = str(torch.backends.quantized.engine)
    if name not in known:
        raise InputError(
            f"PyTorch has no {name} engine on this processor", expected=", ".join(known) or None, found=name
        )
    torch.backends.quantized.engine = name
    return name


@contextmanager
def _removed(what: str) -> Iterator[None]:
    """PyTorch has said that torch.ao.quantization goes."""
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"this PyTorch has no {what} any more", found=f"torch {torch.__version__}", fix="torch 2.15"
        ) from error


def _floats(module: nn.Module) -> dict[str, int]:
    """How many layers of each kind compute in float."""
    types = [type(one) for one in module.modules()]
    return {kind: types.count(getattr(nn, kind)) for kind in KINDS}


def _counted(before: nn.Module, after: nn.Module) -> dict[str, tuple[int, int]]:
    left = _floats(after)
    return {kind: (count - left[kind], count) for kind, count in _floats(before).items()}


def _left(before: nn.Module, after: Any) -> Iterator[tuple[tuple[str, int], int]]:
    """Each kind of layer with its number, and how many of its calls in an exported graph are in float."""
    calls = {"Conv2d": torch.ops.aten.conv2d.default, "Linear": torch.ops.aten.linear.default}
    for kind, count in _floats(before).items():
        weights = [node.args[1] for node in after.graph.nodes if node.target == calls[kind]]
        yield (kind, count), sum("dequantize" not in str(weight) for weight in weights)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
