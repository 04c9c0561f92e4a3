"""The networks that ship: S5's, S2's kind, the ResNets for CIFAR-10. Counted, fed, trained."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from samesight.cli import main  # noqa: E402
from samesight.errors import InputError  # noqa: E402
from samesight.models import create, create_pretrained, default_preprocess  # noqa: E402
from samesight.models.create import outputs_of  # noqa: E402
from samesight.models.layers import summarise  # noqa: E402


@pytest.mark.row("M2", "X2")
def test_pruned_resnet_is_that_of_its_source() -> None:
    """1,259,242 parameters; 133,136,704 multiply-accumulates at 32 × 32 and 10 classes (the table of S5)."""
    network = create("pruned_resnet", 10)
    found = summarise(network, (32, 32))
    assert (found.parameters, found.macs) == (1_259_242, 133_136_704)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.in_channels for m in convolutions] == [3, 32, 64, 128, 128, 256]
    assert [m.out_channels for m in convolutions] == [32, 64, 128, 128, 256, 256]
    assert all(m.kernel_size == (3, 3) and m.padding == (1, 1) and m.bias is not None for m in convolutions)
    linear = [m for m in network.modules() if isinstance(m, torch.nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(4096, 32), (32, 10)]


@pytest.mark.row("M2", "X2")
def test_pruned_resnet_has_the_layer_numbers_of_the_files_for_scale_mamba() -> None:
    """1 + index in the Sequential; S5's first file is Conv_layer_1, its last are after layer 29."""
    numbers: dict[str, list[int]] = {}
    for index, layer in enumerate(create("pruned_resnet", 10).network):
        numbers.setdefault(type(layer).__name__, []).append(1 + index)
    assert numbers == {
        "Conv2d": [1, 5, 9, 13, 17, 21],
        "BatchNorm2d": [2, 6, 10, 14, 18, 22],
        "ReLU": [3, 7, 11, 15, 19, 23, 28],
        "Dropout": [4, 12, 20, 27],
        "AvgPool2d": [8, 16, 24],
        "Flatten": [25],
        "Linear": [26, 29],
    }


@pytest.mark.row("M2")
def test_compact_is_inside_the_budget_of_pruned_resnet() -> None:
    found = summarise(create("compact", 10), (32, 32))
    assert (found.parameters, found.macs) == (1_240_778, 123_263_248)
    assert found.parameters <= 1_259_242
    assert found.macs <= 133_136_704


@pytest.mark.row("M2")
def test_landmark_cnn_is_of_the_size_of_its_source() -> None:
    """51,476,036 parameters, 196.37 MiB at 224 pixels and 4 classes (the table of S2)."""
    found = summarise(create("landmark_cnn", 4), (224, 224))
    assert found.parameters == 51_476_036
    assert round(found.size_bytes / 2**20, 2) == 196.37


@pytest.mark.row("M1")
@pytest.mark.parametrize(
    ("depth", "parameters"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018)]
)
def test_cifar_resnets_have_the_parameters_of_the_paper(depth: int, parameters: int) -> None:
    """He et al. 2015, table 6: 0.27, 0.46, 0.66 and 0.85 million; shortcuts of option A."""
    network = create(f"resnet{depth}", 10)
    found = summarise(network, (32, 32))
    assert found.parameters == parameters
    weighted = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(weighted) == depth
    assert found.macs < 133_136_704, "inside S5's budget"


@pytest.mark.row("M2")
@pytest.mark.parametrize("model", ["pruned_resnet", "compact", "landmark_cnn", "resnet20", "small"])
@pytest.mark.parametrize("size", [(32, 32), (64, 48), (45, 71)])
def test_shipped_networks_adapt_to_size_and_classes(model: str, size: tuple[int, int]) -> None:
    with torch.device("meta"):
        network = create(model, 7, size=size)
        assert outputs_of(network, size) == (7,)


@pytest.mark.row("M2")
def test_the_size_can_be_said_as_an_option() -> None:
    with torch.device("meta"):
        assert outputs_of(create("pruned_resnet", 3, options={"size": "64"}), (64, 64)) == (3,)
        wide = create("landmark_cnn", 3, options={"size": "[64, 32]"}, size=(16, 16))
        assert outputs_of(wide, (64, 32)) == (3,), "what was said stays"


@pytest.mark.row("M2")
@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("pruned_resnet", {"size": "4"}, "too small"),
        ("landmark_cnn", {"size": "[32, 32, 3]"}, "one side or"),
        ("landmark_cnn", {"size": "32x32"}, "one side or"),
        ("resnet20", {"depth": "21"}, "6n + 2"),
        ("pruned_resnet", {"num_classes": "3"}, "labels"),
    ],
)
def test_wrong_options_of_shipped_networks_are_told(model: str, options: dict[str, str], said: str) -> None:
    with pytest.raises(InputError) as caught:
        create(model, 3, options=options)
    assert said in str(caught.value)


@pytest.mark.row("M1")
def test_a_vision_transformer_is_made_for_the_size_of_the_pictures() -> None:
    with torch.device("meta"):
        assert outputs_of(create("vit_b_32", 3, size=(64, 64)), (64, 64)) == (3,)
    with pytest.raises(InputError, match="for pictures of 100x100"):
        create("vit_b_32", 3, size=(100, 100))


def test_preprocessing_of_shipped_networks() -> None:
    assert default_preprocess("resnet56", None).size == (32, 32)
    assert default_preprocess("landmark_cnn", None).resize == (224, 224)
    plain = default_preprocess("pruned_resnet", None)
    assert (plain.size, plain.mean, plain.std) == ((32, 32), (0, 0, 0), (1, 1, 1))


@pytest.mark.row("M2", "T1")
def test_shipped_networks_are_trained_from_scratch_by_the_same_command(
    photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = [
        "train",
        str(photo_folder),
        "--model",
        "pruned_resnet",
        "--out",
        str(run),
        "--json",
        "--device",
        "cpu",
    ]
    assert main([*words, "--epochs", "3", "--head-epochs", "0", "--batch", "8", "--lr", "0.003"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0 <= found["test_accuracy"] <= 1
    losses = [float(row["train_loss"]) for row in csv.DictReader((run / "history.csv").open())]
    assert losses[-1] < 0.8 * losses[0]
    assert json.loads((run / "run.json").read_text())["preprocess"]["resize"]["width"] == 32


@pytest.mark.slow
@pytest.mark.row("M1", "M2", "E2")
@pytest.mark.parametrize(
    ("depth", "file", "right"), [(20, "resnet20-12fca82f.th", 0.77), (32, "resnet32-d509ac18.th", 0.77)]
)
def test_foreign_checkpoints_fit_the_cifar_resnets(
    packs: Path, tmp_path: Path, depth: int, file: str, right: float
) -> None:
    import tarfile

    import numpy as np

    from samesight.models import TorchRunner
    from samesight.preprocess import preprocess, read_photo

    for pack in ("small_extras.tar", "cifar10_jpeg.tar.xz"):
        with tarfile.open(packs / pack) as archive:
            wanted = [m for m in archive if "/test/" in f"/{m.name}" or "resnet" in m.name]
            archive.extractall(tmp_path, members=wanted[:12_000])
    found = create_pretrained(f"resnet{depth}", next(tmp_path.rglob(file)))
    runner = TorchRunner(found.network)
    folders = sorted(next(tmp_path.rglob("test")).iterdir())
    hits = total = 0
    for label, folder in enumerate(folders):
        photos = sorted(folder.iterdir())[:60]
        tensors = np.stack([preprocess(read_photo(photo), found.preprocess) for photo in photos])
        hits += int((runner.logits(tensors).argmax(1) == label).sum())
        total += len(photos)
    assert len(folders) == 10
    assert hits / total > right
