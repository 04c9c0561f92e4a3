"""Which nodes of a network are computed in integers, and which tensors then share their scale."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from samesight.quantize.graph import JOINS, PASSING, Graph

__all__ = ["Plan", "make_plan"]

_BOUNDED = ("Add", "Mul")  # rounding what they give may replace the ReLU or Clip behind them
_TIED = (*PASSING, "Concat")  # what comes out has the scale of what goes in: nothing is rounded twice


@dataclass(frozen=True)
class Plan:
    """What becomes integers. Tensors are named as in the float32 network."""

    nodes: frozenset[int]  # places of the nodes that compute in integers, layers among them
    inputs: tuple[str, ...]  # float tensors that a node of `nodes` reads: rounded on their way in
    outputs: tuple[str, ...]  # what nodes of `nodes` leave as integers
    bounds: dict[str, int]  # an output → the ReLU or Clip in front of it that the rounding may replace
    leader: dict[str, str]  # tensor → the one whose scale it has

    @property
    def tensors(self) -> tuple[str, ...]:
        """All that is rounded."""
        return (*self.inputs, *self.outputs)


def make_plan(graph: Graph, kept: Collection[str] = ()) -> Plan:
    """What is computed in integers where the layers named in `kept` stay float32.

    A sum, a concatenation, a pooling or a reshape is where all that it reads is in integers already and an
    integer layer reads what it gives, at once or through others of its kind. The logits stay float32.
    """
    wanted = _wanted(graph, kept)
    whole: set[str] = set()  # tensors that are integers by now
    nodes: set[int] = set()
    inputs: dict[str, None] = {}
    outputs: dict[str, None] = {}
    bounds: dict[str, int] = {}
    for at, node in enumerate(graph.nodes):
        layer = graph.by_node.get(at)
        if layer is not None and layer.name not in kept:
            nodes.add(at)
            if layer.input not in whole:
                inputs[layer.input] = None
            if not (layer.is_conv or layer.end in wanted):
                continue  # a matrix product may leave float32: its kernel adds up integers all the same
            end, bound = layer.end, layer.bound
        elif node.op_type in (*JOINS, *PASSING) and _all_whole(graph, at, whole):
            bound = graph.bounded_by(node.output[0]) if node.op_type in _BOUNDED else None
            end = node.output[0] if bound is None else graph.nodes[bound].output[0]
            if end not in wanted:
                continue
            nodes.add(at)
        else:
            continue
        outputs[end] = None
        whole.add(end)
        if bound is not None:
            bounds[end] = bound
    for name in inputs:
        outputs.pop(name, None)
    return Plan(
        frozenset(nodes), tuple(inputs), tuple(outputs), bounds, _leaders(graph, nodes, inputs, outputs)
    )


def _wanted(graph: Graph, kept: Collection[str]) -> set[str]:
    """The tensors that an integer layer reads, at once or through joins and what keeps values."""
    wanted: set[str] = set()
    for at in reversed(range(len(graph.nodes))):
        node, layer = graph.nodes[at], graph.by_node.get(at)
        if layer is not None:
            if layer.name not in kept:
                wanted.add(layer.input)
        elif node.op_type in (*JOINS, *PASSING):
            output = node.output[0]
            bound = graph.bounded_by(output) if node.op_type in _BOUNDED else None
            if output in wanted or (bound is not None and graph.nodes[bound].output[0] in wanted):
                wanted.update(graph.flows(node))
    wanted.discard(graph.output)
    return wanted


def _all_whole(graph: Graph, at: int, whole: Collection[str]) -> bool:
    node = graph.nodes[at]
    if node.op_type in PASSING:
        return node.input[0] in whole
    return all(name in whole for name in node.input if name)


def _leaders(
    graph: Graph, nodes: Collection[int], inputs: Collection[str], outputs: Collection[str]
) -> dict[str, str]:
    leader = {name: name for name in (*inputs, *outputs)}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for at in sorted(nodes):
        node = graph.nodes[at]
        if at not in graph.by_node and node.op_type in _TIED:
            for name in node.input[:1] if node.op_type in PASSING else node.input:
                if name in leader:
                    leader[find(name)] = find(node.output[0])
    return {name: find(name) for name in leader}
