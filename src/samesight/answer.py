"""What a photo shows: labels with their probabilities, from a network's logits. Imports no numpy."""

from __future__ import annotations

import heapq
import math
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

__all__ = ["Answer", "Top", "below", "highest", "likeliest"]


@dataclass(frozen=True)
class Top:
    """One of the likeliest labels."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class Answer:
    """What a photo shows, likeliest first."""

    top: tuple[Top, ...]
    bundle: str
    """The id of the bundle that answered."""

    @property
    def label(self) -> str:
        """The likeliest."""
        return self.top[0].label

    @property
    def index(self) -> int:
        """Of `label`, among the bundle's labels."""
        return self.top[0].index

    @property
    def confidence(self) -> float:
        """The probability of `label`, 0 to 1: the softmax of the logits, in float64."""
        return self.top[0].probability

    def to_json(self, path: str | Path) -> dict[str, Any]:
        """The object that `samesight predict --json` prints for the photo at `path`."""
        return {
            "path": str(path),
            "label": self.label,
            "index": self.index,
            "confidence": self.confidence,
            "top": [vars(one) for one in self.top],
            "bundle": self.bundle,
        }


def likeliest(differences: Iterable[float], order: Iterable[int], labels: Sequence[str]) -> tuple[Top, ...]:
    """The labels at the places `order` with their probabilities, the softmax of finite logits.

    `differences` are each logit less the highest, in double. By the C library's exp and a sum that is rounded
    once: the same whichever of numpy's kernels this CPU would have taken.
    """
    powers = list(map(math.exp, differences))
    total = math.fsum(powers)
    return tuple(Top(labels[place], place, powers[place] / total) for place in order)


def below(logits: Sequence[float]) -> Iterator[float]:
    """Each logit less the highest."""
    return map(operator.sub, logits, repeat(max(logits)))


def highest(logits: Sequence[float], count: int) -> list[int]:
    """The places of the `count` largest, at least one; of equal ones the first comes first."""
    return heapq.nlargest(max(count, 1), range(len(logits)), key=logits.__getitem__)
