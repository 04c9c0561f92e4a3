"""How far confidence can be believed: calibration error with its uncertainty, NLL, Brier, a temperature.

The expected calibration error (Naeini 2015, Guo 2017) of few photos is large even for a perfectly calibrated
network, since in each bin the share that is right strays from its expectation by chance. Drawing the photos
anew adds as much again, and such an interval misses the truth: on 200 photos of a calibrated network it held
the true value in none of 300 trials (docs/LOG.md). So two things are said instead: what a calibrated network
would show by chance on as many photos of the same confidences (Bröcker and Smith 2007), and an interval of
all miscalibrations from which the one that was seen could have come, by a parametric bootstrap of the bins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samesight.report.figures import Answer, Bin, Interval
from samesight.report.predictions import Predictions

Floats = NDArray[np.float64]

BINS = 15  # of Guo et al. 2017
DRAWS = 400  # of each miscalibration that is tried
ROWS = 4096  # photos whose probabilities are held at once
FIRST = 5  # answers that are kept of each photo
HOTTEST = 20.0  # temperatures are looked for from 1 / HOTTEST to HOTTEST
SEED = 0  # the same predictions give the same intervals


@dataclass(frozen=True)
class Scores:
    """What the probabilities of each photo say; the photos in their order."""

    confidence: Floats  # (n,) of the first answer, 0 to 1
    right: NDArray[np.bool_]  # (n,)
    nll: Floats  # (n,) −log of the true class's probability
    brier: Floats  # (n,) squared distance from the truth over all classes, 0 to 2
    first: NDArray[np.int64]  # (n, k) classes, the most probable first
    likely: Floats  # (n, k) their probabilities
    true: Floats  # (n,) the true class's probability
    rank: NDArray[np.int64]  # (n,) of the true class, from 1


@dataclass(frozen=True)
class Binned:
    """Photos in bins of confidence. `error` is the ECE; `chance` is what it stays below in 95 of 100 cases if
    every confidence were exactly right."""

    bins: tuple[Bin, ...]
    error: float
    interval: Interval
    chance: float


@dataclass(frozen=True)
class Calibration:
    """How sure a network is against how often it is right; `nll` and `brier` need all probabilities."""

    photos: int
    accuracy: float
    confidence: float
    equal_width: Binned
    equal_mass: Binned
    nll: float | None = None
    brier: float | None = None


@dataclass(frozen=True)
class Temperature:
    """The number that logits are divided by so that the inner validation part is least surprising.

    None where that part has no best one, as when every photo of it is right.
    """

    value: float | None
    photos: int  # that it was fitted on


@dataclass(frozen=True)
class Confidence:
    """How far the confidence of a run's answers can be believed, and whether a temperature mends it.

    `temperature` is None where the logits are not recorded, or no photo was there to fit it on; `mended` is
    the calibration of the very same answers with their logits divided by it.
    """

    seen: Calibration
    temperature: Temperature | None
    mended: Calibration | None


def judge(
    answers: Sequence[Answer], scores: Scores | None, predictions: Predictions | None
) -> Confidence | None:
    """The confidence of the held-out `answers`, whose `scores` and `predictions` make it more exact.

    None where no confidence is known.
    """
    if scores is None or predictions is None:
        known = {at: one.confidence for at, one in enumerate(answers) if one.confidence is not None}
        if not known:
            return None
        right = [answers[at].label == answers[at].predicted for at in known]
        return Confidence(calibrate(list(known.values()), right), None, None)
    seen = calibrate(scores.confidence, scores.right, scores)
    val, test = predictions.parts.get("val"), predictions.parts["test"]
    if val is None:
        return Confidence(seen, None, None)
    temperature = fit_temperature(val.logits, val.targets)
    if temperature.value is None:
        return Confidence(seen, temperature, None)
    cooled = score(test.logits, test.targets, temperature.value)
    return Confidence(seen, temperature, calibrate(cooled.confidence, cooled.right, cooled))


def score(logits: NDArray[np.float32], targets: NDArray[np.int64], temperature: float = 1.0) -> Scores:
    """The scores of `logits` (n, classes) divided by `temperature`, in float64."""
    count, classes = logits.shape
    kept = min(FIRST, classes)
    confidence, nll, brier, true = (np.zeros(count) for _ in range(4))
    first, likely = np.zeros((count, kept), np.int64), np.zeros((count, kept))
    rank = np.zeros(count, np.int64)
    for rows in _pieces(count):
        scaled = logits[rows].astype(np.float64) / temperature
        log = scaled - scaled.max(axis=1, keepdims=True)
        log -= np.log(np.exp(log).sum(axis=1, keepdims=True))
        share, at, wanted = np.exp(log), np.arange(len(log)), targets[rows]
        order = np.argsort(-log, axis=1, kind="stable")[:, :kept]
        first[rows], likely[rows] = order, np.take_along_axis(share, order, axis=1)
        confidence[rows], true[rows], nll[rows] = share[at, order[:, 0]], share[at, wanted], -log[at, wanted]
        brier[rows] = (share**2).sum(axis=1) - 2 * share[at, wanted] + 1
        rank[rows] = 1 + (log > log[at, wanted][:, None]).sum(axis=1)
    return Scores(confidence, first[:, 0] == targets, nll, brier, first, likely, true, rank)


def calibrate(
    confidence: Sequence[float] | Floats,
    right: Sequence[bool] | NDArray[np.bool_],
    scores: Scores | None = None,
) -> Calibration:
    """The calibration of at least one answer; NLL and Brier where `scores` of the same photos are given."""
    sure, hit = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    assert len(sure) == len(hit) > 0
    return Calibration(
        photos=len(sure),
        accuracy=float(hit.mean()),
        confidence=float(sure.mean()),
        equal_width=_binned(sure, hit, np.arange(BINS + 1) / BINS, equal_width),
        equal_mass=_binned(sure, hit, None, equal_mass),
        nll=None if scores is None else float(scores.nll.mean()),
        brier=None if scores is None else float(scores.brier.mean()),
    )


def equal_width(confidence: Floats) -> NDArray[np.int64]:
    """The bin of each confidence among BINS of equal width, (low, high], 0 in the first."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def equal_mass(confidence: Floats) -> NDArray[np.int64]:
    """The bin of each confidence among at most BINS of about as many photos; equal ones are never parted."""
    ranked = np.sort(confidence)
    cuts = ranked[[len(ranked) * at // BINS for at in range(1, BINS)]]
    return np.searchsorted(np.unique(cuts[cuts > ranked[0]]), confidence, side="right").astype(np.int64)


def _binned(
    sure: Floats, right: Floats, edges: Floats | None, place: Callable[[Floats], NDArray[np.int64]]
) -> Binned:
    """`edges` are the bins' own, or None where a bin reaches from its least to its largest confidence."""
    at = place(sure)
    counts = np.bincount(at)
    filled = np.flatnonzero(counts)
    photos, summed = counts[filled], np.bincount(at, sure)[filled]
    hits = np.bincount(at, right)[filled]
    bins = []
    for index, one in enumerate(filled.tolist()):
        inside = sure[at == one]
        low, high = (inside.min(), inside.max()) if edges is None else (edges[one], edges[one + 1])
        count = int(photos[index])
        bins.append(Bin(float(low), float(high), count, summed[index] / count, hits[index] / count))
    error = float(np.abs(summed - hits).sum() / len(sure))
    interval, chance = _uncertainty(photos, summed / photos, hits / photos, error)
    return Binned(tuple(bins), error, interval, chance)


def _uncertainty(
    photos: NDArray[np.int64], sure: Floats, right: Floats, error: float
) -> tuple[Interval, float]:
    """All true calibration errors that `error` is likely to be seen of, and what chance alone would show.

    The rates of being right that are tried lead from what was said (no miscalibration) through what was seen
    and on, each bin's away from its confidence; a rate is kept where `error` lies within the middle 95 % of
    the errors drawn from it. The error that was seen is always in the interval.
    """
    random = np.random.default_rng(SEED)
    whole = photos.sum()
    away = np.where(sure >= right, 1.0, -1.0)
    reach = min(1.0, 6 / math.sqrt(whole))
    rates = [sure - share * (sure - right) for share in np.linspace(0, 1, 21)]
    rates += [right - more * away for more in np.linspace(0, reach, 41)[1:]]
    kept, chance = [error], 0.0
    for at, rate in enumerate(rates):
        likely = np.clip(rate, 0, 1)
        drawn = random.binomial(photos, likely, (DRAWS, len(photos)))
        seen = np.abs(photos * sure - drawn).sum(axis=1) / whole
        low, high = np.percentile(seen, (2.5, 97.5))
        if at == 0:
            chance = float(np.percentile(seen, 95))
            low = 0.0  # an error still smaller speaks for no miscalibration, not against it
        if low <= error <= high:
            kept.append(float((photos * np.abs(sure - likely)).sum() / whole))
    return Interval(min(kept), max(kept)), chance


def fit_temperature(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> Temperature:
    """The temperature of the least mean NLL on these photos (Guo et al. 2017).

    The NLL is convex in 1 / temperature, so its slope is bisected: the mean over photos of the logits'
    expectation less the true one's. A best one at the end of the range is none.
    """
    count = len(targets)
    if not count:
        return Temperature(None, 0)

    def slope(inverse: float) -> float:
        total = 0.0
        for rows in _pieces(count):
            wide = logits[rows].astype(np.float64)
            wide -= wide.max(axis=1, keepdims=True)
            weights = np.exp(wide * inverse)
            expected = (weights * wide).sum(axis=1) / weights.sum(axis=1)
            total += float((expected - wide[np.arange(len(wide)), targets[rows]]).sum())
        return total

    low, high = -math.log(HOTTEST), math.log(HOTTEST)
    if not slope(math.exp(low)) < 0 < slope(math.exp(high)):
        return Temperature(None, count)
    for _ in range(32):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(math.exp(middle)) < 0 else (low, middle)
    return Temperature(math.exp(-(low + high) / 2), count)


def bootstrap_accuracy(right: NDArray[np.bool_], groups: Sequence[str | None]) -> Interval:
    """Where accuracy lies with 95 % confidence, by drawing photos anew; photos of one group stay together.

    Photos of one person or one video are alike, so they tell less than as many photos of others.
    """
    random = np.random.default_rng(SEED)
    names = [f"photo {at}" if group is None else f"group {group}" for at, group in enumerate(groups)]
    _, unit = np.unique(names, return_inverse=True)
    size, hits = np.bincount(unit), np.bincount(unit, right)
    found = []
    for _ in range(2000):
        drawn = np.bincount(random.integers(len(size), size=len(size)), minlength=len(size))
        found.append(float((drawn * hits).sum() / (drawn * size).sum()))
    low, high = np.percentile(found, (2.5, 97.5))
    return Interval(float(low), float(high))


def _pieces(count: int) -> Iterator[slice]:
    return (slice(start, start + ROWS) for start in range(0, count, ROWS))
