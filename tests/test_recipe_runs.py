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
def test_cifar10_mpc(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files under the names that its authors' programs look for, and their table."""
    monkeypatch.delenv("SAMESIGHT_SECURE_PYTHON", raising=False)
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
    files = out / "info_of_model_for_inference_txt_format" / "PrunedResnetData"
    assert (files / "all_parameters/new_gamma/P0-bn_layer_1_new_gamma.txt").is_file()
    assert {path.name for path in (files / "Inputs").iterdir()} == {f"Execution_{n}" for n in range(3)}
    assert len(list((out / "inference/test_images").iterdir())) == 3
    said = capsys.readouterr().err
    assert f"left out: secure runs of {name}: the secure engine is not installed" in said


@pytest.mark.slow
@pytest.mark.row("X3")
def test_cifar10_mpc_under_encryption(
    few: Path, tmp_path: Path, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three photos in the clear, by three parties and by two: the same labels, and logits near."""
    monkeypatch.setenv("SAMESIGHT_SECURE_PYTHON", str(engine))
    out = tmp_path / "out"
    words = ["run", "cifar10-mpc", "--photos", str(few), "--epochs", "2", "--out", str(out)]
    assert main([*words, "--only", "pruned_resnet"]) == 0
    log = json.loads((out / "inference/secure_inference.json").read_text())
    assert [run["protocol"] for run in log["runs"]] == ["aby3", "cheetah"]
    for run in log["runs"]:
        assert run["ok"]
        assert len(run["photos"]) == 3
        assert all(row["difference"] <= run["allowed"] for row in run["photos"])
    text = (out / "inference/secure_inference.txt").read_text()
    assert text.count("as without encryption") == 6


@pytest.mark.slow
@pytest.mark.row("X3")
def test_pain_goes_on_under_encryption(
    few: Path, tmp_path: Path, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMESIGHT_SECURE_PYTHON", str(engine))
    out = tmp_path / "out"
    words = ["run", "pain", "--photos", str(few), "--rehearse", "--out", str(out), "--only", "squeezenet1_1"]
    assert main([*words, "--weights", weights("squeezenet1_1", tmp_path)]) in (0, 1)
    log = json.loads((out / "phase2_secure_sample_inference.json").read_text())
    assert [(run["network"], len(run["photos"])) for run in log["runs"]] == [("sqnet", 1)]


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
@pytest.mark.row("Q1", "Q2", "B1")
def test_a_study_of_pretrained_networks_over_a_subset(packs: Path, tmp_path: Path) -> None:
    """The second half of imagenet-study, with two networks, one of them without weights at hand."""
    weights_of = "weights/squeezenet1_1-8226b7d8.pth"
    with tarfile.open(packs / "weights_dev.tar.xz") as archive:
        archive.extract(weights_of, tmp_path)
    shipped = (ROOT / "recipes/imagenet-study.toml").read_text()
    head, _, tail = shipped.partition("\n[study]\n")
    networks = 'quantize = "squeezenet1_1"\nzoo = ["squeezenet1_1", "mobilenet_v3_small"]\n'
    recipe = tmp_path / "study.toml"
    recipe.write_text(f"{head}\n[study]\n{networks}\n[artefacts]{tail.partition('[artefacts]')[2]}")
    out, subset = tmp_path / "out", str(packs / "imagenet520.tar")
    words = ["run", str(recipe), "--subset", subset, "--out", str(out), "--offline", "--rehearse"]
    assert main([*words, "--weights", f"squeezenet1_1={tmp_path / weights_of}"]) == 0
    names = {"quantization_study.csv", "batch_size_analysis_combined.png", "static_quant_analysis.png"}
    names |= {"quantization_study.json", "pretrained_networks.csv", "pretrained_networks.png"}
    assert names | {"pretrained_networks.json"} == {file.name for file in out.iterdir()}
    rows = list(csv.DictReader((out / "pretrained_networks.csv").open(newline="")))
    assert [(row["network"], row["batch"], row["accuracy"] != "") for row in rows] == [
        *(("squeezenet1_1", "1", True), ("squeezenet1_1", "2", True)),
        *(("mobilenet_v3_small", "1", False), ("mobilenet_v3_small", "2", False)),
    ]
    ways = {row["way"] for row in csv.DictReader((out / "quantization_study.csv").open(newline=""))}
    assert {"float32", "dynamic Conv2d", "fx fbgemm", "fx qnnpack", "fx x86", "fx custom", "pt2e x86"} < ways


def test_a_recipe_without_photos_names_what_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "imagenet-study"]) == 2
    assert "--photos PHOTOS or --subset IMAGENET_SUBSET" in capsys.readouterr().err
    assert main(["run", "pain", "--subset", "photos"]) == 2
    assert "has no [study]" in capsys.readouterr().err


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


@pytest.mark.row("E1", "E2", "V3", "R3")
def test_emotion_converts_checkpoints_and_writes_the_front_ends_files(
    few: Path, tmp_path: Path, web_assets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The user's own state dicts, without training: the names that the front end asks for, and the page."""
    from samesight import rehearsal
    from samesight.bundle import open_bundle
    from samesight.files import sha256_file
    from samesight.pictureoptions import PictureOptions

    recipe = tmp_path / "emotion.toml"
    text = (ROOT / "recipes" / "emotion.toml").read_text()
    recipe.write_text(text.replace("224x224", "64x64"))  # as large as need be
    out = tmp_path / "out"
    words = ["run", str(recipe), "--photos", str(few), "--labels", "0,1,2", "--out", str(out)]
    words += ["--only", "mobilenet_v2", "--only", "landmark_cnn"]
    assert main(words) == 2, "no checkpoint is named"
    assert "--weights mobilenet_v2=FILE.pth" in capsys.readouterr().err
    pictures = PictureOptions(resize="64x64", interpolation="bilinear")
    for model in ("mobilenet_v2", "landmark_cnn"):
        file = tmp_path / f"{model}.pth"
        assert rehearsal.write_stand_in(model, pictures, str(few), file, 42) == ("0", "1", "2")
        words += ["--weights", f"{model}={file}"]
    assert main([*words, "--json"]) == 0
    value = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert value["ok"]
    models = out / "frontend" / "public" / "models"
    names = ["mobilenet_emotion.onnx", "landmark_cnn_emotion.onnx"]
    said = {"model_info.json", "model_checksums.json", "labels_mapping.json"}
    assert {file.name for file in models.iterdir()} == {*names, *said}
    checksums = json.loads((models / "model_checksums.json").read_text())
    assert checksums == {name: sha256_file(models / name) for name in names}
    info = json.loads((models / "model_info.json").read_text())["models"]
    assert list(info) == names
    for name in names:
        assert info[name]["opset"] == 12
        assert info[name]["classes"] == ["0", "1", "2"]
        assert info[name]["preprocessing"]["interpolation"] == "bilinear"
        assert info[name]["input_shape"] == ["batch", 3, 64, 64]
    summary = (out / "ai-models" / "CONVERSION_SUMMARY.md").read_text()
    assert all(name in summary for name in names)
    assert "model.onnx" not in summary
    bundle = open_bundle(out / "mobilenet_emotion" / "bundle")
    assert sha256_file(bundle.folder / "model.onnx") == checksums[names[0]]
    assert open_bundle(out / "frontend" / "public" / "page" / "bundle").made["published_from"] == bundle.id
