"""CIFAR-10 and CIFAR-100 as torchvision keeps them, and no code from their pickles."""

from __future__ import annotations

import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samesight.data.photos import open_photos
from samesight.errors import PhotosError

TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
HUNDRED = [f"fine_{index:02}" for index in range(100)]


def batch(count: int, classes: int, seed: int) -> tuple[np.ndarray, list[int]]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 3072), dtype=np.uint8), random.integers(0, classes, count).tolist()


def dump(path: Path, value: Any, protocol: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol=protocol))


def cifar10(root: Path, protocol: int = 2) -> Path:
    folder = root / "cifar-10-batches-py"
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        data, labels = batch(4, 10, number)
        dump(
            folder / name,
            {"batch_label": name, "labels": labels, "data": data, "filenames": ["x"] * 4},
            protocol,
        )
    dump(folder / "batches.meta", {"num_cases_per_batch": 4, "label_names": TEN, "num_vis": 3072}, protocol)
    return folder


def same(
    photos: Any, prefix: str, data: np.ndarray, labels: list[int], names: list[str], first: int = 0
) -> None:
    by_name = {photo.name: photo for photo in photos.items}
    for index, (row, label) in enumerate(zip(data, labels, strict=True), start=first):
        photo = by_name[f"{prefix}/{names[label]}/{index:05}.png"]
        assert photo.label == names[label]
        assert photo.part == prefix
        np.testing.assert_array_equal(
            np.asarray(Image.open(photo.path)), row.reshape(3, 32, 32).transpose(1, 2, 0)
        )


@pytest.mark.row("D1")
@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar10_pickles(tmp_path: Path, protocol: int) -> None:
    cifar10(tmp_path, protocol)
    for source in (tmp_path, tmp_path / "cifar-10-batches-py"):
        photos = open_photos(source)
        assert photos.form == "CIFAR-10"
        assert len(photos.items) == 24
        for number in range(5):
            same(photos, "train", *batch(4, 10, number), TEN, first=4 * number)
        same(photos, "test", *batch(4, 10, 5), TEN)


@pytest.mark.row("D1")
def test_cifar10_archive(tmp_path: Path) -> None:
    cifar10(tmp_path)
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
    photos = open_photos(tmp_path / "cifar-10-python.tar.gz")
    assert photos.form == "tar.gz: CIFAR-10"
    same(photos, "test", *batch(4, 10, 5), TEN)


@pytest.mark.row("D1")
def test_cifar100_pickles_with_fine_labels(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    for seed, name in ((1, "train"), (2, "test")):
        data, labels = batch(12, 100, seed)
        dump(folder / name, {"fine_labels": labels, "coarse_labels": [0] * 12, "data": data})
    dump(folder / "meta", {"fine_label_names": HUNDRED, "coarse_label_names": ["all"]})
    photos = open_photos(tmp_path)
    assert photos.form == "CIFAR-100"
    same(photos, "train", *batch(12, 100, 1), HUNDRED)
    same(photos, "test", *batch(12, 100, 2), HUNDRED)


@pytest.mark.row("D1")
def test_binary_forms(tmp_path: Path) -> None:
    data, labels = batch(5, 10, 3)
    ten = tmp_path / "cifar-10-batches-bin"
    ten.mkdir()
    record = np.column_stack([np.array(labels, np.uint8), data]).tobytes()
    for name in (*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"):
        (ten / name).write_bytes(record)
    (ten / "batches.meta.txt").write_text("\n".join(TEN) + "\n\n")
    same(open_photos(ten), "test", data, labels, TEN)
    hundred = tmp_path / "cifar-100-binary"
    hundred.mkdir()
    record = np.column_stack([np.full(5, 99, np.uint8), np.array(labels, np.uint8), data]).tobytes()
    for name in ("train.bin", "test.bin"):
        (hundred / name).write_bytes(record)
    (hundred / "fine_label_names.txt").write_text("\n".join(HUNDRED))
    same(open_photos(hundred), "train", data, labels, HUNDRED)
    with pytest.raises(PhotosError, match="several CIFAR"):
        open_photos(tmp_path)


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch $SAMESIGHT_CACHE/pwned",)


class Sneaky:
    def __reduce__(self) -> Any:
        return np.load, ("x.npy",)


@pytest.mark.parametrize(
    "bad", [Evil(), Sneaky(), {"labels": Evil()}, {"labels": [0], "data": np.dtype("O")}]
)
def test_pickles_that_name_anything_else_are_refused(
    tmp_path: Path, bad: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMESIGHT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    dump(cifar10(tmp_path) / "test_batch", bad)
    with pytest.raises(PhotosError, match="CIFAR batch"):
        open_photos(tmp_path / "cifar-10-batches-py")
    assert not (tmp_path / "cache" / "pwned").exists()
    assert not list((tmp_path / "cache" / "photos").iterdir())


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\x80\x02",
        {"labels": [0, 1], "data": np.zeros((1, 3072), np.uint8)},
        {"labels": [10], "data": np.zeros((1, 3072), np.uint8)},
        {"labels": [True], "data": np.zeros((1, 3072), np.uint8)},
        {"labels": [0], "data": np.zeros((1, 3071), np.uint8)},
        {"labels": [0], "data": np.zeros((1, 384), np.float64)},
        {"labels": [0], "data": np.asfortranarray(np.zeros((2, 3072), np.uint8))},
        {"labels": [0], "data": [0] * 3072},
        {"labels": [], "data": np.zeros((0, 3072), np.uint8)},
        {},
        [1, 2],
    ],
)
def test_batches_that_are_not_as_they_should_be(tmp_path: Path, bad: Any) -> None:
    path = cifar10(tmp_path) / "data_batch_3"
    path.write_bytes(bad if isinstance(bad, bytes) else pickle.dumps(bad, protocol=2))
    with pytest.raises(PhotosError, match="CIFAR batch"):
        open_photos(path.parent)


@pytest.mark.parametrize("names", [["../x"], ["a", "a"], [], None, [1], ["a/b"]])
def test_label_names_that_are_no_folder_names(tmp_path: Path, names: Any) -> None:
    folder = cifar10(tmp_path)
    dump(folder / "batches.meta", {"label_names": names})
    with pytest.raises(PhotosError, match="label names"):
        open_photos(folder)
