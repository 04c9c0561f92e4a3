"""How many fraction bits the fixed point numbers can have, by the values that the golden samples give.

A product of two numbers has twice the fraction bits before it is cut, and must stay below 2^62.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from samesight.errors import InputError
from samesight.secure.reading import Network
from samesight.secure.writing import write_onnx

__all__ = ["fraction_bits", "largest_value", "room_bits"]

MOST, LEAST = 22, 12
SAMPLES = 8
LEAST_ROOM = 10  # what pads a maximum is -1024
ROOM_BITS = 6  # for images that give larger values than the golden samples: 64 times
WORD_BITS = 62


def room_bits(largest: float) -> int:
    """The number of bits before the point, for golden samples that give values up to `largest`."""
    return max(LEAST_ROOM, int(np.ceil(np.log2(max(largest, 1.0)))) + ROOM_BITS)


def fraction_bits(largest: float) -> int:
    """The number of bits for values up to `largest`. Raises InputError where it is too large for any."""
    bits = min(MOST, (WORD_BITS - room_bits(largest)) // 2)
    if bits < LEAST:
        raise InputError(
            "the network's values are too large for 64-bit fixed point",
            expected=f"room for {LEAST} fraction bits",
            found=f"values up to {largest:.3g}",
            fix="train with weight decay, or with normalisation",
        )
    return bits


def largest_value(network: Network, tensors: Iterable[NDArray[np.float32]]) -> float:
    """The largest absolute value anywhere in the network over a few images (3, h, w), or of its weights."""
    import onnxruntime

    graph = network.graph
    inner = [step.output for step in graph.steps if step.output != graph.output]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    model = write_onnx(graph, network.weights, outputs=inner)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    largest = max(float(np.abs(values).max()) for values in network.weights.values())
    for _, tensor in zip(range(SAMPLES), tensors, strict=False):
        for values in session.run(["output", *inner], {"input": tensor[None]}):
            largest = max(largest, float(np.abs(values).max()))
    return largest
