"""The numbers of a report, against figures worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from samesight.report.figures import (
    Answer,
    class_results,
    confused_pairs,
    confusion,
    least_sure,
    mean,
    mebibytes,
    number,
    percent,
    scientific,
    wilson,
    worst_mistakes,
)


def answers(*rows: tuple[str, str, float | None]) -> list[Answer]:
    return [Answer(f"{at}.jpg", label, said, sure) for at, (label, said, sure) in enumerate(rows)]


# a: 3 photos, 2 right, 1 taken for b. b: 2 photos, 1 right, 1 taken for a. c: 1 photo, taken for a.
SIX = answers(
    ("a", "a", 0.95), ("a", "a", 0.85), ("a", "b", 0.55), ("b", "b", 0.95), ("b", "a", 0.6), ("c", "a", 0.9)
)


def test_confusion_counts_true_by_predicted() -> None:
    matrix = confusion(SIX, ("a", "b", "c", "d"))
    assert matrix.labels == ("a", "b", "c", "d")
    assert matrix.counts.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert (matrix.photos, matrix.right, matrix.accuracy) == (6, 3, 0.5)


def test_labels_that_only_answers_name_come_last() -> None:
    matrix = confusion(answers(("x", "a", None)), ("b", "a"))
    assert matrix.labels == ("b", "a", "x")
    assert matrix.counts[2, 1] == 1


def test_no_answers_give_no_accuracy() -> None:
    assert math.isnan(confusion([], ("a", "b")).accuracy)
    assert percent(confusion([], ("a",)).accuracy) == "—"


def test_precision_recall_and_f1_by_hand() -> None:
    a, b, c, d = class_results(confusion(SIX, ("a", "b", "c", "d")))
    assert (a.support, a.precision, a.recall, a.f1) == (3, 2 / 4, 2 / 3, 4 / 7)
    assert (b.support, b.precision, b.recall, b.f1) == (2, 1 / 2, 1 / 2, 1 / 2)
    assert (c.support, c.precision, c.recall, c.f1) == (1, None, 0.0, 0.0)
    assert (d.support, d.precision, d.recall, d.f1) == (0, None, None, None)
    assert mean([a.recall, b.recall, c.recall, d.recall]) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert mean([None]) is None


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), min_size=1, max_size=60))
def test_results_are_those_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    matrix = confusion(answers(*((true, said, None) for true, said in pairs)), tuple("abcd"))
    true, said = zip(*pairs, strict=True)
    assert np.array_equal(matrix.counts, confusion_matrix(true, said, labels=list("abcd")))
    found = [(one.precision or 0, one.recall or 0, one.f1 or 0, one.support) for one in class_results(matrix)]
    expected = precision_recall_fscore_support(true, said, labels=list("abcd"), zero_division=0)
    assert np.allclose(np.array(found).T, np.array(expected, float))


def test_most_confused_pairs_come_first() -> None:
    found = confused_pairs(confusion([*SIX, *answers(("b", "a", 0.1))], ("a", "b", "c")))
    assert [(one.label, one.predicted, one.count, one.support) for one in found] == [
        ("b", "a", 2, 3),
        ("c", "a", 1, 1),
        ("a", "b", 1, 3),
    ]


@pytest.mark.parametrize(
    ("right", "photos", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilson_interval_is_the_published_one(right: int, photos: int, low: float, high: float) -> None:
    found = wilson(right, photos)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share(counts: tuple[int, int]) -> None:
    right, photos = counts
    found = wilson(right, photos)
    assert 0 <= found.low <= right / photos <= found.high <= 1


def test_nothing_is_known_of_no_photos() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)


def test_the_surest_mistakes_come_first() -> None:
    assert worst_mistakes(SIX, 2) == (5, 4)
    assert worst_mistakes(SIX, 9) == (5, 4, 2)


def test_the_least_sure_right_answers_come_first() -> None:
    assert least_sure(SIX, 2) == (1, 0)
    assert least_sure(answers(("a", "a", None), ("a", "a", 0.5)), 2) == (1,)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("0.5", 0.5),
        (3, 3.0),
        ("nan", None),
        ("inf", None),
        ("", None),
        (None, None),
        (True, None),
        ([], None),
    ],
)
def test_only_finite_numbers_are_numbers(value: object, found: float | None) -> None:
    assert number(value) == found


def test_numbers_as_people_write_them() -> None:
    assert percent(0.91234) == "91.2\u00a0%"
    assert (percent(None), scientific(None), mebibytes(None)) == ("—", "—", "—")
    assert mebibytes(14_139_884) == "13.48\u00a0MiB"
    assert mebibytes(2048) == "2.0\u00a0KiB"
    assert [scientific(value) for value in (0.0, 3.14e-6, 0.02, 1.5, 2e10)] == [
        "0",
        "3.1 × 10⁻⁶",
        "0.02",
        "1.5",
        "2.0 × 10¹⁰",
    ]
