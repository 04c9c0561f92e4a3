"""Many photos through several runners, each decoded once; accuracy and agreement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bare_bundle import SIZE, tiny_model
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from samesight.errors import InputError, PhotoError
from samesight.evaluate import accuracy, agreement, photo_logits, tensors
from samesight.preprocess import Preprocess, preprocess
from samesight.runner import Runner
from samesight.runtime import OnnxRunner

pytestmark = pytest.mark.row("V1")

SPEC = Preprocess(resize=(SIZE, SIZE), crop=None)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Twenty photos of noise, of which the first, one in the middle and the last cannot be read."""
    random = np.random.default_rng(2)
    paths = []
    for index in range(20):
        paths.append(tmp_path / f"{index:02}.jpg")
        Image.fromarray(random.integers(0, 256, (10 + index, 12, 3), dtype=np.uint8)).save(paths[-1])
    paths[0].write_bytes(b"")
    paths[7].write_bytes(paths[7].read_bytes()[:100])
    paths[19].unlink()
    return paths


class Means:
    """A runner of another kind: the mean of each channel. It counts how often it is asked."""

    name = "means"
    copy = "means"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def logits(self, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        self.batches.append(len(tensors))
        return tensors.mean(axis=(2, 3))


@pytest.mark.parametrize("batch", [1, 4, 16, 100])
def test_all_runners_see_the_same_tensors_in_order(photos: list[Path], batch: int) -> None:
    means = Means()
    runners: list[Runner] = [
        OnnxRunner(tiny_model(), copy="fp32"),
        OnnxRunner(tiny_model(batch=3), copy="b3"),
        means,
    ]
    result = photo_logits(runners, photos, SPEC, batch=batch)
    good = [index for index in range(20) if index not in (0, 7, 19)]
    assert result.read.tolist() == good
    assert sorted(result.errors) == [0, 7, 19]
    assert all("\n" not in line for line in result.errors.values())
    stacked = np.stack([preprocess(photos[index].read_bytes(), SPEC) for index in good])
    for runner in runners:
        np.testing.assert_allclose(result.logits[runner.copy], runner.logits(stacked), atol=1e-6)
    assert max(means.batches[:-1]) == min(batch, len(good))


def test_no_readable_photo_gives_no_rows(tmp_path: Path) -> None:
    for photos in ([], [tmp_path / "none.jpg"]):
        result = photo_logits([Means()], photos, SPEC)
        assert len(result.logits["means"]) == len(result.read) == 0
        assert len(result.errors) == len(photos)
        assert np.isnan(accuracy(result.logits["means"], []))


def test_accuracy_counts_the_largest() -> None:
    logits = np.array([[1, 2], [3, 0], [0, 1], [5, 4]], np.float32)
    assert accuracy(logits, [1, 0, 0, 0]) == 0.75
    assert agreement(logits, -logits) == 0.0
    with pytest.raises(ValueError):
        accuracy(logits, [1])
    with pytest.raises(ValueError):
        agreement(logits, logits[:2])


def test_what_is_not_a_number_is_never_right() -> None:
    logits = np.array([[np.nan, 0], [np.inf, 0], [1, 0]], np.float32)
    assert accuracy(logits, [0, 0, 0]) == pytest.approx(1 / 3)
    assert agreement(logits, logits) == pytest.approx(1 / 3)


@given(
    arrays.arrays(
        np.float32, st.tuples(st.integers(1, 20), st.integers(1, 5)), elements=st.floats(-9, 9, width=32)
    )
)
def test_logits_agree_with_themselves_and_with_their_labels(logits: NDArray[np.float32]) -> None:
    assert agreement(logits, logits) == 1.0
    assert accuracy(logits, logits.argmax(axis=1)) == 1.0


def test_other_errors_are_not_swallowed() -> None:
    def prepare(photo: int) -> NDArray[np.float32]:
        if photo == 3:
            raise PhotoError("this one")
        if photo == 5:
            raise RuntimeError("our own mistake")
        return np.full(2, photo, np.float32)

    seen = []
    with pytest.raises(RuntimeError, match="our own"):
        for outcome in tensors(range(9), prepare, threads=2):
            seen.append("error" if isinstance(outcome, InputError) else outcome[0])
    assert seen == [0, 1, 2, "error", 4]
