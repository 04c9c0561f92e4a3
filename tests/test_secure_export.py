"""Files for other secure engines: who can run a network, and that the files hold the same one."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from secure_networks import draw, model, pruned_bundle, read  # noqa: E402
from tiny_bundle import make_bundle, make_weights, write_photos  # noqa: E402

from samesight.bundle import Bundle  # noqa: E402
from samesight.cli import main  # noqa: E402
from samesight.errors import CopyError, InputError  # noqa: E402
from samesight.secure.check import TARGETS, obstacles  # noqa: E402
from samesight.secure.export import ExportRequest, export_secure  # noqa: E402
from samesight.secure.formats.scalemamba import Channels  # noqa: E402
from samesight.verify.golden import REFERENCE, read_golden  # noqa: E402

Photos = list[tuple[Path, str]]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return write_photos(tmp_path_factory.mktemp("photos") / "photos")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, photos: Photos) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("tiny") / "bundle", photos, make_weights(photos))


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory, photos: Photos) -> tuple[Bundle, Path]:
    return pruned_bundle(tmp_path_factory.mktemp("pruned"), photos)


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.row("X1")
@pytest.mark.parametrize("form", ["onnx", "athos", "llama", "secfloat", "mp-spdz"])
def test_the_files_hold_the_same_network_byte_for_byte_again(tiny: Bundle, tmp_path: Path, form: str) -> None:
    done = export_secure(tiny, ExportRequest(form, tmp_path / "one"))
    assert done.rewritten.max_abs_difference < 1e-5
    assert done.rebuilt.label_agreement == 1
    if form != "athos":
        assert done.rebuilt.max_abs_difference < 1e-5
    export_secure(tiny, ExportRequest(form, tmp_path / "two"))
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    record = json.loads((tmp_path / "one" / "secure_export.json").read_text())
    assert record["bundle"] == tiny.id
    assert record["files"] == done.files
    assert len(record["images"]) == 3  # the bundle says that its samples may be shown


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    proto = onnx.load(folder / "model.onnx")
    return {one.name: onnx.numpy_helper.to_array(one) for one in proto.graph.initializer}


@pytest.mark.row("X1")
def test_the_numbers_stand_as_the_engines_read_them(tiny: Bundle, tmp_path: Path) -> None:
    for form in ("athos", "llama", "secfloat"):
        export_secure(tiny, ExportRequest(form, tmp_path / form))
    weights = weights_of(tmp_path / "athos")
    lines = (tmp_path / "athos" / "model_input_weights_fixedpt_scale_12.inp").read_text().splitlines()
    assert lines == [str(int(v * 2**12)) for one in weights.values() for v in one.reshape(-1).tolist()]
    raw = np.frombuffer((tmp_path / "llama" / "model_input_weights.dat").read_bytes(), "<f4")
    first, second = list(weights.values())[:2]
    assert np.array_equal(raw[: first.size], first.transpose(0, 2, 3, 1).reshape(-1))
    matrix = next(one for one in weights.values() if one.ndim == 2)
    assert np.array_equal(raw[-matrix.size - 3 : -3], matrix.T.reshape(-1))
    text = (tmp_path / "secfloat" / "model_input_weights.inp").read_text().split()
    assert np.array_equal(np.float32(text[first.size :][: second.size]), second)
    image = (tmp_path / "llama" / "image_1.inp").read_text().split()
    assert len(image) == 3 * 32 * 32


@pytest.mark.row("X1")
def test_too_few_bits_are_told_and_nothing_is_left(tiny: Bundle, tmp_path: Path) -> None:
    with pytest.raises(CopyError, match="not the bundle's network") as caught:
        export_secure(tiny, ExportRequest("athos", tmp_path / "out", scale=1))
    assert caught.value.exit_code == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.row("X2")
def test_scale_mamba_files_as_s5_lists_them(pruned: tuple[Bundle, Path], tmp_path: Path) -> None:
    import torch

    bundle, checkpoint = pruned
    out = tmp_path / "out"
    words = ["secure", "export", str(bundle.folder), "--format", "scale-mamba", "--out", str(out)]
    assert main([*words, "--checkpoint", str(checkpoint)]) == 0
    lines = (out / "channels.md").read_text(encoding="utf-8").splitlines()
    channels = dict(re.findall(r"- (\d+) → (\S.*)", "\n".join(lines)))
    assert channels["100040"] == "PrunedResnetData/all_parameters/weights/P0-conv_layer_1_weight.txt"
    assert channels["100020"] == "PrunedResnetData/all_parameters/bias/P0-conv_layer_1_bias.txt"
    assert channels["100026"] == "PrunedResnetData/all_parameters/bias/P0-linear_layer_1_bias.txt"
    assert channels["100028"] == "PrunedResnetData/all_parameters/new_beta/P0-bn_layer_1_new_beta.txt"
    assert channels["100034"] == "PrunedResnetData/all_parameters/new_gamma/P0-bn_layer_1_new_gamma.txt"
    assert channels["100047"] == "PrunedResnetData/all_parameters/weights/P0-linear_layer_2_weight.txt"
    inputs = "./PrunedResnetData/Inputs/Execution_0/P0-Conv_layer_1.input.txt"
    assert channels["90050"] == f"execution 1 {inputs}"
    assert sorted(map(int, channels)) == [90050, *range(100020, 100048)]
    state = torch.load(checkpoint, weights_only=True)
    data = out / "PrunedResnetData"
    gamma = np.float64((data / "all_parameters/new_gamma/P0-bn_layer_2_new_gamma.txt").read_text().split())
    right = state["network.5.weight"] / torch.sqrt(state["network.5.running_var"] + 1e-5)
    assert np.abs(gamma - right.double().numpy()).max() < 1e-6
    text = (data / "all_parameters/weights/P0-conv_layer_3_weight.txt").read_text()
    weight = state["network.8.weight"].numpy()
    assert text == " ".join("%.8f" % value for value in weight.reshape(-1).tolist())  # noqa: UP031
    assert all(re.fullmatch(r"-?[0-9]+\.[0-9]+", number) for number in text.split(" "))
    for kind in ("Inputs", "Outputs"):
        names = {path.name.split(".")[0] for path in (data / kind / "Execution_0").iterdir()}
        assert {"P0-Conv_layer_5", "P0-Batch_normalization_layer_22", "P0-Avg_pool_layer_24"} <= names
        assert {"P0-Flatten_layer_25", "P0-Linear_layer_26", "P0-ReLU_layer_28"} <= names
        assert len(names) == 25


@pytest.mark.row("X2")
def test_each_layers_output_is_the_next_ones_input(pruned: tuple[Bundle, Path], tmp_path: Path) -> None:
    bundle, _ = pruned
    photo = tmp_path / "photo.png"
    photo.write_bytes(bundle.read(read_golden(bundle).samples[0].resized))
    request = ExportRequest("scale-mamba", tmp_path / "out", photos=(photo,))
    done = export_secure(bundle, request)
    assert done.images == ("photo.png",)
    data = tmp_path / "out" / "PrunedResnetData"

    def number(path: Path) -> int:
        return int(re.findall(r"_(\d+)\.", path.name)[0])

    inputs = sorted((data / "Inputs" / "Execution_0").iterdir(), key=number)
    outputs = sorted((data / "Outputs" / "Execution_0").iterdir(), key=number)
    for before, after in zip(outputs, inputs[1:], strict=False):
        assert before.read_text() == after.read_text()
    logits = np.float64(outputs[-1].read_text().split())
    assert np.abs(logits - read_golden(bundle).logits[REFERENCE][0]).max() < 1e-4
    gamma = (data / "all_parameters/new_gamma/P0-bn_layer_1_new_gamma.txt").read_text()
    assert set(gamma.split()) == {"1.00000000"}  # no checkpoint: the normalisations are in the weights


@pytest.mark.row("X2")
def test_channels_that_do_not_suffice(pruned: tuple[Bundle, Path], tmp_path: Path) -> None:
    request = ExportRequest("scale-mamba", tmp_path / "out", channels=Channels((100, 109)))
    with pytest.raises(InputError, match="range of channels for parameters is too small") as caught:
        export_secure(pruned[0], request)
    assert caught.value.fix == "--channels 100-127"


@pytest.mark.row("X2")
def test_a_checkpoint_of_another_network(pruned: tuple[Bundle, Path], tmp_path: Path) -> None:
    import torch

    state = {name: one.numpy() for name, one in torch.load(pruned[1], weights_only=True).items()}
    state["network.28.weight"] = state["network.28.weight"] + 1
    with pytest.raises(InputError, match="another network"):
        export_secure(pruned[0], ExportRequest("scale-mamba", tmp_path / "out", state=state))
    state = {name: one.numpy() for name, one in torch.load(pruned[1], weights_only=True).items()}
    state["network.4.weight"] = state["network.4.weight"] * 2
    with pytest.raises(CopyError):
        export_secure(pruned[0], ExportRequest("scale-mamba", tmp_path / "out", state=state))


@pytest.mark.row("X1")
def test_each_engine_names_its_obstacles() -> None:
    head = [
        ("GlobalAveragePool", ["x"], "p", {}),
        ("Flatten", ["p"], "f", {}),
        ("Gemm", ["f", "h", "hb"], "output", {"transB": 1}),
    ]
    more = {"h": draw(3, 3), "hb": draw(3, 1)[:, 0]}
    cases = {
        "depthwise": ([("Conv", ["input", "w"], "x", {"group": 3})], {"w": draw(3, 1, 3, 3)}),
        "pads": ([("Conv", ["input", "w"], "x", {"pads": [1, 0, 1, 0]})], {"w": draw(3, 3, 3, 3)}),
        "uneven": ([("Conv", ["input", "w"], "x", {"pads": [0, 0, 1, 1]})], {"w": draw(3, 3, 2, 2)}),
        "clip": ([("Clip", ["input", "l", "u"], "x", {})], {"l": np.float32(0), "u": np.float32(6)}),
        "residual": ([("Relu", ["input"], "r", {}), ("Add", ["r", "input"], "x", {})], {}),
        "dilated": ([("Conv", ["input", "w"], "x", {"dilations": [2, 2]})], {"w": draw(3, 3, 3, 3)}),
        "oblong": ([("Conv", ["input", "w"], "x", {"strides": [2, 1]})], {"w": draw(3, 3, 3, 3)}),
        "bare maximum": (
            [("MaxPool", ["input"], "x", {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]})],
            {},
        ),
    }
    refused = {
        name: {
            target
            for target in TARGETS
            if any(
                one.operator != "GlobalAveragePool"
                for one in obstacles(read(model(nodes + head, {**tensors, **more})), TARGETS[target])
            )
        }
        for name, (nodes, tensors) in cases.items()
    }
    assert refused == {
        "depthwise": {"llama", "mp-spdz", "scale-mamba"},
        "pads": {"athos", "llama", "scale-mamba"},
        "uneven": {"athos", "llama", "mp-spdz", "scale-mamba"},
        "clip": {"llama", "secfloat", "mp-spdz", "scale-mamba"},
        "residual": {"secfloat", "scale-mamba"},
        "dilated": {"athos", "llama", "secfloat", "mp-spdz", "scale-mamba"},
        "oblong": {"llama", "scale-mamba"},
        "bare maximum": {"athos", "llama", "secfloat", "mp-spdz", "scale-mamba"},
    }


@pytest.mark.row("X1")
def test_the_check_command(tiny: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["secure", "check", str(tiny.folder), "--target", "llama", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    assert found["targets"]["llama"] == {"ok": True, "obstacles": []}
    assert any("batch" in line for line in found["changes"])
    assert main(["secure", "check", str(tiny.folder)]) == 1
    assert "scale-mamba  does not run" in capsys.readouterr().out
    assert main(["secure", "check", str(tiny.folder), "--target", "lama"]) == 2
    assert "expected: spu, athos" in capsys.readouterr().err


def test_help_of_each_action_is_instant() -> None:
    for action in ("check", "export", "run", "party", "certificates", "setup"):
        code = (
            "import sys; from samesight.cli import main; code = main(sys.argv[1:]);"
            "assert not {'numpy', 'torch', 'onnx', 'onnxruntime', 'PIL'} & set(sys.modules); sys.exit(code)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, "secure", action, "--help"], capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
