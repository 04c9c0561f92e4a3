"""Event files, as TensorBoard itself reads them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from samesight.errors import InputError
from samesight.training.tensorboard import SCALARS, TensorBoard


def row(epoch: int, accuracy: float | None) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "phase": "all",
        "lr": 0.001 / epoch,
        "train_loss": 1.0 / epoch,
        "train_accuracy": 0.5,
        "val_loss": None if accuracy is None else 1 - accuracy,
        "val_accuracy": accuracy,
        "seconds": 2.0,
        "images_per_second": 100.0,
    }


def read(folder: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard shows: name → step → value."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = events.EventAccumulator(str(folder)).Reload()
    return {name: {one.step: one.value for one in found.Scalars(name)} for name in found.Tags()["scalars"]}


@pytest.fixture
def package() -> None:
    pytest.importorskip("tensorboard")


@pytest.mark.row("T1")
@pytest.mark.usefixtures("package")
def test_each_epoch_is_a_step(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    for epoch in (1, 2, 4):
        board.epoch(row(epoch, 0.25 * epoch))
    board.close()
    shown = read(tmp_path)
    assert shown["loss/train"] == {1: 1.0, 2: 0.5, 4: 0.25}
    assert shown["accuracy/val"] == {1: 0.25, 2: 0.5, 4: 1.0}
    assert shown["learning_rate"][4] == pytest.approx(0.00025)
    assert shown["images_per_second"] == {1: 100, 2: 100, 4: 100}
    assert set(shown) <= set(SCALARS.values())


@pytest.mark.usefixtures("package")
def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.epoch(row(1, None))
    board.close()
    assert set(read(tmp_path)) == {
        "loss/train", "accuracy/train", "learning_rate", "seconds", "images_per_second",
    }  # fmt: skip


@pytest.mark.usefixtures("package")
def test_an_epoch_is_on_disk_before_the_next_begins(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.epoch(row(1, 0.5))
    assert read(tmp_path)["accuracy/val"] == {1: 0.5}
    board.close()


@pytest.mark.row("T1")
@pytest.mark.usefixtures("package")
def test_a_resumed_run_takes_the_place_of_what_was_lost(tmp_path: Path) -> None:
    """The interrupted process had written epoch 3 here, and was killed before its checkpoint was."""
    first = TensorBoard(tmp_path)
    for epoch, accuracy in ((1, 0.1), (2, 0.2), (3, 0.9)):
        first.epoch(row(epoch, accuracy))
    first.close()
    second = TensorBoard(tmp_path, after_epoch=2)
    for epoch, accuracy in ((3, 0.3), (4, 0.4)):
        second.epoch(row(epoch, accuracy))
    second.close()
    assert {step: round(value, 6) for step, value in read(tmp_path)["accuracy/val"].items()} == {
        1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4,
    }  # fmt: skip


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(InputError, match="not installed") as raised:
        TensorBoard(tmp_path / "events")
    assert raised.value.fix == "pip install tensorboard"
    assert not (tmp_path / "events").exists()
