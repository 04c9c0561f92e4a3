"""`samesight quantize --torch`: PyTorch's own ways of int8 beside each other."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch's own quantisation needs the train extra")

from torch import Tensor, nn  # noqa: E402

from samesight.cli import main  # noqa: E402
from samesight.errors import InputError  # noqa: E402
from samesight.models import create  # noqa: E402
from samesight.quantize.study import _winners  # noqa: E402
from samesight.quantize.study.change import change  # noqa: E402
from samesight.quantize.study.tables import statement  # noqa: E402
from samesight.quantize.study.ways import Way, way_of  # noqa: E402

SMALL = 32


@pytest.fixture(autouse=True)
def _engine() -> Iterator[None]:
    """The engine is PyTorch's for the whole process: left as it was."""
    before = torch.backends.quantized.engine
    yield
    torch.backends.quantized.engine = before


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return create("small", 3).eval()


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(8, 3, SMALL, SMALL, generator=torch.Generator().manual_seed(1))


def answers(call: Any, tensors: Tensor) -> np.ndarray:
    with torch.no_grad():
        return call(tensors).numpy()


@pytest.mark.row("Q1")
def test_dynamic_quantisation_leaves_convolutions_alone_and_it_is_said(
    network: nn.Module, pictures: Tensor
) -> None:
    made = change(network, way_of("dynamic Conv2d"), [], 8)
    some, count = made.layers["Conv2d"]
    assert (some, count > 0) == (0, True)
    assert np.array_equal(answers(made.call, pictures), answers(network, pictures))
    row = {"way": "dynamic Conv2d", "reason": None, "layers": made.layers}
    assert f"none of the {count} Conv2d layers" in (statement({"rows": [row]}) or "")


@pytest.mark.row("Q1")
def test_dynamic_quantisation_changes_linear_layers(network: nn.Module, pictures: Tensor) -> None:
    made = change(network, way_of("dynamic Linear"), [], 8)
    assert made.layers["Linear"][0] == made.layers["Linear"][1] > 0
    before, after = answers(network, pictures), answers(made.call, pictures)
    assert 0 < np.abs(before - after).max() < 0.1 * np.abs(before).max()


@pytest.mark.row("Q2")
@pytest.mark.parametrize("name", ["fx fbgemm", "fx qnnpack", "fx x86", "fx custom"])
def test_static_quantisation_changes_every_layer(network: nn.Module, pictures: Tensor, name: str) -> None:
    way = way_of(name)
    if way.engine not in (None, *torch.backends.quantized.supported_engines):
        pytest.skip(f"this processor has no {way.engine}")
    made = change(network, way, [pictures], 8)
    assert all(some == count for some, count in made.layers.values())
    assert made.size_bytes < change(network, way_of("float32"), [], 8).size_bytes / 2
    before, after = answers(network, pictures), answers(made.call, pictures)
    assert 0 < np.abs(before - after).max() < 0.2 * np.abs(before).max()
    assert not any("quantized" in type(one).__module__ for one in network.modules()), "itself is as it was"


@pytest.mark.row("Q2")
def test_an_engine_that_is_not_there_is_a_reason(network: nn.Module, pictures: Tensor) -> None:
    with pytest.raises(InputError, match="PyTorch has no abacus engine on this processor") as caught:
        change(network, Way("fx abacus", "fx", "", engine="abacus"), [pictures], 8)
    assert torch.backends.quantized.engine in str(caught.value.expected)


@pytest.mark.row("Q2")
def test_a_network_that_cannot_be_traced_is_a_reason(pictures: Tensor) -> None:
    class Doubtful(nn.Module):
        def forward(self, tensors: Tensor) -> Tensor:
            return tensors.mean((2, 3)) if tensors.sum() > 0 else tensors.amax((2, 3))

    with pytest.raises(InputError, match="FX cannot trace the network"):
        change(Doubtful().eval(), way_of("fx x86"), [pictures], 8)


def row(way: str, speedups: tuple[float, float], *, right: bool = True, changed: int = 1) -> dict[str, Any]:
    """A row of the study at batches 1 and 8, where float32 takes 10 and 4 ms a photo."""
    batches = [
        {"batch": batch, "photo_ms": ms / speedup, "speedup": speedup}
        for batch, ms, speedup in zip((1, 8), (10.0, 4.0), speedups, strict=True)
    ]
    layers = {"Conv2d": [changed, 1]}
    return {"way": way, "reason": None, "within_budget": right, "layers": layers, "batches": batches}


@pytest.mark.row("Q2")
def test_the_best_is_the_quickest_of_those_that_are_right_and_other_than_float32() -> None:
    rows = [
        row("float32", (1, 1), changed=0),
        row("dynamic Conv2d", (9, 9), changed=0),  # the same network: its time is chance
        row("fx fbgemm", (2, 3)),
        row("fx x86", (3, 2)),
        row("fx qnnpack", (8, 8), right=False),
        {"way": "pt2e x86", "reason": "no compiler"},
    ]
    won = _winners(rows)
    assert (won["latency"]["way"], won["latency"]["batch"]) == ("fx x86", 1)
    assert (won["throughput"]["way"], won["throughput"]["batch"]) == ("fx fbgemm", 8)
    assert _winners([row("float32", (1, 1)), row("fx x86", (0.5, 0.9))])["latency"]["way"] == "float32"


@pytest.fixture(scope="module")
def run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "run"
    words = ["train", str(digits), "--model", "small", "--epochs", "2", "--batch", "16", "--out", str(out)]
    assert main(words) == 0
    return out


@pytest.mark.row("Q1", "Q2")
def test_a_run_is_studied(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "study"
    words = [
        "quantize",
        "--torch",
        str(run),
        "--out",
        str(out),
        "--batch",
        "1,4",
        "--way",
        "fx x86",
        "--json",
    ]
    assert main(words) == 0
    study = json.loads(capsys.readouterr().out)
    assert study == json.loads((out / "quantization_study.json").read_text())
    assert [one["way"] for one in study["rows"]] == ["float32", "fx x86"]
    assert study["photos"]["calibration"] == 4
    assert len(study["photos"]["calibration_sha256"]) == 4
    rows = list(csv.DictReader((out / "quantization_study.csv").open(newline="")))
    assert [(one["way"], one["batch"]) for one in rows] == [
        *(("float32", "1"), ("float32", "4"), ("fx x86", "1"), ("fx x86", "4"))
    ]
    for one, told in zip(study["rows"], (rows[0], rows[2]), strict=True):
        assert one["verdict"]["photos"] == int(told["photos"]) == 60, "the held-out part of the run"
        if one["reason"] is None:
            assert float(told["accuracy"]) == one["verdict"]["int8_accuracy"]
            assert one["batches"][0]["latency_ms"]["minimum"] > 0
    for name in ("batch_size_analysis_combined.png", "static_quant_analysis.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.row("Q2")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--torch", "no/such/run"], "there is no run"),
        (["--torch", "resnet18", "--weights", "none", "--photos", "x"], "random weights"),
        (["bundle", "--torch", "run"], "leave the bundle out"),
        ([], "there is no bundle"),
        (["bundle"], "calibrated and judged on photos"),
    ],
)
def test_what_cannot_be_studied_is_said(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quantize", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.row("Q2")
def test_more_calibration_batches_than_photos_are_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quantize", "--torch", str(run), "--calibration-batches", "100"]) == 2
    assert "--calibration-batches " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.row("Q1", "Q2")
def test_every_way_is_studied(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "quantize",
        "--torch",
        str(run),
        "--out",
        str(tmp_path),
        "--batch",
        "1,4",
        "--calibration-batches",
        "3",
    ]
    assert main([*words, "--json"]) == 0
    study = json.loads(capsys.readouterr().out)
    assert study["photos"]["calibration"] == 12
    for one in study["rows"]:
        if one["reason"] is None:
            assert one["verdict"]["label_agreement"] > 0.9, one["way"]
        else:
            assert one["way"].startswith(("pt2e", "fx")), one["reason"]
    rows = {one["way"]: one for one in study["rows"]}
    assert rows["dynamic Conv2d"]["verdict"]["max_abs_difference"] == 0
    if rows["pt2e x86"]["reason"] is None:
        some, count = rows["pt2e x86"]["layers"]["Conv2d"]
        assert some == count
