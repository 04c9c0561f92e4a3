"""Pretrained weights: from the cache, a download, a file; and the preprocessing that goes with them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from samesight.errors import CheckpointError  # noqa: E402
from samesight.models import TorchRunner, create, create_pretrained, default_preprocess  # noqa: E402

MODEL = "squeezenet1_1"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of torchvision's, as if their server were a folder here."""
    from torchvision.models import SqueezeNet1_1_Weights

    torch.manual_seed(0)
    plain = tmp_path / "plain.pth"
    torch.save(create(MODEL, 1000).state_dict(), plain)
    digits = hashlib.sha256(plain.read_bytes()).hexdigest()[:8]
    file = plain.rename(tmp_path / f"{MODEL}-{digits}.pth")
    weights = SqueezeNet1_1_Weights.IMAGENET1K_V1
    monkeypatch.setattr(weights.value, "url", file.as_uri())
    return file


def same_weights(network: object, file: Path) -> bool:
    wanted = torch.load(file, weights_only=True)
    state = network.state_dict()  # type: ignore[attr-defined]
    return all(torch.equal(state[name], tensor) for name, tensor in wanted.items())


@pytest.mark.row("M1")
@pytest.mark.parametrize("name", [None, "DEFAULT", "IMAGENET1K_V1"])
def test_download_once_then_cache(published: Path, cache: Path, name: str | None) -> None:
    found = create_pretrained(MODEL, name)
    assert same_weights(found.network, published)
    assert found.labels is not None
    assert len(found.labels) == 1000
    assert found.weights.startswith(f"IMAGENET1K_V1 {published.name} sha256:")
    assert "ImageNet" in found.license
    published.unlink()
    again = create_pretrained(MODEL, name, offline=True)
    assert again.weights == found.weights


@pytest.mark.row("M1")
def test_offline_downloads_nothing(published: Path, cache: Path) -> None:
    with pytest.raises(CheckpointError, match="could not be had") as caught:
        create_pretrained(MODEL, None, offline=True)
    assert caught.value.expected == published.name
    assert caught.value.where == cache
    assert "--weights FILE" in str(caught.value.fix)
    assert not cache.exists()


@pytest.mark.row("M1")
def test_failed_download_is_one_error_and_leaves_nothing(published: Path, cache: Path) -> None:
    published.unlink()
    with pytest.raises(CheckpointError, match="could not be had") as caught:
        create_pretrained(MODEL, None)
    assert caught.value.expected == published.name
    assert not list(cache.iterdir())


@pytest.mark.row("M1")
def test_download_with_another_hash_is_refused(published: Path, cache: Path) -> None:
    published.write_bytes(published.read_bytes() + b"x")
    with pytest.raises(CheckpointError, match="could not be had") as caught:
        create_pretrained(MODEL, None)
    assert "invalid hash" in str(caught.value.found)
    assert not list(cache.iterdir())


@pytest.mark.row("M1")
def test_weights_from_a_file(published: Path, cache: Path, tmp_path: Path) -> None:
    found = create_pretrained(MODEL, published, offline=True)
    assert same_weights(found.network, published)
    assert "ImageNet" in found.license  # the digits in its name are a published file's, and its own
    other = published.rename(tmp_path / "mine.pth")
    mine = create_pretrained(MODEL, other)
    assert mine.license == "unknown"
    assert mine.labels is None


@pytest.mark.row("M1", "M2")
@pytest.mark.parametrize("start", ["", "model."])  # plain, and as Lightning names them
def test_weights_from_a_file_with_other_classes(tmp_path: Path, start: str) -> None:
    state = {start + name: tensor for name, tensor in create(MODEL, 6).state_dict().items()}
    torch.save(state, tmp_path / "six.pth")
    network = create_pretrained(MODEL, tmp_path / "six.pth").network
    assert TorchRunner(network).logits(torch.zeros(1, 3, 64, 64).numpy()).shape == (1, 6)


@pytest.mark.row("M1")
def test_untrained_and_unknown() -> None:
    assert create_pretrained(MODEL, "none").weights == "none: untrained"
    assert create_pretrained("small", None, offline=True).license == "no pretrained weights"
    with pytest.raises(CheckpointError, match="no such weights") as caught:
        create_pretrained(MODEL, "IMAGENET1K_V9")
    assert "IMAGENET1K_V1" in str(caught.value.expected)


@pytest.mark.row("M1")
def test_timm_without_its_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    with pytest.raises(CheckpointError, match="could not be had") as caught:
        create_pretrained("timm/convnext_zepto_rms", None, offline=True)
    assert "model.safetensors" in str(caught.value.expected)


@pytest.mark.row("M1")
@pytest.mark.parametrize(
    ("model", "weights", "resize", "crop", "interpolation"),
    [
        ("mobilenet_v2", None, 232, 224, "bilinear"),
        ("mobilenet_v2", "IMAGENET1K_V1", 256, 224, "bilinear"),
        ("mobilenet_v2", "x/mobilenet_v2-7ebf99e0.pth", 232, 224, "bilinear"),
        ("mobilenet_v2", "x/mobilenet_v2-6421cc59.pth", 256, 224, "bilinear"),
        ("mobilenet_v2", "none", 256, 224, "bilinear"),
        ("inception_v3", None, 342, 299, "bilinear"),
        ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1", 384, 384, "bicubic"),
    ],
)
def test_preprocessing_is_what_the_weights_want(
    model: str, weights: str | None, resize: int, crop: int, interpolation: str
) -> None:
    spec = default_preprocess(model, weights)
    assert (spec.resize, spec.crop, spec.interpolation) == (resize, (crop, crop), interpolation)
    assert spec.mean == (0.485, 0.456, 0.406)


def test_preprocessing_of_other_networks() -> None:
    assert default_preprocess("small", None).size == (32, 32)
    assert default_preprocess("net.py:Net", None).resize == (224, 224)
    pytest.importorskip("timm")
    spec = default_preprocess("timm/mobilenetv3_large_100", None)
    assert (spec.resize, spec.crop, spec.interpolation) == (256, (224, 224), "bicubic")


@pytest.mark.row("V1")
def test_torch_runner_answers_any_number_in_the_same_way() -> None:
    torch.manual_seed(0)
    network = create("small", 4).train()
    runner = TorchRunner(network)
    pictures = torch.randn(70, 3, 16, 16).numpy()
    together = runner.logits(pictures)
    assert together.shape == (70, 4)
    assert together.dtype.name == "float32"
    assert not network.training
    for index in (0, 31, 32, 69):
        alone = runner.logits(pictures[index : index + 1])[0]
        assert abs(alone - together[index]).max() < 1e-5
    with pytest.raises(ValueError, match="no pictures"):
        runner.logits(pictures[:0])


@pytest.mark.slow
@pytest.mark.row("M1", "D1")
@pytest.mark.parametrize(
    ("model", "file", "right"),
    [
        ("mobilenet_v2", "mobilenet_v2-6421cc59.pth", 434),
        ("squeezenet1_1", "squeezenet1_1-8226b7d8.pth", 342),
    ],
)
def test_given_weights_score_as_published(
    packs: Path, tmp_path: Path, model: str, file: str, right: int
) -> None:
    """83.5 % and 65.8 % of the pack's 520 photos, by the preprocessing that is chosen for these files."""
    import csv
    import tarfile

    import numpy as np

    from samesight.preprocess import preprocess, read_photo

    for pack in ("imagenet520.tar", "weights_dev.tar.xz"):
        with tarfile.open(packs / pack) as archive:
            archive.extractall(tmp_path)
    found = create_pretrained(model, next(tmp_path.rglob(file)))
    runner = TorchRunner(found.network)
    table = next(tmp_path.rglob("labels.csv"))
    rows = list(csv.DictReader(table.open()))
    paths = {path.name: path for path in table.parent.rglob("*.JPEG")}
    hits = 0
    for start in range(0, len(rows), 20):
        piece = rows[start : start + 20]
        tensors = np.stack([preprocess(read_photo(paths[r["filename"]]), found.preprocess) for r in piece])
        wanted = [int(r["class_index"]) for r in piece]
        hits += int((runner.logits(tensors).argmax(1) == wanted).sum())
    assert len(rows) == 520
    assert hits == right
