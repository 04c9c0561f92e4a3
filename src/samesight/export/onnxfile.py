"""A PyTorch network as the bytes of an ONNX file: in float32, and the same graph in float16.

The float32 file is written by `torch.onnx.export(dynamo=False)`: the newer exporter answers an opset below 18
with 18, silently. What was asked for is read back from the file, never assumed.

The float16 file is made from the float32 one (`onnxhalf`), not by exporting `network.half()`. Measured on 130
photos beside PyTorch in float32, with float16 input: MobileNetV2's logits differ by 0.0076 on average against
0.0113, since batch normalisation is folded before rounding, not after; SqueezeNet's, which has none, by the
same. Tensors keep their names by construction, so that copies can be compared layer by layer, and the places
where half precision has not the range can stay in float32.
"""

from __future__ import annotations

import contextlib
import copy
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnx import helper
from torch import nn

from samesight.errors import ExportError

__all__ = [
    "DEFAULT_OPSET",
    "INPUT",
    "OPSETS",
    "OUTPUT",
    "FileForm",
    "first_line",
    "opset_of",
    "write_onnx",
]

INPUT, OUTPUT = "input", "output"
DEFAULT_OPSET = 17
OPSETS = range(11, 21)  # what PyTorch's TorchScript exporter writes and ONNX Runtime still reads
LIMIT_BYTES = (2 << 30) - (1 << 20)  # a protobuf message holds less than 2 GiB


@dataclass(frozen=True)
class FileForm:
    """What the file is asked to be: image size (width, height), opset, and a batch of N or of any size."""

    size: tuple[int, int]
    opset: int = DEFAULT_OPSET
    batch: int | None = None  # None: any number of photos at a time

    def __post_init__(self) -> None:
        """Raise ExportError where no file can be so."""
        if self.opset not in OPSETS:
            raise ExportError(
                f"ONNX opset {self.opset} cannot be written",
                expected=f"{OPSETS.start} to {OPSETS.stop - 1}",
                found=self.opset,
                fix="--opset 17, or --opset 12 for old runtimes",
            )
        if self.batch is not None and not 1 <= self.batch <= 4096:
            raise ExportError(
                "a fixed batch is out of range", expected="1 to 4096, or dynamic", found=self.batch
            )


def write_onnx(network: nn.Module, form: FileForm) -> bytes:
    """`network` as a float32 ONNX file with one input `input` (N, 3, height, width) and one output `output`.

    The network itself is left as it is: a copy is written, in evaluation mode, batch normalisation folded
    into the convolution before it. The same network gives the same bytes. Raises ExportError where the
    network cannot be written so, and says which operator and which opset would do.
    """
    whole = copy.deepcopy(network).cpu().float().eval()
    size_bytes = sum(tensor.numel() * 4 for tensor in whole.state_dict().values())
    if size_bytes > LIMIT_BYTES:
        raise ExportError(
            "the network is too large for one ONNX file",
            expected="less than 2 GiB of weights",
            found=f"{size_bytes / 2**30:.2f} GiB",
        )
    width, height = form.size
    # Two photos, not one: with one, a network that mixes up the batch with another axis would pass.
    example = torch.zeros((form.batch or 2, 3, height, width))
    _check_output(whole, example)
    model = onnx.load_from_string(_trace(whole, example, form))
    _check_form(model, form)
    for node in model.graph.node:
        node.doc_string = ""
    return _bytes(model)


def opset_of(model: onnx.ModelProto) -> int:
    """The opset of ONNX's own operators that a file asks a runtime for. Raises ExportError for others."""
    versions = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if set(versions) != {"ai.onnx"}:
        raise ExportError(
            "the network needs operators that are not ONNX's own",
            expected="ai.onnx",
            found=", ".join(sorted(versions)),
        )
    return int(versions["ai.onnx"])


def first_line(error: BaseException) -> str:
    """What an error of someone else's says first: the rest is often a page."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


# --- float32: PyTorch's exporter ---------------------------------------------------------------------------


def _check_output(network: nn.Module, example: torch.Tensor) -> None:
    try:
        with torch.inference_mode():
            output = network(example)
    except Exception as error:  # a user's own forward may raise anything
        raise ExportError(
            f"the network cannot take an image of {example.shape[3]} × {example.shape[2]}",
            found=f"{type(error).__name__}: {first_line(error)}",
            fix="the image size that it was trained with: --resize WIDTHxHEIGHT",
        ) from error
    if not isinstance(output, torch.Tensor) or output.ndim != 2 or len(output) != len(example):
        found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ExportError(
            "the network does not give one row of logits a photo",
            expected=f"a tensor of shape ({len(example)}, classes) in evaluation mode",
            found=found,
        )


@contextlib.contextmanager
def _spelt_out() -> Iterator[None]:
    """Have attention traced as the operators that it is made of, not as a fused kernel without ONNX form."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def _plain() -> Iterator[None]:
    """Have a few operators traced as the plain ones that they stand for.

    Attention's own ONNX form needs opset 14 (`unflatten` 13), and scales query and key each by a number
    computed from shapes; ONNX Runtime 1.31 crashes on that in float16. Adaptive pooling has a form only where
    the output's size divides the input's (VGG at 224, not at 64). All are replaced where they are looked up,
    in this process, while one network is traced: PyTorch calls them from inside functions of its own, where a
    `TorchFunctionMode` is no longer asked.
    """
    before = [getattr(owner, name) for owner, name, _ in _REPLACED]
    for owner, name, function in _REPLACED:
        setattr(owner, name, function)
    try:
        yield
    finally:
        for (owner, name, _), function in zip(_REPLACED, before, strict=True):
            setattr(owner, name, function)


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **rare: Any,
) -> torch.Tensor:
    """softmax(Q K^T · scale + mask) V, as torch.nn.functional.scaled_dot_product_attention documents it."""
    if is_causal or dropout_p or any(rare.values()):
        return _FUSED_ATTENTION(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **rare)
    factor = int(query.shape[-1]) ** -0.5 if scale is None else scale
    scores = (query * factor) @ key.transpose(-2, -1)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(-1) @ value


def _unflatten(tensor: torch.Tensor, dim: int, sizes: Sequence[int]) -> torch.Tensor:
    at = dim % tensor.ndim
    return tensor.reshape([*tensor.shape[:at], *sizes, *tensor.shape[at + 1 :]])


def _adaptive_pool(tensor: torch.Tensor, output_size: int | Sequence[int | None] | None) -> torch.Tensor:
    """torch.nn.functional.adaptive_avg_pool2d, as two products with constant matrices where it must be."""
    have = (int(tensor.shape[-2]), int(tensor.shape[-1]))
    asked = (output_size, output_size) if output_size is None or isinstance(output_size, int) else output_size
    want = tuple(size if new is None else int(new) for size, new in zip(have, asked, strict=True))
    if have[0] % want[0] == 0 and have[1] % want[1] == 0:
        return _ADAPTIVE_POOL(tensor, output_size)
    down, across = (_pooling(old, new).to(tensor) for old, new in zip(have, want, strict=True))
    return down @ tensor @ across.T


def _pooling(old: int, new: int) -> torch.Tensor:
    """(new, old): row i is the mean of the places floor(i · old / new) to ceil((i + 1) · old / new)."""
    matrix = torch.zeros(new, old)
    for row in range(new):
        start, end = row * old // new, -(-(row + 1) * old // new)
        matrix[row, start:end] = 1 / (end - start)
    return matrix


_FUSED_ATTENTION = nn.functional.scaled_dot_product_attention
_ADAPTIVE_POOL = nn.functional.adaptive_avg_pool2d
_REPLACED: tuple[tuple[Any, str, Any], ...] = (
    (nn.functional, "scaled_dot_product_attention", _attention),
    (nn.functional, "adaptive_avg_pool2d", _adaptive_pool),
    (torch.Tensor, "unflatten", _unflatten),
)


def _trace(network: nn.Module, example: torch.Tensor, form: FileForm) -> bytes:
    axes = {INPUT: {0: "batch"}, OUTPUT: {0: "batch"}} if form.batch is None else None
    stream = io.BytesIO()
    try:
        with _quiet(), _spelt_out(), _plain(), torch.no_grad():
            torch.onnx.export(
                network,
                (example,),
                stream,
                dynamo=False,
                opset_version=form.opset,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes=axes,
            )
    except Exception as error:  # the exporter raises a dozen kinds, and a user's forward any other
        raise _reason(error, form) from error
    return stream.getvalue()


def _reason(error: Exception, form: FileForm) -> ExportError:
    """The exporter's trouble as one error: the operator, and the lowest opset that has it if it says so."""
    text = str(error)
    operator = re.search(r"operator '([^']+)'", text)
    later = re.search(r"added in version (\d+)", text)
    if operator and later:
        return ExportError(
            f"ONNX opset {form.opset} has no form for the operator {operator[1]}",
            expected=f"opset {later[1]} or later",
            found=form.opset,
            fix=f"--opset {max(int(later[1]), DEFAULT_OPSET)}",
        )
    if operator:
        return ExportError(f"the operator {operator[1]} has no ONNX form", found=first_line(error))
    return ExportError(
        "PyTorch could not write the network as ONNX", found=f"{type(error).__name__}: {first_line(error)}"
    )


_USUAL = (
    "You are using the legacy TorchScript-based ONNX",
    "The feature will be removed",
    "Constant folding - Only steps=1",  # it leaves a strided slice as it is
)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says of itself and what changes no answer."""
    with warnings.catch_warnings(), _mute_stdout():
        for pattern in (
            "You are using the legacy TorchScript-based ONNX export",
            "The feature will be removed",
            "Constant folding",  # that a constant was left as it was, which is as right
        ):
            warnings.filterwarnings("ignore", message=pattern)
        # Python decisions while tracing (sizes, checks) are fixed in the graph: right for one image size.
        # Where one is not, the batches that are run, and the photos that are compared, tell.
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        yield


@contextlib.contextmanager
def _mute_stdout() -> Iterator[None]:
    """Send what native code prints elsewhere: the exporter prints the whole graph to stdout when it fails."""
    sys.stdout.flush()
    saved, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(nowhere)


def _check_form(model: onnx.ModelProto, form: FileForm) -> None:
    found = opset_of(model)
    if found != form.opset:
        raise ExportError(
            "the exporter wrote another opset than it was asked for", expected=form.opset, found=found
        )
    inputs, outputs = [v.name for v in model.graph.input], [v.name for v in model.graph.output]
    if (inputs, outputs) != ([INPUT], [OUTPUT]):
        raise ExportError(
            "the network should have one input and one output",
            expected=f"{INPUT} → {OUTPUT}",
            found=f"{', '.join(inputs)} → {', '.join(outputs)}",
        )
    asked: int | str = "batch" if form.batch is None else form.batch
    first = model.graph.input[0].type.tensor_type.shape.dim[0]
    batch = first.dim_param or first.dim_value
    if batch != asked:
        raise ExportError("the file's batch is not the one asked for", expected=asked, found=batch)
    # IR versions are what old runtimes refuse first: the lowest that the opset allows.
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import))


def _bytes(model: onnx.ModelProto) -> bytes:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError("the file that was made is not valid ONNX", found=first_line(error)) from error
    return bytes(model.SerializeToString(deterministic=True))
