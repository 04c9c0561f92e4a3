"""One network in Python, a browser and Rust: S2's EfficientNet-B0, squashed photos, opset 12, four labels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch", reason="training needs the train extra")

from browser import open_page, serve, write_empty_page

from samesight.bundle import open_bundle
from samesight.cli import main
from samesight.pictureoptions import PictureOptions
from samesight.recipes import read_recipe
from samesight.rehearsal import write_stand_in

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.row("R3", "R4", "E1", "E2", "V1")]

EMOTION = Path(__file__).resolve().parent.parent / "recipes" / "emotion.toml"
PHOTOS = 5  # a label
PROVE = """async () => {
    const { LocalInferenceEngine } = await import("/runtime/index.js");
    const engine = await LocalInferenceEngine.load("bundle/", { threads: 1 });
    const proof = await engine.verify();
    await engine.dispose();
    return proof;
}"""


@pytest.fixture(scope="module")
def root(packs: Path, web_assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to be served, with the bundle of a network that has SiLU and squeeze-and-excitation."""
    folder = tmp_path_factory.mktemp("efficientnet")
    recipe = read_recipe(EMOTION)
    (network,) = (one for one in recipe.networks if one.model == "efficientnet_b0")
    with tarfile.open(packs / "imagenet520.tar") as archive:
        archive.extractall(folder)
    labels = recipe.checkpoints.labels
    some = sorted((folder / "imagenet520" / "images").iterdir())[:: 520 // (PHOTOS * len(labels))]
    for number, path in enumerate(some[: PHOTOS * len(labels)]):
        place = folder / "photos" / labels[number % len(labels)]
        place.mkdir(parents=True, exist_ok=True)
        path.rename(place / path.name)
    pictures = PictureOptions(resize=network.resize, interpolation=network.interpolation)
    photos, checkpoint = folder / "photos", folder / "efficientnet.pth"
    assert set(write_stand_in(network.model, pictures, str(photos), checkpoint, 42)) == set(labels)
    words = ["--model", network.model, "--checkpoint", checkpoint, "--labels", ",".join(sorted(labels))]
    words += ["--samples", photos, "--resize", network.resize, "--interpolation", network.interpolation]
    words += ["--opset", recipe.export.opset, "--copies", ",".join(recipe.export.copies)]
    assert main(["export", *map(str, words), "--out", str(folder / "bundle")]) == 0
    write_empty_page(web_assets, folder)
    return folder


def test_it_is_the_network_that_was_asked_for(root: Path) -> None:
    import onnx

    bundle = open_bundle(root / "bundle")
    model = onnx.load_from_string(bundle.read(bundle.copy("fp32").file))
    assert [one.version for one in model.opset_import if not one.domain] == [12]
    assert bundle.preprocess.resize == (224, 224)
    assert bundle.preprocess.crop is None
    assert len(bundle.labels) == 4
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["Sigmoid"] >= 65, "SiLU, and the gates of squeeze-and-excitation"
    assert kinds["Conv"] == 81


def test_python_chromium_and_rust_give_the_same_answers(root: Path, samesight_rs: Path) -> None:
    names = ("onnxruntime", "web", "rust")
    words = [word for name in names for word in ("--runner", name)]
    command = [sys.executable, "-m", "samesight", "verify", str(root / "bundle"), *words, "--json"]
    environment = os.environ | {"SAMESIGHT_RUST": str(samesight_rs)}
    # In a process of its own: one has room for one event loop of Playwright, and the next test has one.
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"]
    assert [row["runner"] for row in found["runners"]] == list(names)
    for row in found["runners"]:
        assert row["samples"] >= 4
        assert row["label_agreement"] == 1
        assert row["max_abs_difference"] <= row["allowed"]
    (own,) = found["own_stages"]
    assert own["runner"] == "rust"
    assert [row["stage"] for row in own["stages"]] == [row["stage"] for row in found["stages"]]
    for row in own["stages"]:
        assert row["different"] == 0
        assert row["samples"] >= 4


def test_the_page_proves_each_stage_itself(root: Path, chromium: Browser) -> None:
    with serve(root) as address, open_page(chromium, address) as page:
        page.set_default_timeout(300_000)
        proof = page.evaluate(PROVE)
    assert proof["ok"]
    assert len(proof["samples"]) >= 4
    for sample in proof["samples"]:
        stages = {stage["stage"]: stage for stage in sample["stages"]}
        assert all(stages[name]["max_abs_difference"] == 0 for name in ("decode", "resize", "normalise"))
        assert stages["network"]["max_abs_difference"] <= stages["network"]["allowed"]
