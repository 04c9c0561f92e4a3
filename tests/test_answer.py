"""Labels and their probabilities from logits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samesight.answer import Answer, below, highest, likeliest
from samesight.runner import softmax

pytestmark = pytest.mark.row("R1")

LOGITS = st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=40)


@given(LOGITS, st.integers(0, 50))
def test_the_highest_come_first_and_of_equal_ones_the_first(logits: list[float], count: int) -> None:
    wanted = np.argsort(-np.array(logits), kind="stable")[: max(count, 1)]
    assert highest(logits, count) == wanted.tolist()


@given(LOGITS)
def test_probabilities_are_the_softmax(logits: list[float]) -> None:
    labels = [f"label {place}" for place in range(len(logits))]
    found = likeliest(below(logits), range(len(logits)), labels)
    assert [(one.label, one.index) for one in found] == list(zip(labels, range(len(logits)), strict=True))
    np.testing.assert_allclose([one.probability for one in found], softmax(np.array(logits)), rtol=1e-13)
    assert sum(one.probability for one in found) == pytest.approx(1, abs=1e-12)


def test_an_answer_is_its_likeliest_label() -> None:
    answer = Answer(likeliest(below([0.0, 2.0, -900.0]), [1, 0], ["cat", "dog", "owl"]), "abc")
    assert (answer.label, answer.index) == ("dog", 1)
    assert answer.to_json("x.jpg") == {
        "path": "x.jpg",
        "label": "dog",
        "index": 1,
        "confidence": answer.top[0].probability,
        "top": [vars(one) for one in answer.top],
        "bundle": "abc",
    }
