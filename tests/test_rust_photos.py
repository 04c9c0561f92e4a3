"""Rust beside Python on real photos: tensors of every kind of file, and answers of a real network."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from kinds import kinds
from PIL import Image

from samesight.errors import PhotoError
from samesight.preprocess import Preprocess, decode, preprocess
from samesight.verify.golden import array_sha256

pytestmark = [pytest.mark.slow, pytest.mark.row("R4", "V1")]

SPEC = Preprocess(resize=256, crop=(224, 224))


@pytest.fixture(scope="module")
def photos(packs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    for pack in ("imagenet520.tar", "grocery81_csv.tar"):
        with tarfile.open(packs / pack) as archive:
            archive.extractall(folder, filter="data")
    every = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    assert len(every) > 3400
    return every


def prepared(program: Path, paths: Sequence[Path], spec: Preprocess, folder: Path) -> list[str]:
    """The SHA-256 of each photo's tensor by the Rust program, or the kind of refusal."""
    file = folder / "preprocess.json"
    file.write_text(json.dumps(spec.to_json()))
    command = [str(program), "prepare", str(file), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(paths), done.stderr
    return [row.get("tensor_sha256") or row["kind"] for row in rows]


def wanted(path: Path, spec: Preprocess) -> str:
    try:
        return array_sha256(preprocess(path.read_bytes(), spec))
    except PhotoError as error:
        return error.kind


def agree(program: Path, paths: Sequence[Path], spec: Preprocess, folder: Path) -> int:
    """How many photos give the same tensor; the others fail the test, all named."""
    found = prepared(program, paths, spec, folder)
    pairs = [(path.name, one, wanted(path, spec)) for path, one in zip(paths, found, strict=True)]
    wrong = [pair for pair in pairs if pair[1] != pair[2]]
    assert not wrong, f"{len(wrong)} of {len(paths)}: {wrong[:5]}"
    return len(paths)


def test_tensors_of_real_photos_are_the_same_bits(
    samesight_rs: Path, photos: list[Path], tmp_path: Path
) -> None:
    chosen = [path for path in photos if "imagenet520" in str(path)] + photos[::6]
    assert agree(samesight_rs, chosen or photos[::4], SPEC, tmp_path) > 500


def test_tensors_of_every_kind_of_file_are_the_same_bits(
    samesight_rs: Path, photos: list[Path], tmp_path: Path
) -> None:
    paths = []
    for number, source in enumerate(photos[:: len(photos) // 6]):
        for name, data in kinds(decode(source.read_bytes())).items():
            paths.append(tmp_path / f"{number:02}-{name}")
            paths[-1].write_bytes(data)
    for spec in (
        SPEC,
        Preprocess(resize=(224, 224), crop=None, interpolation="lanczos"),
        Preprocess(resize=232, crop=(224, 224), interpolation="bicubic"),
    ):
        assert agree(samesight_rs, paths, spec, tmp_path) > 240


def test_small_jpegs_of_every_sampling_and_size_are_the_same_bits(samesight_rs: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    paths = []
    for number in range(600):
        size = tuple(random.integers(1, 40, 2))
        pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        quality = int(random.integers(5, 101))
        paths.append(tmp_path / f"{number}.jpg")
        if number % 3:
            sampling = ("444", "422", "420", "440", "411")[number % 5]
            data = simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling=sampling)
            paths[-1].write_bytes(data)
        else:
            sampling = ("4:4:4", "4:2:2", "4:2:0")[number // 3 % 3]
            more = {"progressive": number % 2 == 0, "restart_marker_blocks": number % 4}
            Image.fromarray(pixels).save(paths[-1], quality=quality, subsampling=sampling, **more)
    assert agree(samesight_rs, paths, Preprocess((32, 32), None), tmp_path) == 600


def test_damaged_photos_are_refused_or_read_alike(
    samesight_rs: Path, photos: list[Path], tmp_path: Path
) -> None:
    """Single bytes changed: Rust may refuse what Python reads, and seldom gives other pixels, of PNG never.

    It does where libjpeg-turbo carries on after data that is no code, or its own C and SIMD code differ;
    and of WebP where libwebp and image-webp draw the line of what is damaged otherwise.
    """
    random = np.random.default_rng(5)
    paths = []
    for name, data in kinds(decode(photos[7].read_bytes())[:120, :150]).items():
        for number in range(12):
            spoilt = bytearray(data)
            spoilt[random.integers(2, len(spoilt))] = random.integers(0, 256)
            paths.append(tmp_path / f"{number}-{name}")
            paths[-1].write_bytes(spoilt)
    found = prepared(samesight_rs, paths, SPEC, tmp_path)
    other = []
    for path, one in zip(paths, found, strict=True):
        right = wanted(path, SPEC)
        if one != right and len(one) == 64:
            other.append(path.name)
    assert not any(name.endswith(".png") for name in other), other
    assert len(other) <= len(paths) // 50, f"{len(other)} of {len(paths)}: {other}"
