"""Rust beside Python on real photos: tensors of every kind of file, and answers of a real network."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from kinds import kinds
from PIL import Image

from samesight.cli import main
from samesight.errors import PhotoError
from samesight.preprocess import Preprocess, decode, preprocess
from samesight.rust import onnxruntime_library
from samesight.verify.golden import array_sha256

pytestmark = [pytest.mark.slow, pytest.mark.row("R4", "V1")]

SPEC = Preprocess(resize=256, crop=(224, 224))


@pytest.fixture(scope="module")
def photos(packs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    for pack in ("imagenet520.tar", "grocery81_csv.tar"):
        with tarfile.open(packs / pack) as archive:
            archive.extractall(folder)
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
    samesight_rs: Path, photos: list[Path], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Single bytes changed: Rust may refuse what Python reads; other pixels of a few WebP files alone.

    A WebP file carries no checksum, and where its data is spoilt, libwebp and the crate image-webp draw the
    line of what is damaged otherwise, or fill in other pixels: 8 of 360 were, 5 of them lossless ones.
    """
    random = np.random.default_rng(5)
    paths = []
    for place, photo in enumerate(photos[7 :: len(photos) // 5][:5]):
        for name, data in kinds(decode(photo.read_bytes())[:120, :150]).items():
            for number in range(12):
                spoilt = bytearray(data)
                spoilt[random.integers(2, len(spoilt))] = random.integers(0, 256)
                paths.append(tmp_path / f"{place}-{number}-{name}")
                paths[-1].write_bytes(spoilt)
    found = prepared(samesight_rs, paths, SPEC, tmp_path)
    kind = Counter(path.suffix for path in paths)
    other = []
    for path, one in zip(paths, found, strict=True):
        if one != wanted(path, SPEC) and len(one) == 64:
            other.append(path.name)
    record_property("spoilt", dict(kind))
    record_property("other", other)
    assert len(paths) > 2400
    assert all(name.endswith(".webp") for name in other), other
    assert len(other) <= kind[".webp"] // 30, f"{len(other)} of {kind['.webp']}: {other}"


def test_kept_graphs_of_real_networks_give_the_same_bits(
    samesight_rs: Path, photos: list[Path], tmp_path: Path
) -> None:
    """Their weights are inputs, which ONNX Runtime's operators on blocks of channels take as they lie."""
    pytest.importorskip("torch", reason="training needs the train extra")
    from samesight.pictureoptions import PictureOptions
    from samesight.rehearsal import write_stand_in

    for number, photo in enumerate(photos[:: len(photos) // 6][:6]):
        place = tmp_path / "photos" / ("a", "b")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / photo.name).write_bytes(photo.read_bytes())
    environment = os.environ | onnxruntime_library() | {"SAMESIGHT_CACHE": str(tmp_path / "cache")}
    for model in ("regnet_x_400mf", "mobilenet_v2", "resnet20"):
        pictures = PictureOptions(resize="64x64")
        checkpoint, bundle = tmp_path / f"{model}.pth", tmp_path / model
        write_stand_in(model, pictures, str(tmp_path / "photos"), checkpoint, 42)
        words = ["--model", model, "--checkpoint", checkpoint, "--labels", "a,b", "--resize", "64x64"]
        words += ["--samples", tmp_path / "photos", "--copies", "fp32,fp16", "--out", bundle]
        assert main(["export", *map(str, words)]) == 0
        for copy in ("fp32", "fp16"):
            command = [str(samesight_rs), "predict", str(bundle), str(tmp_path / "photos"), "--json"]
            command += ["--copy", copy]
            answers = []
            for more in ([], ["--cache"], ["--cache"]):
                done = subprocess.run([*command, *more], capture_output=True, check=True, env=environment)
                answers.append(done.stdout)
            assert answers[0] == answers[1] == answers[2], f"{model} {copy}"
    assert len(list((tmp_path / "cache" / "graphs").iterdir())) == 6
