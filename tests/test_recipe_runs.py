"""The shipped recipes carried out on a few photos, from random weights: every artefact by its name."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

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


@pytest.mark.row("T1", "X2")
def test_cifar10_mpc(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    recipe = str(ROOT / "recipes/cifar10-mpc.toml")
    assert main(["run", recipe, "--photos", str(few), "--epochs", "1", "--out", str(out)]) in (0, 1)
    assert {"pruned_resnet.onnx", "pruned_resnet.pth", "accuracy_and_model_size.csv"} <= {
        file.name for file in out.iterdir()
    }
    derived = open_run(out / "pruned_resnet").value["derived"]
    assert derived["optimizer"] == "sgd"
    assert derived["augmentation"][0].startswith("random shift")


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
@pytest.mark.row("D1", "D3", "D5")
def test_butterfly_reads_a_table_and_title_cases_its_labels(few: Path, tmp_path: Path) -> None:
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
