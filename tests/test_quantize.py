"""`samesight quantize`: an int8 copy that is proved, or the bundle as it was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_bundle import (
    LABELS,
    SPEC,
    Weights,
    info_of,
    make_bundle,
    make_weights,
    onnx_model,
    tampered,
    write_photos,
)

from samesight.bundle import Bundle, open_bundle
from samesight.cli import main
from samesight.files import sha256_file
from samesight.preprocess import normalise, resize
from samesight.report import write_report
from samesight.runners import open_runners
from samesight.runtime import open_runner
from samesight.verify import verify
from samesight.verify.golden import margin, read_golden

Photos = list[tuple[Path, str]]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    """Twenty a class, the first five of them in every common form."""
    folder = tmp_path_factory.mktemp("quantize") / "photos"
    photos = write_photos(folder)
    random = np.random.default_rng(5)
    for hue, label in enumerate(LABELS):
        for index in range(5, 20):
            pixels = random.integers(0, 90, (48, 40 + index, 3), dtype=np.uint8)
            pixels[..., 2 - hue] += 140
            path = folder / label / f"{index}.png"
            Image.fromarray(pixels).save(path)
            photos.append((path, label))
    return photos


@pytest.fixture(scope="module")
def weights(photos: Photos) -> Weights:
    return make_weights(photos)


@pytest.fixture(scope="module")
def bundle(photos: Photos, weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("quantize") / "bundle", photos, weights)


@pytest.fixture(scope="module")
def quantized(bundle: Bundle, photos: Photos, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("quantize") / "new"
    source = photos[0][0].parent.parent
    assert main(["quantize", str(bundle.folder), "--photos", str(source), "--out", str(out)]) == 0
    return open_bundle(out)


@pytest.mark.row("Q3")
def test_the_new_bundle_is_the_old_one_with_an_int8_copy(
    bundle: Bundle, quantized: Bundle, photos: Photos
) -> None:
    assert quantized.version == "1.1.0"
    assert [copy.name for copy in quantized.copies] == ["fp32", "fp16", "int8"]
    int8 = quantized.copy("int8")
    assert (int8.file, int8.precision, int8.input_dtype) == ("model.int8.onnx", "int8", "float32")
    there = {file.path: file.sha256 for file in quantized.files}
    for file in bundle.files:
        if file.path != "golden/golden.json":
            assert there[file.path] == file.sha256
    assert set(there) - {file.path for file in bundle.files} == {
        "model.int8.onnx",
        "golden/logits/int8.f32",
        "quantization.json",
    }
    assert quantized.made["quantized_from"] == bundle.id
    hashes = {sha256_file(path) for path, _ in photos}
    assert set(quantized.made["int8_calibration_photos"]) < hashes
    assert int8.recorded["test_accuracy"] == 1
    assert int8.recorded["test_photos"] == 36


@pytest.mark.row("Q3")
def test_verify_proves_the_int8_copy_by_its_own_record(quantized: Bundle) -> None:
    found = verify(quantized, read_golden(quantized), open_runners(quantized, ["onnxruntime"], ["int8"]))
    assert found.ok
    (row,) = found.runners
    assert row.reference == "int8"
    assert row.max_abs_difference == row.recorded_max_abs_difference == 0
    bound = quantized.copy("int8").recorded["max_abs_difference"]
    assert 0 < (row.pytorch_max_abs_difference or 0) <= (bound or 0)
    assert row.label_agreement == 1


@pytest.mark.row("Q3")
def test_the_report_holds_the_int8_copy_to_its_own_record(quantized: Bundle, tmp_path: Path) -> None:
    page = write_report(None, quantized.folder, tmp_path / "report.html").read_text()
    assert page.count("✓ within") == 3
    assert "✗ over" not in page


@pytest.mark.row("Q3")
def test_another_int8_network_is_told(quantized: Bundle, tmp_path: Path, weights: Weights) -> None:
    """The same hashes all through, so that only the proof can tell."""

    def swap(folder: Path) -> None:
        (folder / "model.int8.onnx").write_bytes(onnx_model(weights | {"w3": weights["w3"][::-1].copy()}))

    other = tampered(quantized, tmp_path / "swapped", swap)
    found = verify(other, read_golden(other), open_runners(other, ["onnxruntime"], ["fp32", "int8"]))
    assert not found.ok
    assert [row.ok for row in found.runners] == [True, False]
    assert found.first_difference is not None
    assert (found.first_difference["stage"], found.first_difference["copy"]) == ("network", "int8")
    assert "were recorded of it" in found.first_difference["what"]


@pytest.mark.parametrize("what", ["logits", "bound"])
def test_a_record_that_is_too_far_from_pytorch_is_told(quantized: Bundle, tmp_path: Path, what: str) -> None:
    def spoil(folder: Path) -> None:
        if what == "logits":
            path = folder / "golden" / "logits" / "int8.f32"
            path.write_bytes((np.frombuffer(path.read_bytes(), "<f4") + np.float32(40)).tobytes())

    from dataclasses import replace

    copies = list(info_of(quantized).copies)
    if what == "bound":
        copies[2] = replace(copies[2], recorded={**copies[2].recorded, "max_abs_difference": 0.0})
    other = tampered(quantized, tmp_path / "spoilt", spoil, copies=tuple(copies))
    found = verify(other, read_golden(other), open_runners(other, ["onnxruntime"], ["int8"]))
    assert found.first_difference is not None
    assert found.first_difference["stage"] == "record"
    assert "from PyTorch's logits" in found.first_difference["what"]


@pytest.mark.row("Q3")
def test_photos_measure_the_int8_copy(quantized: Bundle, photos: Photos) -> None:
    targets = [LABELS.index(label) for _, label in photos]
    runners = open_runners(quantized, ["onnxruntime"], ["fp32", "int8"])
    found = verify(quantized, read_golden(quantized), runners, photos=([path for path, _ in photos], targets))
    assert found.ok
    assert found.runners[0].photos.same_photos
    assert not found.runners[1].photos.same_photos  # it was judged on a part of them
    assert found.runners[1].photos.measured == 1


@pytest.mark.row("Q3")
def test_a_copy_over_its_budget_is_not_written(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Photos that lie between two labels, which rounding moves; without labels each change is a loss."""
    random = np.random.default_rng(0)
    runner = open_runner(bundle, "fp32")
    mixed = []
    for _ in range(300):
        share = random.dirichlet((9, 9, 9)).reshape(1, 1, 3)
        pixels = (random.integers(0, 90, (40, 40, 3)) + 200 * share).astype(np.uint8)
        mixed.append((margin(runner.logits(normalise(resize(pixels, SPEC), SPEC)[None])[0]), pixels))
    folder = tmp_path / "mixed"
    folder.mkdir()
    for index, (_, pixels) in enumerate(sorted(mixed, key=lambda one: one[0])[:60]):
        Image.fromarray(pixels).save(folder / f"{index}.png")
    before = (bundle.folder / "bundle.json").read_bytes()
    code = main(["quantize", str(bundle.folder), "--photos", str(folder), "--max-drop", "0.1", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert code == 1
    assert not answer["ok"]
    assert answer["verdict"]["drop"] > 0.001
    assert answer["reasons"]
    assert (bundle.folder / "bundle.json").read_bytes() == before
    assert open_bundle(bundle.folder).id == bundle.id


@pytest.mark.row("Q3")
def test_in_place_the_signature_is_gone_and_said_so(
    photos: Photos, weights: Weights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cryptography")
    from samesight.bundle.signing import new_key, sign_bundle

    bundle = make_bundle(tmp_path / "bundle", photos, weights)
    key, _ = new_key(tmp_path / "key")
    sign_bundle(bundle.folder, key)
    source = photos[0][0].parent.parent
    assert main(["quantize", str(bundle.folder), "--photos", str(source), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["version"] == "1.1.0"
    assert "not signed" in err
    assert not (bundle.folder / "bundle.sig").exists()
    assert main(["quantize", str(bundle.folder), "--photos", str(source)]) == 0
    again = open_bundle(bundle.folder)
    assert again.version == "1.2.0"
    assert [copy.name for copy in again.copies] == ["fp32", "fp16", "int8"]
    assert main(["predict", str(bundle.folder), str(photos[0][0]), "--copy", "int8"]) == 0
    assert "blue sky" in capsys.readouterr().out


def test_a_budget_that_is_none_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    assert main(["quantize", str(bundle.folder), "--photos", str(tmp_path), "--max-drop", "-1"]) == 2
