"""The whole chain on small photos: one command, or a recipe, to a bundle that is proved."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from samesight.bundle import open_bundle  # noqa: E402
from samesight.cli import main  # noqa: E402
from samesight.commands.demo import write_digits  # noqa: E402

SMALL = ("--model", "small", "--resize", "32x32", "--no-flip", "--threads", "1")
RECIPE = """
[recipe]
name = "twins"
title = "Two small networks on digits"

[split]
seed = 7

[[network]]
model = "small"
file = "first"
epochs = 4
target = 0.3
resize = "32x32"

[[network]]
model = "small"
file = "second"
epochs = 4
target = 0.999
resize = "32x32"

[export]
opset = 12
fp16_input = "float16"

[artefacts]
notes = "dataset_preparation_notes.md"
onnx = "{file}_{copy}.onnx"
checkpoint = "{file}.pth"
table = "accuracy_and_model_size.csv"
sample_log = "samples.txt"
samples_per_class = 2
"""


@pytest.fixture(scope="module")
def built(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that `samesight build` made."""
    out = tmp_path_factory.mktemp("build") / "run"
    assert main(["build", str(digits), *SMALL, "--epochs", "6", "--out", str(out)]) == 0
    return out


@pytest.mark.row("D2", "D5", "T1", "E1", "E3", "V1", "V3")
def test_one_command_leaves_a_run_a_proved_bundle_and_a_page(built: Path) -> None:
    files = {path.name for path in built.iterdir()}
    assert {"run.json", "split.json", "history.csv", "history.png", "confusion_matrix.png"} <= files
    assert {"verify.json", "report.html", "dataset_preparation_notes.md", "labels_mapping.json"} <= files
    assert {"predictions.npz", "per_class.csv", "calibration.json", "reliability.png"} <= files
    bundle = open_bundle(built / "bundle")
    assert [copy.name for copy in bundle.copies] == ["fp32", "fp16"]
    found = json.loads((built / "verify.json").read_text())
    assert found["ok"]
    assert found["bundle"] == bundle.id
    trained = json.loads((built / "run.json").read_text())["results"]
    for runner in found["runners"]:
        accuracy = runner["accuracy"]
        assert accuracy["same_photos"], "the held-out part is what the recorded accuracy is of"
        assert accuracy["photos"] == trained["test_photos"] == 60
    assert found["runners"][0]["accuracy"]["measured"] == trained["test_accuracy"] > 0.5
    page = (built / "report.html").read_text()
    assert bundle.id[:12] in page


def test_a_build_is_gone_on_with_and_each_stage_can_be_run_again(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", "--resume", "--out", str(built), "--json"]) == 0
    value = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert value["ok"]
    assert value["bundle"] == str((built / "bundle").resolve())
    assert {"test_accuracy", "val_accuracy", "cpu_seconds", "wall_seconds", "run"} <= set(value)
    assert main(["export", str(built), "--out", str(tmp_path / "again"), "--opset", "12"]) == 0
    assert open_bundle(tmp_path / "again").copies[0].opset == 12
    assert main(["verify", str(tmp_path / "again"), "--photos", str(built)]) == 0
    assert main(["report", str(built)]) == 0
    assert main(["report", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again-report.html").is_file()


def test_a_second_build_in_the_same_place_is_refused(
    built: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (built / "run.json").read_bytes()
    assert main(["build", str(digits), *SMALL, "--out", str(built)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert (built / "run.json").read_bytes() == before


def test_neither_a_run_nor_a_bundle_has_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "neither a run nor a bundle" in capsys.readouterr().err


@pytest.mark.row("E1", "E3", "V2")
def test_a_recipe_writes_every_artefact_under_its_name(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "twins.toml").write_text(RECIPE)
    out = tmp_path / "out"
    words = ["run", str(tmp_path / "twins.toml"), "--photos", str(digits), "--out", str(out)]
    assert main([*words, "--json"]) == 1, "the second network's target is out of reach in four epochs"
    said = capsys.readouterr()
    value = json.loads(said.out.splitlines()[-1])
    assert len(value["missed"]) == 1
    assert "99.9% wanted" in value["missed"][0]
    names = {f"{file}_{copy}.onnx" for file in ("first", "second") for copy in ("fp32", "fp16")}
    names |= {"first.pth", "second.pth", "accuracy_and_model_size.csv", "samples.txt", "samples.json"}
    names |= {"dataset_preparation_notes.md"}
    assert {Path(path).name for path in value["artefacts"]} == names
    assert all((out / name).is_file() for name in names)
    with (out / "accuracy_and_model_size.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["file"] for row in rows] == [
        *("first.pth", "first_fp32.onnx", "first_fp16.onnx"),
        *("second.pth", "second_fp32.onnx", "second_fp16.onnx"),
    ]
    assert all(0 < float(row["test_accuracy"]) <= 1 for row in rows)
    log = (out / "samples.txt").read_text()
    assert log.count("  true class  ") == 20, "two photos of each of ten classes"
    assert log.count("second / onnx fp16") == 21, "once among the networks, once a photo"
    splits = {(out / name / "split.json").read_text() for name in ("first", "second")}
    assert len({json.loads(split)["seed"] for split in splits}) == 1
    assert main(words) == 1, "what is complete is not done again, and says the same"


def test_a_network_that_cannot_be_built_does_not_keep_the_others_from_it(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no weights")
    recipe = RECIPE.replace(
        'model = "small"\nfile = "first"', f'model = "resnet18"\nweights = "{broken}"\nfile = "first"'
    )
    (tmp_path / "twins.toml").write_text(recipe.replace("target = 0.999", "target = 0.1"))
    words = ["run", str(tmp_path / "twins.toml"), "--photos", str(digits), "--out", str(tmp_path / "out")]
    assert main([*words, "--epochs", "3", "--json"]) == 2
    said = capsys.readouterr()
    value = json.loads(said.out.splitlines()[-1])
    assert list(value["failed"]) == ["first"]
    assert str(broken) in value["failed"]["first"]
    assert list(value["networks"]) == ["second"]
    assert (tmp_path / "out" / "second_fp16.onnx").is_file()
    assert "first could not be done" in said.err


def test_a_recipe_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "none"]) == 2
    assert "pain" in capsys.readouterr().err
    assert main(["run", "pain", "--weights", "resnet99=x"]) == 2
    assert "resnet50" in capsys.readouterr().err


def test_the_demo_writes_digits(tmp_path: Path) -> None:
    write_digits(tmp_path, 50)
    assert len(list(tmp_path.rglob("*.png"))) == 50
    assert {path.name for path in tmp_path.iterdir()} == set("0123456789")
