"""Signs of numbers from the shares of three parties, in the clear: what is sent is left to the engine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samesight.secure.signs import ROWS, WIDTH, circuit, circuit_inputs, signs_of

pytestmark = pytest.mark.row("X2")
EDGES = [0, 1, -1, 2, -2, 2 ** (WIDTH - 1) - 1, -(2 ** (WIDTH - 1))]


def parties(numbers: np.ndarray, seed: int) -> list[np.ndarray]:
    """The shares (n, 2) of each of three parties."""
    random = np.random.default_rng(seed)
    parts = [random.integers(0, 2**64, len(numbers), np.uint64) for _ in range(2)]
    parts.append(numbers.astype(np.uint64) - parts[0] - parts[1])
    return [np.stack([parts[rank], parts[(rank + 1) % 3]], axis=1) for rank in range(3)]


def found(numbers: np.ndarray, cut: int, seed: int) -> np.ndarray:
    """Whether numbers are zero or more, by the circuit on what the three parties' inputs stand for."""
    shares = parties(numbers, seed)
    inputs = [circuit_inputs(shares[rank], rank, cut) for rank in range(3)]
    for place in range(4):
        assert inputs[0][place].shape == (ROWS, -(-len(numbers) // 64), 2)
        for rank in range(3):  # the second of each is the first of the next
            second, first = inputs[rank][place][..., 1], inputs[(rank + 1) % 3][place][..., 0]
            np.testing.assert_array_equal(second, first)
    whole = [np.bitwise_xor.reduce([inputs[rank][place][..., 0] for rank in range(3)]) for place in range(4)]
    words = circuit(*whole)
    return signs_of(np.stack([words, words], axis=1), len(numbers))[:, 0].astype(bool)


@given(
    st.lists(st.integers(-(2 ** (WIDTH - 1)), 2 ** (WIDTH - 1) - 1), min_size=1, max_size=200),
    st.integers(0, 2**32),
)
@settings(max_examples=50, deadline=None)
def test_every_sign_is_right(numbers: list[int], seed: int) -> None:
    values = np.array(numbers + EDGES, np.int64)
    np.testing.assert_array_equal(found(values, 0, seed), values >= 0)


@given(st.integers(1, 20), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_with_bits_cut_off_only_numbers_nearer_to_zero_than_that_may_be_wrong(cut: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    reach = WIDTH - 2 + cut
    values = (random.choice([-1.0, 1.0], 3000) * 2.0 ** random.uniform(0, reach, 3000)).astype(np.int64)
    values = np.append(values, [0, 2**cut, -(2**cut), 2**reach, -(2**reach)])
    wrong = values[found(values, cut, seed) != (values >= 0)]
    assert (np.abs(wrong) <= 2**cut).all()
