"""`samesight verify`: what it prints, its JSON, and its exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import (
    LABELS,
    Weights,
    make_bundle,
    make_weights,
    onnx_model,
    reworded,
    tampered,
    write_photos,
)

from samesight.bundle import Bundle
from samesight.cli import main
from samesight.verify.tolerances import TOLERANCES
from samesight.verify.verification import STAGES

ROOT = Path(__file__).resolve().parent.parent
Photos = list[tuple[Path, str]]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return write_photos(tmp_path_factory.mktemp("command") / "photos")


@pytest.fixture(scope="module")
def weights(photos: Photos) -> Weights:
    return make_weights(photos)


@pytest.fixture(scope="module")
def bundle(photos: Photos, weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("command") / "bundle", photos, weights)


@pytest.fixture
def wrong(bundle: Bundle, weights: Weights, tmp_path: Path) -> Bundle:
    """A bundle whose FP32 copy has another second convolution."""
    model = onnx_model(weights | {"w2": weights["w2"] * np.float32(1.2)})
    return tampered(
        bundle, tmp_path / "wrong", lambda folder: (folder / "model.fp32.onnx").write_bytes(model)
    )


def run(*words: object) -> int:
    return main(["verify", *map(str, words)])


@pytest.mark.row("V1", "V3")
def test_yes_is_0(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(bundle.folder) == 0
    said = capsys.readouterr()
    assert "the same answer everywhere: 2 copies, 6 golden samples" in said.out
    assert "recorded: 100.00% of 15" in said.out
    assert "Next: samesight verify" in said.err


@pytest.mark.row("V1")
def test_no_is_1_and_names_stage_sample_and_layer(wrong: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(wrong.folder) == 1
    said = capsys.readouterr().out
    assert "differs from the network stage on: sample 0001 (onnxruntime, fp32 copy)" in said
    assert "Conv /c2/Conv" in said
    assert "the same answer" not in said


def test_no_of_a_stage(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tampered(bundle, tmp_path / "other", reworded({"resized_sha256": "0" * 64}))
    assert run(other.folder) == 1
    assert "differs from the resize stage on: sample 0001" in capsys.readouterr().out


@pytest.mark.row("V3")
def test_could_not_check_is_2(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == 2
    assert run(bundle.folder, "--copy", "int3") == 2
    assert run(bundle.folder, "--runner", "abacus") == 2
    assert "there is no such runner" in capsys.readouterr().err
    assert run(bundle.folder, "--photos", tmp_path / "nowhere") == 2
    other = tampered(bundle, tmp_path / "other")
    with (other.folder / "model.fp16.onnx").open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"\0\1\2\3")
    capsys.readouterr()
    assert run(other.folder) == 2
    said = capsys.readouterr()
    assert "model.fp16.onnx" in said.err
    assert said.out == ""


@pytest.mark.row("V1")
def test_json(wrong: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "verify.json"
    assert run(wrong.folder, "--json", "--out", out) == 1
    found = json.loads(capsys.readouterr().out)
    assert json.loads(out.read_text()) == found
    assert found["ok"] is False
    assert found["bundle"] == wrong.id
    assert [stage["stage"] for stage in found["stages"]] == list(STAGES)
    assert [(one["runner"], one["copy"], one["ok"]) for one in found["runners"]] == [
        ("onnxruntime", "fp32", False),
        ("onnxruntime", "fp16", True),
    ]
    first = found["first_difference"]
    assert (first["stage"], first["sample"], first["copy"]) == ("network", "0001", "fp32")
    assert first["layer"]["node"] == "/c2/Conv"
    assert first["max_abs_difference"] > 1e-4
    assert {"samesight", "python", "numpy", "pillow", "onnxruntime"} <= set(found["versions"])
    for runner in found["runners"]:
        accuracy = runner["accuracy"]
        assert (accuracy["measured"], accuracy["photos"]) == (None, 0)
        assert (accuracy["recorded"], accuracy["recorded_photos"]) == (1.0, 15)


@pytest.mark.row("V1")
@pytest.mark.parametrize("form", ["folders", "csv"])
def test_photos_in_any_form_are_measured(
    bundle: Bundle, photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    source = photos[0][0].parent.parent
    if form == "csv":
        rows = [f"{path.relative_to(source).as_posix()},{label}" for path, label in photos]
        table = tmp_path / "labels.csv"
        table.write_text("\n".join(["filename,label", *rows]))
        words: list[object] = ["--photos", source, "--csv", table]
    else:
        words = ["--photos", source]
    assert run(bundle.folder, "--json", *words) == 0
    found = json.loads(capsys.readouterr().out)
    for runner in found["runners"]:
        assert runner["accuracy"]["measured"] == 1.0
        assert runner["accuracy"]["photos"] == 15
        assert runner["accuracy"]["label_agreement"] == 1.0


def test_split_photos_are_measured_on_the_held_out_part(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photos(tmp_path / "photos" / "train", 3)
    write_photos(tmp_path / "photos" / "test", 2)
    assert run(bundle.folder, "--json", "--photos", tmp_path / "photos") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["runners"][0]["accuracy"]["photos"] == 6
    assert "6 photos of the part 'test'" in said.err
    assert run(bundle.folder, "--json", "--photos", tmp_path / "photos", "--part", "all") == 0
    assert json.loads(capsys.readouterr().out)["runners"][0]["accuracy"]["photos"] == 15


def test_another_accuracy_on_as_many_other_photos_is_only_shown(
    bundle: Bundle, photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "photos" / LABELS[0]
    place.mkdir(parents=True)
    for path, _ in photos:  # a byte after the picture's end makes another file of the same picture
        (place / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes() + b" ")
    assert run(bundle.folder, "--json", "--photos", tmp_path / "photos") == 0
    accuracy = json.loads(capsys.readouterr().out)["runners"][0]["accuracy"]
    assert accuracy["measured"] == 1 / 3
    assert accuracy["recorded_photos"] == accuracy["photos"] == 15
    assert accuracy["same_photos"] is False


def test_another_accuracy_on_the_recorded_photos_fails(
    bundle: Bundle, photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = dict(zip(LABELS, (*LABELS[1:], LABELS[0]), strict=True))
    for path, label in photos:
        place = tmp_path / "photos" / turned[label]
        place.mkdir(parents=True, exist_ok=True)
        (place / path.name).write_bytes(path.read_bytes())
    assert run(bundle.folder, "--photos", tmp_path / "photos") == 1
    said = capsys.readouterr().out
    assert "differs from the photos stage" in said
    assert "accuracy is 0.00% on the very 15 photos on which 100.00% was recorded" in said


def test_one_copy_and_against(bundle: Bundle, wrong: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(wrong.folder, "--copy", "fp16") == 0
    assert "1 copy, 6 golden samples" in capsys.readouterr().out
    assert run(wrong.folder, "--copy", "fp32") == 1
    said = capsys.readouterr()
    assert "none to compare with" in said.out
    assert "--against" in said.err
    assert run(wrong.folder, "--copy", "fp32", "--against", bundle.folder) == 1
    assert "Conv /c2/Conv" in capsys.readouterr().out


@pytest.mark.row("R1")
def test_nothing_heavy_is_loaded(bundle: Bundle, wrong: Bundle) -> None:
    code = (
        "import sys; from samesight.cli import main; main(['verify', sys.argv[1]]);"
        "print({m.split('.')[0] for m in sys.modules} & {'torch', 'torchvision', 'onnx', 'sklearn', 'timm'})"
    )
    for folder, loaded in ((bundle.folder, "set()"), (wrong.folder, "{'onnx'}")):
        done = subprocess.run(
            [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == loaded


def documented(name: str) -> str:
    return re.search(
        rf"<!-- {name} -->\n(.*?)<!-- end -->", (ROOT / "docs/verify.md").read_text(encoding="utf-8"), re.S
    ).group(1)  # type: ignore[union-attr]


def test_the_documented_tolerances_are_those_of_the_code() -> None:
    rows = ["| name | allowed | why |", "|---|---|---|"]
    rows += [f"| {one.name} | {one.text()} | {one.reason} |" for one in TOLERANCES.values()]
    assert documented("tolerances").strip().splitlines() == rows


def test_the_documented_json_has_the_keys_of_the_real_one(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    run(bundle.folder, "--json")
    found = json.loads(capsys.readouterr().out)
    example: Any = json.loads(documented("json").strip().removeprefix("```json").removesuffix("```"))
    assert list(example) == list(found)
    assert list(example["stages"][0]) == list(found["stages"][0])
    assert list(example["runners"][0]) == list(found["runners"][0])
    assert list(example["runners"][0]["accuracy"]) == list(found["runners"][0]["accuracy"])
