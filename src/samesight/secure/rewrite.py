"""Rewrites that change no answer: what the engines need, and what makes secure computation cheap.

fold_scales    a scale and shift after a convolution or matrix go into its weights
join_relus     relu(a) beside relu(b) is relu(a beside b): the rounds of one
relu_last      max(relu(a), relu(b)) is relu(max(a, b)): the ReLU behind the pooling has fewer numbers
split_clip     Clip(x, low, high) is low + Relu(x − low) − Relu(x − high), for engines without Clip

Each is proved on the golden samples by `prove.py`, in ONNX Runtime, beside the file the bundle holds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from samesight.secure.graph import Graph, Step
from samesight.secure.reading import Network

__all__ = ["for_compilers", "for_mpc"]


def for_mpc(network: Network) -> Network:
    """The network as the secure run computes it."""
    return relu_last(join_relus(fold_scales(network)))


def for_compilers(network: Network) -> Network:
    """The network as the files for other engines have it: nothing moved, scales folded where they can be."""
    return fold_scales(network)


def fold_scales(network: Network) -> Network:
    """Every Scale whose input is a Conv or Gemm that nothing else uses goes into its weights (float64)."""
    graph, weights = network.graph, dict(network.weights)
    steps: list[Step] = []
    renamed: dict[str, str] = {}
    makers: dict[str, int] = {}
    for step in graph.steps:
        step = replace(step, inputs=tuple(renamed.get(name, name) for name in step.inputs))
        maker = makers.get(step.inputs[0])
        before = None if maker is None else steps[maker]
        if (
            step.kind == "Scale"
            and maker is not None
            and before is not None
            and before.kind in ("Conv", "Gemm")
            and _used_once(graph, renamed, before.output)
        ):
            scale, shift = (weights[name].astype(np.float64) for name in step.weights)
            weight, bias = before.weights
            by_output = scale.reshape(-1, *[1] * (weights[weight].ndim - 1))
            weights[weight] = _float32(weights[weight] * by_output)
            weights[bias] = _float32(weights[bias] * scale + shift)
            renamed[step.output] = before.output
            continue
        makers[step.output] = len(steps)
        steps.append(step)
    output = renamed.get(graph.output, graph.output)
    return _tidy(replace(network, graph=replace(graph, steps=tuple(steps), output=output), weights=weights))


def join_relus(network: Network) -> Network:
    """Where a Concat takes nothing but the results of Relus that nobody else takes, one Relu is behind it."""
    graph = network.graph
    steps = list(graph.steps)
    makers = {step.output: step for step in graph.steps}
    for step in graph.steps:
        before = [makers.get(name) for name in step.values] if step.kind == "Concat" else []
        relus = [one for one in before if one is not None and one.kind == "Relu"]
        alone = all(len(graph.users(one.output)) == 1 for one in relus)
        if not relus or len(relus) != len(before) or len(set(step.inputs)) != len(relus) or not alone:
            continue
        bare = f"{step.output}bare"
        place = steps.index(step)
        joined = replace(step, inputs=tuple(one.inputs[0] for one in relus), output=bare)
        steps[place : place + 1] = [joined, replace(relus[0], inputs=(bare,), output=step.output)]
        steps = [one for one in steps if one not in relus]
    return _tidy(replace(network, graph=replace(graph, steps=tuple(steps))))


def relu_last(network: Network) -> Network:
    """Every Relu or Clip from zero that only a MaxPool uses goes behind it."""
    graph = network.graph
    steps = list(graph.steps)
    for place, step in enumerate(graph.steps):
        users = graph.users(step.output)
        monotone = step.kind == "Relu" or (step.kind == "Clip" and step.number("low") == 0)
        if monotone and len(users) == 1 and users[0].kind == "MaxPool" and graph.output != step.output:
            at = graph.steps.index(users[0])
            # the pooling takes the name of what the activation took, the activation that of its result
            steps[place] = replace(users[0], inputs=step.inputs, output=step.output)
            steps[at] = replace(step, inputs=(step.output,), output=users[0].output)
    moved = sorted_steps(graph, steps)
    return replace(network, graph=replace(graph, steps=moved))


def sorted_steps(graph: Graph, steps: list[Step]) -> tuple[Step, ...]:
    """The steps so that each comes after those it needs, else in their order."""
    known = {graph.input, *graph.weight_shapes}
    waiting, done = list(steps), []
    while waiting:
        ready = next(step for step in waiting if known.issuperset(step.inputs))
        waiting.remove(ready)
        known.add(ready.output)
        done.append(ready)
    return tuple(done)


def _used_once(graph: Graph, renamed: dict[str, str], output: str) -> bool:
    """Whether one step alone takes the value, counting what was folded into it."""
    names = {output} | {name for name, other in renamed.items() if other == output}
    last = [name for name in names if any(name in step.inputs for step in graph.steps)]
    users = [step for step in graph.steps if names.intersection(step.inputs)]
    return (
        graph.output not in names and len([s for s in users if s.output not in renamed]) == 1 and bool(last)
    )


def _tidy(network: Network) -> Network:
    """Without weights that no step uses; names counted anew, so that equal networks have equal graphs."""
    graph = network.graph
    values = {graph.input: graph.input}
    weights: dict[str, NDArray[np.float32]] = {}
    names: dict[str, str] = {}
    steps = []
    for step in graph.steps:
        for name in step.weights:
            if name not in names:
                names[name] = f"w{len(names)}"
                weights[names[name]] = network.weights[name]
        values[step.output] = f"t{len(values)}"
        inputs = tuple(values[one] if one in values else names[one] for one in step.inputs)
        steps.append(replace(step, inputs=inputs, output=values[step.output]))
    shapes = {name: one.shape for name, one in weights.items()}
    tidy = replace(graph, steps=tuple(steps), output=values[graph.output], weight_shapes=shapes)
    return replace(network, graph=tidy, weights=weights)


def _float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = np.ascontiguousarray(values, np.float32)
    return result
