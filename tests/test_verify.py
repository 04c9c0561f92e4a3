"""The proof must be able to fail.

One stage at a time is tampered with, everything is sealed again so that the hashes hold, and that very
stage must be named.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_bundle import (
    LABELS,
    SPEC,
    Weights,
    make_bundle,
    make_weights,
    onnx_model,
    reworded,
    tampered,
    write_photos,
)

import samesight.verify.stages
from samesight.bundle import Bundle
from samesight.data.labels import labels_mapping
from samesight.errors import InputError, PhotoError
from samesight.images.pixelfile import read_pixels, write_pixels
from samesight.preprocess import decode
from samesight.runners import open_runners
from samesight.verify import STAGES, Verification, verify
from samesight.verify.golden import read_golden
from samesight.verify.layers import explain_by_layers
from samesight.verify.tolerances import TOLERANCES, tolerance_for

Photos = list[tuple[Path, str]]
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return write_photos(tmp_path_factory.mktemp("verify") / "photos")


@pytest.fixture(scope="module")
def weights(photos: Photos) -> Weights:
    return make_weights(photos)


@pytest.fixture(scope="module")
def bundle(photos: Photos, weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("verify") / "bundle", photos, weights)


def verified(bundle: Bundle, photos: Photos | None = None, against: Bundle | None = None) -> Verification:
    runners = open_runners(bundle, ["onnxruntime"], [copy.name for copy in bundle.copies])
    given = None
    if photos is not None:
        given = [path for path, _ in photos], [LABELS.index(label) for _, label in photos]
    return verify(
        bundle, read_golden(bundle), runners, photos=given, explain=explain_by_layers(bundle, against)
    )


def faulty_stages(found: Verification) -> dict[str, int]:
    return {stage.stage: stage.different for stage in found.stages if stage.different}


@pytest.mark.row("V1", "R1")
def test_an_untouched_bundle_is_the_same_everywhere(bundle: Bundle, photos: Photos) -> None:
    found = verified(bundle, photos)
    assert found.ok
    assert found.first_difference is None
    assert [(stage.stage, stage.samples, stage.different) for stage in found.stages] == [
        (stage, 6, 0) for stage in STAGES
    ]
    fp32, fp16 = found.runners
    assert fp32.max_abs_difference is not None
    assert fp16.max_abs_difference is not None
    assert fp32.max_abs_difference <= 1e-4
    assert fp32.max_abs_difference < fp16.max_abs_difference < (fp16.allowed or 0)
    assert fp16.recorded_max_abs_difference is not None
    assert fp16.recorded_max_abs_difference < 1e-2
    assert fp32.label_agreement == fp16.label_agreement == 1
    for runner in found.runners:
        assert runner.photos.measured == runner.photos.recorded == 1
        assert runner.photos.photos == runner.photos.recorded_photos == 15
        assert runner.photos.raw_label_agreement == 1


def edited_pixels(name: str, edit: Callable[[NDArray[np.uint8]], object]) -> Change:
    """A change of a file of reference pixels in the bundle."""

    def change(folder: Path) -> None:
        pixels = read_pixels((folder / name).read_bytes())
        edit(pixels)
        (folder / name).write_bytes(write_pixels(pixels))

    return change


def brighten(pixels: NDArray[np.uint8]) -> None:
    pixels[5, 7, 1] += 1


def swap_photos(folder: Path) -> None:
    """The first sample's photo is another one, of the same form."""
    shutil.copy(folder / "golden/0003/photo.jpg", folder / "golden/0001/photo.jpg")


@pytest.mark.row("V1")
@pytest.mark.parametrize(
    ("change", "stage"),
    [
        (swap_photos, "decode"),
        (lambda folder: (folder / "golden/0001/photo.jpg").write_bytes(b"not a photo"), "decode"),
        (reworded({"decoded_sha256": "0" * 64}), "decode"),
        (reworded({"width": 1, "height": 2400}), "decode"),
        (edited_pixels("golden/0001/decoded.png", brighten), "decode"),
        (edited_pixels("golden/0001/resized.png", brighten), "resize"),
        (reworded({"resized_sha256": "0" * 64}), "resize"),
        (lambda folder: (folder / "golden/0001/resized.png").write_bytes(b"not a PNG"), "resize"),
        (reworded({"tensor_sha256": "0" * 64}), "normalise"),
        (reworded({"predicted": "rose"}), "labels"),
        (reworded({"margin": 3.0}), "record"),
    ],
)
def test_a_changed_record_is_named_at_its_stage_alone(
    bundle: Bundle, tmp_path: Path, change: Change, stage: str
) -> None:
    found = verified(tampered(bundle, tmp_path / "tampered", change))
    assert not found.ok
    assert faulty_stages(found) == {stage: 1}
    first = found.first_difference
    assert first is not None
    assert (first["stage"], first["sample"], first["runner"]) == (stage, "0001", None)
    assert all(runner.different == 0 for runner in found.runners)


@pytest.mark.row("V1")
@pytest.mark.parametrize(
    ("other", "stage", "words"),
    [
        ({"interpolation": "bicubic"}, "resize", "bicubic, not bilinear"),
        ({"interpolation": "nearest"}, "resize", "nearest, not bilinear"),
        ({"resize": 41}, "resize", "41"),
        ({"resize": (40, 40)}, "resize", "exact"),
        ({"mean": (0.5, 0.5, 0.5)}, "normalise", "mean [0.5, 0.5, 0.5], not [0.485"),
        ({"std": (0.229, 0.224, 0.2250001)}, "normalise", "std"),
        ({"mean": (0.406, 0.456, 0.485)}, "normalise", "mean"),
    ],
)
def test_other_preprocessing_is_named_and_the_network_is_judged_all_the_same(
    bundle: Bundle, tmp_path: Path, other: dict[str, Any], stage: str, words: str
) -> None:
    found = verified(tampered(bundle, tmp_path / "tampered", preprocess=replace(SPEC, **other)))
    assert faulty_stages(found) == {stage: 6}
    assert words in found.first_difference["what"]  # type: ignore[index]
    assert [(runner.ok, runner.samples) for runner in found.runners] == [(True, 6)] * 2
    assert found.first_difference["max_abs_difference"] > 0  # type: ignore[index]


def test_where_the_right_input_is_not_known_the_next_stages_are_not_judged(
    bundle: Bundle, tmp_path: Path
) -> None:
    def change(folder: Path) -> None:
        (folder / "golden/0001/resized.png").write_bytes(b"not a PNG")
        swap_photos(folder)
        reworded({"lossless": None})(folder)
        (folder / "golden/0001/decoded.png").unlink()

    found = verified(tampered(bundle, tmp_path / "tampered", change))
    assert faulty_stages(found) == {"decode": 1}
    assert {stage.stage: stage.samples for stage in found.stages} == {
        "record": 6,
        "decode": 6,
        "resize": 5,
        "normalise": 5,
        "network": 5,
        "labels": 6,
    }
    assert not found.ok


@pytest.mark.row("V1")
def test_a_decoder_that_is_one_level_off_in_one_pixel_is_named(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(data: bytes) -> NDArray[np.uint8]:
        pixels = decode(data).copy()
        pixels[11, 3, 2] ^= 1
        return pixels

    monkeypatch.setattr(samesight.verify.stages, "decode", other)
    found = verified(bundle)
    assert faulty_stages(found) == {"decode": 6}
    first = found.first_difference
    assert first is not None
    assert first["max_abs_difference"] == 1
    assert first["at"] == first["first"] == {"row": 11, "column": 3, "channel": 2}
    assert first["different"] == 1
    assert "first at row 11 column 3 channel 2" in first["what"]
    assert all(runner.ok for runner in found.runners)


@pytest.mark.parametrize("stage", ["decode", "resize"])
def test_a_stage_that_refuses_its_input_is_named(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def refuse(*_: object) -> None:
        raise PhotoError("this build reads no such thing")

    monkeypatch.setattr(samesight.verify.stages, stage, refuse)
    found = verified(bundle)
    assert faulty_stages(found) == {stage: 6}
    assert "this build reads no such thing" in found.first_difference["what"]  # type: ignore[index]


def test_a_table_that_is_one_bit_off_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    right = samesight.verify.stages.normalise

    def other(pixels: NDArray[np.uint8], spec: Any) -> NDArray[np.float32]:
        tensor = right(pixels, spec)
        tensor[1, 2, 3] = np.nextafter(tensor[1, 2, 3], np.float32(9))
        return tensor

    monkeypatch.setattr(samesight.verify.stages, "normalise", other)
    found = verified(bundle)
    assert faulty_stages(found) == {"normalise": 6}
    assert found.first_difference["at"] == {"channel": 1, "row": 2, "column": 3}  # type: ignore[index]
    assert all(runner.ok and runner.samples == 6 for runner in found.runners), (
        "the formula gives the right one"
    )


def other_model(copy: str, weights: Weights, **changed: NDArray[np.float32]) -> Change:
    """One copy with other weights."""
    half = copy == "fp16"
    model = onnx_model(weights | changed, half=half, names="half_" if half else "")
    return lambda folder: (folder / f"model.{copy}.onnx").write_bytes(model)


def perturbed(values: NDArray[np.float32], at: tuple[int, ...], to: float) -> NDArray[np.float32]:
    values = values.copy()
    values[at] = to
    return values


@pytest.mark.row("V1")
@pytest.mark.parametrize("copy", ["fp32", "fp16"])
@pytest.mark.parametrize(
    ("name", "at", "to", "layer"),
    [("w1", (0, 0, 1, 1), 6.0, "c1"), ("w2", (3, 1, 1, 1), 4.0, "c2"), ("b3", (1,), 7.0, "output")],
)
def test_a_changed_weight_is_named_at_its_layer(
    bundle: Bundle, weights: Weights, tmp_path: Path, copy: str, name: str, at: Any, to: float, layer: str
) -> None:
    changed = {name: perturbed(weights[name], at, to)}
    found = verified(tampered(bundle, tmp_path / "tampered", other_model(copy, weights, **changed)))
    assert list(faulty_stages(found)) == ["network"]
    first = found.first_difference
    assert first is not None
    assert (first["runner"], first["copy"]) == ("onnxruntime", copy)
    expected = layer if copy == "fp32" else f"half_{'logits' if layer == 'output' else layer}"
    assert first["layer"]["output"] == expected
    assert first["layer"]["op_type"] == ("Gemm" if layer == "output" else "Conv")
    assert [runner.ok for runner in found.runners] == [copy != "fp32", copy != "fp16"]
    (guilty,) = [runner for runner in found.runners if not runner.ok]
    assert "file, runtime or machine is another" in guilty.notes[0]


@pytest.mark.row("V1")
def test_a_weight_changed_by_a_hundredth_is_named_beside_a_float16_copy(
    bundle: Bundle, weights: Weights, tmp_path: Path
) -> None:
    at = np.unravel_index(np.abs(weights["w2"]).argmax(), weights["w2"].shape)
    changed = {"w2": perturbed(weights["w2"], at, float(weights["w2"][at]) * 1.01)}
    found = verified(tampered(bundle, tmp_path / "tampered", other_model("fp32", weights, **changed)))
    assert found.runners[0].layer is not None
    assert (found.runners[0].layer["node"], found.runners[0].layer["parameter"]) == ("/c2/Conv", "w2")


@pytest.mark.row("V1")
def test_an_output_in_another_order_is_named(bundle: Bundle, weights: Weights, tmp_path: Path) -> None:
    order = [1, 2, 0]
    changed = {"w3": weights["w3"][order], "b3": weights["b3"][order]}
    found = verified(tampered(bundle, tmp_path / "tampered", other_model("fp16", weights, **changed)))
    assert faulty_stages(found) == {"network": 6}
    assert found.runners[1].label_agreement == 0
    assert found.first_difference["layer"]["op_type"] == "Gemm"  # type: ignore[index]


@pytest.mark.row("V1")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named(
    bundle: Bundle, weights: Weights, tmp_path: Path, value: float
) -> None:
    changed = {"w2": perturbed(weights["w2"], (0, 0, 0, 0), value)}
    found = verified(tampered(bundle, tmp_path / "tampered", other_model("fp32", weights, **changed)))
    assert faulty_stages(found) == {"network": 6}
    assert found.first_difference["layer"]["output"] == "c2"  # type: ignore[index]
    assert found.runners[0].max_abs_difference is None or not np.isfinite(found.runners[0].max_abs_difference)
    assert json.dumps(found.to_json(), allow_nan=False), "JSON has no word for infinity"
    assert "not finite" in found.first_difference["what"]  # type: ignore[index]


def test_swapped_labels_are_named(bundle: Bundle, tmp_path: Path) -> None:
    found = verified(tampered(bundle, tmp_path / "tampered", labels=(LABELS[1], LABELS[0], LABELS[2])))
    assert faulty_stages(found) == {"labels": 4}
    assert found.first_difference["what"] == (  # type: ignore[index]
        "bundle.json names PyTorch's answer 'grass', where 'blue sky' is recorded"
    )


@pytest.mark.row("D5")
def test_a_labels_mapping_that_says_otherwise_is_named(bundle: Bundle, tmp_path: Path) -> None:
    for labels, good in ((LABELS, True), (LABELS[::-1], False), (LABELS[:2], False)):

        def change(folder: Path, labels: Any = labels) -> None:
            (folder / "labels_mapping.json").write_text(json.dumps(labels_mapping(labels)))

        found = verified(tampered(bundle, tmp_path / f"{len(list(tmp_path.iterdir()))}", change))
        assert found.ok == good
        assert faulty_stages(found) == ({} if good else {"labels": 1})


def other_logits(name: str, edit: Callable[[NDArray[np.float32]], object]) -> Change:
    """Other recorded logits."""

    def change(folder: Path) -> None:
        path = folder / "golden" / "logits" / f"{name}.f32"
        logits = np.frombuffer(path.read_bytes(), "<f4").reshape(-1, len(LABELS)).copy()
        edit(logits)
        path.write_bytes(logits.tobytes())

    return change


def test_wrong_recorded_logits_of_a_copy_are_named(bundle: Bundle, tmp_path: Path) -> None:
    def edit(logits: NDArray[np.float32]) -> None:
        logits[4, 2] += 0.001

    found = verified(tampered(bundle, tmp_path / "tampered", other_logits("fp32", edit)))
    assert faulty_stages(found) == {"record": 1}
    assert found.first_difference["sample"] == "0005"  # type: ignore[index]
    assert "golden/logits/fp32.f32" in found.first_difference["what"]  # type: ignore[index]


def test_wrong_recorded_logits_of_pytorch_contradict_their_margin(bundle: Bundle, tmp_path: Path) -> None:
    def edit(logits: NDArray[np.float32]) -> None:
        logits[4] = logits[4, ::-1] * 0.5

    found = verified(tampered(bundle, tmp_path / "tampered", other_logits("pytorch", edit)))
    assert faulty_stages(found) == {"record": 1}
    assert "contradict" in found.first_difference["what"]  # type: ignore[index]
    assert [runner.samples for runner in found.runners] == [5, 5]


def test_where_all_copies_agree_against_pytorch_that_is_said(bundle: Bundle, tmp_path: Path) -> None:
    def edit(logits: NDArray[np.float32]) -> None:
        logits += 1.0  # keeps every margin

    found = verified(tampered(bundle, tmp_path / "tampered", other_logits("pytorch", edit)))
    assert faulty_stages(found)["network"] == 6
    for runner in found.runners:
        assert any("all copies agree with one another" in note for note in runner.notes)
        assert any("--against" in note for note in runner.notes), "nothing to compare with is said"
        assert runner.layer is None


def test_logits_of_an_untrained_network_prove_nothing(bundle: Bundle, tmp_path: Path) -> None:
    def edit(logits: NDArray[np.float32]) -> None:
        logits[:] = [[1e-15, 0, -1e-15]] * len(logits)

    def change(folder: Path) -> None:
        other_logits("pytorch", edit)(folder)
        path = folder / "golden/golden.json"
        record = json.loads(path.read_text())
        for sample in record["samples"]:
            sample |= {"margin": 1e-15, "predicted": LABELS[0]}
        path.write_text(json.dumps(record))

    found = verified(tampered(bundle, tmp_path / "tampered", change))
    assert not found.ok
    assert faulty_stages(found)["record"] == 1
    assert "they prove nothing" in found.first_difference["what"]  # type: ignore[index]


def test_another_bundle_names_the_layer_where_all_copies_are_wrong(
    bundle: Bundle, weights: Weights, tmp_path: Path
) -> None:
    changed = {"w2": perturbed(weights["w2"], (3, 1, 1, 1), 4.0)}

    def change(folder: Path) -> None:
        for copy in ("fp32", "fp16"):
            other_model(copy, weights, **changed)(folder)

    found = verified(tampered(bundle, tmp_path / "tampered", change), against=bundle)
    assert [runner.layer and runner.layer["output"] for runner in found.runners] == ["c2", "half_c2"]
    assert "tiny 1.0.0" in found.runners[0].layer["against"]  # type: ignore[index]


class Mistaken:
    """A runner that answers with the wrong number of logits."""

    name, copy = "onnxruntime", "fp32"

    def logits(self, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros((len(tensors), 2), np.float32)


def test_a_runner_with_another_number_of_logits_is_named(bundle: Bundle) -> None:
    found = verify(bundle, read_golden(bundle), [Mistaken()])
    assert not found.ok
    assert "shape (1, 2), not (1, 3)" in found.first_difference["what"]  # type: ignore[index]


class Biased:
    """A copy that is right on golden samples, and says one label for photos in batches."""

    name, copy = "onnxruntime", "fp16"

    def __init__(self, inner: Any, wrong: int) -> None:
        self.inner, self.wrong = inner, wrong

    def logits(self, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self.inner.logits(tensors)
        if len(tensors) > 1:
            logits[: self.wrong] = logits[: self.wrong, ::-1] - np.float32([0, 5, 0])
        return logits


@pytest.mark.row("V1")
def test_a_copy_that_is_wrong_on_other_photos_fails(bundle: Bundle, photos: Photos) -> None:
    fp32, fp16 = open_runners(bundle, ["onnxruntime"], ["fp32", "fp16"])
    given = [path for path, _ in photos], [LABELS.index(label) for _, label in photos]
    found = verify(bundle, read_golden(bundle), [fp32, Biased(fp16, 3)], photos=given)
    assert not found.ok
    assert faulty_stages(found) == {}
    assert found.first_difference["stage"] == "photos"  # type: ignore[index]
    assert found.runners[0].ok
    check = found.runners[1].photos
    assert check.measured == check.label_agreement == check.raw_label_agreement == 12 / 15
    assert len(check.problems) == 2, "labels do not agree, and accuracy is not the recorded one"


def test_toss_ups_do_not_count_against_a_copy() -> None:
    from samesight.verify.photos import agreement_beyond_toss_ups

    reference = np.array([[8.0, 7.9, 0], [8.0, 0, 0], [8.0, 7.4, 0]], np.float32)
    logits = np.array([[7.9, 8.0, 0], [0, 8.0, 0], [7.4, 8.0, 0]], np.float32)
    assert agreement_beyond_toss_ups(logits, reference, TOLERANCES["fp16"]) == 1 / 3
    assert agreement_beyond_toss_ups(reference, reference, TOLERANCES["fp16"]) == 1
    assert agreement_beyond_toss_ups(logits * np.float32(np.nan), reference, TOLERANCES["fp16"]) == 0


def test_photos_that_cannot_be_read_and_have_no_label(bundle: Bundle, photos: Photos, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    paths = [path for path, _ in photos[:3]] + [broken]
    found = verify(
        bundle,
        read_golden(bundle),
        open_runners(bundle, ["onnxruntime"], ["fp32"]),
        photos=(paths, [0, None, None, 1]),
    )
    check = found.runners[0].photos
    assert (check.photos, check.unread, check.measured) == (1, 1, 1.0)
    assert found.ok


def test_runners_by_name(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="no such runner"):
        open_runners(bundle, ["abacus"], ["fp32"])
    with pytest.raises(InputError, match="recorded in the bundle"):
        open_runners(bundle, ["pytorch"], ["fp32"])
    with pytest.raises(InputError, match="no such copy"):
        open_runners(bundle, ["onnxruntime"], ["int3"])


def test_tolerances() -> None:
    for name, tolerance in TOLERANCES.items():
        assert tolerance.name == name
        assert tolerance.reason
    assert TOLERANCES["fp32"].absolute(1) == 1e-4
    assert TOLERANCES["fp32"].absolute(100) == 5e-4
    assert tolerance_for("fp16").name == tolerance_for("fp16", "a runner without its own").name == "fp16"
    for stage in ("decode", "resize", "normalise"):
        assert TOLERANCES[stage].text() == "exact"
    with pytest.raises(InputError):
        tolerance_for("int3")
