"""A photo's file as such: what it says of itself, and what is left when its metadata is gone."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from samesight.errors import InputError, PhotoError
from samesight.images.decoding import decode
from samesight.images.imagefile import encode_png, image_format, image_size, orientation, without_metadata

PIXELS = np.random.default_rng(11).integers(0, 256, (20, 31, 3), dtype=np.uint8)
KINDS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
SECRET = b"51.4779 N 0.0015 W"


def encoded(kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, kind, **options)
    return stream.getvalue()


def exif(number: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = number
    block[0x010E] = SECRET.decode()
    return block


def with_segment(data: bytes, marker: int, payload: bytes) -> bytes:
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload + data[2:]


@pytest.mark.row("D1")
@pytest.mark.parametrize("kind", KINDS)
def test_format_and_size_are_read_from_the_first_bytes(kind: str) -> None:
    data = encoded(kind)
    assert image_format(data) == kind.lower()
    assert image_size(data) == (31, 20)


@pytest.mark.row("D6")
@pytest.mark.parametrize(("data", "kind"), [(b"", "empty"), (b"text", "unknown"), (b"\0" * 99, "unknown")])
def test_what_is_no_photo_is_refused(data: bytes, kind: str) -> None:
    for question in (image_format, image_size, without_metadata):
        with pytest.raises(PhotoError) as caught:
            question(data)
        assert caught.value.kind == kind
    assert orientation(data) == 1


@pytest.mark.row("R1")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("number", range(1, 9))
def test_orientation_is_read_and_kept(kind: str, number: int) -> None:
    data = encoded(kind, exif=exif(number))
    assert orientation(data) == number
    plain = without_metadata(data)
    assert orientation(plain) == (1 if kind == "TIFF" else number)
    np.testing.assert_array_equal(decode(plain), decode(data))
    assert SECRET not in plain


@pytest.mark.row("R1")
@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b""]))
def test_a_malformed_exif_is_never_an_exception(block: bytes, start: bytes) -> None:
    found = orientation(with_segment(encoded("JPEG"), 0xE1, b"Exif\0\0" + start + block))
    assert found in range(1, 9)


@pytest.mark.row("R1")
@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x20\0\0\0WEBPVP8X", b"II*\0"]), st.binary()
)
def test_orientation_of_anything_is_a_number(start: bytes, rest: bytes) -> None:
    assert orientation(start + rest) in range(1, 9)


@pytest.mark.row("V1")
def test_a_jpeg_loses_all_that_tells_of_its_maker() -> None:
    data = encoded("JPEG", exif=exif(6), icc_profile=SECRET * 9, comment=SECRET, quality=90)
    for marker, payload in (
        (0xE0, b"JFXX\0\x13" + SECRET),
        (0xE0, b"JFIF\0\1\1\0\0\1\0\1\2\1" + SECRET),  # with a thumbnail
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + SECRET),
        (0xED, b"Photoshop 3.0\0" + SECRET),
        (0xEF, SECRET),
    ):
        data = with_segment(data, marker, payload)
    data += SECRET
    plain = without_metadata(data)
    assert SECRET not in plain
    assert data.count(SECRET) > 9
    np.testing.assert_array_equal(decode(plain), decode(data))
    scan = data[data.rindex(b"\xff\xda") : data.rindex(b"\xff\xd9")]
    assert scan in plain


@pytest.mark.row("V1")
def test_metadata_between_scans_goes_too() -> None:
    data = encoded("JPEG", progressive=True)
    first = data.index(b"\xff\xda")
    place = data.index(b"\xff\xc4", first)  # tables of the second scan
    comment = struct.pack(">BBH", 0xFF, 0xFE, len(SECRET) + 2) + SECRET
    plain = without_metadata(data[:place] + comment + data[place:])
    assert plain == without_metadata(data)
    np.testing.assert_array_equal(decode(plain), decode(data))


@pytest.mark.row("V1")
def test_png_and_webp_lose_all_that_tells_of_their_maker() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", SECRET.decode())
    png = encoded("PNG", pnginfo=text, exif=exif(3), icc_profile=SECRET, dpi=(72, 72)) + SECRET
    webp = encoded("WEBP", exif=exif(3), icc_profile=SECRET * 9, xmp=SECRET) + SECRET
    for data in (png, webp):
        plain = without_metadata(data)
        assert SECRET in data
        assert SECRET not in plain
        assert len(plain) < len(data)
        np.testing.assert_array_equal(decode(plain), decode(data))
        assert Image.open(io.BytesIO(plain)).size == (31, 20)


@pytest.mark.row("V1")
def test_a_colour_transform_is_not_metadata() -> None:
    for options in ({"keep_rgb": True, "subsampling": 0}, {}):
        data = encoded("JPEG", **options)
        np.testing.assert_array_equal(decode(without_metadata(data)), decode(data))
    stream = io.BytesIO()
    Image.fromarray(PIXELS).convert("CMYK").save(stream, "JPEG")
    data = stream.getvalue()
    np.testing.assert_array_equal(decode(without_metadata(data)), decode(data))


@pytest.mark.row("V1", "D6")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_cut_file_is_refused_and_not_made_whole(kind: str) -> None:
    data = encoded(kind)
    for length in (len(data) // 4, len(data) // 2, len(data) - 3):
        with pytest.raises(PhotoError) as caught:
            without_metadata(data[:length])
        assert caught.value.kind == "truncated"


@pytest.mark.row("V1")
def test_pixels_written_are_the_pixels_read() -> None:
    np.testing.assert_array_equal(decode(encode_png(PIXELS)), PIXELS)
    turned = PIXELS.transpose(1, 0, 2)
    np.testing.assert_array_equal(decode(encode_png(turned)), turned)


@pytest.mark.row("V1")
@pytest.mark.parametrize("pixels", [PIXELS[..., 0], PIXELS.astype(np.float32), PIXELS[..., :2]])
def test_only_rgb_pixels_are_written(pixels: NDArray[Any]) -> None:
    with pytest.raises(InputError):
        encode_png(pixels)
