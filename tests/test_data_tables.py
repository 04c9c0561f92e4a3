"""Tables of file names and labels: found, read, and bound to photos by name."""

from __future__ import annotations

import contextlib
import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_photos import packed, write_photo

from samesight.data.photos import PhotoOptions, open_photos
from samesight.data.prepare import prepare
from samesight.data.tables import read_table
from samesight.errors import PhotosError


def shop(folder: Path, table: str = "filename,label\n1.png,apple\n2.png,pear\n3.png,apple\n") -> Path:
    """Three photos in images/ beside labels.csv."""
    for number in (1, 2, 3):
        write_photo(folder / "images" / f"{number}.png")
    (folder / "labels.csv").write_text(table, encoding="utf-8")
    return folder


def labels_of(folder: Path, options: PhotoOptions | None = None) -> dict[str, str | None]:
    return {p.name: p.label for p in open_photos(folder, options or PhotoOptions()).items}


EXPECTED = {"images/1.png": "apple", "images/2.png": "pear", "images/3.png": "apple"}


@pytest.mark.row("D1")
def test_a_table_beside_an_image_folder(tmp_path: Path) -> None:
    folder = shop(tmp_path / "shop")
    assert labels_of(folder) == EXPECTED
    assert labels_of(folder / "labels.csv") == EXPECTED
    assert labels_of(packed(folder, tmp_path / "shop.tgz", "w:gz")) == EXPECTED
    assert labels_of(folder / "images", PhotoOptions(csv=str(folder / "labels.csv"))) == {
        name.removeprefix("images/"): label for name, label in EXPECTED.items()
    }


@pytest.mark.row("D1")
def test_other_column_names(tmp_path: Path) -> None:
    folder = shop(tmp_path, "id;file;kind\n1;1.png;apple\n2;images\\2.PNG;pear\n3;./3;apple\n")
    assert labels_of(folder, PhotoOptions(filename_column="file", label_column="kind")) == EXPECTED
    with pytest.raises(PhotosError, match="no such column of file names") as caught:
        open_photos(folder / "labels.csv")
    assert "id, file, kind" in str(caught.value)
    with pytest.raises(PhotosError, match="no such column of labels"):
        open_photos(folder / "labels.csv", PhotoOptions(filename_column="file", label_column="sort"))


@pytest.mark.row("D1")
def test_class_indices(tmp_path: Path) -> None:
    folder = shop(
        tmp_path, "filename,class_index,wnid\n1.png,7,n01514668\n2.png,0,n01440764\n3.png,7,n01514668\n"
    )
    photos = open_photos(folder)
    assert [(photo.label, photo.class_index) for photo in photos.items] == [
        ("n01514668", 7),
        ("n01440764", 0),
        ("n01514668", 7),
    ]
    (folder / "labels.csv").write_text("filename,class_index\n1.png,10\n2.png,9\n3.png,9\n")
    assert open_photos(folder).labels == ("9", "10")
    (folder / "labels.csv").write_text("filename,class_index\n1.png,seven\n")
    with pytest.raises(PhotosError, match="not a number") as caught:
        open_photos(folder / "labels.csv")
    assert "labels.csv:2" in str(caught.value)


@pytest.mark.row("D1", "D6")
def test_rows_without_files_and_files_without_rows(tmp_path: Path) -> None:
    photos = open_photos(shop(tmp_path, "filename,label\n1.png,apple\n9.png,pear\n"))
    assert [photo.name for photo in photos.items] == ["images/1.png"]
    assert photos.rows_without_file == ("9.png",)
    assert photos.files_without_row == ("images/2.png", "images/3.png")


@pytest.mark.row("D1")
def test_labelled_and_unlabelled_tables_with_the_same_file_names(tmp_path: Path) -> None:
    """The butterflies' form: train/ and test/ hold the same names, and only the training table has labels."""
    for name in ("train/1.png", "train/2.png", "test/1.png", "test/2.png"):
        write_photo(tmp_path / name)
    (tmp_path / "Training_set.csv").write_text("filename,label\n1.png,ADONIS \n2.png,adonis\n")
    (tmp_path / "Testing_set.csv").write_text("filename\n1.png\n2.png\n")
    (tmp_path / "sizes.csv").write_text("path,size\ntrain/1.png,3\n")
    photos = open_photos(tmp_path, PhotoOptions(label_style="title"))
    assert {photo.name: photo.label for photo in photos.items} == {
        "train/1.png": "Adonis",
        "train/2.png": "Adonis",
    }
    assert not photos.files_without_row


@pytest.mark.row("D1")
def test_tables_per_part(tmp_path: Path) -> None:
    for name in ("train/1.png", "test/1.png"):
        write_photo(tmp_path / name)
    (tmp_path / "train.csv").write_text("filename,label\n1.png,a\n")
    (tmp_path / "test.csv").write_text("filename,label\n1.png,b\n")
    photos = open_photos(tmp_path)
    assert [(photo.name, photo.label, photo.part) for photo in photos.items] == [
        ("test/1.png", "b", "test"),
        ("train/1.png", "a", "train"),
    ]


def test_ambiguous_tables_and_folders_are_refused(tmp_path: Path) -> None:
    folder = shop(tmp_path)
    (folder / "more.csv").write_text("filename,label\n1.png,apple\n")
    with pytest.raises(PhotosError, match="several tables"):
        open_photos(folder)
    (folder / "more.csv").unlink()
    for number in (1, 2, 3):
        write_photo(folder / "small" / f"{number}.png")
    with pytest.raises(PhotosError, match="in several folders") as caught:
        open_photos(folder)
    assert "--images images" in str(caught.value)
    assert len(open_photos(folder, PhotoOptions(images="small")).items) == 3


def test_a_table_whose_photos_are_elsewhere(tmp_path: Path) -> None:
    folder = shop(tmp_path, "filename,label\n7.png,apple\n8.png,pear\n")
    with pytest.raises(PhotosError, match="none of the table's photos") as caught:
        open_photos(folder)
    assert "7.png" in str(caught.value)
    with pytest.raises(PhotosError, match="no such folder"):
        open_photos(folder, PhotoOptions(images="nowhere"))


@pytest.mark.row("D6")
def test_rows_that_differ_are_left_out_and_told(tmp_path: Path) -> None:
    photos = open_photos(
        shop(tmp_path, "filename,label\n1.png,apple\n1.png,pear\n2.png,pear\n2.png,pear\n3.png,\n")
    )
    assert {photo.name: photo.label for photo in photos.items} == {"images/2.png": "pear"}
    assert not photos.files_without_row
    told = "\n".join(photos.notes)
    assert "1 photos stand in rows that differ" in told
    assert "2 rows repeat" in told
    assert "1 rows have no label and were left out" in told


@pytest.mark.row("D2")
def test_groups_from_a_column(tmp_path: Path) -> None:
    folder = shop(tmp_path, "filename,label,person\n1.png,apple,x\n2.png,pear,y\n3.png,apple,x\n")
    photos = open_photos(folder, PhotoOptions(group="column:person"))
    assert [photo.group for photo in photos.items] == ["x", "y", "x"]
    with pytest.raises(PhotosError, match="no such column of groups"):
        open_photos(folder / "labels.csv", PhotoOptions(group="column:video"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"filename,label\n\xff\xfe,x\n", "not UTF-8"),
        (b'filename,label\n"1.png,x\n', "not CSV"),
        (b"", "no such column"),
        (b"filename,label\n", "names no photos"),
    ],
)
def test_broken_tables(tmp_path: Path, data: bytes, message: str) -> None:
    folder = shop(tmp_path)
    (folder / "labels.csv").write_bytes(data)
    with pytest.raises(PhotosError, match=message):
        open_photos(folder / "labels.csv")
    if message.startswith("not"):  # never taken for photos without labels
        with pytest.raises(PhotosError, match=message):
            open_photos(folder)


def test_tables_about_something_else_do_not_matter(tmp_path: Path) -> None:
    folder = shop(tmp_path)
    (folder / "prices.csv").write_bytes(b"fruit,price in \xa3\napple,1\n")
    (folder / "hosts.csv").write_text("filename_hash,size\n12,3\n")
    (folder / "sizes.csv").write_text("filename,size\n1.png,3\n")
    assert labels_of(folder) == EXPECTED
    grouped = PhotoOptions(group="column:size")
    with pytest.raises(PhotosError, match="no such column of groups"):
        open_photos(folder, grouped)


@pytest.mark.row("D1")
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("image_id,breed name\n1,apple\n2,pear\n", "--filename-column image_id --label-column 'breed name'"),
        ("size,file,class\n9,1.png,apple\n8,2.PNG,pear\n", "--filename-column file --label-column class"),
        ("filename,x,Species\n1.png,7,apple\n2.PNG,7,pear\n", "--label-column Species"),
        ("1.png,apple\n2.PNG,pear\n", "write filename,label above it"),
        ("filename,apple,pear\n1.png,1,0\n2.PNG,0,1\n", "a column for each class (apple, pear …)"),
        ("filename\n1.png\n", "no column of labels"),
        ("id,price\nx,99\n", None),
        ("", None),
    ],
)
def test_a_table_that_is_not_read_says_why(tmp_path: Path, text: str, why: str | None) -> None:
    photos = open_photos(shop(tmp_path, text))
    assert photos.form == "photos without labels"
    told = [note for note in photos.notes if "labels.csv was not read" in note]
    assert len(told) == (why is not None)
    assert why is None or why in told[0]
    with pytest.raises(PhotosError, match="cannot be split") as caught:
        prepare(tmp_path)
    assert why is None or why in str(caught.value)


def test_utf16_and_byte_order_marks(tmp_path: Path) -> None:
    text = "filename\tlabel\n1.png\tKäfer\n2.png\tpear\n"
    for encoding in ("utf-16", "utf-8-sig"):
        (shop(tmp_path) / "labels.csv").write_text(text, encoding=encoding)
        assert labels_of(tmp_path / "labels.csv") == {"images/1.png": "Käfer", "images/2.png": "pear"}


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@settings(deadline=None)
@given(rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=8), delimiter=st.sampled_from(",;\t"))
def test_every_csv_that_python_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str
) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([("filename", "label"), *rows])
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(text.getvalue().encode())
    read = [(row.filename, row.label) for row in read_table(path, PhotoOptions()).rows]
    assert read == [(name.strip(), label if label.strip() else None) for name, label in rows if name.strip()]


@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_table_or_one_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(b"filename,label\n" + data)
    with contextlib.suppress(PhotosError):
        read_table(path, PhotoOptions())


@pytest.mark.slow
@pytest.mark.row("D6")
def test_the_butterflies_tables_without_their_photos(packs: Path) -> None:
    with pytest.raises(PhotosError, match="there are no photos"):
        open_photos(packs / "small_extras.tar")
