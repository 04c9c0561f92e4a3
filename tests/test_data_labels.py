"""Labels: read from every form, bound by name, and ImageNet's classes."""

from __future__ import annotations

import csv
import importlib.util
import json
import runpy
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samesight.data.labels import bind, imagenet_classes, is_imagenet, labels_mapping, read_labels
from samesight.data.photos import Photo, Photos
from samesight.errors import InputError, PhotosError

NAMES = [name for _, name in imagenet_classes()]


def photos_of(*labels: str | None, class_index: int | None = None) -> Photos:
    items = [
        Photo(f"{index}.png", Path(f"{index}.png"), label, None, None, class_index)
        for index, label in enumerate(labels)
    ]
    return Photos("here", "test", tuple(items), tuple(sorted({label for label in labels if label})))


@pytest.mark.row("D5")
@settings(deadline=None)
@given(st.lists(st.text(min_size=1), unique=True, min_size=1))
def test_labels_mapping_goes_both_ways(labels: list[str]) -> None:
    mapping = json.loads(json.dumps(labels_mapping(labels)))
    assert [mapping["int_to_class"][str(index)] for index in range(len(labels))] == labels
    assert [mapping["class_to_int"][label] for label in labels] == list(range(len(labels)))


@pytest.mark.row("D5")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.json", json.dumps(labels_mapping(["b", "a", "c d"]))),
        ("l.json", json.dumps(labels_mapping(["b", "a", "c d"])["class_to_int"])),
        ("l.json", '{"int_to_class": {"2": "c d", "0": "b", "1": "a"}}'),
        ("l.json", '{"2": "c d", "0": "b", "1": "a"}'),
        ("l.json", '["b", "a", "c d"]'),
        ("l.txt", "b\r\na\r\nc d\r\n\r\n"),
        ("labels", "\ufeffb\na\nc d"),
    ],
)
def test_read_labels_from_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_labels(str(tmp_path / name)) == ("b", "a", "c d")


def test_read_labels_from_words() -> None:
    assert read_labels("b, a,c d") == ("b", "a", "c d")
    assert read_labels("one") == ("one",)
    assert read_labels("imagenet")[0] == "tench"
    assert len(read_labels("imagenet")) == 1000


@pytest.mark.parametrize("words", ["", "a,,b", "a,b,a", "missing.txt", "no/where"])
def test_words_that_are_no_labels(words: str) -> None:
    with pytest.raises(InputError):
        read_labels(words)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("l.json", b"{"),
        ("l.json", b"3"),
        ("l.json", b'{"int_to_class": {"0": "a", "2": "b"}}'),
        ("l.json", b'{"a": 0, "b": 0}'),
        ("l.json", b'{"a": 0, "b": 2}'),
        ("l.json", b'["a", 1]'),
        ("l.json", b"[]"),
        ("l.txt", b"\xff\xfe\xff"),
        ("l.txt", b""),
        ("l.txt", b"a\n\nb\n"),
    ],
)
def test_files_that_are_no_labels(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError):
        read_labels(str(tmp_path / name))


@pytest.mark.row("D1")
def test_bound_by_name_never_by_order() -> None:
    assert bind(photos_of("cat", "dog", None, "cat"), ["dog", "bird", "cat"]) == [2, 0, None, 2]
    assert bind(photos_of("Ka\u0308fer"), ["x", "Käfer"]) == [1]  # as macOS writes it
    with pytest.raises(PhotosError, match="2 labels of the photos are not among the model's") as caught:
        bind(photos_of("cat", "cow", "Dog", "cow"), ["dog", "bird", "cat"])
    assert "'cow', 'Dog' (3 photos)" in str(caught.value)


@pytest.mark.row("D1")
def test_a_class_index_counts_only_for_imagenet() -> None:
    assert bind(photos_of("whatever", class_index=7), NAMES) == [7]
    with pytest.raises(PhotosError):
        bind(photos_of("whatever", class_index=1000), NAMES)
    with pytest.raises(PhotosError):
        bind(photos_of("1", class_index=1), ["a", "b"])


@pytest.mark.row("D1")
def test_imagenet_by_wordnet_id_and_name() -> None:
    labels = ["n01440764", "n01440764_tench", "great_white_shark", "Great White Shark", "n03126707"]
    assert bind(photos_of(*labels), NAMES) == [0, 0, 2, 2, 517]
    assert bind(photos_of("n02012849_crane", "crane", "Cardigan", "cardigan"), NAMES) == [134, 517, 264, 474]
    with pytest.raises(PhotosError):
        bind(photos_of("n99999999"), NAMES)
    with pytest.raises(PhotosError):  # without ImageNet's labels, an id is a name like any other
        bind(photos_of("n01440764"), ["tench"])


def test_imagenet_classes() -> None:
    wnids, names = zip(*imagenet_classes(), strict=True)
    assert len(set(wnids)) == len(set(names)) == 1000
    assert list(wnids) == sorted(wnids)
    assert is_imagenet(names)
    assert is_imagenet(wnids)
    assert not is_imagenet(names[::-1])
    assert not is_imagenet(names[:999])


def installed(package: str, file: str) -> Path:
    """A file of an installed package, found without importing the package, which would take seconds."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    return Path(spec.origin).parent / file


def test_imagenet_names_are_torchvisions() -> None:
    lists = runpy.run_path(str(installed("torchvision", "models/_meta.py")))
    assert lists["_IMAGENET_CATEGORIES"] == NAMES


def test_imagenet_ids_are_timms() -> None:
    listed = installed("timm", "data/_info/imagenet_synsets.txt").read_text().split()
    assert listed == [wnid for wnid, _ in imagenet_classes()]


@pytest.mark.slow
@pytest.mark.row("D1")
def test_the_packs_ids_and_indices_agree(packs: Path) -> None:
    """Of the pack's 520 names, one is not torchvision's: its "crane" is the bird."""
    with tarfile.open(packs / "imagenet520.tar") as archive:
        stream = archive.extractfile("imagenet520/labels.csv")
        assert stream is not None
        rows = list(csv.DictReader(stream.read().decode().splitlines()))
    classes = imagenet_classes()
    assert all(classes[int(row["class_index"])][0] == row["wnid"] for row in rows)
    differ = {
        row["name"] for row in rows if classes[int(row["class_index"])][1] != row["name"].replace("_", " ")
    }
    assert differ == {"crane"}
    assert bind(photos_of(*(row["wnid"] for row in rows)), NAMES) == [int(row["class_index"]) for row in rows]
