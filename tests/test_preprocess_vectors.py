"""spec/vectors: what every runtime must give, as samesight.preprocess and the reference port give it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_resampler as reference
from PIL import Image

from samesight.errors import PhotoError
from samesight.files import sha256_bytes
from samesight.images.imagefile import image_format, orientation, without_metadata
from samesight.images.parts import PROBLEMS
from samesight.preprocess import Preprocess, decode, normalise, preprocess, resize, resize_exact, table

FOLDER = Path(__file__).resolve().parent.parent / "spec" / "vectors"
CASES = json.loads((FOLDER / "vectors.json").read_text())
sys.path.insert(0, str(FOLDER))

from pictures import noise, picture  # noqa: E402


def read(case: dict[str, Any]) -> bytes:
    return (FOLDER / "files" / case["file"]).read_bytes()


def name(case: dict[str, Any]) -> str:
    return str(case["file"])


@pytest.mark.row("V1", "R1")
@pytest.mark.parametrize("case", CASES["valid"], ids=name)
def test_a_photo_becomes_what_the_vector_says(case: dict[str, Any]) -> None:
    data, spec = read(case), Preprocess.from_json(case["preprocess"])
    pixels = decode(data)
    resized = resize(pixels, spec)
    tensor = normalise(resized, spec)
    assert image_format(data) == case["format"]
    assert orientation(data) == case["orientation"]
    assert (pixels.shape[1], pixels.shape[0]) == (case["width"], case["height"])
    assert sha256_bytes(pixels.tobytes()) == case["decoded_sha256"]
    assert sha256_bytes(resized.tobytes()) == case["resized_sha256"]
    assert sha256_bytes(tensor.astype("<f4").tobytes()) == case["tensor_sha256"]
    np.testing.assert_array_equal(preprocess(data, spec), tensor)
    again = reference.resize(pixels, spec.resize, spec.crop, spec.interpolation)
    np.testing.assert_array_equal(resized, again)
    np.testing.assert_array_equal(tensor, reference.tensor(again, spec.mean, spec.std))


@pytest.mark.row("V1")
@pytest.mark.parametrize("case", CASES["valid"], ids=name)
def test_a_photo_without_metadata_decodes_to_the_same_pixels(case: dict[str, Any]) -> None:
    data = read(case)
    plain = without_metadata(data)
    assert sha256_bytes(decode(plain).tobytes()) == case["decoded_sha256"]
    if case["format"] in ("jpeg", "png", "webp"):
        assert image_format(plain) == case["format"]
        assert orientation(plain) == case["orientation"]
    assert without_metadata(plain) == plain


@pytest.mark.row("V1", "D6")
@pytest.mark.parametrize("case", CASES["invalid"], ids=name)
def test_a_photo_is_refused_as_the_vector_says(case: dict[str, Any]) -> None:
    with pytest.raises(PhotoError) as caught:
        preprocess(read(case), Preprocess.from_json(case["preprocess"]))
    assert caught.value.kind == case["kind"]
    assert caught.value.what == PROBLEMS[case["kind"]]


@pytest.mark.row("V1")
@pytest.mark.parametrize("case", CASES["resample"], ids=lambda case: case["interpolation"])
def test_a_resample_is_what_the_vector_says(case: dict[str, Any]) -> None:
    pixels = noise(case["from"]["width"], case["from"]["height"])
    size = case["to"]["width"], case["to"]["height"]
    for found in (
        resize_exact(pixels, size, case["interpolation"]),
        reference.resize_exact(pixels, size, case["interpolation"]),
    ):
        assert sha256_bytes(np.ascontiguousarray(found).tobytes()) == case["sha256"]


@pytest.mark.row("V1")
@pytest.mark.parametrize("case", CASES["resize"], ids=lambda case: "{width}x{height}".format(**case["from"]))
def test_a_resize_is_what_the_vector_says(case: dict[str, Any]) -> None:
    pixels = noise(case["from"]["width"], case["from"]["height"])
    found = resize(pixels, Preprocess.from_json(case["preprocess"]))
    assert sha256_bytes(found.tobytes()) == case["sha256"]


@pytest.mark.row("V1")
@pytest.mark.parametrize("case", CASES["table"], ids=lambda case: str(case["mean"]))
def test_a_table_is_what_the_vector_says(case: dict[str, Any]) -> None:
    spec = Preprocess((1, 1), None, mean=tuple(case["mean"]), std=tuple(case["std"]))
    assert sha256_bytes(table(spec).astype("<f4").tobytes()) == case["sha256"]


@pytest.mark.row("V1")
def test_lossless_files_hold_the_pixels_that_their_maker_drew() -> None:
    pixels = picture(29, 21)
    cmyk = np.array(Image.fromarray(pixels).convert("CMYK")).astype(np.uint32)
    product = cmyk[..., :3] * (255 - cmyk[..., 3:])
    rounded = ((product + 128 >> 8) + product + 128) >> 8  # the specification's formula
    grey = np.repeat(pixels[..., 1:2], 3, axis=2)
    black_or_white = np.where(grey > 120, 255, 0)
    deep = grey.astype(np.uint16) * 251 + 77
    wanted = {
        "png-rgb.png": pixels,
        "png-rgba.png": pixels,
        "png-interlaced.png": pixels,
        "png-rgb-trns.png": pixels,
        "png-gamma-icc.png": pixels,
        "png-animated.png": pixels,
        "png-rgb-16.png": (pixels.astype(np.uint16) * 251 + 77) >> 8,
        "png-rgba-16.png": (pixels.astype(np.uint16) * 251 + 77) >> 8,
        "png-grey-1.png": black_or_white,
        "png-interlaced-grey-1.png": black_or_white,
        "png-grey-2.png": (grey >> 6) * 85,
        "png-grey-4.png": (grey >> 4) * 17,
        "png-grey-8.png": grey,
        "png-grey-16.png": deep >> 8,
        "png-grey-alpha.png": grey,
        "png-grey-trns.png": grey,
        "png-exif-8.png": reference.upright(pixels, 8),
        "webp-lossless.webp": pixels,
        "webp-lossless-alpha.webp": pixels,
        "webp-animated.webp": pixels,
        "webp-exif-6.webp": reference.upright(pixels, 6),
        "bmp-rgb.bmp": pixels,
        "bmp-grey.bmp": grey,
        "bmp-1.bmp": black_or_white,
        "tiff-rgb.tif": pixels,
        "tiff-rgba-lzw.tif": pixels,
        "tiff-grey.tif": grey,
        "tiff-grey-16.tif": deep >> 8,
        "tiff-1.tif": black_or_white,
        "tiff-cmyk.tif": 255 - cmyk[..., 3:] - rounded,
        "tiff-orientation-6.tif": reference.upright(pixels, 6),
    }
    canvas = np.zeros((16, 20, 3), np.uint8)
    canvas[4:13, 6:17] = pixels[:9, :11]
    wanted["webp-small-frame.webp"] = canvas
    for file, rest in (
        ("gif-small-frame.gif", [10, 20, 30]),
        ("gif-small-frame-transparent.gif", [100, 110, 120]),
    ):
        wanted[file] = np.tile(np.array(rest, np.uint8), (3, 4, 1))
        wanted[file][1, 1] = [40, 50, 60]
    for file, array in wanted.items():
        np.testing.assert_array_equal(decode(read({"file": file})), array, err_msg=file)


def test_every_file_belongs_to_a_case_and_the_folder_is_small() -> None:
    files = {path.name for path in (FOLDER / "files").iterdir()}
    assert files == {case["file"] for part in ("valid", "invalid") for case in CASES[part]}
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.*")) < 400_000
