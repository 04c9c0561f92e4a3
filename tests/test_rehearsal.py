"""Rehearsals: every recipe's whole path on a few photos, untrained where its weights cannot be had."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from samesight import rehearsal  # noqa: E402
from samesight.cli import main  # noqa: E402
from samesight.data.photos import PhotoOptions  # noqa: E402
from samesight.models import create, default_preprocess  # noqa: E402
from samesight.pictureoptions import PictureOptions  # noqa: E402
from samesight.preprocess import preprocess, read_photo  # noqa: E402
from samesight.training import TrainConfig, open_run  # noqa: E402

RECIPE = """
[recipe]
name = "try"
title = "A network whose weights cannot be had, and one that needs none"

[training]
train = "last-block"

[[network]]
model = "squeezenet1_1"
file = "squeeze"
target = 0.99
resize = "64x64"

[export]
copies = ["fp32"]

[artefacts]
labels = "labels_mapping.json"
onnx = "{file}.onnx"
checkpoint = "best_{file}_{accuracy}.pth"
"""


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of weights with nothing in it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.mark.row("T1")
def test_a_rehearsal_takes_every_step_without_any_weights(
    digits: Path, tmp_path: Path, no_weights: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "try.toml").write_text(RECIPE)
    out = tmp_path / "out"
    words = ["run", str(tmp_path / "try.toml"), "--photos", str(digits), "--out", str(out), "--offline"]
    assert main([*words, "--json"]) == 2, "not a rehearsal: the weights are missing"
    assert "--offline forbids" in capsys.readouterr().err
    out = tmp_path / "rehearsed"
    words[words.index("--out") + 1] = str(out)
    assert main([*words, "--rehearse", "--json"]) in (0, 1)
    said = capsys.readouterr()
    assert "squeezenet1_1 starts untrained, since its weights cannot be had here" in said.err
    assert "no accuracy means anything" in said.err
    value = json.loads(said.out.splitlines()[-1])
    assert value["rehearsal"] is True
    assert value["missed"] == [], "a target is not wanted of a rehearsal"
    run = open_run(out / "squeeze")
    assert "squeeze-untrained.pth" in run.value["weights"]
    assert [phase["name"] for phase in run.value["derived"]["phases"]] == ["head", "last-block"]
    assert len(run.labels) == rehearsal.LABELS
    assert sum(1 for _ in (out / "few").rglob("*.png")) == rehearsal.LABELS * rehearsal.PHOTOS
    names = {Path(path).name for path in value["artefacts"]}
    accuracy = round(1e4 * run.results["test_accuracy"])
    assert names == {"labels_mapping.json", "squeeze.onnx", f"best_squeeze_{accuracy:04d}.pth"}


def test_few_photos_keep_their_parts_and_their_styled_labels(photo_folder: Path, tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label in ("grass", "rose"):
            place = tmp_path / "parts" / part / label
            place.parent.mkdir(parents=True, exist_ok=True)
            (photo_folder / label).rename(place) if part == "train" else place.mkdir()
            if part == "test":
                photo = next((tmp_path / "parts" / "train" / label).iterdir())
                (place / "7.jpg").write_bytes(photo.read_bytes())
    options = PhotoOptions(label_style="title")
    few = Path(rehearsal.few_photos(str(tmp_path / "parts"), options, tmp_path / "few"))
    found = sorted(str(path.relative_to(few).parent) for path in few.rglob("*.jpg"))
    train = [name for name in found if name.startswith("train")]
    assert train == ["train/Grass"] * rehearsal.PHOTOS + ["train/Rose"] * rehearsal.PHOTOS
    assert [name for name in found if name.startswith("test")] == ["test/Grass", "test/Rose"]


def test_an_untrained_network_prefers_a_label_and_not_the_same_of_each_photo(
    digits: Path, tmp_path: Path, no_weights: None
) -> None:
    """Without the averages of photos the logits of this network are below 1e-13."""
    pictures = PictureOptions(resize="64x64")
    config = TrainConfig(photos=None, model="mobilenet_v2", pictures=pictures, offline=True)
    short = rehearsal.shortened(config, tmp_path / "untrained.pth", str(digits))
    assert short.weights == str(tmp_path / "untrained.pth")
    network = create("mobilenet_v2", None).eval()
    network.load_state_dict(torch.load(short.weights, weights_only=True))
    photos = [path for label in sorted(digits.iterdir()) for path in sorted(label.iterdir())[:1]]
    spec = pictures.over(default_preprocess("mobilenet_v2", None))
    with torch.inference_mode():
        tensors = np.stack([preprocess(read_photo(path), spec) for path in photos])
        logits = network(torch.from_numpy(tensors))
    best = logits.topk(2).values
    assert (best[:, 0] - best[:, 1]).median() > 0.01
    assert (logits[0] - logits[-1]).abs().max() > 0.1


def test_weights_that_were_named_are_never_replaced(tmp_path: Path, no_weights: None) -> None:
    file = tmp_path / "none.pth"
    named = TrainConfig(photos=None, model="resnet18", weights="mine.pth", offline=True)
    assert rehearsal.shortened(named, file, str(tmp_path)).weights == "mine.pth"
    scratch = TrainConfig(photos=None, model="small", head_epochs=None, target=0.5)
    short = rehearsal.shortened(scratch, file, str(tmp_path))
    assert (short.weights, short.epochs, short.head_epochs, short.target) == (None, 1, None, None)
    assert not file.is_file()
