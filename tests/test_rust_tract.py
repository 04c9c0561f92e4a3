"""samesight-rs with tract in it: real networks within their tolerance, and what it does not run refused."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import cargo
import onnx
import pytest
import tiny_bundle

pytest.importorskip("torch", reason="training needs the train extra")

from samesight.cli import main
from samesight.pictureoptions import PictureOptions
from samesight.rehearsal import write_stand_in

pytestmark = [pytest.mark.slow, pytest.mark.row("R4", "V1")]

NETWORKS = ("pruned_resnet", "resnet20", "mobilenet_v2", "regnet_x_400mf", "efficientnet_b0")
PHOTOS = 3  # a label


@pytest.fixture(scope="module")
def with_tract() -> Path:
    """The program with the feature, which takes minutes to build."""
    return cargo.build_program("tract")


@pytest.fixture(scope="module")
def photos(packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few photos of each hand sign."""
    folder = tmp_path_factory.mktemp("signs")
    with zipfile.ZipFile(packs / "signdigits4.zip") as archive:
        names = sorted(
            name for name in archive.namelist() if name.lower().endswith((".jpg", ".jpeg", ".png"))
        )
        for label in sorted({Path(name).parent.name for name in names}):
            for name in [name for name in names if Path(name).parent.name == label][:PHOTOS]:
                archive.extract(name, folder)
    return folder


def run(program: Path, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [str(program), *map(str, words)]
    environment = {"PATH": "/nowhere", "HOME": "/nowhere"}  # no Python, and no library
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("model", NETWORKS)
def test_real_networks_are_within_the_tolerance(
    with_tract: Path, photos: Path, tmp_path: Path, model: str
) -> None:
    """Every stage of every golden sample, without ONNX Runtime's library."""
    size = "32x32" if model in ("pruned_resnet", "resnet20") else "96x96"
    pictures = PictureOptions(resize=size)
    labels = write_stand_in(model, pictures, str(photos), tmp_path / "stand-in.pth", 42)
    words = ["--model", model, "--checkpoint", tmp_path / "stand-in.pth", "--labels", ",".join(labels)]
    words += ["--samples", photos, "--resize", size, "--copies", "fp32", "--out", tmp_path / "bundle"]
    assert main(["export", *map(str, words)]) == 0
    found = json.loads(run(with_tract, "verify", tmp_path / "bundle", "--engine", "tract", "--json").stdout)
    assert found["ok"]
    assert found["versions"]["tract"]
    assert "onnxruntime" not in found["versions"]
    (row,) = found["runners"]
    assert (row["runner"], row["copy"], row["tolerance"]["name"]) == ("rust-tract", "fp32", "rust-tract fp32")
    assert row["samples"] >= 3
    assert 0 < row["max_abs_difference"] <= row["allowed"]
    assert row["label_agreement"] == 1
    photo = next((tmp_path / "bundle" / "golden").glob("*/photo.*"))
    answer = json.loads(
        run(with_tract, "predict", tmp_path / "bundle", photo, "--engine", "tract", "--json").stdout
    )
    assert answer["label"] in labels


def test_what_tract_does_not_run_is_refused(with_tract: Path, tmp_path: Path) -> None:
    some = tiny_bundle.write_photos(tmp_path / "photos")
    bundle = tiny_bundle.make_bundle(tmp_path / "tiny", some, tiny_bundle.make_weights(some))
    photo = bundle.folder / "golden" / "0001" / "resized.png"
    done = run(with_tract, "predict", bundle.folder, photo, "--engine", "tract", "--copy", "fp16", code=2)
    assert done.stderr.startswith("error: tract runs fp32 copies only\n")
    assert "--engine onnxruntime" in done.stderr
    assert "tract runs fp32" in run(with_tract, "verify", bundle.folder, "--engine", "tract", code=2).stderr
    assert run(with_tract, "verify", bundle.folder, "--engine", "tract", "--copy", "fp32").stdout
    missing = run(with_tract, "predict", bundle.folder, photo, code=2).stderr
    assert "there is no ONNX Runtime on this machine" in missing
    assert "or --engine tract" in missing

    def change(folder: Path) -> None:
        model = onnx.load(str(folder / "model.fp32.onnx"))
        relu = next(node for node in model.graph.node if node.op_type == "Relu")
        relu.op_type, relu.domain = "Glow", "example.org"
        (folder / "model.fp32.onnx").write_bytes(model.SerializeToString())

    other = tiny_bundle.tampered(bundle, tmp_path / "other", change)
    done = run(with_tract, "predict", other.folder, photo, "--engine", "tract", code=2)
    assert done.stderr.startswith("error: tract does not run this network\n")
    assert "Glow" in done.stderr
