"""What every runtime looks like from outside, and what its answers become. Knows no runtime itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_THREADS", "Runner", "cpus", "softmax", "threads_for"]

MAX_THREADS = 8  # more seldom help, and each holds a decoded photo; --threads asks for more


class Runner(Protocol):
    """Anything that turns preprocessed photos into logits."""

    name: str
    """The runtime: "onnxruntime", "pytorch"."""
    copy: str
    """The copy of the network that it runs: "fp32", "fp16"."""

    def logits(self, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits (n, classes) of `tensors` (n, 3, height, width), for any n."""
        ...


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities in float64 along the last axis; each row sums to 1."""
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
