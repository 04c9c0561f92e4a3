"""Preprocessing in the words of the command line."""

from __future__ import annotations

import pytest

from samesight.errors import InputError
from samesight.pictureoptions import PictureOptions
from samesight.preprocess import Preprocess

SPEC = Preprocess(resize=232, crop=(224, 224), interpolation="bicubic", mean=(0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (PictureOptions(), SPEC),
        (PictureOptions(resize="256"), Preprocess(256, (224, 224), "bicubic", (0.5, 0.5, 0.5))),
        (PictureOptions(resize="128"), Preprocess(128, (128, 128), "bicubic", (0.5, 0.5, 0.5))),
        (PictureOptions(resize="256", crop="224"), Preprocess(256, (224, 224), "bicubic", (0.5, 0.5, 0.5))),
        (PictureOptions(resize="64x48"), Preprocess((64, 48), None, "bicubic", (0.5, 0.5, 0.5))),
        (PictureOptions(crop="200x100"), Preprocess(232, (200, 100), "bicubic", (0.5, 0.5, 0.5))),
        (PictureOptions(interpolation="box"), Preprocess(232, (224, 224), "box", (0.5, 0.5, 0.5))),
        (PictureOptions(mean="0,0,0"), Preprocess(232, (224, 224), "bicubic", (0, 0, 0))),
        (PictureOptions(std="1,1,1"), Preprocess(232, (224, 224), "bicubic", (0.5, 0.5, 0.5), (1, 1, 1))),
    ],
)
@pytest.mark.row("E2")
def test_only_what_is_said_changes(options: PictureOptions, wanted: Preprocess) -> None:
    assert options.over(SPEC) == wanted


@pytest.mark.parametrize(
    "options",
    [
        PictureOptions(crop="300"),
        PictureOptions(resize="x"),
        PictureOptions(mean="1,2"),
        PictureOptions(std="0,1,1"),
        PictureOptions(interpolation="linear"),
        PictureOptions(resize="100", crop="101"),
    ],
)
def test_words_that_are_none_are_refused(options: PictureOptions) -> None:
    with pytest.raises(InputError):
        options.over(SPEC)
