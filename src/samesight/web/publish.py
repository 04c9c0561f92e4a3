"""A bundle that may leave the house: the same network, labels and preprocessing, without anybody's photo.

In the place of golden samples it has synthetic ones: pictures that are drawn here, what each stage makes of
them, and the logits of its fp32 copy in ONNX Runtime, here and now. They show that a browser does what this
machine does; what PyTorch said of real photos, `samesight verify` shows with the bundle that stays.
"""

from __future__ import annotations

import io
from dataclasses import fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from samesight.bundle import Bundle, seal
from samesight.bundle.format import BundleInfo
from samesight.files import json_text, sha256_bytes
from samesight.images.pixelfile import write_pixels
from samesight.preprocess import decode, normalise, resize
from samesight.runtime import open_runner
from samesight.verify.golden import array_sha256, margin

__all__ = ["FORMAT", "synthetic_photo", "write_publishable"]

FORMAT = "samesight-synthetic"
REFERENCE = "reference"
_KEPT = ("model", "labels", "info", "checksums")
# Each kind of file that cameras and the web bring: name, and what Pillow is told.
_KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("jpg", {"format": "JPEG", "quality": 90, "subsampling": "4:2:0"}),
    ("jpg", {"format": "JPEG", "quality": 85, "subsampling": "4:4:4", "progressive": True}),
    ("png", {"format": "PNG"}),
    ("webp", {"format": "WEBP", "quality": 80}),
    ("jpg", {"format": "JPEG", "quality": 92, "subsampling": "4:2:2"}),
    ("webp", {"format": "WEBP", "lossless": True}),
)


def write_publishable(bundle: Bundle, folder: Path) -> str:
    """Fill the new `folder` with a bundle like `bundle`, but without photos; its id."""
    folder.mkdir()
    for file in bundle.files:
        if file.role in _KEPT:
            (folder / file.path).write_bytes(bundle.read(file.path))
    _write_empty_golden(bundle, folder)
    _write_synthetic(bundle, folder)
    return seal(folder, _info(bundle))


def synthetic_photo(seed: int) -> bytes:
    """A drawn picture as a JPEG, PNG or WebP file: a sky over a ground, with shapes, shades and grain."""
    random = np.random.default_rng(seed)
    width, height = int(random.integers(300, 420)), int(random.integers(240, 330))
    above, below = random.integers(30, 226, (2, 3))
    shade = np.linspace(0, 1, height)[:, None, None]
    ground = np.broadcast_to(above + (below - above) * shade, (height, width, 3))
    image = Image.fromarray(ground.astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(9):
        left, top = random.integers(-40, width), random.integers(-40, height)
        across, down = random.integers(25, 190, 2)
        colour = tuple(map(int, random.integers(0, 256, 3)))
        draw = pen.ellipse if random.random() < 0.6 else pen.rectangle
        draw((int(left), int(top), int(left + across), int(top + down)), fill=colour)
    grain = random.normal(0, 7, (height, width, 1))
    pixels = np.clip(np.asarray(image, np.float64) + grain, 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, **_KINDS[seed % len(_KINDS)][1])
    return stream.getvalue()


def _write_synthetic(bundle: Bundle, folder: Path) -> None:
    """synthetic/: a sample of each kind of file, and the logits of every copy."""
    runners = {copy.name: open_runner(bundle, copy.name) for copy in bundle.copies}
    first = bundle.copies[0].name
    reference = "fp32" if "fp32" in runners else first
    samples: list[dict[str, Any]] = []
    logits: dict[str, list[NDArray[np.float32]]] = {name: [] for name in (REFERENCE, *runners)}
    for seed, (suffix, _) in enumerate(_KINDS):
        tensor, sample = _write_sample(bundle, folder, seed, suffix)
        for name, runner in runners.items():
            logits[name].append(runner.logits(tensor[None])[0])
        answer = logits[reference][-1]
        logits[REFERENCE].append(answer)
        predicted = bundle.labels[int(answer.argmax())]
        samples.append({**sample, "label": None, "predicted": predicted, "margin": margin(answer)})
    rows = []
    (folder / "synthetic" / "logits").mkdir()
    for name, values in logits.items():
        rows.append({"copy": name, "file": f"synthetic/logits/{name}.f32"})
        (folder / rows[-1]["file"]).write_bytes(np.array(values, "<f4").tobytes())
    record = {
        "format": FORMAT,
        "format_version": 1,
        "classes": len(bundle.labels),
        "preprocess": bundle.preprocess.to_json(),
        "chosen": {"drawn": len(samples)},
        "reference": f"ONNX Runtime {metadata.version('onnxruntime')}, the {reference} copy",
        "samples": samples,
        "logits": rows,
    }
    (folder / "synthetic" / "synthetic.json").write_text(json_text(record), encoding="utf-8")


def _write_sample(
    bundle: Bundle, folder: Path, seed: int, suffix: str
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """The tensor of one drawn picture, and what its stages give, after its files have been written."""
    name = f"{seed + 1:04}"
    place = folder / "synthetic" / name
    place.mkdir(parents=True)
    data = synthetic_photo(seed)
    pixels = decode(data)
    small = resize(pixels, bundle.preprocess)
    tensor = normalise(small, bundle.preprocess)
    (place / f"photo.{suffix}").write_bytes(data)
    (place / "decoded.png").write_bytes(write_pixels(pixels))
    (place / "resized.png").write_bytes(write_pixels(small))
    return tensor, {
        "id": name,
        "photo": f"synthetic/{name}/photo.{suffix}",
        "original": True,
        "lossless": f"synthetic/{name}/decoded.png",
        "resized": f"synthetic/{name}/resized.png",
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "decoded_sha256": array_sha256(pixels),
        "resized_sha256": array_sha256(small),
        "tensor_sha256": array_sha256(tensor),
        "source_sha256": sha256_bytes(data),
    }


def _write_empty_golden(bundle: Bundle, folder: Path) -> None:
    """golden/ without a sample, which every bundle has."""
    names = ["pytorch", *(copy.name for copy in bundle.copies)]
    (folder / "golden" / "logits").mkdir(parents=True)
    for name in names:
        (folder / "golden" / "logits" / f"{name}.f32").write_bytes(b"")
    record = {
        "format": "samesight-golden",
        "format_version": 1,
        "classes": len(bundle.labels),
        "preprocess": bundle.preprocess.to_json(),
        "chosen": {},
        "samples": [],
        "logits": [{"copy": name, "file": f"golden/logits/{name}.f32"} for name in names],
    }
    (folder / "golden" / "golden.json").write_text(json_text(record), encoding="utf-8")


def _info(bundle: Bundle) -> BundleInfo:
    info = BundleInfo(**{field.name: getattr(bundle, field.name) for field in fields(BundleInfo)})
    golden = {
        "publishable": True,
        "samples": 0,
        "origin": "left out, since the photos may not be published; synthetic/ has drawn pictures instead",
        "labels_without_sample": list(bundle.labels),
    }
    mark = "." if "+" in bundle.version else "+"
    made = {**bundle.made, "published_from": bundle.id}
    return replace(info, version=f"{bundle.version}{mark}published", golden=golden, made=made)
