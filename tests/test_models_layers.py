"""Layers, parameters and multiply-accumulates, against torchvision's own counts and against sums by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from samesight.errors import InputError  # noqa: E402
from samesight.models import create  # noqa: E402
from samesight.models.describe import describe  # noqa: E402
from samesight.models.layers import Summary, fold, summarise  # noqa: E402
from samesight.models.weightless import without_weights  # noqa: E402
from samesight.zoo import Network, read_networks  # noqa: E402

# Torchvision states 10⁹ multiply-accumulates with three decimals, so an exact count may be half of the last
# one away, and no more: the two count the same operations.
TOLERANCE_GFLOPS = 0.0005 + 1e-9
FAMILIES = (
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet"),
    *("inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf"),
    *("regnet_y_16gf", "resnet18", "resnet50", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1"),
    *("swin_t", "swin_v2_t", "vgg11", "vit_b_16", "wide_resnet50_2"),
)
PUBLISHED = read_networks("torchvision")
AUXILIARY = {"inception_v3": 3_326_696}  # parameters of a head that is for training only, and published too


def counted(name: str, size: int) -> Summary:
    picture = (size, size)
    return without_weights(lambda: create(name, 1000, size=picture), lambda net: summarise(net, picture))


def check(row: Network) -> None:
    found = counted(row.name, row.input_size)
    assert row.gflops is not None
    assert abs(found.macs / 1e9 - row.gflops) <= TOLERANCE_GFLOPS, (found.macs, row.gflops)
    assert found.parameters + AUXILIARY.get(row.name, 0) == row.params
    assert sum(layer.parameters for layer in found.layers) == found.parameters
    assert sum(layer.macs for layer in found.layers) == found.macs


@pytest.mark.row("M3")
@pytest.mark.parametrize("name", FAMILIES)
def test_counts_are_torchvisions(name: str) -> None:
    check(next(row for row in PUBLISHED if row.name == name and row.recommended))


@pytest.mark.slow
@pytest.mark.row("M3")
@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row.name}-{row.weights}")
def test_counts_of_every_network_at_every_size_are_torchvisions(row: Network) -> None:
    check(row)


@pytest.mark.row("M3")
def test_every_family_of_the_table_is_counted() -> None:
    for row in PUBLISHED:
        family = row.name.rstrip("0123456789").partition("_")[0].rstrip("0123456789")
        assert any(name.startswith(family) for name in FAMILIES), row.name


class Attention(torch.nn.Module):
    """Everything that multiplies: convolution with groups, Linear, attention by hand and by torch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 12, 4, stride=4, groups=3, bias=False)
        self.qkv = torch.nn.Linear(12, 36)
        self.mha = torch.nn.MultiheadAttention(12, 2, batch_first=True)
        self.scale = torch.nn.Parameter(torch.ones(12))

    def forward(self, x: object) -> object:
        tokens = self.conv(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).chunk(3, dim=-1)
        mixed = (q @ k.transpose(1, 2)).softmax(-1) @ v * self.scale
        return self.mha(mixed, mixed, mixed)[0].mean(1)


@pytest.mark.row("M3")
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_counts_are_the_sums_by_hand(device: str) -> None:
    """At 16 × 16: 16 tokens of 12 features."""
    with torch.device(device):
        network = Attention()
    found = summarise(network, (16, 16))
    rows = {layer.name: layer for layer in found.layers}
    assert rows["conv"].macs == 16 * 12 * (1 * 4 * 4), "groups divide the channels that are seen"
    assert rows["qkv"].macs == 16 * 12 * 36
    attention = 2 * 16 * 16 * 12
    assert rows["mha"].macs == 16 * 12 * 36 + attention + 16 * 12 * 12
    assert rows["mha"].parameters == 36 * 12 + 36 + 12 * 12 + 12, "with the projection that it never calls"
    assert (rows[""].macs, rows[""].parameters, rows[""].kind) == (attention, 12, "Attention")
    assert found.outputs == (12,)
    assert network.training, "as it was before"


@pytest.mark.row("M3")
def test_shared_layers_count_their_parameters_once_and_their_work_each_time() -> None:
    layer = torch.nn.Conv2d(3, 3, 1, bias=False)
    found = summarise(torch.nn.Sequential(layer, layer, torch.nn.Flatten(), torch.nn.Linear(48, 2)), (4, 4))
    first = found.layers[0]
    assert (first.calls, first.parameters, first.macs) == (2, 9, 2 * 9 * 16)
    assert first.output == (3, 4, 4)
    assert found.parameters == 9 + 98


@pytest.mark.row("M3")
def test_layers_are_folded_without_losing_any() -> None:
    found = counted("resnet50", 224)
    by_one, by_two = fold(found, 1), fold(found, 2)
    assert [layer.name for layer in by_one][4:8] == ["layer1", "layer2", "layer3", "layer4"]
    assert [layer.kind for layer in by_two if layer.name.startswith("layer1")] == ["Bottleneck"] * 3
    assert [layer.output for layer in by_one][7] == (2048, 7, 7)
    for folded in (by_one, by_two, fold(found, 9)):
        assert sum(layer.parameters for layer in folded) == 25_557_032
        assert sum(layer.macs for layer in folded) == 4_089_184_256
    assert fold(found, 9) == found.layers


@pytest.mark.row("M3")
def test_large_networks_need_no_memory_for_their_weights() -> None:
    """RegNet computes its widths with tensors, which the meta device alone could not."""
    found = without_weights(
        lambda: create("regnet_y_128gf", 1000),
        lambda net: ({p.device.type for p in net.parameters()}, sum(p.numel() for p in net.parameters())),
    )
    assert found == ({"meta"}, 644_812_894)


@pytest.mark.row("M2", "M3")
def test_a_network_that_looks_at_its_numbers_is_made_with_them(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        "import torch\nclass Net(torch.nn.Module):\n    def __init__(self, num_classes=5, width=4):\n"
        "        super().__init__()\n        self.fc = torch.nn.Linear(width, num_classes)\n"
        "    def forward(self, x):\n        if x.sum().item() > 1e9:\n            raise ValueError\n"
        "        return self.fc(x.mean((2, 3)).repeat(1, 2)[:, :self.fc.in_features])\n"
    )
    found = describe(f"{file}:Net", size=(8, 8), options={"width": "6"})
    assert found.summary.outputs == (5,), "its own number of classes"
    assert found.summary.parameters == 35
    assert describe(f"{file}:Net", classes=3, size=(8, 8)).summary.outputs == (3,)
    with pytest.raises(InputError, match="cannot take a picture"):
        describe(f"{file}:Net", size=(8, 8), options={"width": "9"})


@pytest.mark.row("M3")
def test_what_is_told_of_a_network() -> None:
    found = describe("regnet_y_16gf")
    assert (found.weights, found.preprocess.resize, found.summary.size) == ("IMAGENET1K_V2", 232, (224, 224))
    assert {row.weights for row in found.known} > {"IMAGENET1K_V1", "IMAGENET1K_V2"}
    assert "none stated" in found.license
    swag = describe("regnet_y_16gf", weights="IMAGENET1K_SWAG_E2E_V1", classes=7)
    assert "CC-BY-NC" in swag.license
    assert (swag.summary.size, swag.summary.outputs) == ((384, 384), (7,))
    small = describe("resnet18", size=(64, 48))
    assert small.summary.size == small.preprocess.size == (64, 48)
    assert describe("pruned_resnet").license == "no pretrained weights"
    with pytest.raises(InputError, match="no such weights"):
        describe("resnet18", weights="IMAGENET1K_V7")
    with pytest.raises(InputError, match="for torchvision's networks only"):
        describe("small", weights="IMAGENET1K_V1")


@pytest.mark.row("M3")
def test_what_is_told_of_a_network_of_timms() -> None:
    pytest.importorskip("timm")
    found = describe("timm/mobilenetv4_conv_small")
    assert found.license == "apache-2.0"
    assert [row.params for row in found.known] == [found.summary.parameters]
