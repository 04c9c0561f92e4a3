"""Networks made fit for encryption: what is replaced, what stays, and that the run and the bundle keep it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from samesight.bundle import open_bundle  # noqa: E402
from samesight.cli import main  # noqa: E402
from samesight.errors import InputError  # noqa: E402
from samesight.models import create  # noqa: E402
from samesight.models.purpose import fitted  # noqa: E402


def kinds(network: torch.nn.Module) -> Counter[str]:
    return Counter(type(module).__name__ for module in network.modules())


@pytest.mark.row("X1", "T1")
@pytest.mark.parametrize(
    ("model", "gone"),
    [
        ("squeezenet1_1", {"MaxPool2d"}),
        ("mobilenet_v2", {"ReLU6"}),
        ("mobilenet_v3_small", {"Hardswish"}),
        ("efficientnet_b0", {"SiLU", "Sigmoid"}),
        ("resnet18", {"MaxPool2d"}),
    ],
)
def test_what_is_dear_under_encryption_is_replaced(model: str, gone: set[str]) -> None:
    plain, fit = create(model, 4), create(model, 4, options={"for": "secure"})
    assert gone <= set(kinds(plain))
    assert not gone & set(kinds(fit))
    assert list(plain.state_dict()) == list(fit.state_dict()), "the same weights go in"
    size = torch.zeros(1, 3, 64, 64)
    assert fit.eval()(size).shape == plain.eval()(size).shape


def test_an_average_has_the_windows_of_the_maximum() -> None:
    network = torch.nn.Sequential(
        torch.nn.MaxPool2d(3, 2, 1, ceil_mode=True), torch.nn.MaxPool2d(2, dilation=2)
    )
    picture = torch.rand(1, 2, 10, 10)
    wanted = network[0](picture).shape
    fitted(network, "secure")
    assert isinstance(network[0], torch.nn.AvgPool2d)
    assert network[0](picture).shape == wanted
    assert network[0](torch.ones_like(picture)).eq(1).all(), "what pads is not counted"
    assert isinstance(network[1], torch.nn.MaxPool2d), "dilated windows have no average"


def test_a_purpose_that_there_is_not() -> None:
    with pytest.raises(InputError, match="made fit for"):
        create("resnet18", 4, options={"for": "speed"})


@pytest.mark.row("X1", "T1")
def test_the_run_and_the_bundle_keep_it(digits: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    run = tmp_path / "run"
    words = ["train", str(digits), "--model", "small", "--epochs", "1", "--out", str(run)]
    assert main([*words, "--for", "secure"]) == 0
    assert json.loads((run / "run.json").read_text())["model_options"] == {"for": "secure"}
    assert main(["export", str(run), "--out", str(tmp_path / "bundle"), "--copies", "fp32"]) == 0
    bundle = open_bundle(tmp_path / "bundle")
    assert bundle.made["model_options"] == ["for=secure"]
    operators = {node.op_type for node in onnx.load_from_string(bundle.read("model.onnx")).graph.node}
    assert "MaxPool" not in operators
    assert "AveragePool" in operators
