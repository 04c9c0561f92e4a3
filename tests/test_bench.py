"""`samesight bench`: real processes, real engines, a small bundle; and the figures made of their calls."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import make_bundle, make_weights, onnx_model, tampered, write_photos

from samesight.bench import figures
from samesight.bench.contenders import contenders, settings_of
from samesight.bench.processes import run_module
from samesight.bench.zoo import weights_in
from samesight.bundle import Bundle
from samesight.cli import main
from samesight.errors import InputError
from samesight.profiles import profile_path, read_profile
from samesight.report import write_report

pytestmark = pytest.mark.row("B1", "B2")
QUICK = ("--rounds", "2", "--seconds", "0.01", "--mode", "shared", "--batch", "1,3")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "photos"
    write_photos(folder)
    return folder


@pytest.fixture(scope="module")
def bundle(photos: Path) -> Bundle:
    paths = [(path, path.parent.name) for path in sorted(photos.rglob("*.*"))]
    return make_bundle(photos.parent / "bundle", paths, make_weights(paths))


def test_every_copy_in_its_engines(
    bundle: Bundle, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench"
    words = ["bench", str(bundle.folder), "--photos", str(photos), "--out", str(out), "--json", *QUICK]
    assert main([*words, "--engine", "onnxruntime,openvino"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((out / "bench.json").read_text())
    (about,) = found["bundles"]
    rows = about["rows"]
    kinds = [(row["engine"], row["copy"], row["batch"]) for row in rows]
    assert kinds == [
        (engine, copy, batch)
        for engine in ("onnxruntime", "openvino")
        for copy in ("fp32", "fp16")
        for batch in (1, 3)
    ]
    for row in rows:
        times = row["latency_ms"]
        assert 0 < times["minimum"] <= times["median"] <= times["p95"] <= times["maximum"]
        assert times["calls"] >= 10
        assert len(times["round_medians"]) == len(row["photo_ms"]["rounds"]) == 2
        assert row["peak_bytes"] > 20 << 20
        assert row["size_bytes"] == (bundle.folder / f"model.{row['copy']}.onnx").stat().st_size
        assert row["accuracy"] == row["label_agreement"] == 1.0
        assert row["photos"] == 15
        assert row["proof"]["ok"]
        assert not row["problems"]
    assert set(about["winners"]) == {"latency", "throughput", "memory"}
    assert Path(about["profile"]) == profile_path(bundle.id)
    assert {(one.engine, one.copy) for one in read_profile(bundle)} == {(e, c) for e, c, _ in kinds}
    table = list(csv.DictReader(io.StringIO((out / "bench.csv").read_text())))
    assert [(row["engine"], row["copy"], int(row["batch"])) for row in table] == kinds
    page = (out / "bench.html").read_text()
    assert "openvino fp16 shared" in page
    assert "http" not in page.replace("http-equiv", "")
    (picture,) = out.glob("*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    report = write_report(None, bundle.folder, tmp_path / "report.html").read_text()
    assert '<section id="speed"' in report
    for words in ("fp16 openvino shared", "Best for memory", "Peak memory"):
        assert words in report


def test_a_copy_that_answers_wrongly_cannot_win(
    bundle: Bundle, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [(path, path.parent.name) for path in sorted(photos.rglob("*.*"))]
    weights = make_weights(paths)
    weights["w3"] = -weights["w3"]
    model = onnx_model(weights, half=True, names="half_")
    wrong = tampered(bundle, tmp_path / "wrong", lambda folder: _put(folder / "model.fp16.onnx", model))
    words = ["bench", str(wrong.folder), "--photos", str(photos), "--out", str(tmp_path / "out"), *QUICK]
    assert main([*words, "--engine", "onnxruntime"]) == 1
    text = capsys.readouterr().out
    assert "cannot win: onnxruntime fp16" in text
    assert {one.copy for one in read_profile(wrong)} == {"fp32"}


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["BUNDLE", "--engine", "abacus"],
        ["BUNDLE", "--copy", "int3"],
        ["BUNDLE", "--mode", "hurry"],
        ["BUNDLE", "--batch", "0"],
        ["BUNDLE", "--seconds", "nan"],
        ["nowhere"],
    ],
)
def test_what_cannot_be_measured(
    bundle: Bundle, words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = [str(bundle.folder) if word == "BUNDLE" else word for word in words]
    assert main(["bench", *given, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err
    assert not (tmp_path / "out").exists()


def test_figures_of_calls() -> None:
    found = figures.latency([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    assert found["average"] == 3.0
    assert (found["minimum"], found["maximum"], found["median"], found["p95"]) == (1.0, 6.0, 2.5, 6.0)
    assert found["round_medians"] == [2.0, 4.0]
    assert found["spread"] == 1.0
    assert figures.photo_time([2.0, 1.0, 4.0])["median"] == 2.0


def row(name: str, batch: int, latency: float, photo: float, peak: int, *problems: str) -> dict[str, Any]:
    settings = {"threads": 1, "lanes": 1, "spinning": False, "arena": True, "mode": "shared", "copy": name}
    times = {"latency_ms": {"median": latency}, "photo_ms": {"median": photo}, "peak_bytes": peak}
    return {"engine": "onnxruntime", "batch": batch, **settings, **times, "problems": list(problems)}


def test_winners() -> None:
    rows = [
        row("a", 1, 5.0, 5.0, 100),
        row("a", 8, 20.0, 2.5, 300),
        row("b", 1, 4.0, 4.0, 200),
        row("b", 8, 24.0, 3.0, 400),
        row("c", 1, 1.0, 0.1, 1, "wrong"),
    ]
    won = figures.winners(rows)
    assert [won[goal]["copy"] for goal in ("latency", "throughput", "memory")] == ["b", "a", "a"]
    assert won["throughput"]["photos_per_second"] == 400
    assert figures.winners(rows[-1:]) == {}


def test_contenders() -> None:
    found, skipped = contenders({"fp32": "fp32", "int8": "int8"}, ["openvino-bf16"], ["shared", "lean"])
    assert [(one.copy, one.mode) for one in found] == [("fp32", "shared"), ("fp32", "lean")]
    assert not skipped
    assert settings_of("lean").threads == 1
    with pytest.raises(InputError):
        contenders({"fp32": "fp32"}, ["abacus"], ["shared"])


def test_a_process_that_dies_is_told() -> None:
    answer = run_module("samesight.no_such_module", {})
    assert "code 1" in answer["error"]
    assert "no_such_module" in answer["found"]


def test_memory_is_of_the_process_itself(bundle: Bundle, tmp_path: Path) -> None:
    """A large parent must not be seen in the child's peak."""
    ballast = np.ones(400 << 17)  # 400 MiB
    from samesight.bench.contenders import Contender
    from samesight.bench.processes import run_job, start_of

    np.save(tmp_path / "inputs.npy", np.zeros((1, 3, 32, 32), np.float32))
    contender = Contender("onnxruntime", "fp32", "shared", settings_of("shared"))
    job = {"kind": "time", "inputs": str(tmp_path / "inputs.npy"), "batches": [1], "seconds": 0.01}
    job |= {"least_calls": 1, "most_calls": 2}
    answer = run_job({**job, **start_of(contender, bundle=bundle.folder, model=None)})
    assert ballast.nbytes > answer["batches"][0]["peak_bytes"] > 20 << 20


def test_weights_by_name(tmp_path: Path) -> None:
    for name in ("resnet18-f37072fd.pth", "mobilenet_v2.pth", "resnet18_small-1.pth"):
        (tmp_path / name).touch()
    assert weights_in(tmp_path, "resnet18") == tmp_path / "resnet18-f37072fd.pth"
    assert weights_in(tmp_path, "mobilenet_v2") == tmp_path / "mobilenet_v2.pth"
    assert weights_in(tmp_path, "resnet50") is None


def test_networks_without_weights_are_timed_and_not_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    out = tmp_path / "zoo"
    words = ["bench", "--zoo", "squeezenet1_1", "--rounds", "1", "--seconds", "0.01"]
    assert main([*words, "--batch", "1", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "untrained" in text
    (one,) = csv.DictReader(io.StringIO((out / "zoo.csv").read_text()))
    assert one["network"] == "squeezenet1_1"
    assert one["accuracy"] == ""
    assert float(one["photo_ms"]) > 0
    assert (out / "zoo.png").stat().st_size > 1000


@pytest.mark.slow
def test_pretrained_networks_on_an_imagenet_subset(packs: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(packs / "weights_dev.tar.xz") as archive:
        archive.extractall(tmp_path)
    words = ["bench", "--zoo", "squeezenet1_1,mobilenet_v2", "--weights", str(tmp_path / "weights")]
    words += ["--photos", str(packs / "imagenet520.tar"), "--batch", "1,8", "--rounds", "1"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    rows = json.loads((tmp_path / "out" / "bench.json").read_text())["zoo"]
    assert {row["network"]: round(row["accuracy"], 2) for row in rows} == {
        "squeezenet1_1": 0.66,
        "mobilenet_v2": 0.83,
    }
