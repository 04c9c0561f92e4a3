"""Every form of photos opens, labels are bound by name, and what is odd is told."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_photos import packed, write_classes, write_photo

from samesight.data.photos import (
    PhotoOptions,
    Photos,
    add_photo_arguments,
    natural,
    open_photos,
    photo_options,
)
from samesight.errors import ArchiveError, InputError, PhotosError

COUNTS = {"cat": 3, "dog": 2}


def labelled(photos: Photos) -> dict[str, str | None]:
    return {photo.name: photo.label for photo in photos.items}


def told(photos: Photos) -> str:
    return "\n".join(photos.notes)


@pytest.mark.row("D1")
def test_a_folder_per_class(tmp_path: Path) -> None:
    photos = open_photos(write_classes(tmp_path / "pets", COUNTS))
    assert labelled(photos) == {
        "cat/0.png": "cat",
        "cat/1.png": "cat",
        "cat/2.png": "cat",
        "dog/0.png": "dog",
        "dog/1.png": "dog",
    }
    assert photos.labels == ("cat", "dog")
    assert photos.form == "folder per class"
    assert all(photo.part is None and photo.path.is_file() for photo in photos.items)
    assert not photos.notes


@pytest.mark.row("D1")
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("a.zip", ""),
        ("a.tar", "w"),
        ("a.tgz", "w:gz"),
        ("a.tar.xz", "w:xz"),
        ("a.tar.bz2", "w:bz2"),
        ("a", "w:gz"),
    ],
)
def test_an_archive_gives_the_same_names_as_its_folder(tmp_path: Path, name: str, mode: str) -> None:
    folder = write_classes(tmp_path / "pets", COUNTS)
    photos = open_photos(packed(folder, tmp_path / name, mode))
    assert labelled(photos) == labelled(open_photos(folder))
    for one, other in zip(photos.items, open_photos(folder).items, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
    assert tmp_path not in photos.items[0].path.parents


@pytest.mark.row("D1")
@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "valid", "Testing"), ("TRAIN", "validation")]
)
def test_part_folders(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        write_classes(tmp_path / "pets" / name, COUNTS)
    photos = open_photos(tmp_path / "pets")
    parts = {name.casefold()[:2]: part for name, part in zip(names, ("train", "val", "test"), strict=False)}
    assert len(photos.items) == 5 * len(names)
    assert all(photo.part == parts[photo.name.casefold()[:2]] for photo in photos.items)
    assert photos.labels == ("cat", "dog")


@pytest.mark.row("D1")
def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    photos = open_photos(write_classes(tmp_path, {"bus": 2, "train": 2}))
    assert photos.labels == ("bus", "train")
    assert all(photo.part is None for photo in photos.items)


def test_a_test_folder_without_classes_is_left_out_and_told(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", COUNTS)
    write_photo(tmp_path / "test" / "1.png")
    photos = open_photos(tmp_path)
    assert len(photos.items) == 5
    assert "1 photos in test/ have no class folder" in told(photos)


def test_two_folders_of_one_part_are_refused(tmp_path: Path) -> None:
    for name in ("train", "val", "valid"):
        write_classes(tmp_path / name, COUNTS)
    with pytest.raises(PhotosError, match="two folders are the val part"):
        open_photos(tmp_path)


@pytest.mark.row("D1")
def test_wrapping_folders_are_descended(tmp_path: Path) -> None:
    write_classes(tmp_path / "outer" / "inner", COUNTS)
    assert "cat/0.png" in labelled(open_photos(tmp_path))


def test_what_systems_leave_behind_is_ignored(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "pets", {**COUNTS, "__MACOSX": 1, ".hidden": 1})
    write_photo(folder / "cat" / "._0.png")
    (folder / "cat" / ".DS_Store").write_bytes(b"x")
    (folder / "cat" / "Thumbs.db").write_bytes(b"x")
    (folder / "cat" / "notes.txt").write_bytes(b"x")
    assert len(open_photos(folder).items) == 5


@pytest.mark.row("D6")
def test_photos_of_kinds_that_are_not_read_are_told(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "pets", COUNTS)
    for name in ("cat/b.HEIC", "cat/a.heic", "dog/x.avif", "dog/notes.txt"):
        (folder / name).write_bytes(b"x")
    photos = open_photos(folder)
    assert len(photos.items) == 5
    assert "1 .avif, 2 .heic (cat/a.heic …); save them as JPEG or PNG" in told(photos)
    assert "txt" not in told(photos)


def test_suffixes_in_any_case(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 1}, ".PNG")
    write_classes(tmp_path, {"b": 1}, ".JpEg")
    assert [photo.name for photo in open_photos(tmp_path).items] == ["a/0.PNG", "b/0.JpEg"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep such names")
def test_spaces_and_any_bytes_in_names(tmp_path: Path) -> None:
    labels = [" two  spaces ", "Käfer", "日本", "line\nbreak"]
    for label in labels:
        write_photo(tmp_path / label / "a b.png")
    write_photo(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9/x\xff.png")))
    photos = open_photos(tmp_path)
    assert set(photos.labels) == {*labels, "caf\\xe9"}
    assert "caf\\xe9/x\\xff.png" in labelled(photos)
    assert all(photo.path.is_file() and photo.name.encode() for photo in photos.items)


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    outside = write_classes(tmp_path / "outside", {"x": 1})
    folder = write_classes(tmp_path / "pets", COUNTS)
    (folder / "cat" / "link.png").symlink_to(outside / "x" / "0.png")
    (folder / "bird").symlink_to(outside / "x")
    (folder / "cat" / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "dog" / "inside.png").symlink_to(folder / "cat" / "0.png")
    photos = open_photos(folder)
    assert len(photos.items) == 6
    assert "dog/inside.png" in labelled(photos)
    assert "3 links were not followed" in told(photos)


def test_stray_photos_beside_class_folders_are_told(tmp_path: Path) -> None:
    write_classes(tmp_path, COUNTS)
    write_photo(tmp_path / "grid.png")
    photos = open_photos(tmp_path)
    assert len(photos.items) == 5
    assert "grid.png" in told(photos)


def test_mostly_stray_photos_are_refused(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 1, "dog": 1})
    for index in range(3):
        write_photo(tmp_path / f"{index}.png")
    with pytest.raises(PhotosError, match="beside the class folders"):
        open_photos(tmp_path)


def test_deeper_folders_and_empty_classes_are_told(tmp_path: Path) -> None:
    write_classes(tmp_path, COUNTS)
    write_photo(tmp_path / "bird" / "owls" / "0.png")
    (tmp_path / "fish").mkdir()
    photos = open_photos(tmp_path)
    assert labelled(photos)["bird/owls/0.png"] == "bird"
    assert "bird/" in told(photos)
    assert "class folders without photos: fish" in told(photos)


@pytest.mark.row("D1")
def test_photos_without_labels(tmp_path: Path) -> None:
    for index in range(3):
        write_photo(tmp_path / "mine" / f"{index}.jpg")
    flat = open_photos(tmp_path / "mine")
    single = open_photos(tmp_path / "mine" / "0.jpg")
    pattern = open_photos(str(tmp_path / "mine" / "[01].jpg"))
    zipped = open_photos(packed(tmp_path / "mine", tmp_path / "mine.zip"))
    assert [len(photos.items) for photos in (flat, single, pattern, zipped)] == [3, 1, 2, 3]
    for photos in (flat, single, pattern, zipped):
        assert photos.labels == ()
        assert all(photo.label is None for photo in photos.items)


@pytest.mark.parametrize("words", ["nowhere", "nowhere/*.png", "empty"])
def test_no_photos(tmp_path: Path, words: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PhotosError, match="there are no photos"):
        open_photos(tmp_path / words)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "notes.doc").write_bytes(b"some words")
    with pytest.raises(ArchiveError, match="no photo, no table and no archive"):
        open_photos(tmp_path / "notes.doc")


@pytest.mark.row("D1")
def test_label_styles(tmp_path: Path) -> None:
    write_classes(tmp_path, {"Rose ": 1, "rose": 2, "BLUE  sky": 1})

    def styled(style: str) -> Photos:
        return open_photos(tmp_path, PhotoOptions(label_style=style))

    assert styled("as-is").labels == ("BLUE  sky", "rose", "Rose ")
    assert "differ only in case or white space" in told(styled("as-is"))
    assert "label 'BLUE  sky' and 1 more keeps white space" in told(styled("as-is"))
    assert "white space" not in told(styled("trim"))
    assert styled("trim").labels == ("BLUE sky", "Rose", "rose")
    assert styled("title").labels == ("Blue Sky", "Rose")
    assert "labels 'rose', 'Rose ' were merged into 'Rose'" in told(styled("title"))
    with pytest.raises(InputError, match="no such label style"):
        PhotoOptions(label_style="upper")


@pytest.mark.row("D2")
def test_groups_by_pattern(tmp_path: Path) -> None:
    for name in ("p1_a", "p1_b", "p2_a", "other"):
        write_photo(tmp_path / "cat" / f"{name}.png")
        write_photo(tmp_path / "dog" / f"{name}.png")
    photos = open_photos(tmp_path, PhotoOptions(group=r"/(p\d+)_"))
    assert [photo.group for photo in photos.items] == [None, "p1", "p1", "p2"] * 2
    assert "2 photos' names not" in told(photos)
    for pattern, message in (
        ("(", "not a regular"),
        ("p", "exactly one"),
        ("(zebra)", "matches no"),
        ("column:x", "column of groups"),
    ):
        with pytest.raises(InputError, match=message):
            open_photos(tmp_path, PhotoOptions(group=pattern))


@settings(deadline=None)
@given(st.lists(st.text(max_size=6), unique=True))
def test_natural_order_is_total(texts: list[str]) -> None:
    ordered = sorted(texts, key=natural)
    texts.reverse()
    assert ordered == sorted(texts, key=natural)
    assert len({natural(text) for text in texts}) == len(texts)


def test_natural_order() -> None:
    assert sorted(["b", "10", "a", "9", "img10", "img9", "B1"], key=natural) == [
        "9",
        "10",
        "a",
        "b",
        "B1",
        "img9",
        "img10",
    ]


def test_arguments_and_json_keep_every_option() -> None:
    parser = argparse.ArgumentParser()
    add_photo_arguments(parser)
    assert photo_options(parser.parse_args([])) == PhotoOptions()
    words = ["--csv=a", "--images=b", "--filename-column=c", "--label-column=d", "--label-style=trim"]
    options = photo_options(parser.parse_args([*words, "--group=(e)"]))
    assert options == PhotoOptions("a", "b", "c", "d", "trim", "(e)")
    assert PhotoOptions.from_json(options.to_json()) == options
    for wrong in (None, [], {"colour": 1}, {"csv": 1}, {"filename_column": None}, {"offline": "yes"}):
        with pytest.raises(InputError):
            PhotoOptions.from_json(wrong)


@pytest.mark.row("D1")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("pack", "count", "labels", "parts"),
    [
        ("grocery81_csv.tar", 2936, 81, {None}),
        ("trashnet_imbalanced.zip", 480, 5, {None}),
        ("signdigits4.zip", 824, 4, {None}),
        ("imagenet520.tar", 520, 520, {None}),
        ("cifar10_jpeg.tar.xz", 60000, 10, {"train", "test"}),
    ],
)
def test_real_packs(packs: Path, pack: str, count: int, labels: int, parts: set[str | None]) -> None:
    photos = open_photos(packs / pack)
    assert len(photos.items) == count
    assert len(photos.labels) == labels
    assert {photo.part for photo in photos.items} == parts
    assert not photos.rows_without_file
    assert not photos.files_without_row
    assert sum(photo.part == "test" for photo in photos.items) == (10000 if "test" in parts else 0)
