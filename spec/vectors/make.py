"""Makes spec/vectors again: small files and, in vectors.json, what each must become in every runtime.

Run it by hand, `python spec/vectors/make.py`, when the specification has grown, and read the difference: a
case that was there before must not change. The tests only read what it wrote.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent))

from broken import invalid_files
from pictures import (
    chunk,
    exif_block,
    gif_with_small_frame,
    noise,
    picture,
    png,
    webp_with_small_frame,
    with_exif,
)

from samesight.files import sha256_bytes
from samesight.images.imagefile import image_format, orientation
from samesight.preprocess import Preprocess, decode, normalise, resize, resize_exact, table

FOLDER = Path(__file__).resolve().parent
SQUARE = Preprocess((16, 16), None)
CROPPED = Preprocess(16, (12, 14))
PIXELS = picture(29, 21)
GREY = PIXELS[..., 1]
DEEP = GREY.astype(np.uint16) * 251 + 77


def encoded(pixels: NDArray[Any] | Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of a picture as Pillow writes them."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def jpegs() -> dict[str, bytes]:
    """JPEG by sampling, coding, colour and orientation."""
    files = {}
    for sampling in ("444", "422", "420", "440", "411"):
        files[f"jpeg-{sampling}.jpg"] = simplejpeg.encode_jpeg(PIXELS, 85, "RGB", sampling)
    files["jpeg-grey.jpg"] = encoded(GREY, "JPEG")
    grey = bytearray(files["jpeg-grey.jpg"])
    grey[grey.find(b"\xff\xc0") + 11] = 0x22
    files["jpeg-grey-sampled-2x2.jpg"] = bytes(grey)
    files["jpeg-progressive.jpg"] = encoded(PIXELS, "JPEG", progressive=True, subsampling=2)
    files["jpeg-restarts.jpg"] = encoded(PIXELS, "JPEG", restart_marker_blocks=1)
    files["jpeg-adobe-rgb.jpg"] = encoded(PIXELS, "JPEG", keep_rgb=True, subsampling=0)
    files["jpeg-cmyk.jpg"] = encoded(Image.fromarray(PIXELS).convert("CMYK"), "JPEG", quality=90)
    files["jpeg-icc.jpg"] = encoded(PIXELS, "JPEG", icc_profile=bytes(range(200)), comment=b"ignored")
    plain = encoded(PIXELS, "JPEG", quality=80)
    files["jpeg-trailing-bytes.jpg"] = plain + b"and more"
    place = plain.find(b"\xff\xdb")
    files["jpeg-bytes-between-segments.jpg"] = plain[:place] + b"stray" + plain[place:]
    for number in range(1, 9):
        block = exif_block(number, "<" if number % 2 else ">")
        files[f"jpeg-exif-{number}.jpg"] = with_exif(plain, block)
    strange = {
        "0": exif_block(0),
        "9": exif_block(9),
        "long": exif_block(6, kind=4),
        "count-2": exif_block(6, count=2),
        "byte-order": b"XX" + exif_block(6)[2:],
        "offset": exif_block(6)[:4] + b"\xff\xff\xff\xf0" + exif_block(6)[8:],
        "cut": exif_block(6)[:15],
        "second-entry": struct.pack(
            ">2sHIHHHIHHHHIHH", b"MM", 42, 8, 2, 0x100, 3, 1, 5, 0, 0x112, 3, 1, 6, 0
        ),
    }
    for name, block in strange.items():
        files[f"jpeg-exif-{name}.jpg"] = with_exif(plain, block)
    files["jpeg-exif-twice.jpg"] = with_exif(with_exif(plain, exif_block(3)), exif_block(6))
    return files


def pngs() -> dict[str, bytes]:
    """PNG of every colour type and depth, with what must be ignored."""
    image = Image.fromarray(PIXELS)
    palette = np.array(image.quantize(5))
    colours = bytes(image.quantize(5).getpalette() or b"")[:15]
    alpha = np.dstack([PIXELS, noise(29, 21)[..., 0]])
    deep_rgb = PIXELS.astype(np.uint16) * 251 + 77
    files = {
        "png-rgb.png": encoded(PIXELS, "PNG"),
        "png-rgba.png": encoded(alpha, "PNG"),
        "png-grey-alpha.png": encoded(np.dstack([GREY, alpha[..., 3]]), "PNG"),
        "png-grey-1.png": png((GREY > 120).astype(np.uint8)[..., None], 1, 0),
        "png-grey-2.png": png((GREY >> 6)[..., None], 2, 0),
        "png-grey-4.png": png((GREY >> 4)[..., None], 4, 0),
        "png-grey-8.png": png(GREY[..., None], 8, 0),
        "png-grey-16.png": png(DEEP[..., None], 16, 0),
        "png-rgb-16.png": png(deep_rgb, 16, 2),
        "png-grey-alpha-16.png": png(deep_rgb[..., :2], 16, 4),
        "png-rgba-16.png": png(np.dstack([deep_rgb, DEEP]), 16, 6),
        "png-interlaced.png": png(PIXELS, 8, 2, interlaced=True),
        "png-interlaced-grey-1.png": png((GREY > 120).astype(np.uint8)[..., None], 1, 0, interlaced=True),
    }
    for depth in (4, 8):
        files[f"png-palette-{depth}.png"] = png(palette[..., None], depth, 3, chunk(b"PLTE", colours))
    short = chunk(b"PLTE", colours[:9])
    files["png-palette-short.png"] = png(palette[..., None], 8, 3, short)
    transparent = chunk(b"PLTE", colours) + chunk(b"tRNS", b"\x00\x80\xff")
    files["png-palette-trns.png"] = png(palette[..., None], 8, 3, transparent)
    files["png-grey-trns.png"] = png(GREY[..., None], 8, 0, chunk(b"tRNS", b"\0" + bytes([GREY[0, 0]])))
    files["png-rgb-trns.png"] = png(PIXELS, 8, 2, chunk(b"tRNS", PIXELS[0, 0].astype(">u2").tobytes()))
    ignored = chunk(b"gAMA", struct.pack(">I", 100000)) + chunk(b"iCCP", b"x\0\0" + zlib.compress(b"none"))
    files["png-gamma-icc.png"] = png(PIXELS, 8, 2, ignored)
    files["png-exif-8.png"] = png(PIXELS, 8, 2, chunk(b"eXIf", exif_block(8)))
    files["png-animated.png"] = encoded(
        PIXELS, "PNG", save_all=True, append_images=[Image.fromarray(255 - PIXELS)]
    )
    return files


def others() -> dict[str, bytes]:
    """WebP, and the formats that a runtime may leave out: BMP, GIF, TIFF."""
    image = Image.fromarray(PIXELS)
    alpha = Image.fromarray(np.dstack([PIXELS, noise(29, 21)[..., 0]]), "RGBA")
    turned = Image.Exif()
    turned[0x0112] = 6
    palette = image.quantize(9)
    second = [Image.fromarray(255 - PIXELS)]
    cmyk = image.convert("CMYK")
    return {
        "webp-lossy.webp": encoded(image, "WEBP", quality=80),
        "webp-lossy-alpha.webp": encoded(alpha, "WEBP", quality=80, exact=True),
        "webp-lossless.webp": encoded(image, "WEBP", lossless=True),
        "webp-lossless-alpha.webp": encoded(alpha, "WEBP", lossless=True, exact=True),
        "webp-animated.webp": encoded(image, "WEBP", lossless=True, save_all=True, append_images=second),
        "webp-exif-6.webp": encoded(image, "WEBP", lossless=True, exif=turned, icc_profile=b"ignored!"),
        "bmp-rgb.bmp": encoded(image, "BMP"),
        "bmp-grey.bmp": encoded(GREY, "BMP"),
        "bmp-palette.bmp": encoded(palette, "BMP"),
        "bmp-1.bmp": encoded(Image.fromarray(GREY > 120), "BMP"),
        "gif.gif": encoded(palette, "GIF"),
        "gif-animated-transparent.gif": encoded(
            palette, "GIF", save_all=True, append_images=second, transparency=3, disposal=2
        ),
        "tiff-rgb.tif": encoded(image, "TIFF"),
        "tiff-rgba-lzw.tif": encoded(alpha, "TIFF", compression="tiff_lzw"),
        "tiff-grey.tif": encoded(GREY, "TIFF"),
        "tiff-grey-16.tif": encoded(DEEP, "TIFF"),
        "tiff-1.tif": encoded(Image.fromarray(GREY > 120), "TIFF"),
        "tiff-palette.tif": encoded(palette, "TIFF"),
        "tiff-cmyk.tif": encoded(cmyk, "TIFF"),
        "tiff-orientation-6.tif": encoded(image, "TIFF", exif=turned),
    }


def small_frames() -> dict[str, bytes]:
    """First frames that are smaller than their canvas, and a JPEG with a second picture behind the first."""
    lossless = encoded(PIXELS[:9, :11], "WEBP", lossless=True)
    second = [Image.fromarray(255 - PIXELS)]
    return {
        "gif-small-frame.gif": gif_with_small_frame(None),
        "gif-small-frame-transparent.gif": gif_with_small_frame(3),
        "webp-small-frame.webp": webp_with_small_frame(lossless, 11, 9),
        "jpeg-multi-picture.jpg": encoded(PIXELS, "MPO", save_all=True, append_images=second),
    }


def valid_case(name: str, data: bytes, spec: Preprocess) -> dict[str, Any]:
    """What a file must become."""
    pixels = decode(data)
    resized = resize(pixels, spec)
    tensor = normalise(resized, spec)
    return {
        "file": name,
        "format": image_format(data),
        "orientation": orientation(data),
        "preprocess": spec.to_json(),
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "decoded_sha256": sha256_bytes(pixels.tobytes()),
        "resized_sha256": sha256_bytes(resized.tobytes()),
        "tensor_sha256": sha256_bytes(tensor.astype("<f4").tobytes()),
    }


def resample_cases() -> list[dict[str, Any]]:
    """The resampler alone, from pixels that a formula gives: every filter, up, down, one side, none."""
    sizes = [
        ((37, 23), (16, 16)),
        ((37, 23), (64, 50)),
        ((37, 23), (37, 11)),
        ((37, 23), (9, 23)),
        ((37, 23), (37, 23)),
        ((1, 1), (5, 7)),
        ((3, 200), (3, 7)),
        ((200, 3), (11, 8)),
        ((97, 64), (1, 1)),
        ((64, 48), (32, 24)),
        ((45, 45), (30, 30)),
        ((300, 200), (224, 149)),
    ]
    cases = []
    for interpolation in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"):
        for size, wanted in sizes:
            pixels = resize_exact(noise(*size), wanted, interpolation)
            cases.append(
                {
                    "from": {"width": size[0], "height": size[1]},
                    "to": {"width": wanted[0], "height": wanted[1]},
                    "interpolation": interpolation,
                    "sha256": sha256_bytes(pixels.tobytes()),
                }
            )
    return cases


def resize_cases() -> list[dict[str, Any]]:
    """Whole resizes with their crop, from the same pixels: shortest edges, odd spares, sides that stay."""
    shapes = [(64, 48), (48, 64), (50, 50), (33, 100), (100, 33), (31, 32), (1, 9)]
    specs = [
        Preprocess(32, (32, 32)),
        Preprocess(32, (29, 28), "bicubic"),
        Preprocess(33, (28, 33), "lanczos"),
        Preprocess((41, 29), None, "box"),
        Preprocess((50, 50), (45, 48)),
        Preprocess((31, 32), (31, 31), "nearest"),
    ]
    return [
        {
            "from": {"width": width, "height": height},
            "preprocess": spec.to_json(),
            "sha256": sha256_bytes(resize(noise(width, height), spec).tobytes()),
        }
        for width, height in shapes
        for spec in specs
    ]


def table_cases() -> list[dict[str, Any]]:
    """Tables of means and standard deviations that networks use."""
    specs = [
        SQUARE,
        Preprocess((1, 1), None, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        Preprocess((1, 1), None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        Preprocess((1, 1), None, mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.201)),
    ]
    return [
        {
            "mean": list(spec.mean),
            "std": list(spec.std),
            "sha256": sha256_bytes(table(spec).astype("<f4").tobytes()),
        }
        for spec in specs
    ]


def main() -> None:
    """Write every file and vectors.json; files of cases that are no more are left for git to show."""
    valid = jpegs() | pngs() | others() | small_frames()
    invalid = invalid_files(valid)
    (FOLDER / "files").mkdir(exist_ok=True)
    for name, data in [*valid.items(), *((name, data) for name, (_, data) in invalid.items())]:
        (FOLDER / "files" / name).write_bytes(data)
    cases = {
        "format": "samesight-preprocess-vectors",
        "format_version": 1,
        "valid": [
            valid_case(name, data, CROPPED if index % 3 == 0 else SQUARE)
            for index, (name, data) in enumerate(valid.items())
        ],
        "invalid": [
            {"file": name, "kind": kind, "preprocess": SQUARE.to_json() if "thin" not in name else _thin()}
            for name, (kind, _) in invalid.items()
        ],
        "resample": resample_cases(),
        "resize": resize_cases(),
        "table": table_cases(),
    }
    (FOLDER / "vectors.json").write_text(json.dumps(cases, indent=1) + "\n")


def _thin() -> dict[str, Any]:
    return Preprocess(256, (224, 224)).to_json()


if __name__ == "__main__":
    main()
