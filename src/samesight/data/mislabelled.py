"""Labels that are likely wrong: a photo that a classifier which never saw it takes for another class.

Confident learning (C. Northcutt, L. Jiang, I. Chuang, "Confident Learning: Estimating Uncertainty in Dataset
Labels", JAIR 70, 2021) on out-of-fold probabilities of a multinomial logistic regression on a network's
features. Only numpy: the regression is convex, and a few hundred steps of Nesterov's method settle it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samesight.data.checks import Judged, Mislabelled
from samesight.data.features import bundle_of, photo_features
from samesight.data.near import NearGroup
from samesight.data.photos import Photo, Photos, natural
from samesight.data.thresholds import limit
from samesight.progress import track
from samesight.runner import softmax

__all__ = ["find_mislabelled", "out_of_fold", "suspects"]

FOLDS = 5
WIDTH = 256  # features that are kept: those directions in which photos differ most
PENALTY = 0.3  # on squared weights, in all; the features of a photo have a mean squared length of 1
STEPS = 200
SEED = "samesight folds"


def find_mislabelled(
    photos: Photos, hashes: Mapping[str, str], near: Sequence[NearGroup], model: Path
) -> Judged:
    """The likely wrong labels among the photos that `hashes` names.

    `model` is a bundle, or a run with its bundle. Copies of one photo are in one fold, else its copy would
    vouch for a wrong label. Of more photos than are judged, those whose hashes come first are. Raises
    InputError, BundleError.
    """
    bundle = bundle_of(model)
    items = [photo for photo in photos.items if photo.label is not None and photo.name in hashes]
    notes = []
    most = int(limit("judged"))
    if len(items) > most:
        notes.append(f"labels of {most:,} of {len(items):,} photos were judged")
        items = sorted(sorted(items, key=lambda photo: hashes[photo.name])[:most], key=lambda one: one.name)
    features, read = photo_features(bundle, [photo.path for photo in items])
    items = [items[at] for at in read.tolist()]
    names = sorted({photo.label for photo in items if photo.label is not None}, key=natural)
    labels = np.array([names.index(photo.label) for photo in items if photo.label is not None], np.int64)
    shares = out_of_fold(features, labels, len(names), _folds(items, hashes, near))
    found = [
        Mislabelled(
            items[at].name,
            names[labels[at]],
            names[other],
            round(float(shares[at, labels[at]]), 4),
            round(float(shares[at, other]), 4),
        )
        for at, other in suspects(shares, labels)
    ]
    agree = float((shares.argmax(axis=1) == labels).mean()) if len(labels) else 0.0
    notes.append(
        f"labels were judged by {bundle.name} {bundle.version}: photos that it was not fitted to are told "
        f"apart by its features in {agree:.1%} of {len(labels):,} cases"
    )
    return Judged(tuple(found), tuple(notes))


def suspects(shares: NDArray[np.float64], labels: NDArray[np.int64]) -> list[tuple[int, int]]:
    """(photo, likely class) where `shares` (n, classes) contradict `labels` (n,), the surest first.

    A class is a candidate where the photo's share of it is at least the mean share that photos with that
    label have of it. The likeliest candidate must be another than the label's own, and be so much likelier
    than it as the threshold "mislabelled" says.
    """
    classes = shares.shape[1]
    counts = np.bincount(labels, minlength=classes)
    own = shares[np.arange(len(labels)), labels]
    usual = np.bincount(labels, own, minlength=classes) / np.maximum(counts, 1)
    enough = counts >= limit("judged class")
    candidates = np.where((shares >= usual) & enough, shares, -1.0)
    likely = candidates.argmax(axis=1)
    best = candidates.max(axis=1, initial=-1.0)
    which = np.flatnonzero((likely != labels) & enough[labels] & (best - own >= limit("mislabelled")))
    order = which[np.argsort(own[which] - best[which], kind="stable")]
    return [(int(at), int(likely[at])) for at in order]


def out_of_fold(
    features: NDArray[np.float32], labels: NDArray[np.int64], classes: int, folds: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(n, classes): the probability of each class, by a classifier that was fitted to the other folds."""
    rows = _reduced(features)
    shares = np.zeros((len(rows), classes))
    for fold in track(range(FOLDS), "Judging labels", total=FOLDS):
        held = folds == fold
        if held.any() and not held.all():
            weights = _fit(rows[~held], labels[~held], classes)
            shares[held] = softmax(rows[held] @ weights)
    return shares


def _reduced(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """The features' main directions, of a mean squared length of 1, and a column of ones for the bias."""
    even = features - features.mean(axis=0, keepdims=True)
    if even.shape[1] > WIDTH:
        _, directions = np.linalg.eigh((even.T @ even).astype(np.float64))
        even = even @ directions[:, -WIDTH:].astype(np.float32)
    even = even / max(float(np.sqrt((even * even).sum(axis=1).mean())), 1e-12)
    return np.hstack([even, np.ones((len(even), 1), np.float32)])


def _fit(rows: NDArray[np.float32], labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """(width, classes): the weights of a multinomial logistic regression, by Nesterov's method.

    The gradient's Lipschitz constant is at most half the largest eigenvalue of the features' second moments
    (D. Böhning, "Multinomial logistic regression algorithm", 1992).
    """
    wanted = np.zeros((len(rows), classes), np.float32)
    wanted[np.arange(len(rows)), labels] = 1
    penalty = PENALTY / len(rows)
    curvature = 0.5 * float(np.linalg.eigvalsh((rows.T @ rows / len(rows)).astype(np.float64))[-1]) + penalty
    weights: NDArray[np.float32] = np.zeros((rows.shape[1], classes), np.float32)
    ahead = weights
    for step in range(STEPS):
        powers = np.exp((said := rows @ ahead) - said.max(axis=1, keepdims=True))
        wrong = powers / powers.sum(axis=1, keepdims=True) - wanted
        slope = rows.T @ wrong / np.float32(len(rows)) + np.float32(penalty) * ahead
        before, weights = weights, np.asarray(ahead - slope / np.float32(curvature), np.float32)
        ahead = np.asarray(weights + np.float32(step / (step + 3)) * (weights - before), np.float32)
    return weights


def _folds(items: Sequence[Photo], hashes: Mapping[str, str], near: Sequence[NearGroup]) -> NDArray[np.int64]:
    """The fold of each photo: drawn class by class in the order of hashes, copies and groups together."""
    leader = {name: group.names[0] for group in near for name in group.names}
    keys = [photo.group or hashes[leader.get(photo.name, photo.name)] for photo in items]
    drawn: dict[str, int] = {}
    turn: dict[str | None, int] = {}
    order = sorted(range(len(items)), key=lambda at: hashlib.sha256(f"{SEED}\0{keys[at]}".encode()).digest())
    for at in order:
        label = items[at].label
        if keys[at] not in drawn:
            drawn[keys[at]] = turn.get(label, 0) % FOLDS
            turn[label] = turn.get(label, 0) + 1
    return np.array([drawn[key] for key in keys], np.int64)
