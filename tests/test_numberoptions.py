"""Numbers of the command line: what is one, and what is told of what is not."""

from __future__ import annotations

import argparse
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samesight.numberoptions import seconds, whole


@given(st.integers(0, 10**6))
def test_digits_are_the_number_within_its_limits(value: int) -> None:
    if 3 <= value <= 5000:
        assert whole(3, 5000)(str(value)) == value
    else:
        with pytest.raises(argparse.ArgumentTypeError, match="whole number from 3 to 5000"):
            whole(3, 5000)(str(value))


@pytest.mark.parametrize("word", ["", "-1", "+1", "1.0", "1e3", " 1", "0x10", "1_000", "٣", "²", "9" * 5000])
def test_anything_else_is_refused(word: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number from 0"):
        whole(0)(word)


@given(st.floats())
def test_seconds_are_above_zero_and_no_more_than_the_most(value: float) -> None:
    if math.isfinite(value) and 0 < value <= 60:
        assert seconds(60)(repr(value)) == value
    else:
        with pytest.raises(argparse.ArgumentTypeError, match="60 at most"):
            seconds(60)(repr(value))


def test_a_word_is_no_number_of_seconds() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="'soon'"):
        seconds(60)("soon")
