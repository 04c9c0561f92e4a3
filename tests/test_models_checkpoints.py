"""Weights from files: every wrapping, every broken form, and nothing in them is ever run."""

from __future__ import annotations

import argparse
import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from samesight.errors import CheckpointError  # noqa: E402
from samesight.models import create, load_state, open_checkpoint, read_checkpoint  # noqa: E402

RAN = "samesight_test_code_ran"


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.putenv, (RAN, "yes")


def state() -> dict[str, Any]:
    random = torch.Generator().manual_seed(1)
    return OrderedDict(
        weight=torch.randn(2, 3, generator=random),
        count=torch.tensor(4),
        bias=torch.randn(2, generator=random),
    )


def with_prefix(prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def averaged() -> dict[str, Any]:
    return {**with_prefix("module.", state()), "n_averaged": torch.tensor(9)}


@pytest.mark.row("M2", "E2")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "wrapped",
    [
        state(),
        {"state_dict": state(), "best_prec1": 91.7, "epoch": 3},
        {"model": state(), "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
        {"model_state_dict": with_prefix("module.", state())},
        {"net": {"state_dict": with_prefix("_orig_mod.module.", state())}},
        {"model": {"weight": torch.zeros(2, 3)}, "model_ema": averaged()},
        {"state_dict": state(), "args": argparse.Namespace(lr=0.1), "best": np.float64(0.5)},
        {"best_acc1": torch.tensor(71.3), "state_dict": with_prefix("module.", state())},
        {"epoch": 3, "net_dict": state(), "optim": {"state": {0: {"exp_avg": torch.zeros(2)}}}},
        {"model": {"name": "resnet"}, "weights": state()},
        {**state(), "buffers": {"seen": torch.tensor(3)}},
    ],
    ids=[
        *("plain", "state_dict", "model", "module", "compiled", "averaged", "with settings"),
        *("beside tensors", "a key of its own", "beside a description", "buffers beside"),
    ],
)  # fmt: skip
def test_every_wrapping_gives_the_same_weights(tmp_path: Path, wrapped: Any, zipped: bool) -> None:
    file = tmp_path / "w.pth"
    torch.save(wrapped, file, _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(file)
    assert list(found) == list(state())
    for name, tensor in state().items():
        assert torch.equal(found[name], tensor)


@pytest.mark.row("M2", "E2")
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_other_precisions_become_float32_and_are_noted(tmp_path: Path, kind: str) -> None:
    cast = {k: v.to(getattr(torch, kind)) if v.is_floating_point() else v for k, v in state().items()}
    torch.save(cast, tmp_path / "w.pth")
    found = open_checkpoint(tmp_path / "w.pth")
    assert found.state["weight"].dtype == torch.float32
    assert found.state["count"].dtype == torch.int64
    assert any(kind in note for note in found.notes)


@pytest.mark.row("M2")
def test_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(state(), tmp_path / "w.safetensors")
    assert torch.equal(read_checkpoint(tmp_path / "w.safetensors")["bias"], state()["bias"])
    (tmp_path / "w.safetensors").write_bytes(b"\xff" * 50)
    with pytest.raises(CheckpointError, match="broken"):
        read_checkpoint(tmp_path / "w.safetensors")


@pytest.mark.row("M2")
@pytest.mark.parametrize("zipped", [True, False])
def test_cut_off_anywhere_is_one_clear_error(tmp_path: Path, zipped: bool) -> None:
    file = tmp_path / "net-01234567.pth"
    torch.save(state(), file, _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    for share in (0.2, 0.5, 0.9, 0.999):
        file.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(CheckpointError, match="truncated or broken") as caught:
            read_checkpoint(file)
        assert "not with the 01234567 in its name" in str(caught.value.found)


@pytest.mark.row("M2")
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    file = tmp_path / "w.pth"
    torch.save({"state_dict": state(), "x": RunsCode()}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="run code"):
        read_checkpoint(file)
    assert RAN not in os.environ


@pytest.mark.row("M2")
def test_whole_pickled_network_is_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="whole pickled network") as caught:
        read_checkpoint(tmp_path / "w.pth")
    assert "state_dict()" in str(caught.value.fix)


@pytest.mark.row("M2")
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"<!DOCTYPE html><title>404</title>", "a web page"),
        (b"hello", "something else"),
        (b"", "something else"),
        (pickle.dumps({"a": 1}), ""),
        (pickle.dumps([1, 2], protocol=2), ""),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / "w.pth")
    assert said in str(caught.value.found)


def test_missing_file_and_file_without_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        read_checkpoint(tmp_path / "none.pth")
    torch.save({"epoch": 3, "name": "x"}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="no weights") as caught:
        read_checkpoint(tmp_path / "w.pth")
    assert caught.value.found == "keys epoch, name"


@pytest.mark.row("M2", "E2")
def test_what_does_not_fit_is_named_all_in_one(tmp_path: Path) -> None:
    network = create("small", 3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    wrong = {name: torch.ones_like(tensor) for name, tensor in before.items()}
    wrong["head.weight"] = torch.zeros(10, 128)
    del wrong["features.0.weight"]
    wrong["extra.bias"] = torch.zeros(1)
    with pytest.raises(CheckpointError) as caught:
        load_state(network, wrong, "w.pth")
    found = str(caught.value.found)
    assert "1 misshapen: head.weight is 10x128, the network's 3x128" in found
    assert "1 missing: features.0.weight" in found
    assert "1 unexpected: extra.bias" in found
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.row("M2")
def test_only_the_head_misfits_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_state(create("small", 3), create("small", 10).state_dict(), "w.pth")
    assert "only the head differs" in str(caught.value.fix)


@pytest.mark.row("M2")
def test_name_in_front_of_all_and_old_counters(tmp_path: Path) -> None:
    source, network = create("small", 3), create("small", 3)
    tensors = {f"net.{k}": v for k, v in source.state_dict().items() if "num_batches" not in k}
    load_state(network, tensors, "w.pth")
    assert torch.equal(network.head.weight, source.head.weight)


@pytest.mark.row("M1", "M2")
@pytest.mark.row("M2")
def test_one_network_of_several_in_a_file(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    good = {name: torch.ones_like(tensor) for name, tensor in network.state_dict().items()}
    loss = {"criterion.weight": torch.zeros(2)}
    load_state(network, {**with_prefix("net.module.", good), **loss}, "lightning.ckpt")
    assert torch.equal(network[0].weight, good["0.weight"])
    other = {name: torch.zeros_like(tensor) for name, tensor in good.items()}
    load_state(network, {**with_prefix("online.", other), **with_prefix("ema_model.", good)}, "ema.pt")
    assert torch.equal(network[0].weight, good["0.weight"])
    two = {**with_prefix("teacher.", good), **with_prefix("student.", other)}
    with pytest.raises(CheckpointError, match="several networks") as caught:
        load_state(network, two, "dino.pth")
    assert "student., teacher." in str(caught.value)


def test_auxiliary_heads_in_a_file_are_passed_over_where_the_network_has_none() -> None:
    with torch.device("meta"):
        full = create("googlenet", 7, options={"aux_logits": "true"})
        network = create("googlenet", 7)
    load_state(network, full.state_dict(), "w.pth")
    with pytest.raises(CheckpointError, match="do not fit"):
        load_state(network, {**full.state_dict(), "aux3.x": torch.zeros(1)}, "w.pth")


def published_names(state: dict[str, Any]) -> dict[str, Any]:
    """`state` under the names that torchvision's published DenseNets and ViTs have."""
    pairs = ((r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2"), (r"(mlp)\.0\.", r"\1.linear_1."))
    for new, old in (*pairs, (r"(mlp)\.3\.", r"\1.linear_2.")):
        state = {re.sub(new, old, name): tensor for name, tensor in state.items()}
    return state


@pytest.mark.row("M1", "M2")
@pytest.mark.parametrize("name", ["DenseNet", "MNASNet", "VisionTransformer"])
def test_networks_whose_published_files_have_other_names_or_a_version(tmp_path: Path, name: str) -> None:
    import torchvision

    options = {
        "DenseNet": {"growth_rate": 4, "block_config": (2, 1), "num_init_features": 8, "num_classes": 3},
        "MNASNet": {"alpha": 0.1, "num_classes": 3},
        "VisionTransformer": {
            "image_size": 8,
            "patch_size": 4,
            "num_layers": 2,
            "num_heads": 2,
            "hidden_dim": 8,
            "mlp_dim": 12,
            "num_classes": 3,
        },
    }[name]
    first, second = (getattr(torchvision.models, name)(**options) for _ in range(2))
    published = published_names(dict(first.state_dict()))
    assert (published.keys() == first.state_dict().keys()) == (name == "MNASNet")
    torch.save(with_prefix("module.", published), tmp_path / "published.pth")
    load_state(second, read_checkpoint(tmp_path / "published.pth"), tmp_path / "published.pth")
    for tensor, loaded in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(tensor, loaded)


def test_a_networks_own_names_are_left_alone() -> None:
    encoder = torch.nn.Module()
    encoder.encoder_layer_0 = torch.nn.Module()
    encoder.encoder_layer_0.mlp = torch.nn.ModuleDict({"linear_1": torch.nn.Linear(2, 2)})
    good = {name: torch.ones_like(tensor) for name, tensor in encoder.state_dict().items()}
    load_state(encoder, good, "own.pth")
    assert torch.equal(encoder.encoder_layer_0.mlp["linear_1"].weight, torch.ones(2, 2))


@pytest.mark.slow
@pytest.mark.row("M2")
def test_real_foreign_files(packs: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(packs / "small_extras.tar") as archive:
        archive.extractall(tmp_path)
    old = next(tmp_path.rglob("resnet20-12fca82f.th"))
    found = open_checkpoint(old)
    assert found.state["conv1.weight"].shape == (16, 3, 3, 3)
    assert found.sha256.startswith("12fca82f")
    assert not any("SHA-256" in note for note in found.notes)
    with pytest.raises(CheckpointError, match="truncated or broken") as caught:
        read_checkpoint(next(tmp_path.rglob("resnet18-f37072fd.pth")))
    assert "not with the f37072fd in its name" in str(caught.value.found)
