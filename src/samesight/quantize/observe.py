"""What flows through a network on real photos: range, histogram and channels of each tensor of interest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from samesight.quantize.graph import Graph
from samesight.runner import threads_for

__all__ = ["BINS", "Observed", "observe", "run_outputs"]

BINS = 2048
PIECE = 8  # photos at a time


@dataclass
class Observed:
    """One tensor over all calibration photos."""

    low: float
    high: float
    histogram: NDArray[np.int64]  # BINS equal bins from low to high
    mean: NDArray[np.float64]  # (channels,)
    size: NDArray[np.float64]  # (channels,) the largest absolute value


def observe(graph: Graph, names: Sequence[str], tensors: NDArray[np.float32]) -> dict[str, Observed]:
    """Each tensor of `names`, over `tensors` (n, 3, height, width). The photos are run twice."""
    seen: dict[str, Observed] = {}
    counts: dict[str, int] = {}
    for name, values in run_outputs(graph, names, tensors):
        channels = _by_channel(graph, name, values)
        low, high = float(values.min()), float(values.max())
        mean, size = channels.mean(axis=1, dtype=np.float64), np.abs(channels).max(axis=1).astype(np.float64)
        share = len(values)
        if name not in seen:
            seen[name] = Observed(low, high, np.zeros(BINS, np.int64), mean * share, size)
            counts[name] = share
            continue
        one = seen[name]
        one.low, one.high = min(one.low, low), max(one.high, high)
        one.mean += mean * share
        one.size = np.maximum(one.size, size)
        counts[name] += share
    for name, one in seen.items():
        one.mean /= counts[name]
    for name, values in run_outputs(graph, names, tensors):
        one = seen[name]
        if one.high > one.low:
            places = (values.reshape(-1) - np.float32(one.low)) * np.float32(BINS / (one.high - one.low))
            places = np.clip(places, 0, BINS - 1).astype(np.int16)
            one.histogram += np.bincount(places, minlength=BINS)
    return seen


def run_outputs(
    graph: Graph, names: Sequence[str], tensors: NDArray[np.float32]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Each tensor of `names`, piece by piece of `tensors`; the last piece of a fixed batch is filled up."""
    session = _session(graph, [name for name in names if name != graph.input])
    batch = graph.batch or PIECE
    for start in range(0, len(tensors), batch):
        piece = tensors[start : start + batch]
        if graph.batch is not None and len(piece) < batch:
            piece = np.resize(piece, (batch, *piece.shape[1:]))  # its own photos again, not zeros
        outputs = session.run(None, {graph.input: piece})
        found = dict(zip([one.name for one in session.get_outputs()], outputs, strict=True))
        found[graph.input] = piece
        for name in names:
            yield name, found[name]


def _session(graph: Graph, names: Sequence[str]) -> Any:
    import onnxruntime

    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    there = {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = threads_for(None)
    options.log_severity_level = 4
    options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _by_channel(graph: Graph, name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """`values` as (channels, numbers): of images and maps the second axis, else the last."""
    axis = 1 if values.ndim == 4 else values.ndim - 1
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
