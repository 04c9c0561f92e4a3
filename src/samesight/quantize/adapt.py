"""Weights rounded so that a layer's output changes least on real photos, not each weight by itself.

After GPTQ (Frantar et al. 2023, https://arxiv.org/abs/2210.17323): weights are rounded one after another, and
what each rounding adds to the output is taken off the weights that are still to be rounded, by least squares
over what the layer reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from samesight.progress import track
from samesight.quantize.graph import Graph, Layer, attribute
from samesight.quantize.observe import run_outputs
from samesight.quantize.qdq import channel_rows
from samesight.quantize.weights import limit_pairs, round_weights, weight_scales

__all__ = ["adapted_weights"]

PLACES = 64  # of each photo and layer, drawn at random
MOST = 4608  # weights of one output: a layer with more is rounded to the nearest, as its matrix is too large
ROOM_BYTES = 512 << 20  # for the matrices of layers that are observed together
DAMPING = 0.01  # of the mean of the diagonal
BLOCK = 128  # weights rounded before the many behind them are told; in one product, which is quicker
STEPS = 1  # how far from the nearest integer a weight may go


def adapted_weights(
    graph: Graph, tensors: NDArray[np.float32], *, shrink: bool = False, seed: int = 0
) -> dict[str, NDArray[np.int8]]:
    """Integers (output channels, weights) for each layer that is not too large, for the scales of its rows;
    a layer that reads what is not finite has none.

    `tensors` (n, 3, height, width) are the calibration photos; places in them are drawn by `seed`.
    """
    found: dict[str, NDArray[np.int8]] = {}
    layers = [layer for layer in graph.layers if _weights(graph, layer) <= MOST]
    for some in track(list(_together(graph, layers)), "Rounding weights"):
        for layer, gram in _grams(graph, some, tensors, seed):
            if not np.isfinite(gram).all():
                continue
            rows = channel_rows(graph.constants[layer.weight], layer.axis)
            found[layer.name] = _round(rows, weight_scales(rows, shrink=shrink), gram)
    return found


def _weights(graph: Graph, layer: Layer) -> int:
    """How many weights one output has."""
    weights = graph.constants[layer.weight]
    return int(weights.size // weights.shape[layer.axis])


def _together(graph: Graph, layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    """The layers in lots whose matrices have room at once."""
    lot: list[Layer] = []
    used = 0
    for layer in layers:
        size = 8 * layer.groups * _weights(graph, layer) ** 2
        if lot and used + size > ROOM_BYTES:
            yield lot
            lot, used = [], 0
        lot.append(layer)
        used += size
    if lot:
        yield lot


def _grams(
    graph: Graph, layers: Sequence[Layer], tensors: NDArray[np.float32], seed: int
) -> Iterator[tuple[Layer, NDArray[np.float64]]]:
    """Of each layer, X^T X (groups, weights, weights), where X is what its weights are multiplied with."""
    grams: dict[str, NDArray[np.float64]] = {}
    by_input: dict[str, list[Layer]] = {}
    for layer in layers:
        by_input.setdefault(layer.input, []).append(layer)
    random = np.random.default_rng(seed)
    for name, values in run_outputs(graph, list(by_input), tensors):
        for layer in by_input[name]:
            for columns in _columns(graph, layer, values, random):
                gram = columns.swapaxes(1, 2) @ columns
                if layer.name in grams:
                    grams[layer.name] += gram
                else:
                    grams[layer.name] = gram.astype(np.float64)
    for layer in layers:
        if layer.name in grams:
            yield layer, grams.pop(layer.name)


def _columns(
    graph: Graph, layer: Layer, values: NDArray[np.float32], random: np.random.Generator
) -> Iterator[NDArray[np.float32]]:
    """What a layer's weights are multiplied with, at some places: (groups, places, weights of one output)."""
    if not layer.is_conv:
        flat = values.reshape(-1, values.shape[-1])
        if len(flat) > PLACES * len(values):
            flat = flat[random.choice(len(flat), PLACES * len(values), replace=False)]
        yield flat[None]
        return
    node = graph.nodes[layer.at]
    kernel = graph.constants[layer.weight].shape[2:]
    rank = len(kernel)
    strides = attribute(node, "strides", [1] * rank)
    dilations = attribute(node, "dilations", [1] * rank)
    pads = attribute(node, "pads", [0] * 2 * rank)
    if rank != 2 or attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return
    padded = np.pad(values, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    spans = [dilation * (size - 1) + 1 for dilation, size in zip(dilations, kernel, strict=True)]
    last = [(size - span) // step for size, span, step in zip(padded.shape[2:], spans, strides, strict=True)]
    tops = random.integers(0, last[0] + 1, PLACES) * strides[0]
    lefts = random.integers(0, last[1] + 1, PLACES) * strides[1]
    down = tops[:, None, None] + (np.arange(kernel[0]) * dilations[0])[None, :, None]
    across = lefts[:, None, None] + (np.arange(kernel[1]) * dilations[1])[None, None, :]
    patches = padded[:, :, down, across]  # (photos, channels, places, kernel…)
    photos, channels = patches.shape[:2]
    split = patches.reshape(photos, layer.groups, channels // layer.groups, PLACES, -1)
    yield split.transpose(1, 0, 3, 2, 4).reshape(layer.groups, photos * PLACES, -1)


def _round(
    rows: NDArray[np.float32], scales: NDArray[np.float32], gram: NDArray[np.float64]
) -> NDArray[np.int8]:
    """The integers for `rows` (channels, weights) beside `gram` (groups, weights, weights)."""
    groups, count = gram.shape[:2]
    nearest = round_weights(rows, scales).astype(np.float64).reshape(groups, -1, count)
    left = (rows / scales[:, None]).astype(np.float64).reshape(groups, -1, count)
    diagonal = np.einsum("gkk->gk", gram)
    mean = diagonal.mean(axis=1, keepdims=True)
    ridge = np.where(mean > 0, DAMPING * mean, 1.0) + np.zeros_like(diagonal)
    damped = gram.copy()
    damped[:, np.arange(count), np.arange(count)] += ridge
    # Of the inverse, the upper Cholesky factor: row k has what is still to be paid back after weight k.
    upper = np.linalg.cholesky(np.linalg.inv(damped)).swapaxes(1, 2)
    whole = np.empty_like(nearest)
    for start in range(0, count, BLOCK):
        end = min(start + BLOCK, count)
        errors = np.empty((*left.shape[:2], end - start))
        for k in range(start, end):
            value = np.clip(np.rint(left[..., k]), nearest[..., k] - STEPS, nearest[..., k] + STEPS)
            whole[..., k] = value
            error = errors[..., k - start] = (left[..., k] - value) / upper[:, k, k, None]
            left[..., k + 1 : end] -= error[..., None] * upper[:, None, k, k + 1 : end]
        left[..., end:] -= errors @ upper[:, start:end, end:]
    flat = whole.reshape(rows.shape)
    limit_pairs(flat)
    return flat.astype(np.int8)
