"""Subsets of the ImageNet validation set, from the official files' own layout."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from tiny_photos import write_photo

from samesight.cli import main
from samesight.data.labels import bind, imagenet_classes
from samesight.data.photos import open_photos
from samesight.data.subset import SubsetOptions, make_subset
from samesight.errors import ArchiveError, InputError

pytestmark = pytest.mark.row("D1")

WNIDS = [wnid for wnid, _ in imagenet_classes()]
NAMES = [name for _, name in imagenet_classes()]
CLASSES = [7, 0, 999, 517]  # ImageNet indices; their ILSVRC2012_ID is 1, 2, 3, 4
TRUTH = [1, 2, 3, 4, 4, 3, 2, 1, 1, 1, 2, 3]  # ILSVRC2012_ID of each photo


def devkit(path: Path, *, leave_out: str = "") -> Path:
    """ILSVRC2012_devkit_t12.tar.gz as the official one is laid out: four classes and one synset above."""
    scipy_io = pytest.importorskip("scipy.io")
    fields = [
        "ILSVRC2012_ID",
        "WNID",
        "words",
        "gloss",
        "num_children",
        "children",
        "wordnet_height",
        "num_train_images",
    ]
    synsets = np.zeros((len(CLASSES) + 1, 1), dtype=[(name, object) for name in fields])
    for row, index in enumerate(CLASSES):
        synsets[row, 0] = (row + 1, WNIDS[index], NAMES[index], "gloss", 0, np.zeros((0, 0)), 0, 1300)
    synsets[-1, 0] = (len(CLASSES) + 1, "n00001740", "entity", "gloss", 2, np.array([1, 2]), 3, 0)
    meta = io.BytesIO()
    scipy_io.savemat(meta, {"synsets": synsets})
    contents = {
        "data/meta.mat": meta.getvalue(),
        "data/ILSVRC2012_validation_ground_truth.txt": "".join(f"{number}\n" for number in TRUTH).encode(),
        "readme.txt": b"x",
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, data in contents.items():
            if name != leave_out:
                info = tarfile.TarInfo(f"ILSVRC2012_devkit_t12/{name}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A folder with the official archive and development kit, and the JPEGs in val/."""
    folder = tmp_path / "official"
    for number in range(1, len(TRUTH) + 1):
        write_photo(folder / "val" / f"ILSVRC2012_val_{number:08}.JPEG")
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as archive:
        for path in sorted((folder / "val").iterdir()):
            archive.add(path, path.name)
    devkit(folder / "ILSVRC2012_devkit_t12.tar.gz")
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("form", ["ILSVRC2012_img_val.tar", "val"])
def test_from_the_official_files(official: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "out"
    assert make_subset(official / form, out, SubsetOptions(classes=4, per_class=2)) == 8
    for row in rows(out):
        number = int(row["filename"].removesuffix(".JPEG").rsplit("_", 1)[1])
        index = CLASSES[TRUTH[number - 1] - 1]
        assert (row["class_index"], row["wnid"], row["name"]) == (str(index), WNIDS[index], NAMES[index])
        assert row["filename"].startswith(f"{WNIDS[index]}/")
        taken = (out / row["filename"]).read_bytes()
        assert taken == (official / "val" / Path(row["filename"]).name).read_bytes()
    photos = open_photos(out)
    assert bind(photos, NAMES) == [photo.class_index for photo in photos.items]
    (out / "labels.csv").unlink()  # the folders alone will do as well
    assert bind(open_photos(out), NAMES) == [photo.class_index for photo in photos.items]


def test_the_seed_draws(official: Path, tmp_path: Path) -> None:
    def drawn(name: str, seed: int, source: str = "val") -> list[str]:
        make_subset(official / source, tmp_path / name, SubsetOptions(classes=2, per_class=1, seed=seed))
        return [row["filename"] for row in rows(tmp_path / name)]

    assert drawn("a", 1) == drawn("b", 1) == drawn("c", 1, "ILSVRC2012_img_val.tar")
    assert len({tuple(drawn(f"s{seed}", seed)) for seed in range(8)}) > 2


def test_a_devkit_elsewhere_or_unpacked(official: Path, tmp_path: Path) -> None:
    kit = (official / "ILSVRC2012_devkit_t12.tar.gz").rename(tmp_path / "kit.tgz")
    with pytest.raises(InputError, match="development kit") as caught:
        make_subset(official / "val", tmp_path / "a", SubsetOptions(classes=4))
    assert "--devkit" in str(caught.value)
    assert make_subset(official / "val", tmp_path / "a", SubsetOptions(classes=4, devkit=kit)) == 4
    with tarfile.open(kit) as archive:
        archive.extractall(tmp_path / "kit")
    assert (
        make_subset(official / "val", tmp_path / "b", SubsetOptions(classes=4, devkit=tmp_path / "kit")) == 4
    )


def test_from_a_folder_per_wordnet_id(tmp_path: Path) -> None:
    for index in (3, 4, 5):
        for number in range(index):
            write_photo(tmp_path / "val" / WNIDS[index] / f"{number}.JPEG")
    assert make_subset(tmp_path / "val", tmp_path / "out", SubsetOptions(classes=2, per_class=4)) == 8
    assert {row["wnid"] for row in rows(tmp_path / "out")} == {WNIDS[4], WNIDS[5]}


def test_too_few_photos(official: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not enough photos") as caught:
        make_subset(official / "val", tmp_path / "out", SubsetOptions(classes=4, per_class=3))
    assert "--classes 3" in str(caught.value)
    assert not (tmp_path / "out").exists()
    write_photo(tmp_path / "flat" / "1.png")
    with pytest.raises(InputError, match="no labels"):
        make_subset(tmp_path / "flat", tmp_path / "out", SubsetOptions(classes=1))
    for wrong in ((0, 1), (1001, 1), (1, 0)):
        with pytest.raises(InputError):
            SubsetOptions(*wrong)


def test_broken_official_files(official: Path, tmp_path: Path) -> None:
    options = SubsetOptions(classes=4)
    for missing in ("data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"):
        devkit(official / "ILSVRC2012_devkit_t12.tar.gz", leave_out=missing)
        with pytest.raises(InputError, match="lacks a file"):
            make_subset(official / "val", tmp_path / "out", options)
    (official / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(b"\x1f\x8b broken")
    with pytest.raises(ArchiveError):
        make_subset(official / "val", tmp_path / "out", options)
    devkit(official / "ILSVRC2012_devkit_t12.tar.gz")
    whole = (official / "ILSVRC2012_img_val.tar").read_bytes()
    (official / "ILSVRC2012_img_val.tar").write_bytes(whole[: len(TRUTH) * 1024 - 700])
    with pytest.raises(InputError):
        make_subset(official / "ILSVRC2012_img_val.tar", tmp_path / "out", options)
    write_photo(official / "val" / "ILSVRC2012_val_00050001.JPEG")
    with pytest.raises(InputError, match="not in the ground truth"):
        make_subset(official / "val", tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_the_command(official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["subset", str(official / "val"), "--classes", "2", "--per-class", "2", "--out", str(out)]
    assert main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"out": str(out), "photos": 4, "classes": 2, "per_class": 2, "seed": 42}
    assert main(words) == 2  # never overwritten
    assert main([*words[:-1], str(tmp_path / "other")]) == 0
    assert capsys.readouterr().out.endswith(f"Next: samesight verify BUNDLE --photos {tmp_path / 'other'}\n")


@pytest.mark.slow
def test_from_the_real_pack(packs: Path, tmp_path: Path) -> None:
    assert make_subset(packs / "imagenet520.tar", tmp_path / "out", SubsetOptions(classes=500)) == 500
    assert len(open_photos(tmp_path / "out").labels) == 500
