"""Cross-layer equalisation: channels of one tensor brought to like ranges, the network's answer unchanged.

A channel may be scaled by s > 0 if the layers that make it multiply their weights by s and those that read it
divide by s, since ReLU, pooling and sums commute with that (Nagel et al. 2019, https://arxiv.org/abs/1906.04721).
Weights have a scale a channel, so what makes a channel pays nothing, and a depthwise layer that reads it
neither; other readers have one scale over all that they read, hence the exponent (as in SmoothQuant,
https://arxiv.org/abs/2211.10438). A Clip commutes only below its bound: such channels may grow as far as it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from samesight.quantize.graph import Graph, Layer
from samesight.quantize.observe import Observed
from samesight.quantize.plan import make_plan

__all__ = ["channel_tensors", "equalise"]

COMMUTING = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity")
MOST = 64.0  # the largest factor between two channels
ROOM = 1.1  # a channel below a Clip's bound may come so near it


@dataclass
class _Group:
    """Tensors whose channels are scaled together."""

    tensors: set[str] = field(default_factory=set)
    makers: list[int] = field(default_factory=list)  # places of nodes
    readers: list[Layer] = field(default_factory=list)
    bound: float = np.inf  # the lowest Clip among them


def equalise(graph: Graph, seen: Mapping[str, Observed], exponent: float = 0.5) -> tuple[Graph, int]:
    """The network with its channels equalised, and how many groups of tensors were.

    `seen` has what was observed of every tensor in `channel_tensors`.
    """
    changed: dict[str, NDArray[np.float32]] = {}
    count = 0
    rounded = set(channel_tensors(graph)) & set(seen)
    for group in _groups(graph):
        factors = _factors(graph, group, seen, rounded, exponent)
        if factors is None:
            continue
        count += 1
        for at in group.makers:
            _scale_maker(graph, at, factors, changed)
        for layer in group.readers:
            weights = changed.get(layer.weight, graph.constants[layer.weight])
            changed[layer.weight] = _over_inputs(layer, weights, np.float32(1) / factors)
    return graph.with_constants(changed), count


def channel_tensors(graph: Graph) -> list[str]:
    """The tensors whose channels `equalise` must know: those that are rounded, not what a ReLU still cuts."""
    return list(make_plan(graph).tensors)


def _factors(
    graph: Graph, group: _Group, seen: Mapping[str, Observed], rounded: set[str], exponent: float
) -> NDArray[np.float32] | None:
    """The factor of each channel; None where there is nothing to gain or to go by."""
    sizes = [seen[name].size for name in sorted(group.tensors & rounded)]
    if not sizes or len({len(size) for size in sizes}) != 1:
        return None
    size = np.max(sizes, axis=0)
    largest = float(size.max())
    if not largest > 0:
        return None
    size = np.maximum(size, largest / MOST)
    dense = [layer for layer in group.readers if not _is_depthwise(graph, layer)]
    read = [np.abs(_by_input(graph, layer)).max(axis=(0, 2)) for layer in dense]
    if read:
        weight = np.max(read, axis=0)
        weight = np.maximum(weight, float(weight.max()) / MOST)
        wanted = (largest / size) ** exponent * (weight / weight.max()) ** (1 - exponent)
    else:
        wanted = largest / size
    if np.isfinite(group.bound):
        factors = np.clip(wanted, 1.0, np.maximum(group.bound / (ROOM * size), 1.0))
    else:
        factors = wanted / np.sqrt(wanted.max() * wanted.min())
    factors = np.clip(factors, 1 / MOST, MOST).astype(np.float32)
    return None if np.allclose(factors, 1.0) else factors


def _groups(graph: Graph) -> Iterator[_Group]:
    """Every set of tensors that can be scaled: makers and readers all known, nothing else touches them."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        leader.setdefault(name, name)
        while leader[name] != name:
            name = leader[name]
        return name

    frozen: set[str] = {graph.input, graph.output}
    uses: dict[str, int] = defaultdict(int)
    for layer in graph.layers:
        uses[layer.weight] += 1
        if layer.bias is not None:
            uses[layer.bias] += 1
    for at, node in enumerate(graph.nodes):
        if at in graph.by_node:
            layer = graph.by_node[at]
            if uses[layer.weight] > 1 or uses.get(layer.bias or "", 1) > 1:
                frozen.update((layer.input, layer.name))
        elif node.op_type in COMMUTING or _is_clip_from_zero(graph, at):
            leader[find(node.input[0])] = find(node.output[0])
        elif node.op_type == "Add" and len(graph.flows(node)) == 2:
            for name in node.input:
                leader[find(name)] = find(node.output[0])
        elif node.op_type == "Flatten" and _is_pooled(graph, node.input[0]):
            leader[find(node.input[0])] = find(node.output[0])
        elif _is_norm(graph, at):
            frozen.add(node.input[0])
        else:
            frozen.update(
                name for name in (*node.input, *node.output) if name and name not in graph.constants
            )
    groups: dict[str, _Group] = defaultdict(_Group)
    names = {name for node in graph.nodes for name in (*graph.flows(node), *node.output) if name}
    for name in names:
        groups[find(name)].tensors.add(name)
    still = {find(name) for name in frozen}
    for at, node in enumerate(graph.nodes):
        if at in graph.by_node:
            layer = graph.by_node[at]
            groups[find(layer.name)].makers.append(at)
            groups[find(layer.input)].readers.append(layer)
        elif _is_norm(graph, at):
            groups[find(node.output[0])].makers.append(at)
        elif node.op_type == "Clip":
            group = groups[find(node.output[0])]
            group.bound = min(group.bound, graph.bounds(at)[1])
    for name, group in sorted(groups.items()):
        if name not in still and group.makers and group.readers:
            yield group


def _is_clip_from_zero(graph: Graph, at: int) -> bool:
    node = graph.nodes[at]
    constant = all(name in graph.constants for name in node.input[1:] if name)
    return node.op_type == "Clip" and constant and graph.bounds(at)[0] == 0


def _is_pooled(graph: Graph, name: str) -> bool:
    at = graph.maker.get(name)
    return at is not None and graph.nodes[at].op_type == "GlobalAveragePool"


def _is_norm(graph: Graph, at: int) -> bool:
    """Whether a node is a layer normalisation of the last axis with a constant scale, the only such user."""
    node = graph.nodes[at]
    if node.op_type != "LayerNormalization" or len(node.output) > 1:
        return False
    scale = graph.constants.get(node.input[1])
    return (
        scale is not None
        and scale.ndim == 1
        and all(name in graph.constants and len(graph.readers[name]) == 1 for name in node.input[1:] if name)
    )


def _is_depthwise(graph: Graph, layer: Layer) -> bool:
    return layer.is_conv and layer.groups == len(graph.constants[layer.weight]) and layer.groups > 1


def _by_input(graph: Graph, layer: Layer) -> NDArray[np.float32]:
    """A dense layer's weights as (outputs of one group, input channels, numbers)."""
    weights = graph.constants[layer.weight]
    if layer.is_conv:
        split = weights.reshape(layer.groups, -1, weights.shape[1], int(np.prod(weights.shape[2:])))
        return split.transpose(1, 0, 2, 3).reshape(split.shape[1], -1, split.shape[3])
    return np.moveaxis(weights, layer.axis, 0)[..., None]


def _over_inputs(
    layer: Layer, weights: NDArray[np.float32], factors: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The weights after each input channel's were multiplied by its factor."""
    if not layer.is_conv:
        return weights * (factors if layer.axis == 0 else factors[:, None])
    each = factors.reshape(layer.groups, weights.shape[1])
    outputs = len(weights) // layer.groups
    return weights * np.repeat(each, outputs, axis=0).reshape(*weights.shape[:2], *(1,) * (weights.ndim - 2))


def _scale_maker(
    graph: Graph, at: int, factors: NDArray[np.float32], changed: dict[str, NDArray[np.float32]]
) -> None:
    layer = graph.by_node.get(at)
    node = graph.nodes[at]
    axis = 0 if layer is None else layer.axis
    for place, name in enumerate(node.input[1:]):
        if not name:
            continue
        values = changed.get(name, graph.constants[name])
        if place == 0:
            shape = [1] * values.ndim
            shape[axis] = -1
            changed[name] = values * factors.reshape(shape)
        else:
            changed[name] = values * factors.reshape(values.shape)
