"""From bytes to pixels: the fast path is Pillow's picture, and what has no rule is refused by name."""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from samesight.errors import InputError, PhotoError
from samesight.images import decoding, picture
from samesight.images.decoding import decode, rgb, upright
from samesight.images.parts import image_format, jpeg_frame
from samesight.images.plain import plain_jpeg

SAMPLINGS = ("444", "422", "420", "440", "411", "Gray")


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def encoded(pixels: NDArray[Any] | Image.Image, kind: str, **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@st.composite
def pictures(draw: st.DrawFn) -> NDArray[np.uint8]:
    """Noise or slopes of up to 80 × 80."""
    height, width = draw(st.integers(1, 80)), draw(st.integers(1, 80))
    if draw(st.booleans()):
        random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        return random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    across, down = np.arange(width)[None, :, None], np.arange(height)[:, None, None]
    steps = np.array(draw(st.tuples(*[st.integers(0, 20)] * 3)))
    return ((across * steps + down * steps[::-1]) % 256).astype(np.uint8)


@pytest.mark.row("V1", "R1")
@settings(max_examples=150, deadline=None)
@given(pictures(), st.integers(1, 100), st.sampled_from(SAMPLINGS))
def test_the_fast_path_is_pillows_picture_in_every_sampling(
    pixels: NDArray[np.uint8], quality: int, sampling: str
) -> None:
    data = simplejpeg.encode_jpeg(pixels, quality, "RGB", sampling)
    fast = decoding._decode_fast(data, jpeg_frame(data))
    assert fast is not None
    np.testing.assert_array_equal(fast, by_pillow(data))
    np.testing.assert_array_equal(decode(data), fast)


@pytest.mark.row("V1", "R1")
@settings(max_examples=150, deadline=None)
@given(
    pictures(),
    st.fixed_dictionaries(
        {
            "quality": st.integers(1, 100),
            "subsampling": st.integers(0, 2),
            "progressive": st.booleans(),
            "optimize": st.booleans(),
            "restart_marker_blocks": st.integers(0, 9),
            "keep_rgb": st.booleans(),
        }
    ),
    st.sampled_from(["RGB", "L"]),
)
def test_the_fast_path_is_pillows_picture_in_every_coding(
    pixels: NDArray[np.uint8], options: dict[str, Any], mode: str
) -> None:
    if options["keep_rgb"]:
        options["subsampling"] = 0  # Pillow refuses others
    data = encoded(Image.fromarray(pixels).convert(mode), "JPEG", **options)
    fast = decoding._decode_fast(data, jpeg_frame(data))
    assert fast is not None
    np.testing.assert_array_equal(fast, by_pillow(data))


@pytest.mark.row("V1")
@settings(max_examples=60, deadline=None)
@given(pictures(), st.sampled_from([0x12, 0x21, 0x22, 0x41, 0x44]))
def test_grey_with_a_sampling_of_its_own_is_pillows_picture(pixels: NDArray[np.uint8], sampling: int) -> None:
    data = bytearray(encoded(pixels[..., 0], "JPEG"))
    data[data.find(b"\xff\xc0") + 11] = sampling
    np.testing.assert_array_equal(decode(bytes(data)), by_pillow(bytes(data)))


@pytest.mark.row("V1", "D6")
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_spoilt_jpeg_is_pillows_picture_or_refused(data: st.DataObject) -> None:
    """One byte changed anywhere: never another picture than Pillow's, never another error than ours.

    Pillow also refuses files for their metadata alone; they are decoded without it, and so compared.
    """
    pixels = np.random.default_rng(1).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    options = data.draw(st.sampled_from([{}, {"progressive": True}, {"restart_marker_blocks": 2}]))
    jpeg = bytearray(encoded(pixels, "JPEG", **options))
    place = data.draw(st.integers(3, len(jpeg) - 1))
    jpeg[place] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(jpeg), max_pixels=1 << 20)
    except PhotoError:
        return
    try:
        wanted = by_pillow(bytes(jpeg))
    except (OSError, SyntaxError):  # UnidentifiedImageError is an OSError
        wanted = by_pillow(plain_jpeg(bytes(jpeg)))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.row("D6")
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_spoilt_files_raise_nothing_but_our_error(data: st.DataObject) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    kind = data.draw(st.sampled_from(["PNG", "WEBP", "GIF", "BMP", "TIFF"]))
    file = bytearray(encoded(pixels, kind))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    file = file[: data.draw(st.integers(0, len(file)))]
    with warnings.catch_warnings(), contextlib.suppress(PhotoError):
        warnings.simplefilter("ignore")  # Pillow's, on TIFF
        decode(bytes(file), max_pixels=1 << 20)


@pytest.mark.row("D6")
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, on TIFF
@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]), st.floats(0, 0.95))
def test_a_cut_file_is_refused(kind: str, part: float) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (19, 23, 3), dtype=np.uint8)
    data = encoded(pixels, kind)
    with pytest.raises(PhotoError):
        decode(data[: int(part * len(data))])


@pytest.mark.row("R1")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("number", range(1, 9))
def test_orientation_turns_as_pillow_turns(kind: str, number: int) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = number
    data = encoded(pixels, kind, exif=exif)
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    found = decode(data)
    np.testing.assert_array_equal(found, np.array(wanted))
    assert found.flags.c_contiguous


@pytest.mark.row("R1")
def test_every_mode_that_has_a_rule_warns_of_nothing() -> None:
    pixels = np.random.default_rng(6).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    palette = image.quantize(4)
    files = [
        encoded(palette, "PNG", transparency=b"\x00\x80"),
        encoded(palette, "PNG", transparency=1),
        encoded(image, "PNG", transparency=(1, 2, 3)),
        encoded(image.convert("RGBA"), "PNG"),
        encoded(image.convert("LA"), "PNG"),
        encoded(image.convert("CMYK"), "JPEG"),
        encoded(palette, "GIF", transparency=1),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in files:
            assert decode(data).shape == (8, 8, 3)


@pytest.mark.row("R1")
@pytest.mark.parametrize("mode", ["F", "I", "YCbCr", "LAB", "HSV"])
def test_a_mode_without_a_rule_is_refused(mode: str) -> None:
    with pytest.raises(PhotoError) as caught:
        rgb(Image.new(mode, (2, 2)))
    assert caught.value.kind == "unsupported"
    assert mode in str(caught.value)


@pytest.mark.row("R1")
def test_a_pillow_image_stays_as_it_was() -> None:
    image = Image.new("P", (2, 2))
    image.info["transparency"] = b"\x00"
    assert rgb(image).shape == (2, 2, 3)
    assert image.mode == "P"
    assert image.info == {"transparency": b"\x00"}


@pytest.mark.row("D6")
def test_limits_are_held_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(np.zeros((40, 50, 3), np.uint8), "JPEG")
    assert decode(data, max_pixels=2000).shape == (40, 50, 3)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    monkeypatch.setattr(picture, "_opened", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(PhotoError) as caught:
        decode(data, max_pixels=1999)
    assert caught.value.kind == "too-large"
    monkeypatch.setattr(picture, "MAX_BYTES", len(data) - 1)
    with pytest.raises(PhotoError) as caught:
        decode(data)
    assert caught.value.kind == "too-large"


@pytest.mark.row("R1")
def test_many_threads_decode_the_same() -> None:
    pixels = np.random.default_rng(8).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    files = [encoded(pixels, kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")] * 20
    files += [encoded(Image.fromarray(pixels).convert("CMYK"), "JPEG")] * 20
    wanted = [decode(data) for data in files]
    barrier = threading.Barrier(8)

    def work(_: int) -> list[NDArray[np.uint8]]:
        barrier.wait()
        return [decode(data) for data in files]

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(work, range(8)):
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.row("R1")
def test_settings_of_pillow_are_neither_changed_nor_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    before = (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)
    data = encoded(np.zeros((9, 9, 3), np.uint8), "PNG")
    decode(data)
    assert before == (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)
    assert before[1] is not None
    assert before[1] > decoding.MAX_PIXELS  # so that Pillow's own warning is never reached
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(InputError, match="LOAD_TRUNCATED_IMAGES"):
        decode(data)


@pytest.mark.row("R1")
def test_upright_of_a_view_is_an_array_of_its_own() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    for number in range(1, 9):
        assert upright(pixels, number).flags.c_contiguous


@pytest.mark.slow
@pytest.mark.row("V1", "D1")
@pytest.mark.parametrize("pack", ["imagenet520.tar", "grocery81_csv.tar", "signdigits4.zip"])
def test_real_photos_are_pillows_pictures(packs: Path, pack: str) -> None:
    compared = 0
    for data in real_photos(packs / pack):
        if image_format(data) == "jpeg":
            fast = decoding._decode_fast(data, jpeg_frame(data))
            assert fast is not None
            np.testing.assert_array_equal(fast, by_pillow(data))
            compared += 1
    assert compared > 500


def real_photos(archive: Path) -> Any:
    """The JPEG files in a pack, up to a thousand."""
    import tarfile
    import zipfile

    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as pack:
            names = [name for name in pack.namelist() if name.lower().endswith((".jpg", ".jpeg"))]
            yield from (pack.read(name) for name in names[:1000])
        return
    with tarfile.open(archive) as pack:
        members = [one for one in pack if one.isfile() and one.name.lower().endswith((".jpg", ".jpeg"))]
        for member in members[:1000]:
            stream = pack.extractfile(member)
            assert stream is not None
            yield stream.read()
