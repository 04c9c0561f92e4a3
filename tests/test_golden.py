"""Golden samples: which photos are taken, what is written of them, and what is refused when read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny_bundle import LABELS, SPEC, Torch, make_bundle, make_weights, reworded, tampered, write_photos

from samesight.bundle import Bundle
from samesight.errors import BundleInvalid, ExportError, InputError
from samesight.files import sha256_bytes
from samesight.images.imagefile import image_format, orientation
from samesight.images.pixelfile import read_pixels
from samesight.preprocess import decode, normalise, read_photo, resize
from samesight.verify.golden import (
    LARGE_BYTES,
    LOSSLESS_SAMPLES,
    Candidate,
    array_sha256,
    choose,
    margin,
    read_golden,
    samples_per_class,
    write_golden,
)
from samesight.verify.tolerances import TOLERANCES

Photos = list[tuple[Path, str]]
ALLOWED = TOLERANCES["fp16"].absolute(9)
TOLERANCE = {"fp32": TOLERANCES["fp32"], "fp16": TOLERANCES["fp16"]}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return write_photos(tmp_path_factory.mktemp("golden") / "photos")


@pytest.fixture(scope="module")
def bundle(photos: Photos, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("golden") / "bundle", photos, make_weights(photos))


def candidate(
    folder: Path,
    name: str,
    logits: list[float],
    label: str | None = None,
    copies: Mapping[str, list[float]] | None = None,
    size_bytes: int = 1,
) -> Candidate:
    path = folder / name
    with path.open("wb") as stream:
        stream.truncate(size_bytes)
    rows = {"pytorch": logits, "fp32": logits, "fp16": logits, **(copies or {})}
    return Candidate(path, label, {copy: np.array(values, np.float32) for copy, values in rows.items()})


@pytest.mark.row("V1")
@pytest.mark.parametrize(
    ("logits", "copies", "fit"),
    [
        ([9, 1, 0], {}, True),
        ([9, 9 - 2 * ALLOWED - 0.01, 0], {}, True),  # just beyond twice fp16's tolerance
        ([9, 9 - 2 * ALLOWED + 0.01, 0], {}, False),  # just within
        ([1e-15, -1e-15, 0], {}, False),  # what an untrained network gives
        ([9, 1, 0], {"fp16": [1, 9, 0]}, False),  # a copy says otherwise
        ([9, 1, 0], {"fp16": [9, 8.9, 0]}, False),  # a copy is near to saying otherwise
        ([9, 1, 0], {"fp32": [9, float("nan"), 0]}, False),
        ([9, float("inf"), 0], {}, False),
    ],
)
def test_a_margin_within_tolerance_is_not_golden(
    tmp_path: Path, logits: list[float], copies: dict[str, list[float]], fit: bool
) -> None:
    chosen, without = choose([candidate(tmp_path, "a.png", logits, "a", copies)], ("a", "b", "c"), TOLERANCE)
    assert len(chosen) == fit
    assert without == (["b", "c"] if fit else ["a", "b", "c"])


@pytest.mark.row("V2")
def test_two_a_class_and_the_next_candidate_where_one_is_not_fit(tmp_path: Path) -> None:
    candidates = [candidate(tmp_path, f"{i}.png", [9, 1, 0], "a") for i in range(6)]
    chosen, _ = choose(candidates, ("a", "b", "c"), TOLERANCE)
    assert len(chosen) == 2
    spoilt = [
        candidate(tmp_path, one.path.name, [9, 8.99, 0], "a") if one is chosen[0] else one
        for one in candidates
    ]
    again, without = choose(spoilt, ("a", "b", "c"), TOLERANCE)
    assert again[0].path == chosen[1].path, "the order within a class stays"
    assert len(again) == 2
    assert without == ["b", "c"]


def test_the_draw_is_the_seed_s_and_not_the_folder_s_order(tmp_path: Path) -> None:
    candidates = [candidate(tmp_path, f"{i}.png", [9, 1, 0], "a") for i in range(20)]

    def drawn(seed: int, items: list[Candidate]) -> list[str]:
        return [one.path.name for one in choose(items, ("a", "b", "c"), TOLERANCE, seed=seed)[0]]

    assert drawn(1, candidates) == drawn(1, candidates[::-1])
    assert len({tuple(drawn(seed, candidates)) for seed in range(5)}) > 1


def test_large_photos_come_last(tmp_path: Path) -> None:
    candidates = [
        candidate(tmp_path, f"{i}.png", [9, 1, 0], "a", size_bytes=1 if i == 5 else LARGE_BYTES + 1)
        for i in range(6)
    ]
    chosen, _ = choose(candidates, ("a", "b", "c"), TOLERANCE)
    assert chosen[0].path.name == "5.png"
    assert len(chosen) == 2, "a large one is better than none"


def test_without_true_labels_the_predicted_ones_are_the_classes(tmp_path: Path) -> None:
    rows = [[9, 1, 0], [9, 0, 1], [9, 0, 0], [0, 9, 1]]
    candidates = [candidate(tmp_path, f"{i}.png", row) for i, row in enumerate(rows)]
    chosen, without = choose(candidates, ("a", "b", "c"), TOLERANCE)
    assert [int(one.logits["pytorch"].argmax()) for one in chosen] == [0, 0, 1]
    assert without == ["c"]


def test_over_the_limit_samples_are_spread_evenly(tmp_path: Path) -> None:
    labels = [f"label {i}" for i in range(30)]
    candidates = [
        candidate(tmp_path, f"{turn}-{i}.png", list(np.eye(30)[i] * 9), labels[i])
        for i in range(30)
        for turn in range(2)
    ]
    chosen, without = choose(candidates, labels, TOLERANCE, 2, 10)
    assert [one.label for one in chosen] == labels[::3]
    assert without == [], "a class that the limit leaves out is not one that has none"
    chosen, _ = choose(candidates, labels, TOLERANCE, 2, 40)
    assert len(chosen) == 40
    assert {one.label for one in chosen} == set(labels)


def test_how_many_a_class() -> None:
    assert [samples_per_class(classes) for classes in (2, 100, 101, 1000)] == [2, 2, 1, 1]


def test_a_label_that_the_network_lacks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lacks"):
        choose([candidate(tmp_path, "a.png", [9, 1, 0], "zebra")], ("a", "b", "c"), TOLERANCE)


def test_margin() -> None:
    assert margin(np.array([1, 5, 3], np.float32)) == 2
    assert margin(np.array([-4], np.float32)) == 4


@pytest.mark.row("V1", "V2")
def test_what_is_written_is_what_every_stage_gives(bundle: Bundle, photos: Photos) -> None:
    golden = read_golden(bundle)
    sources = {sha256_bytes(path.read_bytes()): (path, label) for path, label in photos}
    assert [sample.label for sample in golden.samples] == [label for label in LABELS for _ in range(2)]
    for index, sample in enumerate(golden.samples):
        path, label = sources[sample.source_sha256]
        pixels = decode(read_photo(path))
        np.testing.assert_array_equal(decode(bundle.read(sample.photo)), pixels)
        assert sample.lossless is not None
        np.testing.assert_array_equal(read_pixels(bundle.read(sample.lossless)), pixels)
        small = resize(pixels, SPEC)
        np.testing.assert_array_equal(read_pixels(bundle.read(sample.resized)), small)
        tensor = normalise(small, SPEC)
        assert array_sha256(tensor) == sha256_bytes(tensor.tobytes()) == sample.tensor_sha256
        assert (sample.height, sample.width, 3) == pixels.shape
        assert sample.label == sample.predicted == label
        assert sample.margin == margin(golden.logits["pytorch"][index])
    assert set(golden.logits) == {"pytorch", "fp32", "fp16"}
    assert golden.preprocess == SPEC


def test_photos_keep_their_bytes_but_not_who_took_them(photos: Photos, tmp_path: Path) -> None:
    weights = make_weights(photos)
    chosen = [Candidate(path, label, {}) for path, label in photos[:5]]
    golden = write_golden(tmp_path, chosen, SPEC, LABELS, [Torch(weights)])
    for sample, (path, _) in zip(golden.samples, photos, strict=False):
        stored = (tmp_path / sample.photo).read_bytes()
        assert b"somebody" not in stored
        assert sample.original == (path.suffix != ".bmp"), "a BMP is kept as a lossless PNG, and that is said"
        assert image_format(stored) == (image_format(path.read_bytes()) if sample.original else "png")
        assert orientation(stored) == orientation(path.read_bytes())
    turned = next(path for path, _ in photos if path.suffix == ".jpeg")
    assert orientation(turned.read_bytes()) == 6


def test_decoded_pixels_are_kept_for_the_first_samples_only(photos: Photos, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    Image.new("RGB", (1001, 1000)).save(large)
    chosen = [Candidate(path, None, {}) for path in [large, *[path for path, _ in photos] * 2]]
    golden = write_golden(tmp_path, chosen, SPEC, LABELS, [Torch(make_weights(photos))])
    kept = [sample.lossless is not None for sample in golden.samples]
    assert kept == [False] + [True] * (LOSSLESS_SAMPLES - 1) + [False] * (len(chosen) - LOSSLESS_SAMPLES)


class Wrong(Torch):
    """A network that answers as it is told."""

    def __init__(self, answer: list[list[float]]) -> None:
        self.answer = np.array(answer, np.float32)

    def logits(self, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.answer


@pytest.mark.parametrize("answer", [[[1.0, 2.0]], [[1.0, 2.0, float("nan")]], [[1.0, 2.0, float("inf")]]])
def test_logits_that_cannot_be_golden_are_refused(
    photos: Photos, tmp_path: Path, answer: list[list[float]]
) -> None:
    with pytest.raises(ExportError):
        write_golden(tmp_path, [Candidate(photos[0][0], None, {})], SPEC, LABELS, [Wrong(answer)])


def rerecorded(**words: Any) -> Any:
    """A change of fields of golden.json itself."""

    def change(folder: Path) -> None:
        path = folder / "golden" / "golden.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | words))

    return change


def written(name: str, data: bytes) -> Any:
    return lambda folder: (folder / name).write_bytes(data)


@pytest.mark.row("V3")
@pytest.mark.parametrize(
    "change",
    [
        written("golden/golden.json", b"{"),
        written("golden/golden.json", b"[]"),
        rerecorded(format="another"),
        rerecorded(format_version=2),
        rerecorded(format_version=True),
        rerecorded(classes=4),
        rerecorded(samples=[]),
        rerecorded(samples={}),
        rerecorded(logits=[]),
        rerecorded(logits=[{"copy": "fp32", "file": "golden/logits/fp32.f32"}]),
        rerecorded(logits=[{"copy": "pytorch", "file": "golden/logits/pytorch.f32"}] * 2),
        rerecorded(logits=[{"copy": "pytorch", "file": "model.fp32.onnx"}]),
        rerecorded(logits=[{"copy": "pytorch", "file": "golden/../bundle.json"}]),
        rerecorded(preprocess={}),
        rerecorded(more=1),
        written("golden/logits/fp32.f32", bytes(4 * 6 * 3 - 1)),
        written("golden/logits/fp32.f32", bytes(4 * 6 * 3 + 4)),
        written("golden/logits/fp32.f32", b"\0\0\xc0\x7f" * 18),
        reworded({"id": "0002"}),
        reworded({"id": 1}),
        reworded({"photo": "model.fp32.onnx"}),
        reworded({"photo": "/etc/passwd"}),
        reworded({"photo": None}),
        reworded({"photo": ["golden/0001/photo.jpg"]}),
        reworded({"resized": "golden/0001/../0001/resized.png"}),
        reworded({"lossless": "golden/0001/none.png"}),
        reworded({"width": "60"}),
        reworded({"width": 0}),
        reworded({"height": 1.5}),
        reworded({"margin": None}),
        reworded({"original": 1}),
        reworded({"decoded_sha256": "0" * 63}),
        reworded({"tensor_sha256": "G" * 64}),
        reworded({"predicted": None}),
        reworded({"more": 1}),
    ],
)
def test_what_the_format_does_not_allow_is_refused(bundle: Bundle, tmp_path: Path, change: Any) -> None:
    with pytest.raises(BundleInvalid):
        read_golden(tampered(bundle, tmp_path / "tampered", change))


def test_more_samples_in_bundle_json_than_in_golden_json(bundle: Bundle, tmp_path: Path) -> None:
    other = {**bundle.golden, "samples": 7}
    with pytest.raises(BundleInvalid):
        read_golden(tampered(bundle, tmp_path / "tampered", golden=other))
