"""Bias correction: what rounding the weights adds to a layer's output on average is taken off its bias."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from samesight.quantize.graph import Graph, Layer
from samesight.quantize.observe import Observed
from samesight.quantize.qdq import Rounding, rounded_weights

__all__ = ["corrections"]


def corrections(
    graph: Graph, seen: Mapping[str, Observed], rounding: Rounding
) -> dict[str, NDArray[np.float32]]:
    """For each layer that can have a bias, what is to be added to it (channels,), its weights so rounded.

    The mean over photos of (W − W rounded) x, from the mean of each channel of x; borders padded with zeros
    are neglected (Nagel et al. 2019, section 4.2, https://arxiv.org/abs/1906.04721).
    """
    return {
        layer.name: _correction(graph, layer, seen[layer.input].mean, rounding)
        for layer in graph.layers
        if layer.op_type != "MatMul" and layer.input in seen
    }


def _correction(
    graph: Graph, layer: Layer, mean: NDArray[np.float64], rounding: Rounding
) -> NDArray[np.float32]:
    lost = graph.constants[layer.weight] - rounded_weights(graph, layer, rounding)
    if not layer.is_conv:
        return (np.moveaxis(lost, layer.axis, 0) @ mean).astype(np.float32)
    each = lost.reshape(*lost.shape[:2], -1).sum(axis=2)  # (outputs, input channels of a group)
    outputs = len(each) // layer.groups
    inputs = np.repeat(mean.reshape(layer.groups, -1), outputs, axis=0)
    result: NDArray[np.float32] = (each * inputs).sum(axis=1).astype(np.float32)
    return result
