"""predictions.npz: written, read back, and refused where it is not as it should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from report_samples import LABELS, make_predictions, make_run

from samesight.errors import InputError
from samesight.report import predictions
from samesight.report.predictions import FILE, PartLogits, read_predictions, write_predictions
from samesight.report.sources import read_run

LOGITS = np.array([[1.5, -2.0, 0.1], [0.0, 3e-9, -1e30]], np.float32)
PART = PartLogits(("rose/ünï 照片.jpg", "b.png"), np.array([2, 0]), LOGITS)


@pytest.mark.row("T1")
def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    none = PartLogits((), np.zeros(0, np.int64), np.zeros((0, 3), np.float32))
    write_predictions(tmp_path / FILE, LABELS, {"test": PART, "val": none})
    found = read_predictions(tmp_path / FILE)
    assert found is not None
    assert found.labels == LABELS
    assert set(found.parts) == {"test"}, "a part without photos is left out"
    part = found.parts["test"]
    assert part.names == PART.names
    assert part.targets.tolist() == [2, 0]
    assert part.logits.dtype == np.float32
    assert np.array_equal(part.logits, LOGITS)


@pytest.mark.row("T1")
def test_numpy_alone_reads_it_without_pickle(tmp_path: Path) -> None:
    write_predictions(tmp_path / FILE, LABELS, {"test": PART, "val": PART})
    with np.load(tmp_path / FILE, allow_pickle=False) as found:
        assert sorted(found.files) == [
            "labels", "test_logits", "test_names", "test_targets", "val_logits", "val_names", "val_targets",
        ]  # fmt: skip
        assert found["labels"].tolist() == list(LABELS)
        assert found["test_names"].tolist() == list(PART.names)


def test_the_same_predictions_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("1.npz", "2.npz"):
        write_predictions(tmp_path / name, LABELS, {"test": PART})
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()


def test_no_file_is_no_predictions(tmp_path: Path) -> None:
    assert read_predictions(tmp_path / FILE) is None


GOOD = {
    "labels": np.array(["a", "b"]),
    "test_names": np.array(["1", "2"]),
    "test_targets": np.array([0, 1]),
    "test_logits": np.zeros((2, 2), np.float32),
}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"labels": None}, "no labels"),
        ({"labels": np.array([1, 2])}, "no labels"),
        ({"test_names": None}, "no names"),
        ({"test_targets": np.array([0.0, 1.0])}, "no names and targets"),
        ({"test_targets": np.array([0, 2])}, "no label's index"),
        ({"test_targets": np.array([-1, 1])}, "no label's index"),
        ({"test_names": np.array(["1"])}, "names"),
        ({"test_logits": np.zeros((2, 3), np.float32)}, r"shape \(2, 3\) for 2 labels"),
        ({"test_logits": np.zeros((), np.float32)}, "shape"),
        ({"test_logits": np.array([["1", "2"], ["3", "4"]])}, "shape"),
        ({"test_logits": np.array([[0, np.nan], [0, 0]])}, "not finite"),
        ({"labels": np.array(["a", None], object)}, "pickle"),
    ],
)
def test_what_is_not_as_written_is_refused(tmp_path: Path, change: dict[str, object], found: str) -> None:
    arrays = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    np.savez(tmp_path / FILE, **arrays)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not as Samesight writes it") as raised:
        read_predictions(tmp_path / FILE)
    assert raised.match(found)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_broken_file_is_named(tmp_path: Path, keep: int) -> None:
    write_predictions(tmp_path / FILE, LABELS, {"test": PART})
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:keep])
    with pytest.raises(InputError) as raised:
        read_predictions(tmp_path / FILE)
    assert raised.value.where == tmp_path / FILE


def test_a_file_that_unpacks_to_far_too_much_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / FILE, **{**GOOD, "more": np.zeros(100_000)})
    assert (tmp_path / FILE).stat().st_size < 10_000
    monkeypatch.setattr(predictions, "LIMIT_BYTES", 100_000)
    with pytest.raises(InputError, match="too large"):
        read_predictions(tmp_path / FILE)


@pytest.mark.row("T1")
def test_a_run_has_the_predictions_of_its_answers(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", LABELS)
    assert read_run(run).predictions is None
    make_predictions(run, LABELS)
    found = read_run(run)
    assert found.predictions is not None
    assert found.scores is not None
    assert found.remark == ""
    assert len(found.scores.confidence) == len(found.answers)
    said = [found.predictions.labels[at] for at in found.scores.first[:, 0]]
    assert said == [one.predicted for one in found.answers]
    assert np.allclose(found.scores.confidence, [one.confidence for one in found.answers], atol=0.05)


def test_predictions_of_other_answers_are_not_used(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", LABELS)
    make_predictions(run, LABELS)
    words = (run / "test_predictions.csv").read_text()
    (run / "test_predictions.csv").write_text(words.replace("rose/000.jpg", "rose/999.jpg"))
    found = read_run(run)
    assert (found.predictions, found.scores) == (None, None)
    assert "of other answers" in found.remark
