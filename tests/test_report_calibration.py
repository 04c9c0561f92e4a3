"""Calibration against figures worked out by hand, against scikit-learn, and against known truths."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from samesight.report.calibration import (
    BINS,
    Calibration,
    bootstrap_accuracy,
    calibrate,
    equal_mass,
    equal_width,
    fit_temperature,
    judge,
    score,
)
from samesight.report.figures import Answer
from samesight.report.predictions import PartLogits, Predictions


def sample(count: int, seed: int, *, sharper: float = 1.0, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are sharpened after the targets were drawn from their softmax, so calibrated before."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (count, classes))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = (shares.cumsum(axis=1) > random.random((count, 1))).argmax(axis=1)
    return (logits * sharper).astype(np.float32), targets


@pytest.mark.row("T1")
def test_calibration_error_by_hand() -> None:
    # bins of 1/15: (8/15, 9/15] holds 0.55 and 0.6, both wrong; (12/15, 13/15] 0.85, right;
    # (13/15, 14/15] 0.9, wrong; (14/15, 1] twice 0.95, right
    found = calibrate([0.95, 0.85, 0.55, 0.95, 0.6, 0.9], [True, True, False, True, False, False])
    bins = found.equal_width.bins
    assert [(round(one.low * BINS), one.photos, one.accuracy) for one in bins] == [
        (8, 2, 0.0),
        (12, 1, 1.0),
        (13, 1, 0.0),
        (14, 2, 1.0),
    ]
    assert found.equal_width.error == pytest.approx((0.55 + 0.6 + 0.15 + 0.9 + 2 * 0.05) / 6)
    # five values for 15 bins of as many photos: each value is a bin
    assert [one.photos for one in found.equal_mass.bins] == [1, 1, 1, 1, 2]
    assert found.equal_mass.error == pytest.approx((0.55 + 0.6 + 0.15 + 0.9 + 2 * 0.05) / 6)
    assert (found.photos, found.accuracy, found.confidence) == (6, 0.5, pytest.approx(0.8))
    assert (found.nll, found.brier) == (None, None)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=80))
def test_equal_width_bins_are_those_of_scikit_learn(rows: list[tuple[float, bool]]) -> None:
    edges = np.arange(BINS + 1) / BINS
    # On an edge we count down and scikit-learn up; floats decide it there, so such values are moved off it.
    sure = np.array([value if np.abs(edges - value).min() > 1e-6 else 0.7 / BINS for value, _ in rows])
    right = np.array([hit for _, hit in rows])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares, means = calibration_curve(right, sure, n_bins=BINS, strategy="uniform", pos_label=True)
    bins = calibrate(sure, right).equal_width.bins
    assert np.allclose([one.accuracy for one in bins], shares)
    assert np.allclose([one.confidence for one in bins], means)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200), st.randoms(use_true_random=False))
def test_bins_of_as_many_photos(values: list[float], random: object) -> None:
    sure = np.array(values)
    place = equal_mass(sure)
    for value in np.unique(sure):
        assert len(np.unique(place[sure == value])) == 1, "equal confidences are never parted"
    assert (np.diff(place[np.argsort(sure, kind="stable")]) >= 0).all(), "surer photos are in later bins"
    most_alike = np.unique(sure, return_counts=True)[1].max()
    assert np.bincount(place).max() <= math.ceil(len(sure) / BINS) + most_alike - 1
    shuffled = np.random.default_rng(3).permutation(len(sure))
    assert (equal_mass(sure[shuffled]) == place[shuffled]).all(), "the order of the photos does not count"
    assert equal_width(np.array([0.0, 1 / BINS, 1.0])).tolist() == [0, 0, BINS - 1]


def test_log_loss_and_brier_score_are_those_of_their_definitions() -> None:
    logits, targets = sample(5000, 1)
    found = score(logits, targets)
    shares = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(axis=1, keepdims=True)
    assert found.nll.mean() == pytest.approx(log_loss(targets, shares), rel=1e-9)
    assert found.brier.mean() == pytest.approx(((shares - np.eye(5)[targets]) ** 2).sum(axis=1).mean())
    assert np.array_equal(found.first, np.argsort(-shares, axis=1, kind="stable"))
    assert np.allclose(found.likely, -np.sort(-shares, axis=1))
    assert np.array_equal(found.confidence, found.likely[:, 0])
    assert np.array_equal(found.right, shares.argmax(axis=1) == targets)
    ranks = (found.first == targets[:, None]).argmax(axis=1) + 1
    assert np.array_equal(found.rank, ranks)
    assert np.allclose(found.true, shares[np.arange(5000), targets])


def test_large_logits_do_not_overflow() -> None:
    found = score(np.array([[2000.0, 0.0, -2000.0], [0.0, 0.0, 0.0]], np.float32), np.array([1, 0]))
    assert found.nll.tolist() == [2000.0, pytest.approx(math.log(3))]
    assert found.right.tolist() == [False, True]
    assert found.rank.tolist() == [2, 1]
    assert found.brier[0] == 2.0


@pytest.mark.row("T1")
@pytest.mark.parametrize("sharper", [0.4, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(sharper: float) -> None:
    logits, targets = sample(20_000, 4, sharper=sharper)
    found = fit_temperature(logits, targets)
    assert found.photos == 20_000
    assert found.value == pytest.approx(sharper, rel=0.03)


def test_the_temperature_is_where_the_loss_is_least() -> None:
    logits, targets = sample(300, 5, sharper=2.0)
    best = fit_temperature(logits, targets).value
    assert best is not None
    least = score(logits, targets, best).nll.mean()
    assert least < min(score(logits, targets, best * step).nll.mean() for step in (0.99, 1.01))


@pytest.mark.parametrize(
    ("logits", "targets"),
    [
        (np.eye(3) * 4, [0, 1, 2]),  # all right: the surer the better
        (np.eye(3) * 4, [1, 2, 0]),  # all wrong: the less sure the better
        (np.ones((3, 3)), [0, 1, 2]),  # says nothing at all
        (np.zeros((0, 3)), []),
    ],
)
def test_where_no_temperature_is_best_there_is_none(logits: np.ndarray, targets: list[int]) -> None:
    found = fit_temperature(logits.astype(np.float32), np.array(targets, np.int64))
    assert found.value is None
    assert found.photos == len(targets)


@pytest.mark.row("T1")
def test_the_interval_holds_the_truth_where_drawing_photos_anew_does_not() -> None:
    """On 100 photos of a calibrated network the true error is 0, and the one that is seen about 9 %."""
    held, plain, over = 0, 0, 0
    for trial in range(30):
        scores = score(*sample(100, 100 + trial))
        found = calibrate(scores.confidence, scores.right).equal_width
        assert found.interval.low <= found.error <= found.interval.high
        held += found.interval.low <= 0.005
        over += found.error > found.chance
        random = np.random.default_rng(trial)
        drawn = [random.integers(100, size=100) for _ in range(40)]
        again = [_error(scores.confidence[rows], scores.right[rows]) for rows in drawn]
        plain += np.percentile(again, 2.5) <= 0.005
    assert held >= 27, f"a 95 % interval held the truth in {held} of 30"
    assert plain <= 3, f"the plain bootstrap held it in {plain} of 30"
    assert over <= 5, f"{over} of 30 calibrated networks are over what 95 in 100 stay below"


def _error(sure: np.ndarray, right: np.ndarray) -> float:
    place = equal_width(sure)
    return float(np.abs(np.bincount(place, sure) - np.bincount(place, right)).sum() / len(sure))


def test_a_real_miscalibration_is_told_from_chance() -> None:
    scores = score(*sample(400, 6, sharper=3.0))
    found = calibrate(scores.confidence, scores.right)
    for binned in (found.equal_width, found.equal_mass):
        assert binned.error > binned.chance
        assert 0 < binned.interval.low < binned.error < binned.interval.high < 0.5


def test_few_photos_say_little() -> None:
    """Five photos, all right and surely so: up to about half of such photos may still be wrong."""
    found = calibrate([1.0] * 5, [True] * 5).equal_width
    assert (found.error, found.interval.low) == (0.0, 0.0)
    assert 0.4 < found.interval.high < 0.6
    assert found.chance == 0.0


def test_the_same_answers_give_the_same_figures() -> None:
    scores = score(*sample(50, 7))
    first, second = (calibrate(scores.confidence, scores.right) for _ in range(2))
    assert first == second


def test_accuracy_of_photos_that_stand_alone_has_the_binomial_interval() -> None:
    found = bootstrap_accuracy(np.arange(200) < 160, [None] * 200)
    half = 1.96 * math.sqrt(0.8 * 0.2 / 200)
    assert (found.low, found.high) == (
        pytest.approx(0.8 - half, abs=0.012),
        pytest.approx(0.8 + half, abs=0.012),
    )


def test_photos_of_one_group_tell_less() -> None:
    """Twenty people of ten photos each; a person's photos are all right or all wrong."""
    right = np.repeat(np.arange(20) < 16, 10)
    alone = bootstrap_accuracy(right, [None] * 200)
    grouped = bootstrap_accuracy(right, [f"p{at // 10}" for at in range(200)])
    half = 1.96 * math.sqrt(0.8 * 0.2 / 20)
    assert grouped.high - grouped.low > 2.5 * (alone.high - alone.low)
    assert grouped.low == pytest.approx(0.8 - half, abs=0.06)


def predictions(seed: int, *, sharper: float, val: int) -> tuple[list[Answer], Predictions]:
    test, held = sample(600, seed, sharper=sharper), sample(val, seed + 1, sharper=sharper)
    parts = {
        name: PartLogits(tuple(map(str, range(len(targets)))), targets, logits)
        for name, (logits, targets) in (("test", test), ("val", held))
        if len(targets)
    }
    labels = tuple("abcde")
    scores = score(*test)
    rows = zip(test[1].tolist(), scores.first[:, 0].tolist(), scores.confidence.tolist(), strict=True)
    answers = [
        Answer(str(at), labels[true], labels[said], sure) for at, (true, said, sure) in enumerate(rows)
    ]
    return answers, Predictions(labels, parts)


@pytest.mark.row("T1")
def test_a_temperature_from_the_validation_part_mends_the_held_out_part() -> None:
    answers, held = predictions(20, sharper=3.0, val=600)
    scores = score(held.parts["test"].logits, held.parts["test"].targets)
    found = judge(answers, scores, held)
    assert found is not None
    assert found.temperature is not None
    assert found.mended is not None
    assert found.temperature.value == pytest.approx(3.0, rel=0.1)
    assert found.mended.accuracy == found.seen.accuracy
    assert found.mended.nll < found.seen.nll  # type: ignore[operator]
    assert found.mended.equal_width.error < found.seen.equal_width.error / 3
    assert found.mended.equal_width.error <= found.mended.equal_width.chance * 1.2


def test_what_can_be_judged_without_logits_or_validation() -> None:
    answers, held = predictions(30, sharper=1.0, val=0)
    scores = score(held.parts["test"].logits, held.parts["test"].targets)
    whole, plain = judge(answers, scores, held), judge(answers, None, None)
    assert whole is not None
    assert plain is not None
    assert (whole.temperature, whole.mended) == (None, None)
    assert (plain.seen.nll, plain.temperature) == (None, None)
    assert plain.seen.equal_width.error == pytest.approx(whole.seen.equal_width.error, abs=1e-9)


def test_answers_without_confidence_are_not_judged() -> None:
    none = [Answer("1", "a", "a", None)]
    assert judge(none, None, None) is None
    some = judge([*none, Answer("2", "a", "a", 0.0), Answer("3", "a", "b", 1.0)], None, None)
    assert some is not None
    seen: Calibration = some.seen
    assert seen.photos == 2
    assert seen.equal_width.error == 1.0
