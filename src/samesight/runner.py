"""What every runtime looks like from outside, and what its answers become. Knows no runtime itself.

numpy is imported by those who have arrays: `samesight.lean` does without.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from samesight.errors import BundleInvalid

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from samesight.bundle import Bundle

__all__ = [
    "MAX_THREADS",
    "USUAL",
    "ModelRunner",
    "Runner",
    "Settings",
    "Shape",
    "answers_of",
    "check_sides",
    "cpus",
    "dimensions",
    "softmax",
    "threads_for",
]

MAX_THREADS = 8  # more seldom help, and each holds a decoded photo; --threads asks for more

Shape: TypeAlias = tuple[int | str | None, ...]


class Runner(Protocol):
    """Anything that turns preprocessed photos into logits."""

    name: str
    """The runtime: "onnxruntime", "openvino", "openvino-bf16", "pytorch"."""
    copy: str
    """The copy of the network that it runs: "fp32", "fp16", "int8"."""

    def logits(self, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits (n, classes) of `tensors` (n, 3, height, width), for any n."""
        ...


class ModelRunner(Runner, Protocol):
    """A runner of an ONNX model, which says what the model takes and gives."""

    @property
    def signature(self) -> Mapping[str, tuple[str, str, Shape]]:
        """Name, dtype and shape of "input" and "output", as the model has them."""
        ...


@dataclass(frozen=True)
class Settings:
    """How a runtime uses the machine. The answers are the same; a runtime ignores what it has not."""

    threads: int | None = None  # for one call; None: one a CPU, at most MAX_THREADS
    lanes: int = 1  # calls that are made at the same time, each with threads of its own
    spinning: bool = False  # threads wait by spinning: quicker alone, a loss beside threads that decode
    arena: bool = True  # memory that one call has freed is kept for the next


USUAL = Settings()


def check_sides(bundle: Bundle, copy: str, sides: Mapping[str, tuple[str, str, Shape]]) -> None:
    """Raise BundleInvalid where a model's input or output is not what bundle.json says of that copy.

    `sides` has name, dtype and shape of "input" and "output", as the model has them.
    """
    said = bundle.copy(copy)
    for side, dtype, shape in (
        ("input", said.input_dtype, bundle.input_shape),
        ("output", said.output_dtype, bundle.output_shape),
    ):
        name, real_dtype, real_shape = sides[side]
        fits = len(shape) == len(real_shape) and all(map(_fits, shape, real_shape))
        if (name, real_dtype) != (side, dtype) or not fits:
            raise BundleInvalid(
                f"the {side} of a model is not what bundle.json says",
                where=bundle.folder / said.file,
                expected=f"'{side}', {dtype}, {dimensions(shape)}",
                found=f"'{name}', {real_dtype}, {dimensions(real_shape)}",
            )


def answers_of(
    run: Callable[[NDArray[Any]], NDArray[Any]],
    tensors: NDArray[np.float32],
    sides: Mapping[str, tuple[str, str, Shape]],
    copy: str,
) -> NDArray[np.float32]:
    """The logits (n, classes) float32 of `tensors` (n, 3, height, width) by a runtime's `run`.

    `tensors` are cast to what the model takes. A model of a fixed batch is fed in pieces, the last filled up
    with zeros. Raises BundleInvalid where the model answers in another shape than it declares, which runtimes
    do not hold it to.
    """
    import numpy as np

    fed = np.ascontiguousarray(tensors, sides["input"][1])
    batch, classes = sides["input"][2][0], sides["output"][2][1]

    def one(piece: NDArray[Any]) -> NDArray[np.float32]:
        output = run(piece)
        shape = (len(piece), classes if isinstance(classes, int) else output.shape[-1])
        if output.shape != shape:
            raise BundleInvalid(
                "a model answers in another shape than it declares",
                where=f"the {copy} copy",
                expected=dimensions(shape),
                found=dimensions(output.shape),
            )
        return np.asarray(output, np.float32)

    if not isinstance(batch, int):
        return one(fed)
    pieces = []
    for start in range(0, max(1, len(fed)), batch):
        piece = fed[start : start + batch]
        full = np.zeros((batch, *fed.shape[1:]), fed.dtype)
        full[: len(piece)] = piece
        pieces.append(one(full)[: len(piece)])
    return np.concatenate(pieces)


def dimensions(shape: Iterable[object]) -> str:
    """A shape in words; "?" for a dimension that is not known."""
    return " × ".join("?" if one is None else str(one) for one in shape)


def _fits(said: int | str, real: int | str | None) -> bool:
    """Whether a dimension of the model is the one in bundle.json: any name will do for "batch"."""
    return not isinstance(real, int) if said == "batch" else said == real


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities in float64 along the last axis; each row sums to 1."""
    import numpy as np

    wide = np.asarray(logits, np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    result: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return result


def threads_for(asked: int | None) -> int:
    """How many threads to use: as many as were asked for, else one a CPU, at most `MAX_THREADS`."""
    return asked or min(cpus(), MAX_THREADS)


def cpus() -> int:
    """How many CPUs this process may use: what is allowed by affinity and by its control group."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(count, -(-int(quota) // int(period))))
    except (OSError, ValueError):  # no control group, or "max": no quota
        return count
