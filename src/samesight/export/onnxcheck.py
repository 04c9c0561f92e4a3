"""Whether an ONNX file runs as it promises: that it loads at all, its batches, and the range of float16."""

from __future__ import annotations

import copy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from samesight.errors import CopyError, ExportError
from samesight.export.onnxfile import INPUT, OUTPUT, FileForm, first_line

__all__ = ["check_batches", "check_survives", "too_large_for_half"]

HALF_MAX = float(np.finfo(np.float16).max)  # 65504
ROOM = 2
OUTPUTS_AT_ONCE = 128  # layers whose values are held at a time, over the photos of a fixed batch; 16 at least
RUN_BATCHES = (1, 5)  # a dynamic batch is shown by running both


def check_batches(
    model: bytes,
    network: nn.Module,
    tensors: NDArray[np.float32],
    form: FileForm,
    allowed: Callable[[float], float] | None,
) -> None:
    """Run the file at the batches it promises, on `tensors` (n, 3, h, w), beside PyTorch.

    A dynamic batch is run with 1 and 5 photos; a fixed one with N, and must refuse N + 1. `allowed` gives the
    largest difference for the largest |logit|; without it only shapes are compared, where values are judged
    elsewhere. Raises ExportError, CopyError where the logits differ, at the first batch that does not hold.
    """
    session = _session(model)
    whole = copy.deepcopy(network).cpu().float().eval()
    for batch in RUN_BATCHES if form.batch is None else (form.batch,):
        chosen = np.resize(tensors, (batch, *tensors.shape[1:]))
        with torch.inference_mode():
            expected = whole(torch.from_numpy(chosen)).numpy()
        found = _run(session, chosen, batch)
        if found.shape != expected.shape:
            raise ExportError(
                f"the ONNX file answers a batch of {batch} with another shape than PyTorch",
                expected=expected.shape,
                found=found.shape,
                fix=_FIX_BATCH,
            )
        difference = float(np.abs(found - expected).max())
        largest = np.inf if allowed is None else allowed(float(np.abs(expected).max()))
        if allowed is not None and not difference <= largest:
            raise CopyError(
                f"the ONNX file gives other logits than PyTorch for a batch of {batch}",
                expected=f"at most {largest:.3g} apart",
                found=f"{difference:.3g}",
                fix="torch.where for what the network decides in Python, which ONNX cannot follow; "
                + _FIX_BATCH,
            )
    if form.batch is not None:
        _check_refused(session, np.resize(tensors, (form.batch + 1, *tensors.shape[1:])), form.batch)


def too_large_for_half(whole: bytes, half: bytes, tensors: NDArray[np.float32]) -> dict[str, str]:
    """The tensors that `half` keeps in float16 and whose values do not fit, and the layer that makes each.

    Every one is computed by `whole` in float32 on `tensors`, a few photos: what comes within a factor of
    two of float16's largest number counts, since others may have larger values. ONNX Runtime's CPU drops
    roundings between some float16 operators, so that a number above 65504 passes there which a GPU or a
    browser turns into infinity. Raises CopyError where a value is not finite in float32 either.
    """
    found: dict[str, str] = {}
    kinds = onnx.shape_inference.infer_shapes(onnx.load_from_string(half), strict_mode=True).graph
    narrow = {
        value.name
        for value in (*kinds.value_info, *kinds.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    }
    proto = onnx.load_from_string(whole)
    names = [name for node in proto.graph.node for name in node.output if name in narrow]
    layer = {name: f"{node.op_type} {node.name}" for node in proto.graph.node for name in node.output}
    batch = proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
    at_once = max(16, OUTPUTS_AT_ONCE // batch)
    for start in range(0, len(names), at_once):
        some = names[start : start + at_once]
        del proto.graph.output[:]
        proto.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in some
        )
        session = _session(proto.SerializeToString(), whole_graph=True)
        for tensor in tensors:
            chosen = np.resize(tensor, (batch, *tensor.shape))
            for name, values in zip(some, session.run(some, {INPUT: chosen}), strict=True):
                largest = float(np.abs(values).max(initial=0))
                if not np.isfinite(largest):
                    raise CopyError(
                        f"the fp32 copy gives inf or NaN in its layer {layer[name]}",
                        where=name,
                        found=f"{largest:g}",
                    )
                if largest > HALF_MAX / ROOM:
                    found[name] = layer[name]
    return found


def check_survives(file: Path) -> None:
    """Load and run a file in a process of its own. Raises ExportError where that process dies.

    ONNX Runtime's graph optimisers are known to crash on some float16 graphs, which no `except` can catch.
    """
    program = (
        "import sys, numpy, onnxruntime\n"
        "session = onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])\n"
        "one = session.get_inputs()[0]\n"
        "shape = [size if isinstance(size, int) else 1 for size in one.shape]\n"
        "kind = 'float16' if 'float16' in one.type else 'float32'\n"
        "session.run(None, {one.name: numpy.zeros(shape, kind)})\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, check=False)
    if done.returncode < 0:  # ended by a signal; other troubles are told better when it is loaded here
        raise ExportError(
            f"ONNX Runtime crashes on the {file.name} that was made",
            found=signal.strsignal(-done.returncode),
            fix="--copies fp32, or another version of onnxruntime",
        )


_FIX_BATCH = "x.flatten(1) or x.reshape(x.shape[0], -1) in the network's forward, or a fixed --batch 1"


def _run(session: Any, tensors: NDArray[np.float32], batch: int) -> NDArray[np.float32]:
    kind = np.float16 if session.get_inputs()[0].type == "tensor(float16)" else np.float32
    try:
        logits = session.run([OUTPUT], {INPUT: tensors.astype(kind)})[0]
    except Exception as error:  # onnxruntime's own errors share no public class
        raise ExportError(
            f"the ONNX file cannot run a batch of {batch}", found=first_line(error), fix=_FIX_BATCH
        ) from error
    return np.asarray(logits, dtype=np.float32)


def _check_refused(session: Any, tensors: NDArray[np.float32], batch: int) -> None:
    try:
        _run(session, tensors, len(tensors))
    except ExportError:
        return
    raise ExportError(
        f"the ONNX file should take exactly {batch} photos at a time", found=f"it ran {len(tensors)}"
    )


def _session(model: bytes, *, whole_graph: bool = False) -> Any:
    """ONNX Runtime's session; `whole_graph` leaves out the optimisations, which merge layers."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if whole_graph:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # the refusal of a wrong batch is expected, and not the user's business
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors share no public class
        raise ExportError("ONNX Runtime cannot load the file", found=first_line(error)) from error
