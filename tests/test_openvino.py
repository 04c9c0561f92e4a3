"""OpenVINO as a second engine for the same copies, and how an engine is chosen."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bare_bundle import tiny_model

import samesight
from samesight import profiles, runners
from samesight.bundle import Bundle
from samesight.cli import main
from samesight.errors import BundleInvalid, InputError, MissingExtra
from samesight.openvino import OpenVinoRunner
from samesight.profiles import Measured, choose, profile_path, read_profile, write_profile
from samesight.runner import Settings
from samesight.runners import open_model, open_runners
from samesight.runtime import OnnxRunner
from samesight.verify.tolerances import TOLERANCES

pytestmark = pytest.mark.row("B1")


def noise(count: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((count, 3, size, size), np.float32)


def supported(engine: str) -> bool:
    try:
        open_model(engine, tiny_model(), "fp32")
    except InputError:
        return False
    return True


@pytest.mark.parametrize("engine", ["openvino", "openvino-bf16"])
def test_its_logits_are_those_of_onnx_runtime_within_a_named_tolerance(bundle: Bundle, engine: str) -> None:
    if not supported(engine):
        pytest.skip("this CPU does not compute in bfloat16")
    tensors = noise(5)
    for copy in ("fp32", "fp16"):
        (reference,) = open_runners(bundle, ["onnxruntime"], [copy])
        (runner,) = open_runners(bundle, [engine], [copy])
        expected, found = reference.logits(tensors), runner.logits(tensors)
        assert found.dtype == np.float32
        allowed = TOLERANCES[f"{engine} {copy}"].absolute(float(np.abs(expected).max()))
        assert np.abs(found - expected).max() <= allowed
        assert np.array_equal(runner.logits(tensors[:2]), found[:2]) or engine == "openvino-bf16"


def test_float32_is_not_bfloat16_unasked(bundle: Bundle) -> None:
    if not supported("openvino-bf16"):
        pytest.skip("this CPU does not compute in bfloat16")
    tensors = noise(3)
    exact, plain, coarse = (
        open_runners(bundle, [engine], ["fp32"])[0].logits(tensors)
        for engine in ("onnxruntime", "openvino", "openvino-bf16")
    )
    assert np.abs(plain - exact).max() < 1e-5 < np.abs(coarse - exact).max()


def test_answers_are_kept_when_the_next_are_computed() -> None:
    runner = OpenVinoRunner(tiny_model(), copy="fp32")
    first = runner.logits(noise(1, 8))
    before = first.copy()
    runner.logits(-noise(1, 8))
    assert np.array_equal(first, before)


def test_a_fixed_batch_is_fed_in_pieces() -> None:
    tensors = noise(5, 8)
    expected = OnnxRunner(tiny_model(), copy="fp32").logits(tensors)
    for batch in (1, 2, 8):
        runner = OpenVinoRunner(tiny_model(batch=batch), copy="fp32")
        assert np.allclose(runner.logits(tensors), expected, atol=1e-5)


def test_several_threads_at_once() -> None:
    runner = OpenVinoRunner(tiny_model(), copy="fp32", settings=Settings(threads=1, lanes=2))
    tensors = noise(6, 8)
    expected = [runner.logits(tensors[at : at + 1]) for at in range(6)]
    found: dict[int, list[np.ndarray]] = {}

    def work(at: int) -> None:
        found[at] = [runner.logits(tensors[at : at + 1]) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(at,)) for at in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at in range(6):
        assert all(np.array_equal(one, expected[at]) for one in found[at])


@pytest.mark.parametrize("model", [b"no model", tiny_model()[:-40], b""])
def test_what_is_no_model_is_refused(model: bytes) -> None:
    with pytest.raises(BundleInvalid):
        OpenVinoRunner(model, copy="fp32")


def test_verify_by_openvino(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["verify", str(bundle.folder), "--runner", "onnxruntime", "--runner", "openvino", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["runner"], one["copy"]) for one in found["runners"]] == [
        ("onnxruntime", "fp32"),
        ("onnxruntime", "fp16"),
        ("openvino", "fp32"),
        ("openvino", "fp16"),
    ]
    assert found["runners"][2]["tolerance"]["name"] == "openvino fp32"


def test_without_the_package(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "installed", lambda name: name == "onnxruntime")
    with pytest.raises(MissingExtra, match="openvino"):
        open_runners(bundle, ["openvino"], ["fp32"])
    assert samesight.load(bundle, engine="auto").engine == "onnxruntime"


def test_predict_with_an_engine(
    bundle: Bundle, photo_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answers(*words: str) -> list[dict[str, Any]]:
        assert main(["predict", str(bundle.folder), str(photo_folder), "--json", *words]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    plain, other = answers(), answers("--engine", "openvino")
    assert [one["label"] for one in plain] == [one["label"] for one in other]
    assert np.allclose([one["confidence"] for one in plain], [one["confidence"] for one in other], atol=1e-4)


def measured(**changes: Any) -> Measured:
    usual: dict[str, Any] = {"engine": "onnxruntime", "copy": "fp32", "threads": 1, "lanes": 1, "batch": 8}
    usual |= {"spinning": False, "arena": True, "load_seconds": 0.5, "photo_ms": 10.0, "latency_ms": 10.0}
    return Measured(**{**usual, **changes})


def test_auto_weighs_the_start_against_the_number_of_photos(bundle: Bundle) -> None:
    quick_start = measured()
    quick_photos = measured(engine="openvino", copy="fp16", load_seconds=2.0, photo_ms=2.0, latency_ms=4.0)
    write_profile(bundle.id, [quick_start, quick_photos])
    assert read_profile(bundle) == [quick_start, quick_photos]
    assert choose(bundle, photos=1) == quick_start
    assert choose(bundle, photos=1000) == quick_photos
    assert choose(bundle, photos=1000, copy="fp32") == quick_start
    assert choose(bundle, photos=1000, copy="int8") is None
    assert samesight.load(bundle, engine="auto").engine == "onnxruntime"
    many = samesight.load(bundle, engine="auto", many=True)
    assert (many.engine, many.copy.name) == ("openvino", "fp16")
    assert samesight.load(bundle, engine="auto", many=True, copy="fp32").copy.name == "fp32"


def test_a_profile_is_for_one_bundle_machine_and_version(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_profile(bundle.id, [measured()])
    assert read_profile(bundle)
    monkeypatch.setattr(profiles, "versions", lambda: {"samesight": "0"})
    assert not read_profile(bundle)


@pytest.mark.parametrize(
    "change",
    [
        {"engine": "abacus"},
        {"copy": "int8"},
        {"copy": ["fp32"]},
        {"threads": 0},
        {"threads": 10**9},
        {"threads": True},
        {"lanes": 1.5},
        {"batch": 10**6},
        {"spinning": 1},
        {"photo_ms": -1},
        {"photo_ms": "quick"},
        {"load_seconds": 1e400},
        {"more": 1},
    ],
)
def test_a_row_that_cannot_be_is_passed_over(bundle: Bundle, change: dict[str, Any]) -> None:
    path = write_profile(bundle.id, [measured(), measured(photo_ms=1.0)])
    value = json.loads(path.read_text())
    value["measured"][1] |= change
    path.write_text(json.dumps(value))
    assert read_profile(bundle) == [measured()]


def test_a_profile_that_others_could_write_is_not_read(bundle: Bundle, tmp_path: Path) -> None:
    path = write_profile(bundle.id, [measured()])
    path.chmod(0o622)
    assert not read_profile(bundle)
    path.chmod(0o600)
    assert read_profile(bundle)
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    assert not read_profile(bundle)
    path.unlink()
    path.write_text("{")
    assert profile_path(bundle.id) == path
    assert not read_profile(bundle)
