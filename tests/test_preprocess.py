"""The one path from pixels to a tensor: against an independent port of the specification, and torchvision."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import reference_resampler as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from samesight.errors import InputError, PhotoError
from samesight.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    INTERPOLATIONS,
    PHOTO_SUFFIXES,
    Preprocess,
    normalise,
    preprocess,
    read_photo,
    resize,
    resize_exact,
    table,
)

SIDES = st.integers(1, 64)
NAMES = st.sampled_from(sorted(INTERPOLATIONS))
EVERY_VALUE = np.arange(256 * 3, dtype=np.uint8).reshape(16, 16, 3)


@st.composite
def pictures(draw: st.DrawFn, largest: int = 48) -> NDArray[np.uint8]:
    """(height, width, 3) uint8, of noise or of black and white."""
    height, width = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        return random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return random.choice(np.array([0, 255], np.uint8), (height, width, 3))


@st.composite
def specs(draw: st.DrawFn) -> Preprocess:
    """Any preprocessing of small sizes."""
    resized = draw(st.one_of(st.integers(1, 60), st.tuples(st.integers(1, 60), st.integers(1, 60))))
    width, height = resized if isinstance(resized, tuple) else (resized, resized)
    crop = draw(st.tuples(st.integers(1, width), st.integers(1, height)))
    numbers = st.tuples(*[st.floats(-2, 2, width=32)] * 3)
    spread = st.tuples(*[st.floats(0.125, 4, width=32)] * 3)
    return Preprocess(resized, crop, draw(NAMES), draw(numbers), draw(spread))


def same(found: NDArray[Any], wanted: NDArray[Any]) -> None:
    """Fail with the first difference, the largest, and where they stand."""
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    different = np.argwhere(found != wanted)
    if len(different):
        gap = np.abs(found.astype(np.float64) - wanted)
        first, worst = tuple(different[0]), np.unravel_index(gap.argmax(), gap.shape)
        pytest.fail(
            f"{len(different)} of {found.size} differ; first {first}: {found[first]} for {wanted[first]}; "
            f"largest {gap[worst]} at {worst}"
        )


@pytest.mark.row("V1", "R1")
@settings(max_examples=100, deadline=None)
@given(pictures(), st.tuples(SIDES, SIDES), NAMES)
def test_the_resampler_is_the_one_of_the_specification(
    pixels: NDArray[np.uint8], size: tuple[int, int], interpolation: str
) -> None:
    found = resize_exact(pixels, size, interpolation)
    same(found, reference.resize_exact(pixels, size, interpolation))
    assert found.flags.c_contiguous


@pytest.mark.row("V1", "R1")
@settings(max_examples=100, deadline=None)
@given(pictures(), specs())
def test_a_resize_with_its_crop_is_the_one_of_the_specification(
    pixels: NDArray[np.uint8], spec: Preprocess
) -> None:
    found = resize(pixels, spec)
    same(found, reference.resize(pixels, spec.resize, spec.crop, spec.interpolation))
    assert found.flags.c_contiguous
    assert (found.shape[1], found.shape[0]) == spec.size
    same(normalise(found, spec), reference.tensor(found, spec.mean, spec.std))


@pytest.mark.row("V1", "R1")
@settings(max_examples=40, deadline=None)
@given(specs())
def test_a_table_is_the_one_of_the_specification(spec: Preprocess) -> None:
    same(table(spec), reference.table(spec.mean, spec.std))


@pytest.mark.row("V1", "E1")
@settings(max_examples=40, deadline=None)
@given(specs())
def test_a_tensor_is_what_torchvision_makes_of_the_same_pixels(spec: Preprocess) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize(spec.mean, spec.std)])
    found = normalise(EVERY_VALUE, spec)
    same(found, steps(Image.fromarray(EVERY_VALUE)).numpy())
    assert found.flags.c_contiguous


@pytest.mark.row("V1", "E1")
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"])
@pytest.mark.parametrize("shape", [(64, 48), (48, 64), (51, 51), (33, 100), (100, 33), (256, 301)])
def test_a_photo_is_what_torchvision_makes_of_it_horizontally_first(
    shape: tuple[int, int], interpolation: str
) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    pixels = np.random.default_rng(3).integers(0, 256, (*shape, 3), dtype=np.uint8)
    image, how = Image.fromarray(pixels), transforms.InterpolationMode(interpolation)
    spec = Preprocess(40, (35, 38), interpolation)
    height, width = reference.resized_size(shape[1], shape[0], 40)[::-1]
    steps = transforms.Compose(
        [
            transforms.Resize((shape[0], width), how),
            transforms.Resize((height, width), how),
            transforms.CenterCrop((38, 35)),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    same(normalise(resize(pixels, spec), spec), steps(image).numpy())
    assert transforms.Resize(40, how)(image).size == (width, height)


@pytest.mark.row("V1", "E1")
def test_where_one_direction_changes_a_photo_is_what_torchvision_makes_of_it() -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    pixels = np.random.default_rng(4).integers(0, 256, (90, 61, 3), dtype=np.uint8)
    spec = Preprocess((37, 90), (20, 75), "bicubic")
    steps = transforms.Compose(
        [
            transforms.Resize((90, 37), transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop((75, 20)),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    same(normalise(resize(pixels, spec), spec), steps(Image.fromarray(pixels)).numpy())


@pytest.mark.row("R1")
def test_a_picture_of_the_wanted_size_is_left_as_it_is() -> None:
    same(resize(EVERY_VALUE, Preprocess((16, 16), None, "lanczos")), EVERY_VALUE)
    found = resize(EVERY_VALUE, Preprocess(16, (16, 16)))
    same(found, EVERY_VALUE)
    found[:] = 0  # its own copy, not a window on the photo
    assert EVERY_VALUE.any()


@pytest.mark.row("R1")
@pytest.mark.parametrize(
    ("spare", "wanted"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 2), (7, 4), (9, 4)]
)
def test_the_middle_is_rounded_to_even(spare: int, wanted: int) -> None:
    assert round(spare / 2.0) == wanted
    columns = np.broadcast_to(np.arange(10 + spare, dtype=np.uint8)[None, :, None], (10, 10 + spare, 3))
    found = resize(np.ascontiguousarray(columns), Preprocess((10 + spare, 10), (10, 10)))
    assert found[0, 0, 0] == wanted


@pytest.mark.row("R1")
def test_a_picture_that_would_grow_too_long_is_refused() -> None:
    thin = np.zeros((3000, 1, 3), np.uint8)
    with pytest.raises(PhotoError) as caught:
        resize(thin, Preprocess(256, (224, 224)))
    assert caught.value.kind == "too-large"
    with pytest.raises(PhotoError):
        resize_exact(np.zeros((20_000, 1, 3), np.uint8), (8192, 1))  # between the two passes
    assert resize(thin, Preprocess((224, 224), None)).shape == (224, 224, 3)


@pytest.mark.row("R1")
@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_not_rgb_pixels_is_refused(pixels: NDArray[Any]) -> None:
    with pytest.raises(InputError):
        resize(pixels, Preprocess((4, 4), None))
    with pytest.raises(InputError):
        normalise(pixels, Preprocess((4, 4), None))


@pytest.mark.row("V3")
@settings(deadline=None)
@given(specs())
def test_json_gives_the_same_preprocessing_back(spec: Preprocess) -> None:
    assert Preprocess.from_json(spec.to_json()) == spec


@pytest.mark.row("V3")
def test_json_has_the_form_of_the_specification() -> None:
    assert Preprocess(256, (224, 200)).to_json() == {
        "resize": {"kind": "shortest_edge", "size": 256},
        "crop": {"width": 224, "height": 200},
        "interpolation": "bilinear",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    assert Preprocess((30, 20), None).to_json()["resize"] == {"kind": "exact", "width": 30, "height": 20}


GOOD = Preprocess(256, (224, 224)).to_json()


@pytest.mark.row("V3")
@pytest.mark.parametrize(
    "change",
    [
        {"resize": {"kind": "shortest_edge", "size": 0}},
        {"resize": {"kind": "shortest_edge", "size": True}},
        {"resize": {"kind": "shortest_edge", "size": 256.0}},
        {"resize": {"kind": "shortest_edge", "size": 256, "width": 256}},
        {"resize": {"kind": "longest_edge", "size": 256}},
        {"resize": {"kind": "exact", "width": 256}},
        {"resize": {"kind": "exact", "width": 256, "height": 9000}},
        {"resize": 256},
        {"crop": {"width": 257, "height": 224}},
        {"crop": {"width": 224}},
        {"crop": None},
        {"crop": [224, 224]},
        {"interpolation": "cubic"},
        {"interpolation": 2},
        {"interpolation": ["bilinear"]},
        {"mean": [0.5, 0.5]},
        {"mean": [0.5, 0.5, "0.5"]},
        {"mean": [0.5, 0.5, math.nan]},
        {"mean": [10**400, 0, 0]},
        {"std": [0.5, 0.5, 0]},
        {"std": [0.5, 0.5, -1]},
        {"std": [0.5, 0.5, math.inf]},
        {"std": [1e-50, 1, 1]},
        {"std": None},
        {"more": 1},
    ],
)
def test_json_that_the_format_does_not_allow_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Preprocess.from_json({**GOOD, **change})


@pytest.mark.row("V3")
@pytest.mark.parametrize("value", [None, [], "256", {}, {key: GOOD[key] for key in list(GOOD)[1:]}])
def test_json_that_is_no_preprocessing_is_refused(value: object) -> None:
    with pytest.raises(InputError):
        Preprocess.from_json(value)


@pytest.mark.row("E2")
def test_words_of_a_command_line_are_understood() -> None:
    assert Preprocess.parse(resize="224x200") == Preprocess((224, 200), None)
    assert Preprocess.parse(resize="256", crop="224") == Preprocess(256, (224, 224))
    assert Preprocess.parse(resize="256", crop="224x100") == Preprocess(256, (224, 100))
    assert Preprocess.parse(resize="256") == Preprocess(256, (256, 256))
    found = Preprocess.parse(resize="32X32", interpolation="lanczos", mean="0.5,0.5,0.5", std="1,1,1")
    assert found == Preprocess((32, 32), None, "lanczos", (0.5, 0.5, 0.5), (1.0, 1.0, 1.0))


@pytest.mark.row("E2")
@pytest.mark.parametrize(
    "words",
    [
        {"resize": "big"},
        {"resize": ""},
        {"resize": "-5"},
        {"resize": "1x2x3"},
        {"resize": "224x"},
        {"resize": "9" * 5000},
        {"resize": "²"},
        {"resize": "256", "crop": "300"},
        {"resize": "256", "mean": "0.5"},
        {"resize": "256", "mean": "a,b,c"},
        {"resize": "256", "std": "0,1,1"},
        {"resize": "256", "interpolation": "area"},
    ],
)
def test_words_that_do_not_fit_are_refused(words: dict[str, str]) -> None:
    with pytest.raises(InputError):
        Preprocess.parse(**words)


@pytest.mark.row("D6")
def test_a_file_that_cannot_be_read_is_refused_with_its_name(tmp_path: Any) -> None:
    for path in (tmp_path / "none.jpg", tmp_path):
        with pytest.raises(PhotoError, match="cannot be read") as caught:
            read_photo(path)
        assert caught.value.where == path
        assert caught.value.kind == "unreadable"


@pytest.mark.row("D6")
def test_a_file_of_too_many_bytes_is_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samesight.images.photofile.MAX_BYTES", 10)
    (tmp_path / "ten.jpg").write_bytes(bytes(10))
    (tmp_path / "eleven.jpg").write_bytes(bytes(11))
    assert read_photo(tmp_path / "ten.jpg") == bytes(10)
    with pytest.raises(PhotoError) as caught:
        read_photo(tmp_path / "eleven.jpg")
    assert caught.value.kind == "too-large"


@pytest.mark.row("R1", "D1")
def test_a_folder_of_photos_becomes_tensors(photo_folder: Any) -> None:
    spec = Preprocess(40, (32, 36))
    paths = [path for path in sorted(photo_folder.rglob("*")) if path.suffix in PHOTO_SUFFIXES]
    tensors = [preprocess(read_photo(path), spec) for path in paths]
    assert len(tensors) == 24
    assert {tensor.shape for tensor in tensors} == {(3, 36, 32)}
    assert all(tensor.dtype == np.float32 and tensor.flags.c_contiguous for tensor in tensors)


@pytest.mark.row("V1")
@settings(max_examples=200, deadline=None)
@given(st.floats(-1e300, 1e300), st.floats(0, 1e300, exclude_min=True))
def test_a_table_is_numpys_in_float32_or_refused(mean: float, std: float) -> None:
    with np.errstate(all="ignore"):
        values = np.arange(256, dtype=np.float32) / np.float32(255)
        wanted = (values - np.float32(mean)) / np.float32(std)
    if np.isfinite(wanted).all():
        same(table(Preprocess((8, 8), None, mean=(mean,) * 3, std=(std,) * 3)), np.stack([wanted] * 3))
        return
    with pytest.raises(InputError, match="beyond float32"):
        Preprocess((8, 8), None, mean=(mean,) * 3, std=(std,) * 3)
