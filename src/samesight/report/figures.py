"""The numbers of the page, from what the files hold: nothing is shown that was not counted here or read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054  # the 97.5 % point of the normal distribution


@dataclass(frozen=True)
class Answer:
    """One held-out photo and what was said of it. `confidence` is 0 to 1, or None where it is not known."""

    name: str
    label: str
    predicted: str
    confidence: float | None


@dataclass(frozen=True)
class Interval:
    """Where a share lies with 95 % confidence, 0 to 1."""

    low: float
    high: float


@dataclass(frozen=True)
class Confusion:
    """`counts[true, predicted]` photos, int64, in the order of `labels`."""

    labels: tuple[str, ...]
    counts: NDArray[np.int64]

    @property
    def photos(self) -> int:
        """How many photos were counted."""
        return int(self.counts.sum())

    @property
    def right(self) -> int:
        """How many of them were given their label."""
        return int(np.trace(self.counts))

    @property
    def accuracy(self) -> float:
        """The share that was right, 0 to 1; NaN where nothing was counted."""
        return self.right / self.photos if self.photos else math.nan


@dataclass(frozen=True)
class ClassResult:
    """How one class fared. A share whose denominator is 0 is None: it is not known, not 0."""

    label: str
    support: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Pair:
    """`count` photos of `label`, of `support` in all, were taken for `predicted`."""

    label: str
    predicted: str
    count: int
    support: int


@dataclass(frozen=True)
class Bin:
    """Answers whose confidence lies between low and high: how many, how sure, how often right."""

    low: float
    high: float
    photos: int
    confidence: float
    accuracy: float


def wilson(right: int, photos: int, z: float = Z95) -> Interval:
    """The score interval of a share (E. B. Wilson, 1927); sound where n is small or the share near 0 or 1."""
    if photos < 1:
        return Interval(0.0, 1.0)
    share, weight = right / photos, z * z / photos
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / photos + weight / (4 * photos))
    low = 0.0 if right == 0 else max(0.0, middle - half)
    high = 1.0 if right == photos else min(1.0, middle + half)
    return Interval(low, high)


def confusion(answers: Sequence[Answer], labels: Sequence[str]) -> Confusion:
    """The confusion matrix of `answers`; labels that only the answers name are put after the given ones."""
    order = {label: at for at, label in enumerate(labels)}
    for answer in answers:
        order.setdefault(answer.label, len(order))
        order.setdefault(answer.predicted, len(order))
    counts = np.zeros((len(order), len(order)), np.int64)
    for answer in answers:
        counts[order[answer.label], order[answer.predicted]] += 1
    return Confusion(tuple(order), counts)


def class_results(matrix: Confusion) -> tuple[ClassResult, ...]:
    """Precision, recall and F1 of each class, in the order of the labels."""
    rows, columns = matrix.counts.sum(axis=1), matrix.counts.sum(axis=0)
    results = []
    for at, label in enumerate(matrix.labels):
        right, support, said = int(matrix.counts[at, at]), int(rows[at]), int(columns[at])
        results.append(
            ClassResult(
                label,
                support,
                right / said if said else None,
                right / support if support else None,
                2 * right / (support + said) if support + said else None,
            )
        )
    return tuple(results)


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are known, or None."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def confused_pairs(matrix: Confusion) -> tuple[Pair, ...]:
    """Which class was taken for which, the most frequent first, then the larger share of its class."""
    rows = matrix.counts.sum(axis=1)
    pairs = [
        Pair(matrix.labels[true], matrix.labels[said], int(matrix.counts[true, said]), int(rows[true]))
        for true, said in np.argwhere(matrix.counts)
        if true != said
    ]
    return tuple(sorted(pairs, key=lambda pair: (-pair.count, pair.support, pair.label, pair.predicted)))


def worst_mistakes(answers: Sequence[Answer], limit: int) -> tuple[int, ...]:
    """The places of the wrong answers that were given most surely, the surest first."""
    wrong = [at for at, one in enumerate(answers) if one.label != one.predicted]
    return tuple(sorted(wrong, key=lambda at: (-(answers[at].confidence or 0.0), answers[at].name))[:limit])


def least_sure(answers: Sequence[Answer], limit: int) -> tuple[int, ...]:
    """The places of the right answers that were given least surely, of those whose confidence is known."""
    sure = {at: one.confidence for at, one in enumerate(answers) if one.confidence is not None}
    right = [at for at in sure if answers[at].label == answers[at].predicted]
    return tuple(sorted(right, key=lambda at: (sure[at], answers[at].name))[:limit])


def number(value: Any) -> float | None:
    """`value` as a finite float where it is a number or the text of one, else None."""
    if value is None or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 0 to 1 as people write it; an em dash where it is not known."""
    return "—" if share is None or math.isnan(share) else f"{100 * share:.{digits}f}\u00a0%"


def mebibytes(size_bytes: float | None) -> str:
    """A size as people write it, MiB, or KiB where it is small."""
    if size_bytes is None:
        return "—"
    return (
        f"{size_bytes / 2**20:.2f}\u00a0MiB"
        if size_bytes >= 2**20 / 10
        else f"{size_bytes / 1024:.1f}\u00a0KiB"
    )


def scientific(value: float | None) -> str:
    """A small difference as people write it: 3.1 × 10⁻⁶; 0 is exactly 0."""
    if value is None:
        return "—"
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    if -2 <= int(exponent) <= 3:
        return f"{value:.3g}"
    return f"{mantissa} × 10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
