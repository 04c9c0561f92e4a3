"""A bundle proved in a real Chromium, copy by copy and stage by stage, and what differs named."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_bundle
from browser import OPEN, refused

from samesight.bundle import Bundle
from samesight.verify import STAGES
from samesight.verify.golden import MARGIN_FACTOR, read_golden
from samesight.verify.tolerances import TOLERANCES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.row("R3")


@pytest.fixture(scope="module")
def quantized(web_root: Path, web_bundle: Bundle, web_photos: list[tuple[Path, str]]) -> Bundle:
    """A bundle with an int8 copy, served at int8/."""
    return tiny_bundle.with_int8(web_bundle, web_root / "int8", web_photos)


def verified(page: Page, address: str, copy: str) -> dict[str, Any]:
    """The proof of a copy."""
    return page.evaluate(
        """async ([address, copy]) => {
            const { LocalInferenceEngine } = await import("/runtime/index.js");
            const engine = await LocalInferenceEngine.load(address, { copy });
            const proof = await engine.verify();
            await engine.dispose();
            return proof;
        }""",
        [address, copy],
    )


@pytest.mark.parametrize("copy", ["fp32", "fp16"])
def test_every_golden_sample_is_proved_stage_by_stage(web_page: Page, web_bundle: Bundle, copy: str) -> None:
    web_page.evaluate(OPEN, {"copy": copy, "threads": 2})
    proof = web_page.evaluate("() => engine.verify()")
    canary = web_page.evaluate("() => engine.canary")
    assert proof["ok"]
    assert proof["copy"] == copy
    assert len(proof["samples"]) == web_bundle.golden["samples"] == 6
    assert canary["ok"]
    assert canary["reference"] == "PyTorch"
    for sample in proof["samples"]:
        stages = {stage["stage"]: stage for stage in sample["stages"]}
        assert list(stages) == list(STAGES)
        assert all(stages[name]["max_abs_difference"] == 0 for name in ("decode", "resize", "normalise"))
        assert stages["network"]["max_abs_difference"] <= stages["network"]["allowed"]
        largest = max(TOLERANCES[copy].abs, TOLERANCES[copy].rel * 100)
        assert TOLERANCES[copy].abs <= stages["network"]["allowed"] <= largest


def test_tolerances_are_those_of_the_one_table() -> None:
    source = (ROOT / "web" / "src" / "verify" / "tolerances.ts").read_text()
    found = re.findall(r'(\w+): \{ name: "(\w+)", abs: (\S+), rel: (\S+) \}', source)
    assert {key for key, *_ in found} == {"fp32", "fp16", "int8"}
    for key, name, absolute, relative in found:
        assert key == name
        assert (float(absolute), float(relative)) == (TOLERANCES[name].abs, TOLERANCES[name].rel)
    assert f"MARGIN_FACTOR = {MARGIN_FACTOR};" in source


@pytest.mark.row("Q3")
def test_an_int8_copy_is_held_to_its_own_record(web_page: Page, quantized: Bundle) -> None:
    proof = verified(web_page, "int8/", "int8")
    assert proof["ok"], proof
    assert proof["reference"] == "the int8 copy in ONNX Runtime"
    golden = read_golden(quantized)
    own, pytorch = golden.logits["int8"], golden.logits["pytorch"]
    bound = quantized.copy("int8").recorded["max_abs_difference"]
    assert bound is not None
    assert 0 < proof["pytorch_max_abs_difference"] <= bound + 0.02
    assert proof["label_agreement"] == (own.argmax(axis=1) == pytorch.argmax(axis=1)).mean()
    for sample, row, other in zip(proof["samples"], own, pytorch, strict=True):
        stages = {stage["stage"]: stage for stage in sample["stages"]}
        assert stages["record"]["allowed"] == bound
        assert stages["record"]["max_abs_difference"] == pytest.approx(np.abs(row - other).max(), rel=1e-6)
        allowed = TOLERANCES["int8"].absolute(float(np.abs(row).max()))
        assert stages["network"]["allowed"] == pytest.approx(allowed, rel=1e-6)
        assert stages["network"]["max_abs_difference"] <= allowed


@pytest.mark.row("Q3")
def test_an_int8_record_must_be_there_fit_the_copy_and_lie_near_pytorchs(
    web_page: Page, web_root: Path, quantized: Bundle
) -> None:
    def shifted(by: float) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            path = folder / "golden" / "logits" / "int8.f32"
            logits = np.frombuffer(path.read_bytes(), "<f4").reshape(-1, 3).copy()
            logits[0] += np.float32(by)
            path.write_bytes(logits.tobytes())

        return change

    def lost(folder: Path) -> None:
        path = folder / "golden" / "golden.json"
        record = json.loads(path.read_text())
        record["logits"] = [row for row in record["logits"] if row["copy"] != "int8"]
        path.write_text(json.dumps(record))

    tiny_bundle.tampered(quantized, web_root / "int8-far", shifted(50))
    far = {stage["stage"]: stage for stage in verified(web_page, "int8-far/", "int8")["samples"][0]["stages"]}
    assert [far[name]["ok"] for name in STAGES] == [False, True, True, True, None, None]
    assert "from PyTorch's logits, where bundle.json says" in far["record"]["what"]
    # A record that bundle.json's own words allow, of other logits than the copy's.
    copies = tuple(
        replace(copy, recorded={**copy.recorded, "max_abs_difference": 99.0}) if copy.name == "int8" else copy
        for copy in quantized.copies
    )
    tiny_bundle.tampered(quantized, web_root / "int8-other", shifted(50), copies=copies)
    proof = verified(web_page, "int8-other/", "int8")
    assert [stage["stage"] for stage in proof["samples"][0]["stages"] if not stage["ok"]] == ["network"]
    assert not proof["ok"]
    assert all(sample["ok"] for sample in proof["samples"][1:])
    tiny_bundle.tampered(quantized, web_root / "int8-lost", lost)
    assert refused(web_page, "int8-lost/", copy="int8") == "BundleInvalid"
    assert verified(web_page, "int8-lost/", "fp32")["ok"]


def test_a_record_that_contradicts_itself_is_no_judge(
    web_page: Page, web_root: Path, web_bundle: Bundle
) -> None:
    tiny_bundle.tampered(web_bundle, web_root / "other-margin", tiny_bundle.reworded({"margin": 77.5}))
    proof = verified(web_page, "other-margin/", "fp32")
    assert [stage["ok"] for stage in proof["samples"][0]["stages"]] == [False, True, True, True, None, None]
    assert "a margin of 77.5 is recorded" in proof["samples"][0]["stages"][0]["what"]
    assert not proof["ok"]


def test_float16_edges_and_a_fixed_batch(web_page: Page, web_root: Path, web_bundle: Bundle) -> None:
    import onnx
    from onnx import TensorProto, helper

    def change(folder: Path) -> None:
        """fp16: takes and gives float16, exactly four photos at a time."""
        model = onnx.load(folder / "model.fp16.onnx")
        (first, last) = model.graph.node[0], model.graph.node[-1]
        assert (first.op_type, last.op_type) == ("Cast", "Cast")
        for node in model.graph.node:
            for place, name in enumerate(node.input):
                node.input[place] = "input" if name == first.output[0] else name
            for place, name in enumerate(node.output):
                node.output[place] = "output" if name == last.input[0] else name
        model.graph.node.remove(first)
        model.graph.node.remove(last)
        half = TensorProto.FLOAT16
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("input", half, [4, 3, 32, 32]))
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("output", half, [4, 3]))
        onnx.save(model, folder / "model.fp16.onnx")
        single = onnx.load(folder / "model.fp32.onnx")
        for side in (single.graph.input[0], single.graph.output[0]):
            side.type.tensor_type.shape.dim[0].dim_value = 4
        onnx.save(single, folder / "model.fp32.onnx")

    halves = tuple(
        replace(copy, input_dtype="float16", output_dtype="float16") if copy.name == "fp16" else copy
        for copy in web_bundle.copies
    )
    tiny_bundle.tampered(
        web_bundle,
        web_root / "halves",
        change,
        copies=halves,
        input_shape=(4, 3, 32, 32),
        output_shape=(4, 3),
    )
    for copy in ("fp32", "fp16"):
        proof = verified(web_page, "halves/", copy)
        assert proof["ok"], proof


@pytest.mark.row("V1")
def test_verify_takes_the_browser_for_a_runner(
    web_assets: Path, chromium: Browser, web_bundle: Bundle
) -> None:
    words = ["verify", str(web_bundle.folder), "--runner", "onnxruntime", "--runner", "web", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "samesight", *words], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["ok"]
    assert [(one["runner"], one["copy"]) for one in found["runners"]] == [
        ("onnxruntime", "fp32"),
        ("onnxruntime", "fp16"),
        ("web", "fp32"),
        ("web", "fp16"),
    ]
    assert all(one["samples"] == 6 and one["label_agreement"] == 1 for one in found["runners"])
    assert found["runners"][2]["max_abs_difference"] <= found["runners"][2]["allowed"]


def test_a_canary_that_disagrees_is_told(web_page: Page, web_root: Path, web_bundle: Bundle) -> None:
    def change(folder: Path) -> None:
        path = folder / "golden" / "logits" / "pytorch.f32"
        logits = np.frombuffer(path.read_bytes(), "<f4") + np.float32(0.5)
        path.write_bytes(logits.tobytes())

    tiny_bundle.tampered(web_bundle, web_root / "other-logits", change)
    canary = web_page.evaluate(
        """async () => {
            const { LocalInferenceEngine } = await import("/runtime/index.js");
            return (await LocalInferenceEngine.load("other-logits/")).canary;
        }"""
    )
    assert not canary["ok"]
    wrong = [stage for stage in canary["stages"] if not stage["ok"]]
    assert [stage["stage"] for stage in wrong] == ["network"]
    assert wrong[0]["max_abs_difference"] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("stage", ["decode", "resize", "normalise"])
def test_the_stage_that_differs_is_the_one_that_is_named(
    web_page: Page, web_root: Path, web_bundle: Bundle, stage: str
) -> None:
    key = {"decode": "decoded", "resize": "resized", "normalise": "tensor"}[stage]
    change = tiny_bundle.reworded({f"{key}_sha256": "0" * 64})
    tiny_bundle.tampered(web_bundle, web_root / f"other-{stage}", change)
    canary = web_page.evaluate(
        """async (address) => {
            const { LocalInferenceEngine } = await import("/runtime/index.js");
            return (await LocalInferenceEngine.load(address)).canary;
        }""",
        f"other-{stage}/",
    )
    assert [one["stage"] for one in canary["stages"] if one["ok"] is False] == [stage]
