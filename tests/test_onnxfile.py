"""Networks as ONNX files: the opset asked for, the batch asked for, float16 beside float32."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from samesight.errors import ExportError  # noqa: E402
from samesight.export.onnxcheck import check_batches, check_survives  # noqa: E402
from samesight.export.onnxfile import OPSETS, FileForm, opset_of, write_onnx  # noqa: E402
from samesight.export.onnxhalf import to_half  # noqa: E402
from samesight.models import TorchRunner, create  # noqa: E402
from samesight.runtime import OnnxRunner  # noqa: E402
from samesight.verify.tolerances import TOLERANCES  # noqa: E402

SIZE = (20, 16)  # width, height: unequal, so that they cannot be confused
FAMILIES = (
    *("resnet18", "vgg11", "mobilenet_v2", "mobilenet_v3_small", "densenet121", "vit_b_16", "swin_t"),
    *("convnext_tiny", "googlenet", "squeezenet1_1", "efficientnet_b0", "regnet_x_400mf"),
    *("shufflenet_v2_x0_5", "inception_v3"),
)


class Attentive(nn.Module):
    """A network with what old opsets lack: fused attention, unflatten, roll, layer norm, and a token."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        patches = torch.roll(self.patch(x), 1, dims=3).flatten(2).transpose(1, 2)
        words = torch.cat([self.token.expand(x.shape[0], -1, -1), patches], 1)
        normed = self.norm(words)
        words = words + self.attention(normed, normed, normed, need_weights=False)[0]
        return self.head(words[:, 0])


def attentive() -> nn.Module:
    torch.manual_seed(3)
    return Attentive().eval()


def lively(model: str = "small", classes: int = 4, size: tuple[int, int] = SIZE) -> nn.Module:
    """An untrained network whose values are spread and bounded, as a trained one's: for operators only."""
    torch.manual_seed(3)
    network = create(model, classes).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # its statistics become those of the next batch
        if isinstance(module, nn.Linear) and module.out_features == classes:
            nn.init.normal_(module.weight, std=0.3)
    with torch.no_grad():
        network(torch.from_numpy(photos(8, size)))
    return network.eval()


def photos(count: int = 3, size: tuple[int, int] = SIZE) -> Any:
    return np.random.default_rng(5).standard_normal((count, 3, size[1], size[0])).astype(np.float32)


def answer(model: bytes, tensors: Any) -> Any:
    return OnnxRunner(model, copy="here").logits(tensors)


def allowed(name: str, reference: Any) -> float:
    return TOLERANCES[name].absolute(float(np.abs(reference).max()))


@pytest.mark.row("E1")
@pytest.mark.parametrize("opset", [11, 12, 13, 14, 17, 18, 20])
def test_the_opset_asked_for_is_the_one_in_the_file(opset: int) -> None:
    for network in (lively(), attentive()):
        form = FileForm(SIZE, opset)
        data = write_onnx(network, form)
        model = onnx.load_from_string(data)
        assert opset_of(model) == opset
        assert model.ir_version == onnx.helper.find_min_ir_version_for(list(model.opset_import))
        assert [v.name for v in model.graph.input] == ["input"]
        assert [v.name for v in model.graph.output] == ["output"]
        reference = TorchRunner(network).logits(photos())
        np.testing.assert_allclose(answer(data, photos()), reference, atol=1e-5, rtol=0)
        check_batches(data, network, photos(), form, TOLERANCES["fp32"].absolute)
        for edges in ("float32", "float16"):
            half = to_half(data, edges)
            assert np.abs(answer(half, photos()) - reference).max() <= allowed("fp16", reference)
            check_batches(half, network, photos(), form, None)


@pytest.mark.row("E1")
@pytest.mark.parametrize("opset", [OPSETS.start - 1, OPSETS.stop, 0, 99])
def test_an_opset_that_cannot_be_written_is_refused(opset: int) -> None:
    with pytest.raises(ExportError, match="cannot be written") as caught:
        FileForm(SIZE, opset)
    assert "--opset 17" in str(caught.value)


@pytest.mark.row("E1")
def test_a_fixed_batch_takes_that_many_and_no_more() -> None:
    network, form = lively(), FileForm(SIZE, batch=3)
    data = write_onnx(network, form)
    assert onnx.load_from_string(data).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 3
    check_batches(data, network, photos(), form, TOLERANCES["fp32"].absolute)
    with pytest.raises(ExportError, match="exactly 3"):  # a dynamic file does not pass for a fixed one
        check_batches(write_onnx(network, FileForm(SIZE)), network, photos(), form, None)
    with pytest.raises(ExportError, match="fixed batch is out of range"):
        FileForm(SIZE, batch=0)


@pytest.mark.row("E1")
def test_a_network_that_bakes_its_batch_in_is_refused() -> None:
    class Baked(Attentive):
        def forward(self, x: Tensor) -> Tensor:
            token = self.token.expand(len(x), -1, -1)  # len() is a number to the exporter, x.shape[0] is not
            return self.head(torch.cat([token, self.patch(x).flatten(2).transpose(1, 2)], 1)[:, 0])

    network, form = Baked().eval(), FileForm(SIZE)
    with pytest.raises(ExportError) as caught:
        check_batches(write_onnx(network, form), network, photos(), form, TOLERANCES["fp32"].absolute)
    assert "batch of" in str(caught.value)
    assert "x.flatten(1)" in str(caught.value)


@pytest.mark.row("E1")
def test_writing_leaves_the_network_as_it_was_and_gives_the_same_bytes() -> None:
    network = create("small", 4)
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fused = nn.functional.scaled_dot_product_attention, torch.Tensor.unflatten
    fast = torch.backends.mha.get_fastpath_enabled()
    one, two = write_onnx(network, FileForm(SIZE)), write_onnx(network, FileForm(SIZE))
    assert one == two
    assert to_half(one) == to_half(two)
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert (nn.functional.scaled_dot_product_attention, torch.Tensor.unflatten) == fused
    assert torch.backends.mha.get_fastpath_enabled() == fast
    kinds = {node.op_type for node in onnx.load_from_string(one).graph.node}
    assert "BatchNormalization" not in kinds
    assert "Dropout" not in kinds


@pytest.mark.row("E1")
@pytest.mark.parametrize("asked", [7, (5, None), (3, 20), 1, (8, 10)])
def test_adaptive_pooling_to_any_size(asked: Any) -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(asked), nn.Flatten(), nn.Dropout()).eval()
    data = write_onnx(network, FileForm(SIZE, 12))
    np.testing.assert_allclose(answer(data, photos()), TorchRunner(network).logits(photos()), atol=1e-6)


def test_writing_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_onnx(lively(), FileForm(SIZE))
    assert capfd.readouterr() == ("", "")


class Function(nn.Module):
    """A network made of one function of the photo."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


@pytest.mark.row("E1")
def test_an_operator_without_a_form_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    def sampled(x: Tensor) -> Tensor:
        grid = x[:, :2].permute(0, 2, 3, 1)
        return nn.functional.grid_sample(x, grid, align_corners=False).mean(dim=(2, 3))

    with pytest.raises(ExportError) as caught:
        write_onnx(Function(sampled), FileForm(SIZE, 12))
    assert "grid_sampl" in str(caught.value)
    assert "opset 16 or later" in str(caught.value)
    write_onnx(Function(sampled), FileForm(SIZE, 17))
    with pytest.raises(ExportError, match=r"no ONNX form|could not write"):
        write_onnx(Function(lambda x: torch.special.i0(x).mean(dim=(2, 3))), FileForm(SIZE))
    assert capfd.readouterr().out == ""  # the exporter prints the whole graph when it fails


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: (x.mean(dim=(2, 3)), x), "tuple"),
        (lambda x: {"out": x.mean(dim=(2, 3))}, "dict"),
        (lambda x: x.mean(dim=(0, 2, 3)), "(3,)"),
        (lambda x: x.reshape(-1, 7), "cannot take an image of 20 × 16"),
    ],
)
def test_a_network_that_gives_no_row_of_logits_a_photo_is_refused(function: Any, words: str) -> None:
    with pytest.raises(ExportError) as caught:
        write_onnx(Function(function), FileForm(SIZE))
    assert words in str(caught.value)


@pytest.mark.row("E1")
def test_the_float16_copy_keeps_names_and_halves_the_file() -> None:
    torch.manual_seed(1)
    network = lively("squeezenet1_1", 10, (64, 64))
    whole = write_onnx(network, FileForm((64, 64)))
    names = {name for node in onnx.load_from_string(whole).graph.node for name in node.output}
    for edges, number in (("float32", onnx.TensorProto.FLOAT), ("float16", onnx.TensorProto.FLOAT16)):
        half = to_half(whole, edges)
        model = onnx.load_from_string(half)
        assert abs(len(half) / len(whole) - 0.5) <= 0.01  # 2 % of the half
        assert names <= {name for node in model.graph.node for name in node.output}
        assert model.graph.input[0].type.tensor_type.elem_type == number
        assert model.graph.output[0].type.tensor_type.elem_type == number
        assert opset_of(model) == 17
    kinds = {
        tensor.data_type for tensor in onnx.load_from_string(to_half(whole, "float16")).graph.initializer
    }
    assert onnx.TensorProto.FLOAT not in kinds


@pytest.mark.row("E1")
@pytest.mark.parametrize("opset", [12, 17])
def test_the_float16_copy_keeps_float32_where_half_has_not_the_range(opset: int) -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(3, eps=1e-8)

        def forward(self, x: Tensor) -> Tensor:
            large = nn.functional.interpolate(x, scale_factor=1.7, mode="bilinear", align_corners=False)
            pooled = large.mean(dim=(2, 3)) * 1e5 / 1e4  # a constant that float16 has not
            return self.norm(pooled * 400) * x.shape[2] * 100  # 400² is out of range

    network = Wide().eval()
    reference = TorchRunner(network).logits(photos())
    half = to_half(write_onnx(network, FileForm(SIZE, opset)))
    assert np.abs(answer(half, photos()) - reference).max() <= allowed("fp16", reference)


@pytest.mark.row("E1")
def test_near_labels_do_not_tie_in_float32_logits() -> None:
    head = nn.Linear(3, 2, bias=False)
    head.weight.data = torch.tensor([[32.0, 0, 0], [32.0, 0.004, 0]])
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()
    tensors = np.ones((1, 3, 16, 20), np.float32)
    whole = write_onnx(network, FileForm(SIZE))
    assert answer(to_half(whole, "float16"), tensors).argmax() == 0  # 32.004 is 32 in half precision
    assert answer(to_half(whole), tensors).argmax() == 1


def test_a_graph_with_branches_is_refused_in_float16() -> None:
    helper, kind = onnx.helper, onnx.TensorProto
    branch = helper.make_graph(
        [helper.make_node("Identity", ["input"], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", kind.FLOAT, [1, 2])],
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["which"], ["output"], then_branch=branch, else_branch=branch)],
        "graph",
        [helper.make_tensor_value_info("input", kind.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("output", kind.FLOAT, [1, 2])],
        [helper.make_tensor("which", kind.BOOL, [], [True])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(ExportError, match="branch"):
        to_half(model.SerializeToString())


def test_a_file_that_kills_its_process_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = tmp_path / "good.onnx"
    good.write_bytes(write_onnx(lively(), FileForm(SIZE)))
    check_survives(good)
    killer = tmp_path / "killer"
    killer.write_text("#!/bin/sh\nkill -SEGV $$\n")
    killer.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(killer))
    with pytest.raises(ExportError, match="crashes") as caught:
        check_survives(good)
    assert "--copies fp32" in str(caught.value)


@pytest.mark.slow
@pytest.mark.row("E1", "M1")
@pytest.mark.parametrize("opset", [12, 17])
@pytest.mark.parametrize("family", FAMILIES)
def test_operators_of_every_family_on_random_weights(family: str, opset: int, tmp_path: Path) -> None:
    """That each family's operators are written and run; random weights say nothing about accuracy.

    They amplify rounding, too, so the differences allowed are wider than the table's for trained networks: a
    wrong operator gives another answer altogether.
    """
    size = (224, 224) if family in ("vit_b_16", "swin_t", "inception_v3") else (64, 64)
    network, form = lively(family, 10, size), FileForm(size, opset)
    tensors = photos(2, size)
    reference = TorchRunner(network).logits(tensors)
    assert np.ptp(reference) > 0
    whole = write_onnx(network, form)
    assert opset_of(onnx.load_from_string(whole)) == opset
    scale = float(np.abs(reference).max())
    check_batches(whole, network, tensors, form, lambda scale: 1e-3 * scale)
    for edges in ("float32", "float16"):
        half = to_half(whole, edges)
        (tmp_path / "half.onnx").write_bytes(half)
        check_survives(tmp_path / "half.onnx")
        check_batches(half, network, tensors, form, None)
        assert np.abs(answer(half, tensors) - reference).max() <= 0.1 * scale
        numbers = sum(tensor.numel() for tensor in network.state_dict().values())
        if numbers > 2_000_000:  # of a smaller network, the graph itself is more than 2 % of the half
            assert abs(len(half) / len(whole) - 0.5) <= 0.01
