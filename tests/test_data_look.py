"""How single photos look: dark, bright, flat, blurred, tiny, odd in size or shape; and when that is usual."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from looklike import natural
from PIL import Image, ImageEnhance, ImageFilter

from samesight.data.checks import DataReport, check_photos
from samesight.data.look import COARSE, FINE, look_at, sharpness
from samesight.data.photos import open_photos
from samesight.data.thresholds import limit
from samesight.preprocess import decode, read_photo

pytestmark = pytest.mark.row("D6")


def sharp(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """A picture with hard edges: two natural ones, cut along a threshold."""
    one, other = natural(seed, size), natural(seed + 500, size)
    mask = natural(seed + 900, size).convert("L").point(lambda level: 255 * (level > 127))
    return Image.composite(ImageEnhance.Brightness(one).enhance(0.5), other, mask)


def report_of(folder: Path, odd: dict[str, Image.Image], count: int = 8) -> DataReport:
    (folder / "a").mkdir(parents=True)
    for index in range(count):
        sharp(index).save(folder / "a" / f"{index}.png")
    for name, image in odd.items():
        image.save(folder / "a" / f"{name}.png")
    return check_photos(open_photos(folder))


def test_each_kind_is_told_and_nothing_else(tmp_path: Path) -> None:
    first = sharp(50)
    odd = {
        "dark": ImageEnhance.Brightness(first).enhance(0.25),
        "bright": Image.blend(first, Image.new("RGB", first.size, "white"), 0.9),
        "flat": Image.blend(first, Image.new("RGB", first.size, (128, 128, 128)), 0.95),
        "blurred": first.filter(ImageFilter.GaussianBlur(3)),
        "tiny": first.resize((36, 27)),
        "odd size": sharp(60, (2400, 1800)),
        "odd shape": sharp(70, (1000, 160)),
    }
    looks = report_of(tmp_path, odd).looks
    found = {kind: set(names) for kind, names in looks.items()}
    tiny = found.get("blurred", set()) - {"a/blurred.png"}
    assert tiny <= {"a/tiny.png"}
    assert {kind: names - tiny for kind, names in found.items()} == {kind: {f"a/{kind}.png"} for kind in odd}
    assert looks["tiny"]["a/tiny.png"] == 27
    assert looks["odd size"]["a/odd size.png"] == pytest.approx(7.5)
    assert looks["dark"]["a/dark.png"] < limit("dark")


def test_what_most_photos_are_like_is_a_note_and_no_fault(tmp_path: Path) -> None:
    dark = {f"dark {at}": ImageEnhance.Brightness(sharp(80 + at)).enhance(0.25) for at in range(9)}
    report = report_of(tmp_path, dark)
    assert "dark" not in report.looks
    assert any(note.startswith("9 of 17 photos are dark") for note in report.notes)


def test_small_photos_among_small_ones_are_not_tiny(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for index in range(6):
        sharp(index, (32, 28)).save(tmp_path / "a" / f"{index}.png")
    assert "tiny" not in check_photos(open_photos(tmp_path)).looks


def test_the_small_picture() -> None:
    pixels = np.asarray(natural(1, (300, 200)))
    assert look_at(pixels)[1].shape == (FINE, FINE)
    assert look_at(pixels, coarse=True)[1].shape == (COARSE, COARSE)
    assert look_at(pixels[:63])[1].shape == (COARSE, COARSE)
    assert look_at(pixels[:1, :1])[0].sharpness is None
    assert look_at(pixels[:63])[0].sharpness is None
    assert look_at(pixels[:64])[0].sharpness is not None


def test_sharpness_of_known_edges() -> None:
    step = np.zeros((64, 64), np.uint8)
    step[:, 32:] = 200
    assert sharpness(step) == 1.0
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    assert sharpness(ramp) == 0.25
    assert sharpness(np.full((64, 64), 9, np.uint8)) is None
    assert sharpness(step.T) == sharpness(step)


@pytest.mark.slow
def test_real_photos_raise_next_to_no_alarm_and_blurred_copies_do(packs: Path) -> None:
    photos = open_photos(packs / "trashnet_imbalanced.zip")
    looks = check_photos(photos).looks
    assert {kind: len(names) for kind, names in looks.items()} == {"blurred": 1}
    soft = 0
    for photo in photos.items[::8]:
        image = Image.fromarray(decode(read_photo(photo.path)))
        image.thumbnail((342, 342))
        image = image.resize(
            (round(image.width * 256 / min(image.size)), round(image.height * 256 / min(image.size)))
        )
        found = sharpness(np.asarray(image.convert("L").filter(ImageFilter.GaussianBlur(2))))
        soft += found is not None and found < limit("blurred")
    assert soft >= 0.9 * len(photos.items[::8])
