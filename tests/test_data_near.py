"""Near duplicates: copies are found, different photos are not, and the split keeps copies on one side."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from looklike import COPIES, natural, write_set
from PIL import Image, ImageFilter

from samesight.data.align import likeness, refine, shrink
from samesight.data.look import look_at
from samesight.data.near import NearGroup, near_groups
from samesight.data.photos import open_photos
from samesight.data.prepare import SplitOptions, prepare
from samesight.data.scan import scan_photos
from samesight.data.thresholds import THRESHOLDS
from samesight.errors import InputError
from samesight.preprocess import decode, read_photo

pytestmark = pytest.mark.row("D6")


def groups_of(pictures: dict[str, Image.Image]) -> tuple[NearGroup, ...]:
    small = {name: look_at(np.asarray(image.convert("RGB")))[1] for name, image in pictures.items()}
    return near_groups(small, {name: name for name in pictures})


@pytest.mark.parametrize("how", sorted(COPIES))
def test_copies_are_found_and_nothing_else(how: str) -> None:
    pictures = {f"{index:02}": natural(index) for index in range(30)}
    pictures |= {f"{index:02} copy": COPIES[how](pictures[f"{index:02}"]) for index in range(0, 30, 3)}
    found = groups_of(pictures)
    assert [group.names for group in found] == [(f"{i:02}", f"{i:02} copy") for i in range(0, 30, 3)]
    for group in found:
        assert group.mirrored == ((group.names[1],) if how == "mirrored" else ())
        assert 0.9 <= group.likeness <= 1.001


def test_handwritten_digits_are_all_alike_and_none_is_a_copy(digits: Path) -> None:
    scan = scan_photos(open_photos(digits))
    assert near_groups(scan.pictures, scan.hashes) == ()


def test_a_copy_among_pictures_that_are_all_alike_is_still_found() -> None:
    """One background and one hand: what is the same everywhere must not count."""
    ground = natural(5, (128, 128)).filter(ImageFilter.GaussianBlur(2))
    pictures = {}
    for index in range(40):
        shape = natural(100 + index, (128, 128)).crop((32, 32, 96, 96))
        pictures[f"{index:02}"] = ground.copy()
        pictures[f"{index:02}"].paste(shape, (32, 32))
    assert groups_of(pictures) == ()
    pictures["07 copy"] = COPIES["cropped"](pictures["07"])
    assert [group.names for group in groups_of(pictures)] == [("07", "07 copy")]


def test_flat_pictures_are_like_nothing() -> None:
    flat = {str(level): Image.new("RGB", (100, 80), (level, level, level)) for level in range(0, 250, 10)}
    assert groups_of(flat) == ()
    assert groups_of({}) == ()
    assert groups_of({"one": natural(1)}) == ()


def test_copies_of_copies_are_one_group_and_the_orientation_follows() -> None:
    first = natural(1)
    chain = {"a": first, "b": COPIES["mirrored"](first), "c": COPIES["saved again"](first)}
    (group,) = groups_of(chain | {"other": natural(2)})
    assert group.names == ("a", "b", "c")
    assert group.mirrored == ("b",)


def test_a_way_is_found_back() -> None:
    """Alignment on a picture that was cropped by a known amount gives that crop."""
    image = natural(3, (256, 256)).convert("L")
    cut = image.crop((12, 0, 256, 250)).resize((256, 256), Image.Resampling.BICUBIC)
    first, second = (np.asarray(one.resize((64, 64), Image.Resampling.BOX))[None] for one in (image, cut))
    ways = np.eye(3, dtype=np.float32)[None]
    before = likeness(shrink(first, 64), shrink(second, 64), ways)[0]
    for side, steps in ((8, 5), (16, 3), (32, 4), (64, 3)):
        ways = refine(shrink(first, side), shrink(second, side), ways, steps)
    after = likeness(shrink(first, 64), shrink(second, 64), ways)[0]
    assert before < 0.5
    assert after > 0.95
    wanted = np.array([[256 / 244, 0, -6 / 244], [0, 256 / 250, 3 / 250]])
    assert np.abs(ways[0, :2] - wanted).max() < 0.01


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Two classes of twelve pictures, six of each with one copy in its class."""
    folder = write_set(tmp_path / "set", 12)
    for label in ("a", "b"):
        for index in range(0, 12, 2):
            with Image.open(folder / label / f"{index:02}.png") as image:
                COPIES["cropped"](image).save(folder / label / f"{index:02}x.png")
    return folder


@pytest.mark.row("D2")
def test_near_duplicates_are_on_one_side_by_default(copied: Path) -> None:
    together = prepare(copied)
    part = {item.name: item.part for item in together.split.items}
    assert len(together.report.near) == 12
    assert together.split.near_together
    for one in together.report.near:
        assert len({part[name] for name in one.names}) == 1
        assert len(one.parts) == 1
    assert not together.report.near_leaks
    apart = prepare(copied, split_options=SplitOptions(near=False))
    assert apart.report.near == ()
    assert not apart.split.near_together
    assert {item.name for item in apart.split.items} == part.keys()
    there = {item.name: item.part for item in apart.split.items}
    assert any(there[one.names[0]] != there[one.names[1]] for one in together.report.near)


def test_another_choice_about_near_duplicates_is_another_split(copied: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = prepare(copied, out=out).split
    assert prepare(copied, out=out).split == first
    with pytest.raises(InputError, match="made otherwise") as caught:
        prepare(copied, split_options=SplitOptions(near=False), out=out)
    assert "near True (now False)" in str(caught.value)


def test_a_class_of_copies_of_one_photo_still_gives_both_sides(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 10, ("a",))
    (folder / "film").mkdir()
    for index in range(10):
        image = natural(999)
        image.crop((index, 0, image.width - 10 + index, image.height)).save(folder / "film" / f"{index}.png")
    prepared = prepare(folder)
    parts = {item.part for item in prepared.split.items if item.label == "film"}
    assert {"train", "test"} <= parts
    assert any("near duplicates of one another" in note for note in prepared.report.notes)
    assert prepared.report.near_leaks


def test_leaks_and_conflicts_of_near_duplicates(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for part, seed in (("train", 0), ("test", 100)):
        write_set(folder / part, 6)
        for label in ("a", "b"):
            for index in range(6):
                natural(seed + index + 50 * (label == "b")).save(folder / part / label / f"{index:02}.png")
    copy = COPIES["saved again"](natural(100))
    copy.save(folder / "train" / "a" / "leak.png")
    COPIES["brighter"](natural(3)).save(folder / "train" / "b" / "conflict.png")
    COPIES["mirrored"](natural(4)).save(folder / "train" / "b" / "mirrored.png")
    report = prepare(folder).report
    assert [one.names for one in report.near_leaks] == [("test/a/00.png", "train/a/leak.png")]
    assert report.near_leaks[0].parts == ("test", "train")
    assert [one.names for one in report.near_conflicts] == [("train/a/03.png", "train/b/conflict.png")]
    assert ("train/a/04.png", "train/b/mirrored.png") in [one.names for one in report.near]


def test_of_too_many_photos_none_are_compared_and_it_is_said(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = THRESHOLDS | {"compared": replace(THRESHOLDS["compared"], value=20)}
    monkeypatch.setattr("samesight.data.thresholds.THRESHOLDS", few)
    report = prepare(copied).report
    assert report.near == ()
    assert any("near duplicates were not looked for" in note for note in report.notes)


@pytest.mark.slow
def test_hands_on_one_background_are_no_copies(packs: Path) -> None:
    scan = scan_photos(open_photos(packs / "signdigits4.zip"))
    assert near_groups(scan.pictures, scan.hashes) == ()


@pytest.mark.slow
@pytest.mark.row("D2")
def test_the_real_packs_near_duplicates_and_their_splits(packs: Path) -> None:
    """Each group was looked at: the same crate, carton or paper, shot twice."""
    for pack, groups, moved in (("trashnet_imbalanced.zip", 3, 10), ("grocery81_csv.tar", 13, 40)):
        with_near = prepare(packs / pack)
        without = prepare(packs / pack, split_options=SplitOptions(near=False))
        assert len(with_near.report.near) == groups
        assert not with_near.report.near_conflicts
        before = {item.name: item.part for item in without.split.items}
        after = {item.name: item.part for item in with_near.split.items}
        assert 0 < sum(before[name] != after[name] for name in before) <= moved


@pytest.mark.slow
def test_copies_among_5000_cifar_photos(packs: Path, tmp_path: Path) -> None:
    with tarfile.open(packs / "cifar10_jpeg.tar.xz") as tar:
        members = [one for at, one in enumerate(tar) if one.isfile() and at % 12 == 0][:5000]
        tar.extractall(tmp_path, members)
    paths = sorted(tmp_path.rglob("*.jpg"))
    pictures = {str(path): look_at(decode(read_photo(path)))[1] for path in paths}
    names = list(pictures)
    already = near_groups(pictures, {name: name for name in names})
    assert sum(len(group.names) for group in already) < 100  # there are some in CIFAR-10
    known = {name for group in already for name in group.names}
    chosen = [at for at in range(0, len(paths), 50) if names[at] not in known]
    for at in chosen:
        image = Image.fromarray(decode(read_photo(paths[at])))
        copy = image.crop((1, 0, 32, 31)).resize((32, 32))
        pictures[f"{names[at]} copy"] = look_at(np.asarray(copy))[1]
    found = near_groups(pictures, {name: name for name in pictures})
    held = {frozenset(group.names) for group in found}
    hits = sum(frozenset((names[at], f"{names[at]} copy")) in held for at in chosen)
    assert hits >= 0.95 * len(chosen)
    assert len(found) <= hits + len(already) + 5
