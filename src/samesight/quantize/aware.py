"""Quantisation-aware fine-tuning: weights and biases learn with the rounding in place.

The teacher is the float32 copy: what is lessened is the divergence of the probabilities from its own, on
training photos, so that the copy stays a copy, and labels are not needed. Gradients pass the rounding as if
it were not there (Bengio et al. 2013, https://arxiv.org/abs/1308.3432); scales and ranges stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from samesight.errors import InputError
from samesight.progress import track
from samesight.quantize.graph import Graph, Layer
from samesight.quantize.plan import make_plan
from samesight.quantize.qdq import Rounding, channel_rows, tensor_steps
from samesight.quantize.torchgraph import OPERATORS, unknown
from samesight.quantize.weights import LIMIT, PAIR, round_weights, weight_scales
from samesight.training.memory import kept_memory

__all__ = ["RoundedNetwork", "check_trainable", "trained_roundings"]

BATCH = 16
STEPS = 128
OFFERED = 4  # how many times on the way the weights are offered to be chosen
RATE = 0.002  # levels that a weight moves in a step, at first; ten times as many undo what the search found
BIAS_RATE = 0.003  # the same for a bias, in steps of what its layer gives
WARM_UP = 0.1
NEAR = 0.45  # of a level: how far from its integer a weight may begin, so that it begins as it was rounded
SAME = 1e-3  # of the largest logit: what PyTorch's sums may differ from ONNX Runtime's, without rounding
CHECKED = 8  # photos


class RoundedNetwork(nn.Module):  # type: ignore[misc]  # torch is not typed for mypy here
    """`graph` in PyTorch, its tensors and weights rounded as `rounding` says; without one, in float32.

    Takes (n, 3, height, width) float32 and gives logits (n, classes). What learns are `levels`, the weights
    in units of their scales (channels, weights), and `biases`, added to the layers' own in units of `unit`.
    """

    def __init__(self, graph: Graph, rounding: Rounding | None = None) -> None:
        super().__init__()
        self.graph, self.rounding = graph, rounding
        self.plan = make_plan(graph, rounding.kept) if rounding is not None else make_plan(graph, _all(graph))
        self.steps = tensor_steps(self.plan, rounding) if rounding is not None else {}
        self.values = {name: torch.from_numpy(np.array(one)) for name, one in graph.constants.items()}
        self.levels, self.biases = nn.ParameterDict(), nn.ParameterDict()
        self.scales: dict[str, Tensor] = {}
        self.bounds: dict[str, tuple[Tensor, Tensor]] = {}
        self.unit: dict[str, float] = {}
        self.keys = {layer.name: str(place) for place, layer in enumerate(graph.layers)}
        for layer in graph.layers:
            if rounding is not None and layer.at in self.plan.nodes:
                self._add(layer, rounding)

    def _add(self, layer: Layer, rounding: Rounding) -> None:
        rows = channel_rows(self.graph.constants[layer.weight], layer.axis)
        scales = weight_scales(rows, shrink=rounding.shrink)
        exact = rows / scales[:, None]
        whole = rounding.weights.get(layer.name)
        if whole is None:
            whole = round_weights(rows, scales)
        key = self.keys[layer.name]
        start = torch.from_numpy(whole + np.clip(exact - whole, -NEAR, NEAR).astype(np.float32))
        self.levels[key] = nn.Parameter(start)
        self.scales[key] = torch.from_numpy(scales)[:, None]
        self.bounds[key] = (-_most(-whole), _most(whole))
        if layer.op_type != "MatMul":
            self.biases[key] = nn.Parameter(torch.zeros(len(rows)))
            self.unit[key] = float(self.steps.get(layer.end, self.steps[layer.input])[0])

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits (n, classes) of (n, 3, height, width)."""
        graph, plan = self.graph, self.plan
        inputs, outputs = set(plan.inputs), set(plan.outputs)
        values: dict[str, Tensor] = {graph.input: pictures}
        rounded: dict[str, Tensor] = {}
        if graph.input in inputs:
            rounded[graph.input] = self._rounded(graph.input, pictures)
        left = {name: len(places) for name, places in graph.readers.items()}
        for at, node in enumerate(graph.nodes):
            given: list[Tensor | None] = []
            for name in node.input:
                source = rounded if at in plan.nodes and name in rounded else values
                given.append(source.get(name, self.values.get(name)) if name else None)
            layer = graph.by_node.get(at)
            if layer is not None and at in plan.nodes:
                given = self._layer_inputs(layer, given)
            name = next(one for one in node.output if one)
            result = OPERATORS[node.op_type](node, *given)
            if name in outputs:
                result = self._rounded(name, result)
            elif name in inputs:
                rounded[name] = self._rounded(name, result)
            values[name] = result
            for one in dict.fromkeys(node.input):  # what nobody reads again need not be held here
                if one in left:
                    left[one] -= 1
                    if not left[one]:
                        values.pop(one, None)
                        rounded.pop(one, None)
        return values[graph.output]

    def _rounded(self, name: str, values: Tensor) -> Tensor:
        step, zero = self.steps[name]
        return torch.fake_quantize_per_tensor_affine(values, float(step), zero, 0, 255)

    def _layer_inputs(self, layer: Layer, given: list[Tensor | None]) -> list[Tensor | None]:
        """A layer's inputs, its weights rounded and its bias moved."""
        key = self.keys[layer.name]
        levels = self.levels[key]
        whole = _through(levels)
        weights = self.values[layer.weight]
        moved = weights.movedim(layer.axis, 0).shape
        matrix = (whole * self.scales[key]).reshape(moved).movedim(0, layer.axis)
        if key not in self.biases:
            return [given[0], matrix]
        correction = self.rounding.corrections.get(layer.name) if self.rounding is not None else None
        bias = self.biases[key] * self.unit[key]
        if correction is not None:
            bias = bias + torch.from_numpy(np.asarray(correction, np.float32))
        if len(given) > 2 and given[2] is not None:
            bias = bias + given[2].reshape(-1)
        unit = self.scales[key][:, 0] * float(self.steps[layer.input][0])
        return [given[0], matrix, _through(bias / unit) * unit]

    def keep_portable(self) -> None:
        """Hold the weights to the rule that any two of one channel and sign are to fit 16 bits."""
        for key, (low, high) in self.bounds.items():
            self.levels[key].data.clamp_(low, high)

    def learnt(self) -> Rounding:
        """The rounding with the weights and biases as they are now."""
        if self.rounding is None:
            raise ValueError("nothing is rounded, so nothing was learnt")
        weights, corrections = dict(self.rounding.weights), dict(self.rounding.corrections)
        for layer in self.graph.layers:
            key = self.keys[layer.name]
            if key not in self.levels:
                continue
            weights[layer.name] = self.levels[key].data.round().numpy().astype(np.int8)
            if key in self.biases:
                moved = (self.biases[key].data * self.unit[key]).numpy()
                corrections[layer.name] = corrections.get(layer.name, np.float32(0)) + moved
        return replace(self.rounding, weights=weights, corrections=corrections)


def _through(values: Tensor) -> Tensor:
    """`values` rounded, with gradients as if they were not."""
    return values + (values.round() - values).detach()


def _all(graph: Graph) -> frozenset[str]:
    return frozenset(layer.name for layer in graph.layers)


def _most(whole: NDArray[np.int8]) -> Tensor:
    """The largest value that each weight (channels, weights) may grow to; any two then sum to PAIR at most.

    A channel whose largest is above half of that may keep it, and the others have the rest.
    """
    wide = np.maximum(whole.astype(np.float32), 0)
    largest = wide.max(axis=1, keepdims=True)
    half = PAIR // 2
    others = np.where(largest > half, PAIR - largest, half)
    is_largest = np.zeros(wide.shape, bool)
    np.put_along_axis(is_largest, wide.argmax(axis=1)[:, None], True, axis=1)
    own = np.where(largest > half, np.minimum(largest, LIMIT), half)
    return torch.from_numpy(np.where(is_largest, own, others).astype(np.float32))


def check_trainable(graph: Graph, tensors: NDArray[np.float32], logits: NDArray[np.float32]) -> None:
    """Raise InputError where PyTorch cannot compute `graph`, or not as ONNX Runtime did (`logits`)."""
    fix = "samesight quantize without --qat"
    if graph.batch is not None:
        raise InputError("a network with a fixed batch cannot learn here", found=graph.batch, fix=fix)
    if missing := unknown(graph):
        raise InputError(
            "the network has operators that cannot learn here", found=", ".join(missing), fix=fix
        )
    some = torch.from_numpy(tensors[:CHECKED])
    try:
        with torch.no_grad():
            found = RoundedNetwork(graph)(some).numpy()
    except (RuntimeError, NotImplementedError, IndexError, TypeError) as error:
        raise InputError("the network cannot be computed in PyTorch", found=error, fix=fix) from error
    allowed = SAME * max(1.0, float(np.abs(logits[:CHECKED]).max()))
    if found.shape != logits[:CHECKED].shape or not np.abs(found - logits[:CHECKED]).max() <= allowed:
        difference = (
            np.abs(found - logits[:CHECKED]).max() if found.shape == logits[:CHECKED].shape else found.shape
        )
        raise InputError(
            "PyTorch computes the network otherwise", found=difference, expected=allowed, fix=fix
        )


def trained_roundings(
    graph: Graph,
    rounding: Rounding,
    tensors: NDArray[np.float32],
    logits: NDArray[np.float32],
    *,
    seed: int = 0,
) -> Iterator[tuple[int, Rounding]]:
    """Steps taken and the rounding so far, OFFERED times on the way.

    `tensors` (n, 3, height, width) are training photos, `logits` (n, classes) the float32 copy's on them.
    """
    network = RoundedNetwork(graph, rounding)
    pictures, targets = torch.from_numpy(tensors), torch.from_numpy(logits).log_softmax(1)
    groups = [
        {"params": list(network.levels.values()), "lr": RATE},
        {"params": list(network.biases.values()), "lr": BIAS_RATE},
    ]
    optimiser = torch.optim.Adam([group for group in groups if group["params"]])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _rate)
    order = _order(len(tensors), seed)
    with kept_memory():
        for count in track(range(1, STEPS + 1), "Learning with the rounding in place", STEPS):
            some = next(order)
            found = network(pictures[some]).log_softmax(1)
            loss = functional.kl_div(found, targets[some], reduction="batchmean", log_target=True)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            network.keep_portable()
            if count % (STEPS // OFFERED) == 0:
                yield count, network.learnt()


def _rate(step: int) -> float:
    """The share of the rate at a step: warm-up, then half a cosine."""
    warm = WARM_UP * STEPS
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / (STEPS - warm)))


def _order(count: int, seed: int) -> Iterator[Tensor]:
    """Batches of indices without end, each photo once a round."""
    random = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=random).split(BATCH)
