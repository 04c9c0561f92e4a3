"""--fix: what is left out and why, in the split and in cleaned.csv; no photo is touched."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from looklike import COPIES, natural, write_set

from samesight.cli import main
from samesight.data.clean import ALWAYS, BY_CHOICE
from samesight.data.findings import KINDS
from samesight.data.photos import PhotoOptions, open_photos
from samesight.data.prepare import Inspection, open_prepared, prepare
from samesight.errors import InputError
from samesight.files import sha256_file

pytestmark = pytest.mark.row("D6")


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """Two classes of ten, and a conflict, a near one, a duplicate, a near one, a dark and a broken photo."""
    folder = write_set(tmp_path / "messy", 10)
    shutil.copy(folder / "a" / "00.png", folder / "b" / "conflict.png")
    COPIES["brighter"](natural(1)).save(folder / "b" / "near conflict.png")
    shutil.copy(folder / "a" / "02.png", folder / "a" / "02 again.png")
    COPIES["cropped"](natural(3)).save(folder / "a" / "03 cropped.png")
    natural(77).point(lambda level: level // 5).save(folder / "a" / "dark.png")
    (folder / "a" / "broken.png").write_bytes(b"")
    return folder


def sums(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_can_only_do_harm_is_left_out(messy: Path, tmp_path: Path) -> None:
    before = sums(messy)
    out = tmp_path / "out"
    fixed = prepare(messy, out=out, inspection=Inspection(fix=True))
    gone = {row.name: row.reason for row in fixed.split.left_out}
    assert gone == {
        "a/00.png": "the same photo under two labels",
        "b/conflict.png": "the same photo under two labels",
        "a/01.png": "near duplicates under two labels",
        "b/near conflict.png": "near duplicates under two labels",
        "a/02.png": "a copy of a/02 again.png",
    }
    used = {item.name for item in fixed.split.items}
    assert used | gone.keys() | {"a/broken.png"} == {photo.name for photo in fixed.photos.items}
    assert sums(messy) == before
    photos, split, report = open_prepared(out)
    assert split == fixed.split
    assert report.left_out == tuple(f"{name}: {gone[name]}" for name in sorted(gone))
    assert len(photos.items) == len(fixed.photos.items)


def test_the_cleaned_list_is_photos_again(messy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fixed = prepare(messy, out=out, inspection=Inspection(fix=True))
    rows = list(csv.DictReader((out / "cleaned.csv").open()))
    assert {row["filename"] for row in rows} == {item.name for item in fixed.split.items}
    again = open_photos(out / "cleaned.csv", PhotoOptions(images=str(messy)))
    assert {(photo.name, photo.label) for photo in again.items} == {
        (item.name, item.label) for item in fixed.split.items
    }
    assert not again.rows_without_file
    prepare(messy, out=out, replace=True)
    assert not (out / "cleaned.csv").exists()


def test_kinds_by_choice(messy: Path) -> None:
    fixed = prepare(messy, inspection=Inspection(fix=True, also=("dark", "near")))
    gone = {row.name for row in fixed.split.left_out}
    assert {"a/dark.png", "a/03.png"} <= gone
    assert "a/03 cropped.png" not in gone
    with pytest.raises(InputError, match="cannot be left out") as caught:
        prepare(messy, inspection=Inspection(fix=True, also=("unreadabel",)))
    assert "unreadabel" in str(caught.value)


def test_every_kind_that_is_left_out_exists() -> None:
    assert set(ALWAYS) | set(BY_CHOICE) <= set(KINDS)


def test_a_training_copy_of_a_held_out_photo_goes(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for part, seed in (("train", 0), ("test", 100)):
        for label, more in (("a", 0), ("b", 50)):
            (folder / part / label).mkdir(parents=True)
            for index in range(5):
                natural(seed + more + index).save(folder / part / label / f"{index}.png")
    COPIES["saved again"](natural(101)).save(folder / "train" / "a" / "leak.png")
    fixed = prepare(folder, inspection=Inspection(fix=True))
    assert [(row.name, row.reason) for row in fixed.split.left_out] == [
        ("train/a/leak.png", "a copy of test/a/1.png")
    ]


def test_another_split_is_not_put_in_the_place_of_one_unasked(messy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    plain = prepare(messy, out=out).split
    with pytest.raises(InputError, match="made otherwise") as caught:
        prepare(messy, out=out, inspection=Inspection(fix=True))
    assert "photos in it" in str(caught.value)
    assert open_prepared(out)[1] == plain
    fixed = prepare(messy, out=out, replace=True, inspection=Inspection(fix=True)).split
    assert open_prepared(out)[1] == fixed != plain


def test_the_command(
    messy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "messy", "--fix", "--fix-also", "dark"]) == 0
    told = capsys.readouterr().out
    assert "6 × photos left out of the split" in told
    assert "cleaned.csv" in told
    assert told.splitlines()[-1] == "Next: samesight train runs/messy-data --model mobilenet_v2"
    assert main(["data", "runs/messy-data"]) == 0
    assert main(["data", "runs/messy-data", "--fix"]) == 2
    assert "--replace" in capsys.readouterr().err
    assert main(["data", "messy", "--fix-also", "dark"]) == 2
    assert "--fix --fix-also dark" in capsys.readouterr().err
    assert main(["data", "messy", "--fix", "--fix-also", "mislabelled", "--out", "n"]) == 2
    assert "--model RUN" in capsys.readouterr().err
