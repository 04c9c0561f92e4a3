"""What the int8 copy costs: labels that flip, photo by photo, beside the FP32 copy; and how sure that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, comb, inf, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Verdict", "WorstClass", "finite", "interval", "judge", "mcnemar"]

Z = 1.959964  # of a two-sided interval of 95 %


@dataclass(frozen=True)
class WorstClass:
    """The class that loses the most photos."""

    label: str
    lost: int
    gained: int
    photos: int


@dataclass(frozen=True)
class Verdict:
    """The FP32 and the int8 copy on the same photos; shares from 0 to 1."""

    photos: int
    labelled: int
    fp32_accuracy: float | None  # of the labelled photos
    int8_accuracy: float | None
    flips: int  # photos whose label changed, labelled or not
    lost: int  # right in FP32, wrong in int8; without a label a flip counts as lost
    gained: int
    drop: float
    low: float  # of the 95 % interval of the drop
    high: float
    p_value: float  # exact McNemar: of a loss and gain at least so unequal, were both alike
    worst: WorstClass | None
    max_drop: float
    max_abs_difference: float  # of the logits
    mean_abs_difference: float
    needed: int  # photos that could tell a drop of `max_drop` from none, with as many flips a photo

    @property
    def ok(self) -> bool:
        """Whether the measured drop is within the budget."""
        return self.drop <= self.max_drop + 1e-12

    @property
    def too_few(self) -> bool:
        """Whether the photos are too few to be sure of it, one way or the other."""
        return self.low <= self.max_drop < self.high

    @property
    def agreement(self) -> float:
        """The share of photos with the same label in both."""
        return 1 - self.flips / self.photos

    def words(self) -> str:
        """The drop and what it rests on, in a line."""
        text = (
            f"drop {100 * self.drop:.2f} points (95 %: {100 * self.low:.2f} to {100 * self.high:.2f}) on "
            f"{self.photos} photos: {self.flips} labels changed, {self.lost} lost, {self.gained} gained"
        )
        return f"{text}; exact McNemar p = {self.p_value:.2g}"

    def doubt(self) -> str | None:
        """What the photos are too few to tell; None where they are enough."""
        if not self.too_few:
            return None
        return (
            f"{self.photos} photos are too few for a budget of {100 * self.max_drop:g} points: the interval "
            f"reaches {100 * self.high:.2f}; about {self.needed} would do"
        )

    def to_json(self) -> dict[str, Any]:
        """The object `verdict` of quantize's JSON."""
        worst = None if self.worst is None else vars(self.worst)
        own = {"ok": self.ok, "too_few": self.too_few, "label_agreement": self.agreement}
        return finite({**own, **vars(self), "worst": worst})


def finite(figures: Mapping[str, Any]) -> dict[str, Any]:
    """`figures` for JSON, which has no infinity: None in its place."""
    return {key: None if one in (inf, -inf) else one for key, one in figures.items()}


def judge(
    fp32: NDArray[np.float32],
    int8: NDArray[np.float32],
    targets: Sequence[int | None],
    labels: Sequence[str],
    max_drop: float,
) -> Verdict:
    """The verdict on logits (photos, classes). A row of int8 logits that is not finite is a lost photo."""
    before, after = fp32.argmax(axis=1), int8.argmax(axis=1)
    finite = np.isfinite(int8).all(axis=1)
    after = np.where(finite, after, -1)
    truth = np.array([-1 if target is None else target for target in targets])
    known = truth >= 0
    changed = before != after
    lost = changed & ((before == truth) | ~known)
    gained = changed & (after == truth) & known
    count = len(fp32)
    drop = (int(lost.sum()) - int(gained.sum())) / count
    low, high = interval(int(lost.sum()), int(gained.sum()), count)
    distance = np.abs(int8.astype(np.float64) - fp32)
    discordant = (lost.sum() + gained.sum() + 1) / (count + 2)
    return Verdict(
        photos=count,
        labelled=int(known.sum()),
        fp32_accuracy=float((before == truth)[known].mean()) if known.any() else None,
        int8_accuracy=float((after == truth)[known].mean()) if known.any() else None,
        flips=int(changed.sum()),
        lost=int(lost.sum()),
        gained=int(gained.sum()),
        drop=drop,
        low=low,
        high=high,
        p_value=mcnemar(int(lost.sum()), int(gained.sum())),
        worst=_worst(truth, lost & known, gained, labels),
        max_drop=max_drop,
        max_abs_difference=float(distance.max()) if finite.all() else float("inf"),
        mean_abs_difference=float(distance.mean()) if finite.all() else float("inf"),
        needed=ceil(float(discordant) * (Z / max(max_drop, 1e-4)) ** 2),
    )


def interval(lost: int, gained: int, photos: int) -> tuple[float, float]:
    """The 95 % interval of (lost − gained) / photos for paired answers, −1 to 1.

    Wald's with half a photo added to each of the four cells (Agresti and Min 2005,
    https://doi.org/10.1002/sim.1781), which holds the truth about as often as it says also for few photos.
    """
    count = photos + 2
    b, c = (lost + 0.5) / count, (gained + 0.5) / count
    half = Z * sqrt(max(b + c - (b - c) ** 2, 0.0) / count)
    return max(b - c - half, -1.0), min(b - c + half, 1.0)


def mcnemar(lost: int, gained: int) -> float:
    """The exact two-sided p-value of `lost` against `gained`, were both as likely."""
    count = lost + gained
    tail = sum(comb(count, k) for k in range(min(lost, gained) + 1))
    return min(1.0, float(2 * tail) / float(2**count)) if count < 1000 else _normal(lost, gained)


def _normal(lost: int, gained: int) -> float:
    from math import erfc

    return erfc(max(abs(lost - gained) - 1, 0) / sqrt(2 * (lost + gained)))


def _worst(
    truth: NDArray[np.int64], lost: NDArray[np.bool_], gained: NDArray[np.bool_], labels: Sequence[str]
) -> WorstClass | None:
    """The class with the largest share of photos lost on balance; None where none loses any."""
    sizes = Counter(int(one) for one in truth if one >= 0)
    losses = Counter(int(one) for one in truth[lost])
    gains = Counter(int(one) for one in truth[gained])
    worse = [one for one in losses if losses[one] > gains[one]]
    if not worse:
        return None
    at = max(worse, key=lambda one: ((losses[one] - gains[one]) / sizes[one], losses[one], -one))
    return WorstClass(labels[at], losses[at], gains[at], sizes[at])
