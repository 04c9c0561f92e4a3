"""Near duplicates: the same picture re-compressed, resized, cropped a little, brightened, greyed, mirrored.

A 64-bit perceptual hash either misses a crop or takes one hand on white paper for another. So photos are
found in two steps: a coarse descriptor (the first 63 coefficients of a cosine transform, as real numbers,
each frequency weighted alike) names pairs worth a look, all against all by matrix products; these are
aligned, coarse to fine, and are near duplicates where their fine detail then agrees. Thresholds are in
thresholds.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samesight.data.align import Ways, likeness, refine, shrink
from samesight.data.look import COARSE, FINE
from samesight.data.thresholds import limit
from samesight.progress import track
from samesight.runner import cpus

__all__ = ["NearGroup", "near_groups"]

FREQUENCIES = 8  # of the descriptor, in each direction
LEAST_SPREAD = 2.0  # grey levels; a picture flatter than that is like any other flat one
NEIGHBOURS = 16  # most pairs that a photo begins in one orientation
ROWS, COLUMNS = 512, 4096  # photos that are compared with each other at once: 8 MB, which a cache holds
STAGES = ((8, 5, 0.88), (16, 3, 0.80), (32, 4, 0.0), (64, 3, 0.0))
"""Side, steps of alignment, and the likeness without which a pair is given up (0: decided at the end).

Of 2,950 pairs of CIFAR-10 that end above 0.93, 1 % have less than 0.86 at side 8, or 0.91 at side 16; of all
pairs that are begun, 6 % remain for side 32.
"""
LARGEST_CHANGE = 0.25  # of the side: beyond it a silhouette can be bent into any other
PAIRS_A_PHOTO, PAIRS_ANYWAY = 4, 4000  # at most so many are aligned, the likeliest
LIMITS = (0.92, 0.94, 0.96, 0.98, 0.99)  # where the limit rises to, where photos are all alike
JUST_BELOW = 0.02
TOGETHER = 1 << 18  # pixels that are aligned at once, so that they stay in a core's cache


@dataclass(frozen=True)
class NearGroup:
    """Photos that show the same picture, directly or by way of others of the group.

    `mirrored` are those that show it the other way round than the first; `likeness` is the lowest of the
    links that hold the group together, 0 to 1.
    """

    names: tuple[str, ...]
    mirrored: tuple[str, ...]
    likeness: float


@dataclass(frozen=True)
class _Pairs:
    """Pairs of photos by their indices; arrays of one length."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    mirrored: NDArray[np.bool_]
    likeness: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.first)

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> _Pairs:
        return _Pairs(self.first[which], self.second[which], self.mirrored[which], self.likeness[which])


def near_groups(
    pictures: Mapping[str, NDArray[np.uint8]], hashes: Mapping[str, str]
) -> tuple[NearGroup, ...]:
    """The groups of near duplicates among `pictures` (small and grey, as `look_at` gives them), by name.

    Photos with the same bytes, by `hashes`, are compared once; they are named in the groups that they are
    near duplicates of others in, and make none by themselves.
    """
    same: dict[str, list[str]] = {}
    for name in sorted(pictures):
        same.setdefault(hashes[name], []).append(name)
    copies = list(same.values())
    pairs = _near_pairs([pictures[names[0]] for names in copies])
    groups = []
    for members, lowest in _joined(len(copies), pairs):
        names = [(name, turned) for at, turned in members for name in copies[at]]
        names.sort()
        other = not names[0][1]
        mirrored = tuple(name for name, turned in names if turned == other)
        groups.append(NearGroup(tuple(name for name, _ in names), mirrored, round(lowest, 3)))
    return tuple(sorted(groups, key=lambda group: group.names))


def _near_pairs(pictures: Sequence[NDArray[np.uint8]]) -> _Pairs:
    """The pairs of `pictures` that are near duplicates."""
    pairs = _worth_a_look(_descriptors(pictures))
    ways: Ways = np.tile(np.eye(3, dtype=np.float32), (len(pairs), 1, 1))
    fine = np.array([len(picture) == FINE for picture in pictures], bool)
    done: list[_Pairs] = []
    for side, steps, least in STAGES:
        if side > COARSE:
            both = fine[pairs.first] & fine[pairs.second]
            done.append(_clear(pairs.take(~both), ways[~both]))
            pairs, ways = pairs.take(both), ways[both]
        pairs, ways = _aligned(pictures, pairs, ways, side, steps)
        kept = pairs.likeness >= (least or limit("near duplicate") - JUST_BELOW)
        pairs, ways = pairs.take(kept), ways[kept]
    done.append(_clear(pairs, ways))
    return _together(done)


def _clear(pairs: _Pairs, ways: Ways) -> _Pairs:
    """The pairs that were not bent further than a copy may be, and whose likeness is above the limit."""
    change = np.abs(ways[:, :2] - np.eye(3, dtype=np.float32)[:2])
    pairs = pairs.take(change.max(axis=(1, 2), initial=0) <= LARGEST_CHANGE)
    return pairs.take(pairs.likeness >= _clear_limit(pairs.likeness))


def _descriptors(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """(n, 64) float32 of length 1; 0 throughout for a picture that is flat.

    The middle counts double, since a copy that was cropped has lost its margin.
    """
    frequency = np.arange(FREQUENCIES, dtype=np.float32)
    place = (np.arange(COARSE, dtype=np.float32) + np.float32(0.5)) * np.float32(np.pi / COARSE)
    waves = np.cos(frequency[:, None] * place)
    weight = np.hypot(frequency[:, None], frequency)  # natural pictures have amplitudes of about 1/frequency
    window = (1 + np.sin(place) ** 2) / 2
    window = window[:, None] * window
    found = np.zeros((len(pictures), FREQUENCIES**2), np.float32)
    for start in range(0, len(pictures), COLUMNS):
        block = pictures[start : start + COLUMNS]
        small = _small(block, COARSE)
        even = small - (small * window).sum(axis=(1, 2), keepdims=True) / window.sum()
        spectrum = ((waves @ (even * window) @ waves.T) * weight).reshape(len(block), -1)
        lengths = np.linalg.norm(spectrum, axis=1, keepdims=True)
        lengths[small.std(axis=(1, 2)) < LEAST_SPREAD] = np.inf
        found[start : start + COLUMNS] = spectrum / lengths
    return found


def _worth_a_look(descriptors: NDArray[np.float32]) -> _Pairs:
    """The pairs whose descriptors are alike, one way round or the other."""
    # A mirrored picture has the same spectrum, but the odd horizontal waves with the other sign.
    turned = descriptors * np.tile((-1.0) ** np.arange(FREQUENCIES), FREQUENCIES).astype(np.float32)
    most = PAIRS_A_PHOTO * len(descriptors) + PAIRS_ANYWAY
    found = [_together([])]
    starts = range(0, len(descriptors), ROWS)
    for start in track(starts, "Comparing photos", total=len(starts)):
        block = descriptors[start : start + ROWS]
        for mirrored, others in ((False, descriptors), (True, turned)):
            row = [
                _alike(block, others[at : at + COLUMNS], start, at, mirrored)
                for at in range(start, len(others), COLUMNS)
            ]
            pairs = _together(row)
            found.append(pairs.take(_likeliest(pairs)))
        if sum(map(len, found)) > 2 * most:
            found = [_first(_together(found), most)]
    return _first(_together(found), most)


def _first(pairs: _Pairs, most: int) -> _Pairs:
    """At most so many of the pairs, the likeliest, in their order."""
    return pairs.take(np.sort(np.argsort(-pairs.likeness, kind="stable")[:most]))


def _alike(
    block: NDArray[np.float32], others: NDArray[np.float32], start: int, at: int, mirrored: bool
) -> _Pairs:
    """The pairs of photo `start` … with a later one of `at` … whose descriptors are alike."""
    cosines = block @ others.T
    first, second = np.divmod(np.flatnonzero(cosines >= np.float32(limit("alike"))), len(others))
    values = cosines[first, second]
    pairs = _Pairs(first + start, second + at, np.full(len(first), mirrored), values)
    return pairs.take(pairs.second > pairs.first)


def _together(pairs: Sequence[_Pairs]) -> _Pairs:
    none = _Pairs(np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0, bool), np.zeros(0, np.float32))
    columns = zip(*map(_columns, (none, *pairs)), strict=True)
    return _Pairs(*(np.concatenate(column) for column in columns))


def _columns(pairs: _Pairs) -> tuple[NDArray[Any], ...]:
    return pairs.first, pairs.second, pairs.mirrored, pairs.likeness


def _likeliest(pairs: _Pairs) -> NDArray[np.intp]:
    """The places of at most NEIGHBOURS pairs of each first photo, those that are most alike."""
    order = np.lexsort((-pairs.likeness, pairs.first))
    first = pairs.first[order]
    rank = np.arange(len(order)) - np.searchsorted(first, first, side="left")
    return np.sort(order[rank < NEIGHBOURS])


def _aligned(
    pictures: Sequence[NDArray[np.uint8]], pairs: _Pairs, ways: Ways, side: int, steps: int
) -> tuple[_Pairs, Ways]:
    """The pairs with `ways` improved at `side`, and their likeness there."""
    together = max(1, TOGETHER // side**2)
    pieces = [np.arange(start, min(start + together, len(pairs))) for start in range(0, len(pairs), together)]

    def work(piece: NDArray[np.intp]) -> tuple[Ways, NDArray[np.float32]]:
        some = pairs.take(piece)
        first, second = (_small([pictures[at] for at in which], side) for which in (some.first, some.second))
        second[some.mirrored] = second[some.mirrored][:, :, ::-1]
        better = refine(first, second, ways[piece], steps)
        return better, likeness(first, second, better)

    if not pieces:
        return pairs, ways
    with ThreadPoolExecutor(cpus()) as pool:
        what = f"Aligning photos at {side} pixels"
        results = list(track(pool.map(work, pieces), what, total=len(pieces)))
    values = np.concatenate([value for _, value in results])
    moved = np.concatenate([way for way, _ in results])
    return _Pairs(pairs.first, pairs.second, pairs.mirrored, values), moved


def _small(pictures: Sequence[NDArray[np.uint8]], side: int) -> NDArray[np.float32]:
    """(n, side, side): the pictures, which have one of two sizes, at `side`."""
    sizes = np.array([len(picture) for picture in pictures])
    small = np.empty((len(pictures), side, side), np.float32)
    for size in np.unique(sizes):
        places = np.flatnonzero(sizes == size)
        small[places] = shrink(np.stack([pictures[at] for at in places.tolist()]), side)
    return small


def _clear_limit(values: NDArray[np.float32]) -> float:
    """The likeness from which on pairs stand clear of the rest; infinite where they nowhere do.

    Copies are few and very alike, and next to none lie just below them. Where many do, the photos are all
    alike: hands on one background, X-rays, handwritten digits.
    """
    for least in (limit("near duplicate"), *LIMITS):
        above = np.count_nonzero(values >= least)
        below = np.count_nonzero((values >= least - JUST_BELOW) & (values < least))
        if below <= limit("clear of the rest") * above:
            return least
    return float("inf")


def _joined(count: int, pairs: _Pairs) -> Iterator[tuple[list[tuple[int, bool]], float]]:
    """Each group as (photo, whether it is mirrored against the group's first), and its weakest link."""
    links: dict[int, list[tuple[int, bool, float]]] = {}
    order = np.argsort(-pairs.likeness, kind="stable")
    for at in order:  # the strongest first, so that the orientation follows them
        one, other = int(pairs.first[at]), int(pairs.second[at])
        turned, value = bool(pairs.mirrored[at]), float(pairs.likeness[at])
        links.setdefault(one, []).append((other, turned, value))
        links.setdefault(other, []).append((one, turned, value))
    seen: dict[int, bool] = {}
    for start in range(count):
        if start in seen or start not in links:
            continue
        seen[start] = False
        members, lowest, queue = [(start, False)], 1.0, deque([start])
        while queue:
            here = queue.popleft()
            for there, turned, value in links[here]:
                if there not in seen:
                    seen[there] = seen[here] != turned
                    lowest = min(lowest, value)
                    members.append((there, seen[there]))
                    queue.append(there)
        yield members, lowest
