"""The split: a partition, stratified, the same everywhere, and nothing on two sides."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from samesight.data.photos import Photo, Photos
from samesight.data.split import Split, check_split, make_split, read_split, write_split
from samesight.errors import InputError, PhotosError

pytestmark = pytest.mark.row("D2")


def photos_of(items: list[Photo]) -> Photos:
    return Photos("here", "test", tuple(items), tuple(sorted({p.label for p in items if p.label})))


def digest(word: object) -> str:
    return hashlib.sha256(str(word).encode()).hexdigest()


def plain(counts: dict[str, int]) -> tuple[Photos, dict[str, str]]:
    items = [
        Photo(f"{label}/{index}.png", Path("x"), label, None)
        for label, count in counts.items()
        for index in range(count)
    ]
    return photos_of(items), {photo.name: digest(photo.name) for photo in items}


def split_or_none(made: tuple[Photos, dict[str, str]], seed: int = 42) -> Split | None:
    """The split; None where every training photo is a held-out one too."""
    try:
        return make_split(*made, seed=seed)
    except PhotosError as error:
        assert "no photo is left to train on" in str(error)  # noqa: PT017
        return None


@st.composite
def any_photos(draw: st.DrawFn) -> tuple[Photos, dict[str, str]]:
    """Up to 40 photos, some of them equal, some in groups, perhaps with parts given."""
    parts = draw(
        st.sampled_from([[None], [None], ["train", "test"], ["train", "val"], ["train", "val", "test"]])
    )
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from("abcd"),
                st.integers(0, 30),
                st.none() | st.integers(0, 8),
                st.sampled_from(parts),
            ),
            min_size=1,
            max_size=40,
        )
    )
    items = [
        Photo(f"{label}/{index}.png", Path("x"), label, part, None if group is None else f"g{group}")
        for index, (label, _, group, part) in enumerate(rows)
    ]
    same = {photo.name: digest(content) for photo, (_, content, _, _) in zip(items, rows, strict=True)}
    return photos_of(items), same


seeds = st.integers(0, 5)


@settings(deadline=None)
@given(any_photos(), seeds)
def test_every_photo_is_in_one_part_or_left_out_with_a_reason(
    made: tuple[Photos, dict[str, str]], seed: int
) -> None:
    photos, _ = made
    split = split_or_none(made, seed)
    assume(split is not None)
    names = [item.name for item in split.items] + [row.name for row in split.left_out]
    assert sorted(names) == sorted(photo.name for photo in photos.items)
    assert [item.name for item in split.items] == sorted(item.name for item in split.items)
    assert sum(len(split.names(part)) for part in ("train", "val", "test")) == len(split.items)
    if not split.parts_given:
        assert not split.left_out


@settings(deadline=None)
@given(any_photos(), seeds)
def test_no_hash_and_no_group_is_on_two_sides(made: tuple[Photos, dict[str, str]], seed: int) -> None:
    split = split_or_none(made, seed)
    assume(split is not None)
    sides: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for item in split.items:
        sides["sha256", item.sha256].add(item.part)
        if item.group is not None:
            sides["group", item.group].add(item.part)
    assert all(len(parts) == 1 for parts in sides.values())


@settings(deadline=None)
@given(any_photos(), seeds, st.randoms(use_true_random=False))
def test_the_order_of_the_photos_does_not_matter(
    made: tuple[Photos, dict[str, str]], seed: int, shuffler: random.Random
) -> None:
    photos, hashes = made
    shuffled, keys = list(photos.items), list(hashes)
    shuffler.shuffle(shuffled)
    shuffler.shuffle(keys)
    again = split_or_none((photos_of(shuffled), {key: hashes[key] for key in keys}), seed)
    assert again == split_or_none(made, seed)


@settings(deadline=None)
@given(
    st.dictionaries(st.text(min_size=1, max_size=3), st.integers(1, 40), min_size=1, max_size=6),
    seeds,
    st.sampled_from([0.1, 0.2, 0.25, 0.5, 0.9]),
)
def test_each_class_gives_its_share(counts: dict[str, int], seed: int, fraction: float) -> None:
    photos, hashes = plain(counts)
    split = make_split(photos, hashes, seed=seed, test=fraction)
    for label, count in counts.items():
        held = sum(item.label == label and item.part == "test" for item in split.items)
        val = sum(item.label == label and item.part == "val" for item in split.items)
        if count == 1:
            assert held == 0
        else:
            assert 1 <= held <= count - 1
            assert abs(held - count * fraction) < 1 or held in (1, count - 1)
        assert count - held - val >= 1
        assert abs(val - (count - held) * 0.1) < 1 or val == 1
    exact = sum(counts.values()) * fraction
    if all(count * fraction >= 1 and count * (1 - fraction) >= 1 for count in counts.values()):
        assert abs(len(split.names("test")) - exact) <= 0.5


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 6), min_size=2, max_size=8), min_size=1, max_size=4), seeds)
def test_groups_within_a_class_still_leave_it_both_sides(sizes: list[list[int]], seed: int) -> None:
    items = [
        Photo(f"{label}/{group}/{index}", Path("x"), str(label), None, f"{label}-{group}")
        for label, groups in enumerate(sizes)
        for group, size in enumerate(groups)
        for index in range(size)
    ]
    split = make_split(photos_of(items), {photo.name: digest(photo.name) for photo in items}, seed=seed)
    for label in range(len(sizes)):
        parts = {item.part for item in split.items if item.label == str(label)}
        assert {"train", "test"} <= parts


EXPECTED_TEST = ["cat/0.png", "cat/6.png", "dog/3.png"]
EXPECTED_SHA256 = "1564182c50d0388e9100c7cfda66417ef09437a13d2502afa20e7b38ebf8d895"


def test_the_split_is_this_one_on_every_machine() -> None:
    photos, hashes = plain({"cat": 10, "dog": 5, "eel": 1})
    split = make_split(photos, hashes, seed=42)
    assert split.names("test") == EXPECTED_TEST
    assert split.sha256 == EXPECTED_SHA256
    assert make_split(photos, hashes, seed=43).names("test") != EXPECTED_TEST


@pytest.mark.parametrize(
    ("given_parts", "expected"),
    [
        ({"train": 10, "val": 4, "test": 6}, {"train": 10, "val": 4, "test": 6}),
        ({"train": 10, "test": 6}, {"train": 9, "val": 1, "test": 6}),
        ({"train": 10, "val": 4}, {"train": 9, "val": 1, "test": 4}),
    ],
)
def test_parts_that_folders_give_are_kept(given_parts: dict[str, int], expected: dict[str, int]) -> None:
    items = [
        Photo(f"{part}/cat/{index}", Path("x"), "cat", part)  # type: ignore[arg-type]
        for part, count in given_parts.items()
        for index in range(count)
    ]
    split = make_split(photos_of(items), {photo.name: digest(photo.name) for photo in items})
    assert {part: len(split.names(part)) for part in expected} == expected
    assert split.parts_given
    held_out = "test" if "test" in given_parts else "val"
    assert all(name.startswith(held_out) for name in split.names("test"))


def test_a_training_photo_that_is_held_out_too_is_left_out() -> None:
    items = [Photo(f"{part}/cat/{i}", Path("x"), "cat", part) for part in ("train", "test") for i in range(5)]  # type: ignore[arg-type]
    hashes = {photo.name: digest(photo.name) for photo in items}
    hashes["train/cat/3"] = hashes["test/cat/1"]
    split = make_split(photos_of(items), hashes)
    assert [row.name for row in split.left_out] == ["train/cat/3"]
    assert "test part has the same photo" in split.left_out[0].reason
    assert len(split.names("test")) == 5


def test_photos_without_labels_are_refused() -> None:
    items = [Photo("a", Path("x"), None, None), Photo("b", Path("x"), "cat", None)]
    with pytest.raises(PhotosError, match="photos without labels"):
        make_split(photos_of(items), {"a": "0", "b": "1"})
    with pytest.raises(PhotosError, match="photos without labels"):
        make_split(photos_of([]), {})
    with pytest.raises(InputError, match="fractions"):
        make_split(photos_of(items), {}, test=1.0)


@settings(deadline=None)
@given(any_photos())
def test_written_and_read_again(
    tmp_path_factory: pytest.TempPathFactory, made: tuple[Photos, dict[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("split") / "split.json"
    split = split_or_none(made)
    assume(split is not None)
    write_split(path, split, source="here")
    assert read_split(path) == split
    assert json.loads(path.read_text())["source"] == "here"


def test_files_that_are_no_split(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    split = make_split(*plain({"cat": 10}))
    write_split(path, split)
    whole = json.loads(path.read_text())
    wrong = [
        {},
        [],
        {**whole, "format": "other"},
        {**whole, "format_version": 2},
        {**whole, "items": [{"name": "x"}]},
        {**whole, "items": whole["items"][1:]},
        {**whole, "items": [{**item, "part": "train"} for item in whole["items"]]},
        {**whole, "items": [{**item, "part": "elsewhere"} for item in whole["items"]]},
        {**whole, "sha256": "0"},
    ]
    for value in wrong:
        path.write_text(json.dumps(value))
        with pytest.raises(InputError):
            read_split(path)


def changed(split: Split, photos: Photos, hashes: dict[str, str]) -> str:
    with pytest.raises(PhotosError, match="changed after they were split") as caught:
        check_split(split, photos, hashes)
    return str(caught.value)


def test_photos_that_changed_are_named() -> None:
    photos, hashes = plain({"cat": 6, "dog": 6})
    split = make_split(photos, hashes)
    check_split(split, photos, hashes)
    assert "1 gone (cat/0.png)" in changed(split, photos_of(list(photos.items[1:])), hashes)
    more = photos_of([*photos.items, Photo("cat/new.png", Path("x"), "cat", None)])
    assert "1 new (cat/new.png)" in changed(split, more, hashes)
    check_split(split, more, hashes, left_out=["cat/new.png"])
    assert "1 changed (dog/2.png)" in changed(split, photos, {**hashes, "dog/2.png": digest("other")})
    moved = [dataclasses.replace(photo, label="dog") for photo in photos.items]
    assert "6 under another label (cat/0.png, cat/1.png, cat/2.png …)" in changed(
        split, photos_of(moved), hashes
    )


def test_counts_of_the_usual_case() -> None:
    """80/20 of S1's imbalanced classes, and a tenth of the training side for inner validation."""
    photos, hashes = plain({"paper": 200, "glass": 120, "metal": 80, "plastic": 50, "trash": 30})
    split = make_split(photos, hashes)
    counts = Counter((item.label, item.part) for item in split.items)
    assert {label: counts[label, "test"] for label in photos.labels} == {
        "paper": 40,
        "glass": 24,
        "metal": 16,
        "plastic": 10,
        "trash": 6,
    }
    assert len(split.names("val")) == 38
