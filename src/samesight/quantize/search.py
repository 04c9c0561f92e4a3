"""The search for an int8 copy that answers as the float32 one does: from cheap to dear, each step told.

What is compared is the whole network's answer on photos that it was not calibrated with: the divergence of
its probabilities, which is far less noisy than accuracy. A step is kept where it lessens that.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from samesight.progress import say, track
from samesight.quantize.adapt import adapted_weights
from samesight.quantize.correct import corrections
from samesight.quantize.equalise import channel_tensors, equalise
from samesight.quantize.graph import Graph
from samesight.quantize.observe import Observed, observe
from samesight.quantize.plan import make_plan
from samesight.quantize.qdq import Rounding, write_qdq
from samesight.quantize.ranges import CALIBRATORS, ranges
from samesight.runner import softmax
from samesight.runtime import OnnxRunner

__all__ = ["Blame", "Distance", "Judge", "Search", "Step", "search"]

WORTH = 0.01  # a step that lessens the divergence by less than this part of it is not kept
EXPONENTS = (0.5, 0.75)
RANKED_PHOTOS = 48  # layers are ranked on so many of the photos
KEPT_SHARE = 0.5  # a copy with more of its layers in float32 than this is none


@dataclass(frozen=True)
class Distance:
    """How far a copy's answers are from the float32 copy's, on average over photos."""

    divergence: float  # Kullback–Leibler, of the probabilities, in nats
    agreement: float  # the share of photos with the same label
    expected_drop: float  # in accuracy, were the float32 copy's probabilities right: 0 to 1
    max_abs_difference: float  # of the logits


@dataclass(frozen=True)
class Step:
    """One thing that was tried."""

    step: str
    distance: Distance
    taken: bool
    seconds: float


@dataclass(frozen=True)
class Blame:
    """A layer, and the part of the divergence that goes when it alone stays float32."""

    layer: str
    op_type: str
    node: str
    gain: float


@dataclass(frozen=True)
class Search:
    """What the search came to."""

    model: bytes
    graph: Graph
    rounding: Rounding
    distance: Distance
    steps: tuple[Step, ...]
    blames: tuple[Blame, ...]  # the guiltiest first; empty where layers did not have to be ranked
    ok: bool  # whether the expected drop came within the aim


class Judge:
    """Photos to choose by, and the float32 copy's answers on them."""

    def __init__(self, model: bytes, tensors: NDArray[np.float32]) -> None:
        self.model = model
        self.tensors = tensors
        self.logits = self.answers(tensors)
        self.probabilities = softmax(self.logits)

    def answers(self, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The float32 copy's logits (n, classes)."""
        return OnnxRunner(self.model, copy="fp32").logits(tensors)

    def measure(self, model: bytes, photos: int | None = None) -> Distance:
        """How far `model` is from the float32 copy, on all photos or the first few."""
        logits = OnnxRunner(model, copy="int8").logits(self.tensors[:photos])
        reference, right = self.logits[:photos], self.probabilities[:photos]
        if not np.isfinite(logits).all():
            return Distance(float("inf"), 0.0, 1.0, float("inf"))
        rows = np.arange(len(logits))
        lost = right[rows, reference.argmax(axis=1)] - right[rows, logits.argmax(axis=1)]
        ratio = np.log(np.maximum(right, 1e-12)) - np.log(np.maximum(softmax(logits), 1e-12))
        return Distance(
            divergence=float((right * ratio).sum(axis=1).mean()),
            agreement=float((logits.argmax(axis=1) == reference.argmax(axis=1)).mean()),
            expected_drop=float(lost.mean()),
            max_abs_difference=float(np.abs(logits - reference).max()),
        )


def search(
    graph: Graph,
    calibration: NDArray[np.float32],
    judge: Judge,
    aim: float,
    training: NDArray[np.float32] | None = None,
) -> Search:
    """The best int8 copy that was found; layers stay float32 only where its expected drop is above `aim`.

    With `training` (n, 3, height, width) weights learn on those photos with the rounding in place; that needs
    torch.
    """
    return _Searching(graph, calibration, judge, aim, training).run()


class _Searching:
    """The best copy so far, and what was tried."""

    def __init__(
        self,
        graph: Graph,
        calibration: NDArray[np.float32],
        judge: Judge,
        aim: float,
        training: NDArray[np.float32] | None,
    ) -> None:
        self.graph, self.calibration, self.judge, self.aim = graph, calibration, judge, aim
        self.training = training
        self.seen = self._observe(graph)
        self.calibrator = "minmax"
        self.rounding = Rounding(ranges(self.seen, "minmax"))
        self.model = b""
        self.distance = Distance(float("inf"), 0.0, 1.0, float("inf"))
        self.steps: list[Step] = []

    def run(self) -> Search:
        self._try("minmax", self.rounding)
        for calibrator in list(CALIBRATORS)[1:]:
            if self._try(calibrator, replace(self.rounding, ranges=ranges(self.seen, calibrator))):
                self.calibrator = calibrator
        self._try("symmetric activations", replace(self.rounding, symmetric=True))
        self._try("largest weights cut", replace(self.rounding, shrink=True))
        self._try("bias correction", self._corrected(self.graph, self.seen, self.rounding))
        self._equalise()
        adapted = adapted_weights(self.graph, self.calibration, shrink=self.rounding.shrink)
        adapted_rounding = replace(self.rounding, weights=adapted)
        self._try("weights adapted", self._corrected(self.graph, self.seen, adapted_rounding))
        if self.training is not None:
            self._learn(self.training)
        blames = self._keep_layers() if self.distance.expected_drop > self.aim else ()
        ok = self.distance.expected_drop <= self.aim
        return Search(self.model, self.graph, self.rounding, self.distance, tuple(self.steps), blames, ok)

    def _try(self, step: str, rounding: Rounding, graph: Graph | None = None) -> bool:
        """Whether the copy so rounded is better than the best so far; then it is the best."""
        start = time.monotonic()
        model = write_qdq(graph or self.graph, rounding)
        found = self.judge.measure(model)
        taken = found.divergence < (1 - WORTH) * self.distance.divergence or not self.model
        self._log(step, found, taken, start)
        if taken:
            self.model, self.rounding, self.distance = model, rounding, found
            self.graph = graph or self.graph
        return taken

    def _log(self, step: str, found: Distance, taken: bool, start: float) -> None:
        self.steps.append(Step(step, found, taken, round(time.monotonic() - start, 2)))
        say(
            f"  {step:<24} divergence {found.divergence:.5f}, labels as FP32 {found.agreement:.1%}, "
            f"expected drop {100 * found.expected_drop:.2f} points{'  taken' if taken else ''}"
        )

    def _observe(self, graph: Graph) -> dict[str, Observed]:
        names = [
            *make_plan(graph).tensors,
            *(layer.input for layer in graph.layers),
            *(layer.end for layer in graph.layers),  # rounded on their way out of a layer that stays float32
            *channel_tensors(graph),
        ]
        return observe(graph, list(dict.fromkeys(names)), self.calibration)

    def _corrected(self, graph: Graph, seen: dict[str, Observed], rounding: Rounding) -> Rounding:
        return replace(rounding, corrections=corrections(graph, seen, rounding))

    def _equalise(self) -> None:
        """Try channels brought to like ranges, each time with ranges and biases of its own."""
        first, seen = self.graph, self.seen
        for exponent in EXPONENTS:
            graph, groups = equalise(first, seen, exponent)
            if not groups:
                return
            observed = self._observe(graph)
            rounding = replace(self.rounding, ranges=ranges(observed, self.calibrator), weights={})
            rounding = self._corrected(graph, observed, rounding)
            if self._try(f"channels equalised ^{exponent:g}", rounding, graph):
                self.seen = observed

    def _learn(self, tensors: NDArray[np.float32]) -> None:
        """Try weights that learn with the rounding in place, several times on their way."""
        from samesight.quantize.aware import trained_roundings

        logits = self.judge.answers(tensors)
        for count, rounding in trained_roundings(self.graph, self.rounding, tensors, logits):
            self._try(f"{count} steps of learning", rounding)

    def _keep_layers(self) -> tuple[Blame, ...]:
        """Rank the layers by what each costs, and leave the guiltiest in float32 until the aim is met."""
        blames = self._rank()
        best = None
        most = int(KEPT_SHARE * len(blames))
        count = 1
        rounding = self.rounding
        while count <= most:
            kept = frozenset(blame.layer for blame in blames[:count])
            start = time.monotonic()
            tried = replace(rounding, kept=kept)
            model = write_qdq(self.graph, tried)
            found = self.judge.measure(model)
            met = found.expected_drop <= self.aim
            self._log(f"{count} layers in FP32", found, met, start)
            if met or best is None or found.expected_drop < best:
                best = found.expected_drop
                self.model, self.rounding, self.distance = model, tried, found
            if met:
                break
            count += max(1, count // 2)
        return blames

    def _rank(self) -> tuple[Blame, ...]:
        whole = self.judge.measure(self.model, RANKED_PHOTOS).divergence
        found = []
        layers = self.graph.layers
        say(f"  the drop is above its aim of {100 * self.aim:g} points: ranking {len(layers)} layers")
        for layer in track(layers, "Ranking layers", len(layers)):
            model = write_qdq(self.graph, replace(self.rounding, kept=frozenset([layer.name])))
            gain = whole - self.judge.measure(model, RANKED_PHOTOS).divergence
            name = self.graph.nodes[layer.at].name or layer.name
            found.append(Blame(layer.name, layer.op_type, name, gain / whole if whole else 0.0))
        return tuple(sorted(found, key=lambda blame: -blame.gain))


def layers_in_words(blames: Sequence[Blame]) -> str:
    """Layers as a list for a sentence."""
    return ", ".join(f"{blame.op_type} {blame.node} ({blame.gain:.0%})" for blame in blames)
