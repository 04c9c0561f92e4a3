"""Copies in OpenVINO on the CPU, in float32 or bfloat16: the extra `openvino`.

OpenVINO chooses bfloat16 by itself where the CPU has it, so the precision is always said.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samesight.bundle.onnxparts import check_whole
from samesight.errors import BundleInvalid, InputError, MissingExtra
from samesight.runner import USUAL, Settings, Shape, answers_of, threads_for

__all__ = ["OpenVinoRunner"]

NAMES = {"f32": "openvino", "bf16": "openvino-bf16"}
_DTYPES = {"f32": "float32", "f16": "float16"}


class OpenVinoRunner:
    """One ONNX model in OpenVINO on the CPU. Safe to use from several threads."""

    def __init__(
        self, model: bytes, *, copy: str, precision: str = "f32", settings: Settings = USUAL
    ) -> None:
        """Load `model`, computed in `precision` ("f32" or "bf16"), whatever its int8 layers are.

        Raises MissingExtra without OpenVINO, InputError where the CPU has no such precision, BundleInvalid
        where OpenVINO cannot load the model, or it is not of photos to logits.
        """
        openvino = _package()
        self.name, self.copy = NAMES[precision], copy
        core = openvino.Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise InputError("this CPU does not compute in bfloat16", fix="another --engine: openvino")
        check_whole(model, copy)
        threads = threads_for(settings.threads)
        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads * settings.lanes,
            "NUM_STREAMS": settings.lanes,
            "ENABLE_CPU_PINNING": False,  # other programs, and our own decoding, want the cores too
        }
        try:
            network = core.read_model(model, b"")
            self._sides = {
                "input": _side(network.inputs, "input", 4, copy),
                "output": _side(network.outputs, "output", 2, copy),
            }
            self._compiled = core.compile_model(network, "CPU", options)
        except RuntimeError as error:
            raise BundleInvalid(
                "OpenVINO cannot load a model", where=f"the {copy} copy", found=_first_line(error)
            ) from error
        self._own = threading.local()  # a request a thread: one answers one call at a time

    @property
    def signature(self) -> dict[str, tuple[str, str, Shape]]:
        """Name, dtype and shape of the input and the output, as the model has them."""
        return dict(self._sides)

    def logits(self, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits (n, classes) of `tensors` (n, 3, height, width), in float32. Raises BundleInvalid."""
        return answers_of(self._run, tensors, self._sides, self.copy)

    def _run(self, fed: NDArray[Any]) -> NDArray[Any]:
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        try:
            output = request.infer([fed], share_inputs=True)[0]
        except RuntimeError as error:
            raise BundleInvalid(
                "OpenVINO cannot run a model", where=f"the {self.copy} copy", found=_first_line(error)
            ) from error
        return np.array(output)  # a request's own memory is written again by its next answer


def _package() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise MissingExtra("running copies in OpenVINO", "openvino") from error
    return openvino


def _side(sides: list[Any], what: str, rank: int, copy: str) -> tuple[str, str, Shape]:
    """Name, dtype and shape of a model's one input or output, a floating-point tensor of that rank."""
    found = [
        (port.get_any_name(), port.get_element_type().get_type_name(), _shape(port.get_partial_shape()))
        for port in sides
    ]
    if len(found) != 1 or found[0][1] not in _DTYPES or len(found[0][2]) != rank:
        raise BundleInvalid(
            f"the {what} of a model is not that of an image classifier",
            where=f"the {copy} copy",
            expected=f"one float tensor of {rank} dimensions",
            found=", ".join(f"{name} {dtype} {shape}" for name, dtype, shape in found),
        )
    name, dtype, shape = found[0]
    return name, _DTYPES[dtype], shape


def _shape(partial: Any) -> Shape:
    """The dimensions, None for one that is not fixed."""
    if partial.rank.is_dynamic:
        return ()
    return tuple(None if one.is_dynamic else one.get_length() for one in partial)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
