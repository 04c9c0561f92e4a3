"""The shipped recipes carried out on a few photos, from random weights: every artefact by its name."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from samesight.cli import main  # noqa: E402
from samesight.models import create  # noqa: E402
from samesight.training import open_run  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def few(digits: Path, tmp_path: Path) -> Path:
    """Three classes of eight digits."""
    for label in "012":
        (tmp_path / "few" / label).mkdir(parents=True)
        for photo in sorted((digits / label).iterdir())[:8]:
            shutil.copy(photo, tmp_path / "few" / label)
    return tmp_path / "few"


def weights(model: str, folder: Path) -> str:
    """A state dict of the network for ImageNet's classes, as a user would have one, but untrained."""
    torch.manual_seed(0)
    file = folder / f"{model}.pth"
    torch.save(create(model, 1000).state_dict(), file)
    return f"{model}={file}"


@pytest.mark.row("T1", "X2", "M3")
def test_cifar10_mpc(few: Path, tmp_path: Path) -> None:
    """The files under the names that its authors' programs look for, and their table."""
    out = tmp_path / "out"
    recipe = str(ROOT / "recipes/cifar10-mpc.toml")
    assert main(["run", recipe, "--photos", str(few), "--epochs", "1", "--out", str(out)]) in (0, 1)
    name = "cifar10-cnn_with_bn_and_avg_pool"
    assert {f"{name}.pth", f"{name}.onnx", "resnet18.pth", "resnet18.onnx"} == {
        file.name for file in (out / "saved_model").iterdir()
    }
    derived = open_run(out / name).value["derived"]
    assert derived["optimizer"] == "sgd"
    assert derived["augmentation"][0].startswith("random shift")
    state = torch.load(out / "saved_model" / f"{name}.pth", weights_only=True)
    assert all(key.startswith("network.") for key in state), "what their own class is given"
    table = (out / "comparative_analysis.md").read_text()
    assert "| resnet18 | 11.69 | 1.82 |  | as published: 224 x 224 pixels, 1000 classes |" in table
    rows = list(csv.DictReader((out / "comparative_analysis.csv").open(newline="")))
    assert [(row["model"], row["counted"], row["classes"]) for row in rows] == [
        ("pruned_resnet", "as trained", "3"),
        ("resnet18", "as published", "1000"),
        ("resnet18", "as trained", "3"),
    ]
    assert float(rows[0]["accuracy"]) == open_run(out / name).results["test_accuracy"]


@pytest.mark.row("D1", "T1")
def test_cifar10_mpc_takes_the_original_archive(tmp_path: Path) -> None:
    """cifar-10-python.tar.gz in its own form, with five photos a class in each part."""
    archive = original_archive(tmp_path, photos=5)
    out = tmp_path / "out"
    words = ["run", "cifar10-mpc", "--photos", str(archive), "--epochs", "1", "--out", str(out)]
    assert main([*words, "--only", "pruned_resnet"]) in (0, 1)
    run = open_run(out / "cifar10-cnn_with_bn_and_avg_pool")
    assert run.labels[0] == "airplane"
    assert run.results["test_photos"] == 50, "the part that is called test stays apart"


def original_archive(folder: Path, photos: int) -> Path:
    """CIFAR-10's archive as its authors publish it, of noise: `photos` a class in each batch and the test."""
    random = np.random.default_rng(3)
    place = folder / "cifar-10-batches-py"
    place.mkdir()
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        labels = list(range(10)) * photos
        data = random.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        with (place / name).open("wb") as stream:
            pickle.dump({"labels": labels, "data": data}, stream, protocol=2)
    with (place / "batches.meta").open("wb") as stream:
        pickle.dump({"label_names": names}, stream, protocol=2)
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(place, place.name)
    return folder / "cifar-10-python.tar.gz"


@pytest.mark.slow
@pytest.mark.row("T1", "D3")
def test_imagenet_study_trains_the_last_block(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["run", "imagenet-study", "--photos", str(few), "--epochs", "1", "--out", str(out)]
    assert main([*words, "--weights", weights("resnet18", tmp_path)]) in (0, 1)
    run = open_run(out / "resnet18_cifar100")
    assert [phase["name"] for phase in run.value["derived"]["phases"]] == ["head", "last-block"]
    accuracy = round(1e4 * run.results["test_accuracy"])
    assert (out / f"best_resnet18_cifar100_{accuracy:04d}.pth").is_file()


@pytest.mark.slow
@pytest.mark.row("D1", "D3", "D5", "R4")
def test_butterfly_reads_a_table_title_cases_its_labels_and_ends_in_rust(
    few: Path, tmp_path: Path, samesight_rs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMESIGHT_RUST", str(samesight_rs))
    flat = tmp_path / "train"
    flat.mkdir()
    with (tmp_path / "Training_set.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["filename", "label"])
        for photo in sorted(few.glob("*/*.png")):
            name = f"{photo.parent.name}_{photo.name}"
            shutil.copy(photo, flat / name)
            writer.writerow(
                [name, {"0": "RED ADMIRAL ", "1": "monarch", "2": "blue morpho"}[photo.parent.name]]
            )
    out = tmp_path / "out"
    words = ["run", "butterfly", "--photos", str(tmp_path), "--csv", str(tmp_path / "Training_set.csv")]
    words += ["--images", str(flat), "--epochs", "1", "--head-epochs", "1", "--out", str(out)]
    words += ["--only", "regnet_x_400mf", "--weights", weights("regnet_x_400mf", tmp_path)]
    assert main(words) in (0, 1)
    run = open_run(out / "regnet_x_400mf")
    assert sorted(run.labels) == ["Blue Morpho", "Monarch", "Red Admiral"]
    assert (run.preprocess.resize, run.preprocess.crop) == (256, (224, 224))
    said = " ".join(run.value["derived"]["augmentation"])
    assert "ColorJitter: brightness 0.2, contrast 0.2, saturation 0.2, hue 0.1" in said
    assert "vertical flip" in said
    assert "crop" not in said
    assert (out / "regnet_x_400mf_fp16.onnx").is_file()
    proof = json.loads((out / "regnet_x_400mf_rust.json").read_text())
    assert proof["ok"]
    assert {one["runner"] for one in proof["runners"]} == {"rust"}


@pytest.mark.slow
@pytest.mark.row("T1", "E1", "E3", "V2")
def test_signs_resnet50_learns_from_scratch(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["run", "signs-resnet50", "--photos", str(few), "--epochs", "1", "--out", str(out)]
    assert main(words) in (0, 1)
    run = open_run(out / "resnet50")
    assert run.value["weights"].startswith("none")
    assert run.preprocess.size == (48, 48)
    assert (out / "resnet50_fp16.onnx").is_file()
