"""Mistakes as pictures: the very photos that were answered, as the network sees them, or none."""

from __future__ import annotations

import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_samples import LABELS, make_photo_run, make_predictions, make_run
from test_report_page import read, section

from samesight.preprocess import Preprocess, decode, resize
from samesight.report import write_plots, write_report
from samesight.report.mistakes import likely_classes
from samesight.report.photos import see
from samesight.report.sources import read_run


@pytest.fixture
def run(tmp_path: Path, photo_folder: Path) -> Path:
    """A run on real photos, with predictions."""
    folder = make_photo_run(tmp_path / "run", photo_folder)
    make_predictions(folder, LABELS)
    return folder


def pictures(text: str) -> list[np.ndarray]:
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)"', text)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in found]


@pytest.mark.row("T1")
def test_mistakes_are_shown_as_the_network_sees_them(run: Path, photo_folder: Path) -> None:
    found = read_run(run)
    page = read(write_report(run, None, run / "report.html"))
    wrong = [one for one in found.answers if one.label != one.predicted]
    assert wrong
    shown = pictures(page.text)
    spec = Preprocess((32, 32), None)
    expected = [resize(decode((photo_folder / one.name).read_bytes()), spec) for one in wrong]
    for picture, pixels in zip(shown, expected, strict=False):
        assert np.array_equal(picture, pixels)
    assert len(shown) == len(found.answers), "the mistakes and, few as they are, all right ones"
    results = section(page, "results")
    assert f"All {len(wrong)} mistakes, the surest first" in results
    assert f"✗ taken for {wrong[0].predicted} , {100 * (wrong[0].confidence or 0):.1f} % sure" in results
    assert "✓ recognised" in results
    assert wrong[0].name in results
    assert "keep this page where they may be seen" in results


def test_a_page_without_photos_has_none(run: Path) -> None:
    page = read(write_report(run, None, run / "report.html", pictures=False))
    assert page.tags.count("img") == 0
    assert "base64," not in page.text
    results = section(page, "results")
    assert "Next most likely" in results, "the mistakes are listed instead"
    assert "may be seen" not in results


def test_a_photo_that_has_changed_is_not_shown(run: Path, photo_folder: Path) -> None:
    one = next(one for one in read_run(run).answers if one.label != one.predicted)
    Image.new("RGB", (64, 48)).save(photo_folder / one.name)
    found = see(read_run(run), [one.name, "no such photo"])
    assert not found.pixels
    assert "2 of 2 photos are gone or have changed" in found.remark
    page = read(write_report(run, None, run / "report.html"))
    assert "no picture" in section(page, "results")
    assert "1 of" in section(page, "results")


def test_photos_that_are_gone_leave_a_list(run: Path, photo_folder: Path) -> None:
    shutil.rmtree(photo_folder)
    page = read(write_report(run, None, run / "report.html"))
    assert page.tags.count("img") == 0
    assert "The photos cannot be shown: there are no photos there." in section(page, "results")
    assert write_plots(run) == [run / "confusion_matrix.png", run / "reliability.png"]


def test_photos_behind_an_address_are_not_fetched(run: Path) -> None:
    words = (run / "split.json").read_text()
    pinned = "http://127.0.0.1:9/photos.zip#sha256=" + "0" * 64
    (run / "split.json").write_text(re.sub(r'"source": "[^"]+"', f'"source": "{pinned}"', words))
    found = see(read_run(run), ["rose/0.jpg"])
    assert not found.pixels
    assert found.remark.startswith("The photos cannot be shown: ")


@pytest.mark.row("T1")
def test_worst_mistakes_are_drawn(run: Path) -> None:
    names = [path.name for path in write_plots(run)]
    assert names == ["confusion_matrix.png", "reliability.png", "worst_mistakes.png"]
    with Image.open(run / "worst_mistakes.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape[1] == 1650
    assert pixels.shape[0] < 2000
    for one in read_run(run).answers:
        if one.label != one.predicted:
            hue = 2 - LABELS.index(one.label)  # of the class's photos
            assert (pixels[..., hue] > pixels.mean(axis=2) + 40).mean() > 0.05, f"{one.label} is not there"
    assert [path.name for path in write_plots(run, photos=False)] == names[:2]


def test_no_mistakes_are_no_picture(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", LABELS, accuracy=1.0)
    page = read(write_report(run, None, run / "report.html"))
    assert "There were none in" in section(page, "results")
    assert "worst_mistakes.png" not in {path.name for path in write_plots(run)}


def test_the_true_class_is_named_however_unlikely(tmp_path: Path) -> None:
    labels = [f"class {at}" for at in range(20)]
    run = make_run(tmp_path / "run", labels, per_class=4, accuracy=0.5)
    assert likely_classes(read_run(run), 0) == []
    make_predictions(run, labels)
    found = read_run(run)
    for at, answer in enumerate(found.answers):
        classes = likely_classes(found, at)
        assert [one.rank for one in classes[:3]] == [1, 2, 3]
        assert classes[0].label == answer.predicted
        assert answer.label in [one.label for one in classes]
        assert len(classes) == (3 if answer.label in [one.label for one in classes[:3]] else 4)
        assert [one.share for one in classes] == sorted((one.share for one in classes), reverse=True)
