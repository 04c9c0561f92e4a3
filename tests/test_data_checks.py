"""First checks, the prepared folder, its notes, and `samesight data`."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_photos import packed, write_classes, write_photo

from samesight.cli import main
from samesight.data.checks import DataReport, check_photos
from samesight.data.notes import preparation_notes
from samesight.data.photos import PhotoOptions, open_photos
from samesight.data.prepare import SplitOptions, is_prepared, open_prepared, prepare
from samesight.data.scan import scan_photos
from samesight.errors import InputError, PhotosError
from samesight.files import sha256_file
from samesight.preprocess import Preprocess


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """Two classes of twelve, and one of everything that goes wrong."""
    folder = write_classes(tmp_path / "messy", {"cat": 12, "dog": 12, "eel": 2}, ".jpg")
    shutil.copy(folder / "cat" / "0.jpg", folder / "cat" / "again.jpg")
    shutil.copy(folder / "cat" / "1.jpg", folder / "dog" / "really a cat.jpg")
    (folder / "cat" / "empty.jpg").write_bytes(b"")
    whole = write_photo(tmp_path / "big.jpg", (64, 64)).read_bytes()
    (folder / "dog" / "short.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "dog" / "words.png").write_bytes(b"not a photo at all")
    return folder


@pytest.mark.row("D6")
def test_everything_that_goes_wrong_is_found(messy: Path) -> None:
    report = check_photos(open_photos(messy))
    assert report.photos == 31
    assert report.readable == 28
    assert {trouble.name: trouble.kind for trouble in report.troubles} == {
        "cat/empty.jpg": "empty",
        "dog/short.jpg": "truncated",
        "dog/words.png": "unreadable",
    }
    assert [one.names for one in report.duplicates] == [
        ("cat/0.jpg", "cat/again.jpg"),
        ("cat/1.jpg", "dog/really a cat.jpg"),
    ]
    assert [(one.names, one.labels) for one in report.conflicts] == [
        (("cat/1.jpg", "dog/really a cat.jpg"), ("cat", "dog"))
    ]
    assert report.leaks == ()
    assert report.small_classes == {"eel": 2}
    assert report.sizes == {"smallest": [8, 6], "median": [8, 6], "largest": [8, 6]}
    assert report.counts["cat"] == {"all": 13, "unreadable": 1}


@pytest.mark.row("D6")
def test_the_same_photo_on_both_sides_that_folders_give(tmp_path: Path) -> None:
    write_classes(tmp_path / "p" / "test", {"cat": 10, "dog": 10, "eel": 10})
    write_classes(
        tmp_path / "p" / "train", {"cat": 14, "dog": 10, "eel": 10}
    )  # of equal names, so equal photos
    prepared = prepare(tmp_path / "p")
    assert len(prepared.report.leaks) == 30
    assert prepared.report.leaks[0].parts == ("test", "train")
    assert len(prepared.report.left_out) == 30
    assert len(prepared.split.names("train") + prepared.split.names("val")) == 4
    assert len(prepared.split.names("test")) == 30
    assert "2 classes without a training photo: dog, eel" in prepared.report.notes
    for index in range(10, 14):
        (tmp_path / "p" / "train" / "cat" / f"{index}.png").unlink()
    with pytest.raises(PhotosError, match="no photo is left to train on"):
        prepare(tmp_path / "p")


@pytest.mark.row("D6")
def test_rows_and_files_that_miss_each_other(tmp_path: Path) -> None:
    for index in range(3):
        write_photo(tmp_path / f"{index}.png")
    (tmp_path / "labels.csv").write_text("filename,label\n0.png,a\n1.png,b\n9.png,b\n")
    report = check_photos(open_photos(tmp_path))
    assert report.rows_without_file == ("9.png",)
    assert report.files_without_row == ("2.png",)
    assert [what for what, _ in report.findings()] == [
        "table rows without a file",
        "files without a table row (left out)",
        "classes with fewer than 10 photos",
    ]


def test_hashes_come_from_the_same_pass(messy: Path) -> None:
    photos = open_photos(messy)
    scan = scan_photos(photos)
    readable = [photo for photo in photos.items if photo.name in scan.hashes]
    assert len(readable) == 28
    assert all(scan.hashes[photo.name] == sha256_file(photo.path) for photo in readable)
    assert scan.size_bytes == sum(photo.path.stat().st_size for photo in photos.items)
    assert check_photos(photos, scan=scan) == check_photos(photos)


def test_the_report_goes_through_json(messy: Path) -> None:
    report = prepare(messy).report
    value = json.loads(json.dumps(report.to_json()))
    assert "hashes" not in value
    again = DataReport.from_json(value)
    assert again.to_json() == report.to_json()
    assert again.conflicts == report.conflicts
    for wrong in (None, {}, {**value, "extra": 1}, {**value, "troubles": [{"x": 1}]}, {**value, "leaks": 3}):
        with pytest.raises(InputError):
            DataReport.from_json(wrong)


@pytest.mark.row("D2")
def test_prepare_writes_what_later_stages_pick_up(messy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepared = prepare(messy, PhotoOptions(), SplitOptions(seed=7), out)
    assert is_prepared(out)
    assert {path.name for path in out.iterdir()} == {
        "data.json",
        "split.json",
        "labels_mapping.json",
        "dataset_preparation_notes.md",
        "class_distribution.csv",
    }
    photos, split, report = open_prepared(out)
    assert photos == prepared.photos
    assert split == prepared.split
    assert split.seed == 7
    assert report.to_json() == prepared.report.to_json()
    assert not {"cat/empty.jpg", "dog/short.jpg", "dog/words.png"} & {item.name for item in split.items}
    by_name = {item.name: item for item in split.items}
    assert by_name["cat/1.jpg"].part == by_name["dog/really a cat.jpg"].part
    with (out / "class_distribution.csv").open(newline="") as stream:
        rows = {row["label"]: row for row in csv.DictReader(stream)}
    assert rows["cat"]["photos"] == "14"
    assert rows["cat"]["unreadable"] == "1"
    assert json.loads((out / "labels_mapping.json").read_text())["class_to_int"] == {
        "cat": 0,
        "dog": 1,
        "eel": 2,
    }


@pytest.mark.row("D2")
def test_a_split_is_reused_and_changed_photos_are_told(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "pets", {"cat": 10, "dog": 10})
    out = tmp_path / "out"
    first = prepare(folder, out=out)
    written = (out / "split.json").stat().st_mtime_ns
    assert prepare(folder, out=out).split == first.split
    assert (out / "split.json").stat().st_mtime_ns == written
    assert prepare(out, out=tmp_path / "second").split == first.split
    assert open_prepared(tmp_path / "second")[1] == first.split
    with pytest.raises(InputError, match="made otherwise") as other:
        prepare(folder, split_options=SplitOptions(seed=1), out=out)
    assert other.value.found == "seed 42 (now 1)"
    write_photo(folder / "cat" / "0.png", (9, 9))
    (folder / "dog" / "3.png").unlink()
    write_photo(folder / "dog" / "new.png")
    with pytest.raises(PhotosError, match="changed after they were split") as caught:
        prepare(folder, out=out)
    for words in ("1 gone (dog/3.png)", "1 new (dog/new.png)", "1 changed (cat/0.png)", "--replace"):
        assert words in str(caught.value)
    assert len(prepare(folder, out=out, replace=True).split.items) == 20


def test_a_prepared_folder_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path / "here" / "pets", {"cat": 10, "dog": 10})
    (tmp_path / "here" / "t.csv").write_text("filename,label\n0.png,a\n1.png,b\n2.png,b\n")
    monkeypatch.chdir(tmp_path / "here")
    prepare("pets", PhotoOptions(csv="t.csv", images="pets/cat"), out=tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    photos, _, _ = open_prepared(tmp_path / "out")
    assert photos.labels == ("a", "b")
    with pytest.raises(InputError, match="no prepared photos"):
        open_prepared(tmp_path)


@pytest.mark.row("D2")
def test_notes_tell_what_was_done(messy: Path) -> None:
    prepared = prepare(messy)
    spec = Preprocess(resize=256, crop=(224, 224))
    notes = preparation_notes(
        prepared.report,
        prepared.split,
        augmentation=["horizontal flip, half of the photos"],
        imbalance="WeightedRandomSampler",
        preprocess=spec,
    )
    for words in (
        "| cat | 14 |",
        "Seed 42",
        "20% of each class is held out",
        prepared.split.sha256,
        "horizontal flip",
        "WeightedRandomSampler",
        "shortest edge to 256",
        "centre crop 224 × 224",
        "the same photo under two labels",
        "cat/empty.jpg",
    ):
        assert words in notes, words


@pytest.mark.row("D2", "D6")
def test_the_command(
    messy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", str(messy)]) == 0
    told = capsys.readouterr().out
    for words in ("31 photos, 3 classes", "cat/empty.jpg", "under two labels", "█", "seed 42", "eel: 2"):
        assert words in told, words
    assert told.splitlines()[-1] == "Next: samesight train runs/messy-data --model mobilenet_v2"
    assert is_prepared("runs/messy-data")
    assert main(["data", str(messy), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["out"] == "runs/messy-data"
    assert answer["split"]["photos"] == {"train": 20, "val": 2, "test": 6}
    assert answer["readable"] == 28
    assert main(["data", "runs/messy-data"]) == 0
    assert main(["data", str(tmp_path / "nowhere")]) == 2


def test_the_command_without_labels_and_with_many_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_photo(tmp_path / "flat" / "1.png")
    assert main(["data", "flat"]) == 0
    assert "no labels" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    write_classes(tmp_path / "many", {f"class {index}": 1 + index % 3 for index in range(50)})
    assert main(["data", str(packed(tmp_path / "many", tmp_path / "many.zip")), "--out", "d"]) == 0
    told = capsys.readouterr().out
    assert "… 10 more classes …" in told
    assert "Next: samesight train d" in told


def test_photos_that_training_would_refuse_are_not_sent_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_classes(tmp_path / "one", {"cat": 5})
    write_classes(tmp_path / "single", {"cat": 1, "dog": 1})
    for name, words in (("one", "cat is the only class"), ("single", "no photo could be held out")):
        assert main(["data", str(tmp_path / name), "--out", str(tmp_path / "out" / name)]) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.startswith("Nothing can be trained"), last
        assert words in last


def test_output_that_holds_ascii_only(tmp_path: Path) -> None:
    write_photo(tmp_path / "Käfer" / "1.png")
    write_photo(tmp_path / "cat" / "1.png")
    done = subprocess.run(
        [sys.executable, "-m", "samesight", "data", str(tmp_path), "--out", str(tmp_path / "out")],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=True,
        capture_output=True,
    )
    assert b"K\\xe4fer" in done.stdout
    assert b"8 x 6" in done.stdout


def test_help_needs_neither_numpy_nor_torch() -> None:
    code = (
        "import sys, samesight.cli as c\n"
        "assert [c.main([n, '--help']) for n in ('data', 'fetch', 'subset')] == [0, 0, 0]\n"
        "assert not {'numpy', 'torch', 'PIL', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
