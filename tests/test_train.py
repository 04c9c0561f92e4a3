"""Training from photos to a run folder, on real digits and a small network."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from samesight.cli import main  # noqa: E402
from samesight.errors import CheckpointError, InputError, PhotosError  # noqa: E402
from samesight.models import head_parameters, read_checkpoint  # noqa: E402
from samesight.pictureoptions import PictureOptions  # noqa: E402
from samesight.training import AugmentOptions, TrainConfig, TrainResult, open_run, train  # noqa: E402

TAILED = """
import torch
class Tailed(torch.nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(
            torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Dropout(),
            torch.nn.Conv2d(8, num_classes, 1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
"""


def plain(digits: Path, out: Path, **more: Any) -> TrainConfig:
    settings: dict[str, Any] = {"model": "small", "augment": AugmentOptions(flip=False), "threads": 1}
    settings |= {"epochs": 2, **more}
    return TrainConfig(photos=str(digits), out=out, **settings)


def rows(file: Path, *without: str) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return [{k: v for k, v in row.items() if k not in without} for row in csv.DictReader(stream)]


def learning(folder: Path) -> list[dict[str, str]]:
    """The history without what depends on the clock."""
    return rows(folder / "history.csv", "seconds", "images_per_second")


def same_states(a: Path, b: Path) -> bool:
    one, two = read_checkpoint(a), read_checkpoint(b)
    return list(one) == list(two) and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def trained(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainResult]:
    out = tmp_path_factory.mktemp("train") / "run"
    return out, train(plain(digits, out, epochs=8, lr=3e-3))


@pytest.mark.row("T1")
def test_learns_far_above_chance_and_tells_the_truth(trained: tuple[Path, TrainResult]) -> None:
    out, result = trained
    assert result.test_accuracy > 0.7
    assert result.val_accuracy is not None
    assert (result.test_photos, result.val_photos, result.train_photos) == (60, 24, 216)
    run = open_run(out)
    assert run.is_complete
    assert run.results["test_accuracy"] == result.test_accuracy
    predictions = rows(out / "test_predictions.csv")
    assert sorted(row["name"] for row in predictions) == run.split.names("test")
    right = sum(row["label"] == row["predicted"] for row in predictions)
    assert right / len(predictions) == pytest.approx(result.test_accuracy)
    assert 0.1 <= float(predictions[0]["confidence"]) <= 1


@pytest.mark.row("T1", "E2")
def test_best_weights_give_the_accuracy_again(trained: tuple[Path, TrainResult], digits: Path) -> None:
    from samesight.data.prepare import open_prepared
    from samesight.models import TorchRunner
    from samesight.preprocess import preprocess, read_photo

    out, result = trained
    run = open_run(out)
    photos, split, _ = open_prepared(out)
    place = {photo.name: photo for photo in photos.items}
    held_out = [place[name] for name in split.names("test")]
    tensors = np.stack([preprocess(read_photo(photo.path), run.preprocess) for photo in held_out])
    guesses = TorchRunner(run.network()).logits(tensors).argmax(1)
    right = [run.labels[guess] == photo.label for guess, photo in zip(guesses, held_out, strict=True)]
    assert sum(right) / len(right) == pytest.approx(result.test_accuracy)


@pytest.mark.row("T1", "D2", "D3")
def test_run_folder_holds_what_was_asked_and_derived(trained: tuple[Path, TrainResult]) -> None:
    out, result = trained
    value = json.loads((out / "run.json").read_text())
    assert {"photos", "model", "lr", "augment", "epochs"} <= set(value["given"])
    assert value["derived"]["phases"] == [{"name": "all", "epochs": 8, "lr": 3e-3, "backbone_lr": 3e-3}]
    assert value["derived"]["sampler"] == "none"
    assert value["machine"]["threads"] == 1
    assert value["versions"]["torch"] == torch.__version__
    history = rows(out / "history.csv")
    assert [int(row["epoch"]) for row in history] == list(range(1, 9))
    best = history[result.best_epoch - 1]
    assert float(best["val_accuracy"]) == pytest.approx(result.val_accuracy)
    assert float(best["val_accuracy"]) > max(float(row["val_accuracy"]) for row in history) - 0.12
    assert "random crop" in (out / "dataset_preparation_notes.md").read_text()
    for name in ("split.json", "data.json", "labels_mapping.json", "class_distribution.csv"):
        assert (out / name).is_file()
    assert not [file for file in out.rglob("*") if file.name.startswith(".")]


@pytest.mark.row("T1")
def test_best_is_a_plain_state_dict_for_anyone(trained: tuple[Path, TrainResult]) -> None:
    state = torch.load(trained[0] / "checkpoints/best.pth", weights_only=True)
    assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())
    from samesight.models.small import Small

    Small(10).load_state_dict(state)


def stop_after(monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    """End the process's work, as from the keyboard, when so many epochs are complete."""
    module = sys.modules["samesight.training.train"]
    write = module.write_history

    def write_then_stop(folder: Path, history: list[dict[str, Any]]) -> None:
        write(folder, history)
        if len(history) == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_history", write_then_stop)


@pytest.mark.row("T1")
@pytest.mark.parametrize("stop", [1, 2, 4])
def test_resumed_training_ends_as_if_never_stopped(
    trained: tuple[Path, TrainResult],
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: int,
) -> None:
    """Stopped within the head phase, between the phases, and within the second phase."""
    settings = {"weights": str(trained[0] / "checkpoints/best.pth"), "head_epochs": 2, "epochs": 3, "seed": 5}
    whole = train(plain(digits, tmp_path / "whole", **settings))
    with monkeypatch.context() as patch:
        stop_after(patch, stop)
        with pytest.raises(KeyboardInterrupt):
            train(plain(digits, tmp_path / "parts", **settings))
    assert not open_run(tmp_path / "parts").is_complete
    resumed = train(TrainConfig(photos=None, out=tmp_path / "parts", resume=True))
    assert resumed.test_accuracy == whole.test_accuracy
    assert learning(tmp_path / "parts") == learning(tmp_path / "whole")
    for name in ("best.pth", "last.pth"):
        file = Path("checkpoints") / name
        if name == "best.pth":
            assert same_states(tmp_path / "parts" / file, tmp_path / "whole" / file)
    assert (tmp_path / "parts/test_predictions.csv").read_bytes() == (
        tmp_path / "whole/test_predictions.csv"
    ).read_bytes()


@pytest.mark.row("T1")
def test_nothing_but_the_head_changes_in_the_head_phase(
    trained: tuple[Path, TrainResult], digits: Path, tmp_path: Path
) -> None:
    before = trained[0] / "checkpoints/best.pth"
    train(plain(digits, tmp_path / "run", weights=str(before), head_epochs=2, epochs=0))
    run = open_run(tmp_path / "run")
    old, new = read_checkpoint(before), read_checkpoint(run.checkpoint)
    changed = [name for name in old if not torch.equal(old[name], new[name])]
    assert changed == head_parameters(run.network(), "small")


@pytest.mark.row("T1", "M2")
def test_head_that_something_follows_is_trained_too(digits: Path, tmp_path: Path) -> None:
    """As in SqueezeNet: what the head sees cannot be cached, and the backbone stays as it is all the same."""
    (tmp_path / "net.py").write_text(TAILED)
    model, small = f"{tmp_path / 'net.py'}:Tailed", PictureOptions(resize="16x16")
    first = train(plain(digits, tmp_path / "a", model=model, epochs=1, pictures=small))
    weights = str(open_run(first.run).checkpoint)
    settings = {"weights": weights, "head_epochs": 1, "epochs": 0, "pictures": small}
    train(plain(digits, tmp_path / "b", model=model, **settings))
    old, new = read_checkpoint(Path(weights)), read_checkpoint(open_run(tmp_path / "b").checkpoint)
    changed = [name for name in old if not torch.equal(old[name], new[name])]
    assert changed == ["4.weight", "4.bias"]
    (tmp_path / "net.py").write_text(TAILED + "\n")
    with pytest.raises(InputError, match="has changed since"):
        open_run(tmp_path / "b").network()


@pytest.mark.row("D4")
def test_class_weights_and_sampler(digits: Path, tmp_path: Path) -> None:
    uneven = tmp_path / "photos"
    for label, count in (("0", 30), ("1", 10), ("2", 20)):
        (uneven / label).mkdir(parents=True)
        for file in sorted((digits / label).iterdir())[:count]:
            shutil.copy(file, uneven / label)
    for settings, sampler in (
        ({}, "balanced"),
        ({"class_weights": True}, "none"),
        ({"sampler": "none"}, "none"),
    ):
        out = tmp_path / f"run-{'-'.join(settings) or 'plain'}"
        train(plain(uneven, out, epochs=1, **settings))
        value = json.loads((out / "run.json").read_text())
        assert value["derived"]["sampler"] == sampler
        weights = value["derived"]["class_weights"]
        assert (weights is not None) == ("class_weights" in settings)
        if weights:
            assert weights[1] > weights[2] > weights[0]
    with pytest.raises(InputError, match="twice over"):
        plain(uneven, tmp_path / "x", sampler="balanced", class_weights=True)


@pytest.mark.row("T1")
def test_target_decides_the_exit_code(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", str(digits), "--model", "small", "--epochs", "1", "--threads", "1", "--no-flip"]
    out = tmp_path / "run"
    assert main([*words, "--out", str(out), "--target", "0.999", "--json"]) == 1
    said = capsys.readouterr()
    value = json.loads(said.out)
    assert {"test_accuracy", "val_accuracy", "cpu_seconds", "wall_seconds", "run"} <= set(value)
    assert value["run"] == str(out)
    assert value["target_met"] is False
    assert "the target was missed" in said.err
    assert "epoch 1/1" in said.err
    assert main(["train", "--resume", "--out", str(out), "--target", "0.01"]) == 0
    said = capsys.readouterr()
    assert f"samesight export {out} --out {out}/bundle" in said.out
    assert "complete already" in said.err


@pytest.mark.row("T1")
def test_run_that_exists_is_not_overwritten(
    trained: tuple[Path, TrainResult], digits: Path, tmp_path: Path
) -> None:
    out, _ = trained
    with pytest.raises(InputError, match="a run in the folder already") as caught:
        train(plain(digits, out))
    assert "--resume" in str(caught.value.fix)
    assert "--out" in str(caught.value.fix)
    with pytest.raises(InputError, match="begun with other settings") as caught:
        train(plain(digits, out, resume=True, seed=7))
    assert "seed: 42 (asked for: 7)" in str(caught.value.found)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    for resume in (False, True):
        with pytest.raises(InputError, match="something at the output path"):
            train(plain(digits, tmp_path / "full", resume=resume))


@pytest.mark.row("T1")
def test_broken_state_is_never_taken_for_whole(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = plain(digits, tmp_path / "run")
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    last = tmp_path / "run/checkpoints/last.pth"
    whole = last.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for broken in (
        whole[: len(whole) // 2],
        bytes(flipped),
        b"",
        (tmp_path / "run/checkpoints/best.pth").read_bytes(),
    ):
        last.write_bytes(broken)
        with pytest.raises(CheckpointError, match="state of training"):
            train(replace(config, resume=True))
    last.write_bytes(whole)
    assert train(replace(config, resume=True)).epochs == 2


@pytest.mark.row("D2", "T1")
def test_trains_on_a_prepared_folder(digits: Path, tmp_path: Path) -> None:
    assert main(["data", str(digits), "--out", str(tmp_path / "data"), "--seed", "9"]) == 0
    result = train(plain(tmp_path / "data", tmp_path / "run", epochs=1))
    assert open_run(result.run).split.seed == 9
    again = train(plain(tmp_path / "data", tmp_path / "data", epochs=1))
    assert again.run == tmp_path / "data"


@pytest.mark.row("D1")
def test_photos_that_cannot_teach(tmp_path: Path) -> None:
    def photos(**counts: int) -> Path:
        folder = tmp_path / "-".join(f"{k}{v}" for k, v in counts.items())
        random = np.random.default_rng(0)
        for label, count in counts.items():
            (folder / label).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 255, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / label / f"{index}.png")
        return folder

    with pytest.raises(PhotosError, match="two classes"):
        train(plain(photos(a=8), tmp_path / "r1"))
    with pytest.raises(PhotosError, match="held out"):
        train(plain(photos(a=1, b=1), tmp_path / "r2"))
    result = train(plain(photos(a=2, b=2), tmp_path / "r3", epochs=1))
    assert result.val_accuracy is None
    loose = photos(a=4) / "a"
    with pytest.raises(PhotosError):
        train(plain(loose, tmp_path / "r4"))


@pytest.mark.row("M1", "M2")
def test_wrong_settings_fail_before_photos_are_read(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(InputError, match="no network named"):
        train(plain(nowhere, tmp_path / "r", model="mobilenet_v22"))
    with pytest.raises(CheckpointError, match="no such weights"):
        train(plain(nowhere, tmp_path / "r", model="resnet18", weights="none.pth"))
    with pytest.raises(InputError, match="no phase for its head"):
        train(plain(make_two(tmp_path), tmp_path / "r", head_epochs=3))
    for wrong in (
        {"lr": -1.0},
        {"batch": 0},
        {"epochs": -1},
        {"target": 80.0},
        {"sampler": "x"},
        {"seed": -1},
    ):
        with pytest.raises(InputError):
            plain(nowhere, tmp_path / "r", **wrong)
    with pytest.raises(InputError, match="no photos to train on"):
        train(TrainConfig(photos=None, out=tmp_path / "r", resume=True))
    assert main(["train", "x", "--model-arg", "dropout"]) == 2


def make_two(folder: Path) -> Path:
    for label, value in (("a", 0), ("b", 255)):
        (folder / "two" / label).mkdir(parents=True, exist_ok=True)
        for index in range(4):
            pixels = np.full((8, 8, 3), abs(value - index), np.uint8)
            Image.fromarray(pixels).save(folder / "two" / label / f"{index}.png")
    return folder / "two"


@pytest.mark.slow
@pytest.mark.row("T1")
def test_killed_at_any_moment_and_resumed(digits: Path, tmp_path: Path) -> None:
    """A real process, killed by SIGKILL three times in the middle of epochs; then as if nothing had been."""

    def words(name: str) -> list[str]:
        command = [sys.executable, "-m", "samesight", "train", str(digits), "--model", "small", "--no-flip"]
        return [*command, "--epochs", "8", "--threads", "1", "--out", str(tmp_path / name)]

    subprocess.run(words("whole"), check=True, capture_output=True)
    history = tmp_path / "parts/history.csv"
    for wanted in (1, 3, 6):
        resume = ["--resume"] if wanted > 1 else []
        process = subprocess.Popen([*words("parts"), *resume], stderr=subprocess.DEVNULL, env=os.environ)
        while process.poll() is None and (not history.is_file() or len(rows(history)) < wanted):
            time.sleep(0.01)
        time.sleep(0.2)  # into the next epoch
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    subprocess.run([*words("parts"), "--resume"], check=True, capture_output=True)
    assert learning(tmp_path / "parts") == learning(tmp_path / "whole")
    assert same_states(tmp_path / "parts/checkpoints/best.pth", tmp_path / "whole/checkpoints/best.pth")


@pytest.mark.slow
@pytest.mark.row("M1", "T1", "D4")
@pytest.mark.parametrize(
    ("model", "file", "wanted"),
    [
        ("mobilenet_v2", "mobilenet_v2-6421cc59.pth", 0.80),
        ("squeezenet1_1", "squeezenet1_1-8226b7d8.pth", 0.60),
    ],
)
def test_real_photos_reach_the_wanted_accuracy(
    packs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, file: str, wanted: float
) -> None:
    """An imbalanced zip of real photos, nothing but the weights given."""
    import tarfile

    with tarfile.open(packs / "weights_dev.tar.xz") as archive:
        archive.extractall(tmp_path)
    weights = next(tmp_path.rglob(file))
    photos, out = packs / "trashnet_imbalanced.zip", tmp_path / "run"
    words = ["--model", model, "--weights", str(weights), "--offline", "--target", str(wanted), "--json"]
    assert main(["train", str(photos), *words, "--out", str(out)]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["test_photos"] == 96
    assert value["test_accuracy"] >= wanted
    assert json.loads((out / "run.json").read_text())["derived"]["sampler"] == "balanced"
