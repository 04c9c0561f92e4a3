"""One photo without numpy and onnxruntime: the same bytes as the usual way, or nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bare_bundle import one_copy, rewrite, tiny_bundle, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import kinds
from PIL import Image
from tiny_bundle import with_int8, write_photos

from samesight import lean
from samesight.bundle import Bundle
from samesight.cli import main
from samesight.errors import PhotoError
from samesight.images.picture import picture, resize_picture
from samesight.ortlibrary import Model
from samesight.preprocess import Preprocess, decode, normalise, preprocess, resize
from samesight.runtime import load

pytestmark = pytest.mark.row("B3", "R1")

# What one photo does without; whoever asks for it fails.
WITHOUT = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'numpy', 'simplejpeg', 'rich'} or name.startswith('onnxruntime.'):
            raise ImportError(f'{name} is not there')
sys.meta_path.insert(0, Blocked())
"""
PIXELS = np.random.default_rng(4).integers(0, 256, (61, 83, 3), dtype=np.uint8) // 2 + 40


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One picture as every kind of file that the specification names."""
    folder = tmp_path_factory.mktemp("kinds")
    for name, data in kinds(PIXELS).items():
        (folder / name).write_bytes(data)
    for suffix in ("bmp", "gif", "tiff"):
        Image.fromarray(PIXELS).save(folder / f"plain.{suffix}")
    grey = Image.fromarray(PIXELS).convert("L")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 200).save(folder / "grey-16.tiff")
    turned = Image.Exif()
    turned[0x0112] = 6
    grey.save(folder / "exif-6.tiff", exif=turned)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def copies(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of a float32, a float16 and an int8 copy."""
    folder = tmp_path_factory.mktemp("copies")
    return with_int8(bundle, folder / "bundle", write_photos(folder / "photos"))


def test_every_kind_of_photo_by_every_copy_is_the_same_answer(copies: Bundle, files: list[Path]) -> None:
    assert [copy.name for copy in copies.copies] == ["fp32", "fp16", "int8"]
    for copy in copies.copies:
        usual = load(copies, copy=copy.name)
        for file in files:
            found = lean.classify(copies.folder, file, top=2, copy=copy.name)
            assert found is not None, (copy.name, file.name)
            assert found.to_json(file) == usual.classify(file, top=2).to_json(file), (copy.name, file.name)


@pytest.mark.parametrize("form", ["--json", "--csv", "--top=2"])
def test_the_command_says_the_same_and_loads_neither_numpy_nor_onnxruntime(
    copies: Bundle,
    files: list[Path],
    form: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["predict", str(copies.folder), str(files[0]), form]
    start = f"{WITHOUT}\nfrom samesight.cli import main\nsys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", start, *words], capture_output=True, text=True, check=True)
    monkeypatch.setattr(lean, "classify", lambda *_, **__: None)
    assert main(words) == 0
    usual = capfd.readouterr()
    assert (done.stdout, done.stderr) == (usual.out, usual.err)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where graphs are kept, empty."""
    monkeypatch.setenv("SAMESIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "graphs"


def without_models(patch: pytest.MonkeyPatch) -> None:
    """Let only kept graphs be loaded."""
    patch.setattr(lean, "check_whole", lambda *_: pytest.fail("the model itself"))


def test_a_kept_graph_gives_the_same_answer(
    copies: Bundle, files: list[Path], kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for copy in copies.copies:
        usual = [lean.classify(copies.folder, file, top=2, copy=copy.name) for file in files]
        assert lean.classify(copies.folder, files[0], top=2, copy=copy.name, cache=True) == usual[0]
        with monkeypatch.context() as patch:
            without_models(patch)
            for file, expected in zip(files, usual, strict=True):
                found = lean.classify(copies.folder, file, top=2, copy=copy.name, cache=True)
                assert found == expected is not None
    assert len(list(kept.iterdir())) == len(copies.copies)


def test_without_cache_nothing_is_kept_and_nothing_kept_is_used(
    copies: Bundle, files: list[Path], kept: Path
) -> None:
    words = ["predict", str(copies.folder), str(files[0]), "--json"]
    assert main(words) == 0
    assert not kept.exists()
    assert main([*words, "--cache"]) == 0
    (place,) = kept.iterdir()
    (place / "weights").write_bytes(b"")
    (place / "sums").write_text("nothing that fits")
    before = lean.classify(copies.folder, files[0], top=1)
    assert before is not None
    assert before == lean.classify(copies.folder, files[0], top=1, cache=True)


@pytest.mark.parametrize("harm", ["weights", "graph", "sums", "missing", "others may write", "a link"])
def test_a_spoilt_graph_is_not_used_but_made_again(
    copies: Bundle, files: list[Path], kept: Path, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = lean.classify(copies.folder, files[0], top=3, cache=True)
    (place,) = kept.iterdir()
    whole = {"graph.onnx", "sums", "weights"}
    assert {path.name for path in place.iterdir()} == whole
    if harm in ("weights", "graph"):
        spoilt = place / {"weights": "weights", "graph": "graph.onnx"}[harm]
        data = bytearray(spoilt.read_bytes())
        data[len(data) // 2] ^= 1
        spoilt.write_bytes(data)
    elif harm == "sums":
        (place / "sums").write_bytes(b"\xff")
    elif harm == "missing":
        (place / "weights").unlink()
    elif harm == "others may write":
        place.chmod(0o770)
    else:
        place.rename(kept.parent / "elsewhere")
        place.symlink_to(kept.parent / "elsewhere")
    with monkeypatch.context() as patch:
        patch.setattr(lean, "_keep", lambda *_: None)
        loaded = []
        patch.setattr(lean, "check_whole", lambda *_: loaded.append(1))
        assert lean.classify(copies.folder, files[0], top=3, cache=True) == usual
        assert loaded
    assert lean.classify(copies.folder, files[0], top=3, cache=True) == usual
    assert not place.is_symlink()
    assert {path.name for path in place.iterdir()} == whole
    without_models(monkeypatch)
    assert lean.classify(copies.folder, files[0], top=3, cache=True) == usual


def test_a_graph_that_gives_other_logits_is_not_kept(
    copies: Bundle, files: list[Path], kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(Model):
        def run(self, *given: Any) -> Any:
            logits, shape = super().run(*given)
            if self.is_kept:
                logits[0] = np.nextafter(np.float32(logits[0]), np.float32(np.inf)).item()
            return logits, shape

    monkeypatch.setattr(lean, "Model", Other)
    assert lean.classify(copies.folder, files[0], top=1, cache=True) is not None
    assert not list(kept.iterdir())


def test_a_folder_that_cannot_be_written_is_done_without(
    copies: Bundle, files: list[Path], kept: Path
) -> None:
    kept.parent.write_text("a file")
    assert lean.classify(copies.folder, files[0], top=1, cache=True) is not None
    assert kept.parent.read_text() == "a file"


def test_where_the_system_does_not_tell_the_processor_the_usual_way_answers(
    copies: Bundle, files: list[Path], kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untold() -> str:
        raise FileNotFoundError("/proc/cpuinfo")

    monkeypatch.setattr("samesight.kept._processor", untold)
    assert lean.classify(copies.folder, files[0], top=1, cache=True) is None
    assert main(["predict", str(copies.folder), str(files[0]), "--cache"]) == 0
    assert not kept.exists()


def test_a_changed_bundle_is_refused_though_its_graph_is_kept(
    files: list[Path], tmp_path: Path, kept: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_bundle(tmp_path / "bundle")
    words = ["predict", str(folder), str(files[0]), "--cache"]
    assert main(words) == 0
    assert list(kept.iterdir())
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-1] + b"\1")
    assert main(words) == 2
    assert "SHA-256" in capfd.readouterr().err


def broken(folder: Path) -> Iterator[Path]:
    """Photos that cannot be read."""
    data = kinds(PIXELS)
    for name, content in {
        "empty.jpg": b"",
        "words.jpg": b"not a photo",
        "cut.jpg": data["best.jpg"][:900],
        "cut.png": data["rgb.png"][:-20],
        "cut.webp": data["lossy.webp"][:-9],
        "spoilt.png": data["rgb.png"][:60] + b"\0\0" + data["rgb.png"][62:],
        "other.gif": b"GIF89a\1\0\1\0\0\0\0;",
    }.items():
        (folder / name).write_bytes(content)
        yield folder / name
    yield folder / "missing.jpg"


def test_a_broken_photo_is_told_by_the_usual_way(
    copies: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in broken(tmp_path):
        assert lean.classify(copies.folder, path, top=1) is None
        words = ["predict", str(copies.folder), str(path), "--json"]
        assert main(words) == 2
        found = capfd.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(lean, "classify", lambda *_, **__: None)
            assert main(words) == 2
        assert capfd.readouterr() == found
        assert '"error"' in found.out


def test_a_bundle_that_must_not_be_used_gives_nothing(
    copies: Bundle, files: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def refused(folder: Path, said: str, copy: str = "fp32") -> None:
        assert lean.classify(folder, files[0], top=1, copy=copy) is None
        assert main(["predict", str(folder), str(files[0]), "--copy", copy]) == 2
        assert said in capfd.readouterr().err

    refused(copies.folder, "no such copy", copy="int4")
    changed = tiny_bundle(tmp_path / "changed")
    (changed / "model.onnx").write_bytes((changed / "model.onnx").read_bytes()[:-1] + b"\1")
    refused(changed, "SHA-256")
    rewrite(changed, b"{}")
    refused(changed, "not of this format")
    refused(tiny_bundle(tmp_path / "junk", **one_copy(b"\x07")), "not an ONNX file")
    refused(tiny_bundle(tmp_path / "none", **one_copy(b"")), "cannot load a model")
    refused(
        tiny_bundle(tmp_path / "names", **one_copy(tiny_model(names=("input", "out")))), "bundle.json says"
    )
    nan = tiny_model().replace(np.float32(tiny_weight()).tobytes(), np.float32("nan").tobytes())
    refused(tiny_bundle(tmp_path / "nan", **one_copy(nan)), "not a number")


def tiny_weight() -> float:
    """The first weight of the tiny model."""
    return float(np.random.default_rng(5).normal(0, 0.5, (4, 3, 3, 3)).astype(np.float32).flat[0])


def test_what_is_unusual_is_left_to_the_usual_way(
    copies: Bundle, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = tiny_bundle(tmp_path / "half")  # its float16 copy takes and gives float16
    assert lean.classify(half, files[0], top=1) is not None
    assert lean.classify(half, files[0], top=1, copy="fp16") is None
    monkeypatch.setattr("samesight.ortlibrary.find_libraries", list)
    assert lean.classify(copies.folder, files[0], top=1) is None


def test_the_library_reports_to_nobody(copies: Bundle, files: list[Path], tmp_path: Path) -> None:
    """Where it does, it keeps an identifier of the session in the folder for temporary files."""
    bare = {name: word for name, word in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    words = ["predict", str(copies.folder), str(files[0]), "--json"]
    environment = {**bare, "TMPDIR": str(tmp_path), "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-m", "samesight", *words], env=environment, check=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["--engine", "auto"], ["second photo"]])
def test_other_engines_and_more_photos_go_the_usual_way(
    copies: Bundle, files: list[Path], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lean, "classify", lambda *_, **__: pytest.fail("the lean way"))
    words = [str(files[1])] if words == ["second photo"] else words
    assert main(["predict", str(copies.folder), str(files[0]), *words]) == 0


@st.composite
def specs(draw: st.DrawFn) -> Preprocess:
    """Any preprocessing of small sizes."""
    resized = draw(st.one_of(st.integers(1, 60), st.tuples(st.integers(1, 60), st.integers(1, 60))))
    width, height = resized if isinstance(resized, tuple) else (resized, resized)
    crop = draw(st.tuples(st.integers(1, width), st.integers(1, height)))
    how = draw(st.sampled_from(["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]))
    numbers = st.tuples(*[st.floats(-2, 2)] * 3)
    spread = st.tuples(*[st.floats(1e-30, 4)] * 3)
    return Preprocess(resized, crop, how, draw(numbers), draw(spread))


@settings(max_examples=150, deadline=None)
@given(specs(), st.integers(1, 50), st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_tensors_are_the_same_bytes(spec: Preprocess, width: int, height: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    resized = resize_picture(Image.fromarray(pixels), spec)
    np.testing.assert_array_equal(np.asarray(resized), resize(pixels, spec))
    assert lean.normalised(resized, spec) == normalise(resize(pixels, spec), spec).tobytes()


SPEC = Preprocess(resize=40, crop=(32, 32))
WHOLE = sorted(kinds(PIXELS[:24, :31]).items())


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(WHOLE), st.floats(0, 1, exclude_max=True), st.integers(0, 255))
def test_a_spoilt_photo_is_the_same_tensor_or_left_to_the_usual_way(
    whole: tuple[str, bytes], place: float, byte: int
) -> None:
    data = bytearray(whole[1])
    data[int(place * len(data))] = byte
    try:
        found = lean.normalised(resize_picture(picture(bytes(data)), SPEC), SPEC)
    except PhotoError:
        return
    assert found == preprocess(bytes(data), SPEC).tobytes()


def test_both_ways_decode_alike(files: list[Path]) -> None:
    for file in files:
        data = file.read_bytes()
        np.testing.assert_array_equal(np.asarray(picture(data)), decode(data), err_msg=file.name)


@pytest.mark.slow
@pytest.mark.row("D1")
def test_real_photos_are_the_same_tensors(packs: Path) -> None:
    from test_preprocess_decode import real_photos

    spec = Preprocess(resize=256, crop=(224, 224))
    compared = 0
    for pack in ("imagenet520.tar", "grocery81_csv.tar"):
        for data in real_photos(packs / pack):
            found = lean.normalised(resize_picture(picture(data), spec), spec)
            assert found == preprocess(data, spec).tobytes()
            compared += 1
    assert compared > 800
