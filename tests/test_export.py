"""From a trained network to a bundle that is proved, or not there."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from samesight.bundle import Bundle, open_bundle  # noqa: E402
from samesight.cli import main  # noqa: E402
from samesight.data.photos import PhotoOptions  # noqa: E402
from samesight.errors import CheckpointError, CopyError, ExportError, InputError, PhotosError  # noqa: E402
from samesight.export import (  # noqa: E402
    CheckpointSource,
    ExportOptions,
    export_checkpoint,
    export_run,
)
from samesight.export.samplelog import LoggedNetwork, write_sample_log  # noqa: E402
from samesight.pictureoptions import PictureOptions  # noqa: E402
from samesight.preprocess import Preprocess  # noqa: E402
from samesight.runtime import load  # noqa: E402
from samesight.training import AugmentOptions, TrainConfig, train  # noqa: E402
from samesight.verify.golden import read_golden  # noqa: E402

LABELS = tuple("0123456789")
OWN = """
import torch
from torch import nn

class Own(nn.Module):
    '''The digits network of a user's own: what a photo's colours say, before or after a twist.'''
    def __init__(self, num_classes=10, twist="none"):
        super().__init__()
        self.twist = twist
        self.features = nn.Sequential(
            nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, 64), nn.BatchNorm1d(64), nn.ReLU())
        self.head = nn.Linear(64, num_classes)

    def forward(self, x):
        x = self.features(x)
        if self.twist == "huge":  # in range for float32 only
            x = x * 30000 * 30000 / 900000000
        if self.twist == "constant":
            x = x * 0
        if self.twist == "decides" and float(x[0, :32].sum()) > float(x[0, 32:].sum()):
            return -self.head(x)  # which a trace cannot follow
        return self.head(x)
"""


@pytest.fixture(scope="module")
def run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the small network on digits: a few epochs from scratch."""
    out = tmp_path_factory.mktemp("run") / "digits-small"
    train(
        TrainConfig(
            photos=str(digits),
            out=out,
            model="small",
            augment=AugmentOptions(flip=False),
            threads=1,
            epochs=6,
        )
    )
    return out


@pytest.fixture(scope="module")
def bundle(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(export_run(run, tmp_path_factory.mktemp("bundle") / "b"))


@pytest.fixture(scope="module")
def own(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> CheckpointSource:
    """A user's own network, trained for a moment, its state dict nested and prefixed as many are."""
    folder = tmp_path_factory.mktemp("own")
    file = folder / "network.py"
    file.write_text(OWN)
    scope: dict[str, Any] = {}
    exec(OWN, scope)
    torch.manual_seed(0)
    network = scope["Own"]()
    from samesight.preprocess import preprocess, read_photo

    spec = Preprocess(resize=(32, 32), crop=None)
    paths = sorted(digits.rglob("*.png"))
    tensors = torch.from_numpy(np.stack([preprocess(read_photo(path), spec) for path in paths]))
    targets = torch.tensor([int(path.parent.name) for path in paths])
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(tensors), targets).backward()
        optimiser.step()
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 60}, folder / "own.pth")
    return CheckpointSource(
        model=f"{file}:Own",
        checkpoint=folder / "own.pth",
        labels=LABELS,
        samples=digits,
        preprocess=PictureOptions(resize="32x32"),
    )


def same_folder(folder: Path) -> list[str]:
    """What lies in a folder, hidden things too."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.row("E1", "V1", "R1")
def test_a_run_becomes_a_bundle_that_answers(run: Path, bundle: Bundle) -> None:
    assert bundle.name == "digits-small"
    assert [copy.name for copy in bundle.copies] == ["fp32", "fp16"]
    assert [copy.opset for copy in bundle.copies] == [17, 17]
    assert bundle.input_shape == ("batch", 3, 32, 32)
    results = json.loads((run / "run.json").read_text())["results"]
    assert bundle.reference["recorded"]["test_accuracy"] == pytest.approx(results["test_accuracy"])
    fp32, fp16 = (copy.recorded for copy in bundle.copies)
    assert fp32["test_photos"] == fp32["compared_photos"] == len(read_split_names(run, "test"))
    assert fp32["train_photos"] == len(read_split_names(run, "train"))
    assert fp32["max_abs_difference"] < 1e-4
    assert fp32["mean_abs_difference"] <= fp32["max_abs_difference"] < fp16["max_abs_difference"]
    assert fp32["label_agreement"] == 1
    assert fp16["label_agreement"] >= 0.995
    assert bundle.made["how"] == "train"
    assert bundle.made["checkpoint_sha256"] == sha256(run / "checkpoints" / "best.pth")
    assert bundle.golden["publishable"] is False
    golden = read_golden(bundle)
    assert 10 <= len(golden.samples) <= 20
    for copy in ("fp32", "fp16"):
        classifier = load(bundle, copy=copy)
        for sample in golden.samples:
            assert classifier.classify(bundle.folder / sample.photo).label == sample.predicted


def read_split_names(run: Path, part: str) -> list[str]:
    from samesight.data.split import read_split

    return read_split(run / "split.json").names(part)


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.row("E3", "V3", "D5")
def test_the_documents_say_what_is_in_the_bundle(run: Path, bundle: Bundle) -> None:
    folder = bundle.folder
    mapping = json.loads((folder / "labels_mapping.json").read_text())
    assert mapping["class_to_int"] == {label: place for place, label in enumerate(bundle.labels)}
    assert mapping["int_to_class"] == {str(place): label for place, label in enumerate(bundle.labels)}
    checksums = json.loads((folder / "model_checksums.json").read_text())
    assert checksums == {copy.file: sha256(folder / copy.file) for copy in bundle.copies}
    info = json.loads((folder / "model_info.json").read_text())
    assert (info["version"], info["num_classes"], info["classes"]) == ("1.0.0", 10, list(LABELS))
    assert Preprocess.from_json(info["preprocessing"]) == bundle.preprocess
    assert info["models"]["fp16"]["input_shape"] == ["batch", 3, 32, 32]
    assert info["models"]["fp16"]["size_bytes"] == (folder / "model.fp16.onnx").stat().st_size
    with (folder / "accuracy_and_model_size.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["copy"], row["file"]) for row in rows] == [
        ("pytorch", "best.pth"),
        ("fp32", "model.onnx"),
        ("fp16", "model.fp16.onnx"),
    ]
    for row, recorded in zip(
        rows, [bundle.reference["recorded"], *(copy.recorded for copy in bundle.copies)], strict=True
    ):
        assert float(row["test_accuracy"]) == pytest.approx(recorded["test_accuracy"], rel=1e-5)
        assert float(row["train_accuracy"]) == pytest.approx(recorded["train_accuracy"], rel=1e-5)
        assert int(row["train_photos"]) == recorded["train_photos"]
    size = (run / "checkpoints" / "best.pth").stat().st_size
    assert float(rows[0]["size_mib"]) == pytest.approx(size / 2**20, abs=0.005)
    summary = (folder / "CONVERSION_SUMMARY.md").read_text()
    for words in (*checksums.values(), "samesight.load(", "transforms.Resize((32, 32)", "exif_transpose"):
        assert words in summary
    assert f"{bundle.copy('fp32').recorded['max_abs_difference']:.3g}" in summary


@pytest.mark.row("V3")
def test_the_torchvision_equivalent_is_python_that_runs() -> None:
    from PIL import Image

    from samesight.export.documents import torchvision_equivalent
    from samesight.preprocess import normalise, resize

    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    for spec in (
        Preprocess(resize=(20, 16), crop=None, interpolation="bicubic"),
        Preprocess(resize=32, crop=(24, 20), std=(0.5, 0.25, 1.0)),
    ):
        scope: dict[str, Any] = {}
        exec("\n".join(torchvision_equivalent(spec)), scope)
        tensor = scope["transform"](Image.fromarray(pixels)).numpy()
        ours = normalise(resize(pixels, spec), spec)
        assert tensor.shape == ours.shape
        # one level of 255 apart at most, where Pillow's own order of passes is another
        assert np.abs(tensor - ours).max() <= 1.5 / 255 / min(spec.std)


@pytest.mark.row("E2", "M2")
def test_a_checkpoint_with_a_network_of_ones_own(
    own: CheckpointSource, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "export",
        "--model",
        own.model,
        "--checkpoint",
        str(own.checkpoint),
        "--labels",
        ",".join(LABELS),
    ]
    words += ["--samples", str(own.samples), "--resize", "32x32", "--out", str(tmp_path / "b")]
    assert main([*words, "--opset", "12", "--fp16-input", "float16", "--license", "CC0-1.0", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    bundle = open_bundle(tmp_path / "b")
    assert said["bundle"] == bundle.id
    assert [copy["opset"] for copy in said["copies"]] == [12, 12]
    assert (bundle.copy("fp16").input_dtype, bundle.copy("fp16").output_dtype) == ("float16", "float16")
    assert bundle.made["how"] == "checkpoint"
    assert bundle.made["model"] == "network.py:Own"  # not where it lay on this machine
    assert bundle.license == {"weights": "CC0-1.0"}
    assert bundle.reference["recorded"]["test_accuracy"] > 0.9
    assert main(["verify", str(tmp_path / "b")]) == 0
    capsys.readouterr()
    assert main(words) == 2  # there is something already
    assert main([*words, "--replace", "--copies", "fp32", "--batch", "4", "--name", "mine"]) == 0
    captured = capsys.readouterr()
    assert "samesight verify" in captured.err
    assert "samesight predict" in captured.err
    assert "100.00 %" in captured.out
    bundle = open_bundle(tmp_path / "b")
    assert (bundle.name, bundle.input_shape[0]) == ("mine", 4)
    assert [copy.name for copy in bundle.copies] == ["fp32"]


@pytest.mark.row("V1")
def test_photos_without_labels_tell_differences_but_no_accuracy(
    own: CheckpointSource, digits: Path, tmp_path: Path
) -> None:
    (tmp_path / "loose").mkdir()
    for place, photo in enumerate(sorted(digits.rglob("*.png"))[::7]):
        shutil.copy(photo, tmp_path / "loose" / f"{place}.png")
    (tmp_path / "loose" / "broken.png").write_bytes(b"not a photo")
    out = export_checkpoint(replace(own, samples=tmp_path / "loose"), tmp_path / "b")
    recorded = open_bundle(out).copy("fp32").recorded
    assert recorded["test_accuracy"] is None
    assert recorded["compared_photos"] == 43
    assert recorded["max_abs_difference"] < 1e-4
    assert "not measured" in (out / "CONVERSION_SUMMARY.md").read_text()


@pytest.mark.row("V1")
def test_folders_that_say_which_photos_were_trained_on(
    own: CheckpointSource, digits: Path, tmp_path: Path
) -> None:
    for place, photo in enumerate(sorted(digits.rglob("*.png"))):
        part = "test" if place % 3 == 0 else "train"
        target = tmp_path / "parts" / part / photo.parent.name / photo.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, target)
    out = export_checkpoint(replace(own, samples=tmp_path / "parts"), tmp_path / "b")
    recorded = open_bundle(out).copy("fp32").recorded
    assert (recorded["test_photos"], recorded["train_photos"]) == (100, 200)
    assert recorded["train_accuracy"] > 0.9


def test_photos_that_may_be_published(own: CheckpointSource, digits: Path, tmp_path: Path) -> None:
    golden = tmp_path / "golden"
    for label in LABELS[:4]:
        shutil.copytree(digits / label, golden / label)
    options = ExportOptions(golden=golden, golden_per_class=3)
    bundle = open_bundle(export_checkpoint(own, tmp_path / "b", options))
    assert bundle.golden["publishable"] is True
    assert bundle.golden["origin"] == "--golden golden"
    assert {sample.label for sample in read_golden(bundle).samples} == set(LABELS[:4])
    assert set(bundle.golden["labels_without_sample"]) == set(LABELS[4:])
    held = open_bundle(export_checkpoint(own, tmp_path / "c", replace(options, publishable=False)))
    assert held.golden["publishable"] is False


@pytest.mark.row("V1")
@pytest.mark.parametrize(
    ("twist", "error", "words"),
    [
        ("decides", CopyError, "gives other logits than PyTorch"),
        ("constant", ExportError, "gives every photo the same logits"),
    ],
)
def test_a_copy_that_differs_leaves_nothing(
    own: CheckpointSource, tmp_path: Path, twist: str, error: type[ExportError], words: str
) -> None:
    source = replace(own, model_options={"twist": twist})
    with pytest.raises(error) as caught:
        export_checkpoint(source, tmp_path / "b")
    assert words in str(caught.value)
    assert same_folder(tmp_path) == []


@pytest.mark.row("Q3")
def test_layers_that_overflow_in_float16_stay_float32_and_are_named(
    own: CheckpointSource, tmp_path: Path
) -> None:
    bundle = open_bundle(export_checkpoint(replace(own, model_options={"twist": "huge"}), tmp_path / "b"))
    layers = bundle.made["fp16_layers_in_fp32"]
    assert any(layer.startswith("Mul") for layer in layers)
    assert layers[0] in (bundle.folder / "CONVERSION_SUMMARY.md").read_text()
    assert bundle.copy("fp16").recorded["label_agreement"] == 1
    from samesight.export.onnxcheck import too_large_for_half
    from samesight.preprocess import preprocess, read_photo

    paths = sorted(Path(own.samples).rglob("*.png"))[::30]
    tensors = np.stack([preprocess(read_photo(path), bundle.preprocess) for path in paths])
    whole, half = bundle.read("model.onnx"), bundle.read("model.fp16.onnx")
    assert too_large_for_half(whole, half, tensors) == {}
    from samesight.export.onnxhalf import to_half

    assert too_large_for_half(whole, to_half(whole), tensors)
    plain = open_bundle(export_checkpoint(own, tmp_path / "plain"))
    assert "fp16_layers_in_fp32" not in plain.made


def test_an_untrained_network_is_refused(digits: Path, tmp_path: Path) -> None:
    from samesight.models import create

    torch.manual_seed(0)
    torch.save(create("mobilenet_v2", 10).state_dict(), tmp_path / "untrained.pth")
    few = tmp_path / "few"
    for label in LABELS[:2]:
        (few / label).mkdir(parents=True)
        shutil.copy(digits / label / "000.png", few / label)
    words = ["export", "--model", "mobilenet_v2", "--checkpoint", str(tmp_path / "untrained.pth"), "--resize"]
    words += ["32x32", "--labels", ",".join(LABELS), "--samples", str(few), "--out", str(tmp_path / "b")]
    assert main(words) == 2
    assert not (tmp_path / "b").exists()
    with pytest.raises(ExportError, match="prefers no label"):
        export_checkpoint(
            CheckpointSource(
                "mobilenet_v2", tmp_path / "untrained.pth", LABELS, few, PictureOptions(resize="32x32")
            ),
            tmp_path / "b",
        )


@pytest.mark.row("E2")
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"labels": LABELS[:9]}, CheckpointError, "head.weight"),
        ({"labels": ("zero", *LABELS[1:])}, PhotosError, "not among the model's"),
        ({"preprocess": PictureOptions()}, InputError, "--resize"),
        ({"preprocess": PictureOptions(resize="64x64")}, InputError, "another --resize"),
        ({"checkpoint": Path("no.pth")}, CheckpointError, "no such file"),
        ({"samples": "no-such-folder"}, PhotosError, "no photos"),
        ({"photos": PhotoOptions(csv="no.csv")}, InputError, "no.csv"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_clear_error(
    own: CheckpointSource, tmp_path: Path, change: dict[str, Any], error: type[InputError], words: str
) -> None:
    with pytest.raises(error) as caught:
        export_checkpoint(replace(own, **change), tmp_path / "b")
    assert words in str(caught.value)
    assert same_folder(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "there is nothing to export"),
        (["RUN", "--model", "small"], "a run knows its network"),
        (["RUN", "--resize", "32"], "a run knows its network"),
        (["--model", "small", "--checkpoint", "a.pth", "--labels", "a,b"], "--samples PHOTOS"),
        (["--model", "small"], "--checkpoint … --labels … --samples …"),
        (["no-such-run"], "there is no run in the folder"),
        (["RUN", "--batch", "two"], "--batch is a number"),
        (["RUN", "--copies", "fp16"], "fp32 copy comes first"),
        (["RUN", "--copies", "fp32,int4"], "no such copies"),
        (["RUN", "--version", "new"], "cannot have this version"),
        (["RUN", "--name", "../x"], "cannot have this name"),
        (["RUN", "--golden-per-class", "0"], "at least one a class"),
        (["RUN", "--opset", "21"], "opset 21 cannot be written"),
    ],
)
def test_wrong_options_are_told_before_the_work(
    run: Path, words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(run) if word == "RUN" else word for word in words]
    assert main(["export", *words, "--out", str(tmp_path / "b")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert same_folder(tmp_path) == []


def test_a_run_that_is_not_complete_is_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    value = json.loads((run / "run.json").read_text()) | {"status": "running", "results": None}
    (tmp_path / "run" / "run.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match="not complete"):
        export_run(tmp_path / "run", tmp_path / "b")


@pytest.mark.row("V2")
def test_the_sample_log_gives_every_number_back(run: Path, bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "phase1_non_secure_sample_inference.txt"
    samples = write_sample_log([LoggedNetwork("digits", run, bundle.folder)], path)
    assert [sample.label for sample in samples] == [label for label in LABELS for _ in range(2)]
    assert {sample.photo for sample in samples} <= set(read_split_names(run, "test"))
    text = path.read_text()
    record = json.loads(path.with_suffix(".json").read_text())
    assert [one["name"] for one in record["variants"]] == [
        "digits / pytorch fp32",
        "digits / onnx fp32",
        "digits / onnx fp16",
    ]
    for sample, row in zip(samples, record["samples"], strict=True):
        assert sample.photo in text
        for name, logits in sample.logits.items():
            line = " ".join(f"{float(value):.9g}" for value in logits)
            assert line in text
            np.testing.assert_array_equal(np.array(line.split(), np.float32), logits)
            answer = row["answers"][name]
            np.testing.assert_array_equal(np.array(answer["logits"], np.float32), logits)
            assert answer["predicted"] == LABELS[int(logits.argmax())]
            assert sum(answer["probabilities"]) == pytest.approx(1)
    again = tmp_path / "again.txt"
    write_sample_log([LoggedNetwork("digits", run, bundle.folder)], again)
    assert again.read_text() == text


def test_the_sample_log_refuses_a_bundle_of_another_run(
    run: Path, own: CheckpointSource, tmp_path: Path
) -> None:
    other = export_checkpoint(own, tmp_path / "b", ExportOptions(copies=("fp32",)))
    with pytest.raises(InputError, match="not made from this run"):
        write_sample_log([LoggedNetwork("digits", run, other)], tmp_path / "log.txt")


@pytest.mark.slow
@pytest.mark.row("E1", "E2", "V1")
@pytest.mark.parametrize(
    ("model", "file", "accuracy"),
    [
        ("mobilenet_v2", "mobilenet_v2-6421cc59.pth", 0.835),
        ("squeezenet1_1", "squeezenet1_1-8226b7d8.pth", 0.658),
    ],
)
def test_imagenet_weights_score_as_published_through_the_whole_path(
    packs: Path, tmp_path: Path, model: str, file: str, accuracy: float
) -> None:
    from samesight.data.labels import read_labels

    with tarfile.open(packs / "weights_dev.tar.xz") as archive:
        archive.extractall(tmp_path / "weights")
    weights = next((tmp_path / "weights").rglob(file))
    source = CheckpointSource(model, weights, read_labels("imagenet"), packs / "imagenet520.tar")
    bundle = open_bundle(export_checkpoint(source, tmp_path / "b"))
    for copy in bundle.copies:
        assert copy.recorded["test_photos"] == 520
        assert copy.recorded["test_accuracy"] == pytest.approx(accuracy, abs=0.002)
        assert copy.recorded["label_agreement"] >= 0.995
    assert bundle.copy("fp32").recorded["max_abs_difference"] < 1e-4
    sizes = [(bundle.folder / copy.file).stat().st_size for copy in bundle.copies]
    assert abs(sizes[1] / sizes[0] - 0.5) <= 0.01
