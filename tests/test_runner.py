"""Probabilities, and how many threads work where nobody says."""

from __future__ import annotations

import os

import numpy as np
import pytest

from samesight.runner import MAX_THREADS, cpus, softmax, threads_for


@pytest.mark.row("R1")
def test_softmax_sums_to_one() -> None:
    logits = np.random.default_rng(0).normal(0, 100, (50, 7)).astype(np.float32)
    probabilities = softmax(logits)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), logits.argmax(axis=1))
    np.testing.assert_allclose(softmax(np.array([0.0, np.log(3)])), [0.25, 0.75])
    np.testing.assert_array_equal(softmax(np.array([3e38, -3e38], np.float32)), [1, 0])


def test_threads_are_those_asked_for_or_those_there_are() -> None:
    assert 1 <= cpus() <= (os.cpu_count() or 1)
    assert threads_for(None) == min(cpus(), MAX_THREADS)
    assert threads_for(31) == 31
