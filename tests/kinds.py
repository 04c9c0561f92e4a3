"""One picture as every kind of file that spec/preprocess.md names, for comparisons of runtimes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image, ImageCms


def kinds(pixels: np.ndarray) -> dict[str, bytes]:
    """One picture as every kind of file that the specification names, by file name."""
    image = Image.fromarray(pixels)
    alpha = image.copy()
    alpha.putalpha(image.convert("L"))
    grey = image.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 251 + 77)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    found: dict[str, bytes] = {}

    def save(name: str, picture: Image.Image, **options: Any) -> None:
        stream = io.BytesIO()
        picture.save(stream, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[name.rsplit(".", 1)[1]], **options)
        found[name] = stream.getvalue()

    for progressive in (False, True):
        for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
            coding = "progressive" if progressive else "baseline"
            name = f"{coding}-{subsampling.replace(':', '')}.jpg"
            save(name, image, quality=88, subsampling=subsampling, progressive=progressive)
        save(f"grey-{progressive}.jpg", grey, progressive=progressive)
        save(f"cmyk-{progressive}.jpg", image.convert("CMYK"), quality=90, progressive=progressive)
    for subsampling in ("440", "411"):
        found[f"baseline-{subsampling}.jpg"] = simplejpeg.encode_jpeg(pixels, colorsubsampling=subsampling)
    save("restarts.jpg", image, quality=80, restart_marker_blocks=3)
    save("rgb.jpg", image, keep_rgb=True)
    save("optimised.jpg", image, quality=30, optimize=True)
    save("profile.jpg", image, icc_profile=profile)
    save("best.jpg", image, quality=100, subsampling="4:4:4")
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        save(f"exif-{turn}.jpg", image, exif=exif)
    save("exif-7.webp", image, exif=exif)
    save("exif-5.png", image, exif=exif)
    save("rgb.png", image)
    save("rgba.png", alpha)
    save("grey.png", grey)
    save("grey-alpha.png", alpha.convert("LA"))
    save("grey-16.png", deep)
    save("palette.png", image.quantize(200))
    save("palette-4.png", image.quantize(11), bits=4)
    save("1.png", image.convert("1"))
    save("profile.png", image, icc_profile=profile)
    save("lossy.webp", image, quality=70)
    save("lossless.webp", image, lossless=True)
    save("alpha.webp", alpha, quality=70)
    save("alpha-lossless.webp", alpha, lossless=True)
    save("animated.webp", image, save_all=True, append_images=[image.rotate(90, expand=False)], duration=50)
    return found
