"""A bundle is opened only when every check has passed, and each failure has its own error."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bare_bundle import LABELS, document_of, one_copy, rewrite, tiny_bundle, tiny_files, tiny_info, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st

from samesight.bundle import MAX_JSON_BYTES, open_bundle, seal, write_bundle
from samesight.errors import (
    BundleChanged,
    BundleError,
    BundleFiles,
    BundleInvalid,
    BundleLabels,
    BundleMissing,
    BundleNewer,
    BundlePath,
    InputError,
)

pytestmark = pytest.mark.row("V3")


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle that no test may change."""
    return tiny_bundle(tmp_path_factory.mktemp("pristine") / "bundle")


@pytest.fixture
def bundle(pristine: Path, tmp_path: Path) -> Path:
    """A tiny bundle of the test's own."""
    return Path(shutil.copytree(pristine, tmp_path / "bundle"))


def files_of(folder: Path) -> list[Path]:
    """All files in the folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_opened_as_it_was_sealed(bundle: Path) -> None:
    opened = open_bundle(bundle)
    info = tiny_info()
    assert {key: getattr(opened, key) for key in vars(info)} == vars(info)
    assert opened.id == hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()
    assert {file.path: file.role for file in opened.files} == {
        "CONVERSION_SUMMARY.md": "document",
        "golden/golden.json": "golden",
        "golden/logits/fp32.f32": "golden",
        "labels_mapping.json": "labels",
        "model.fp16.onnx": "model",
        "model.onnx": "model",
    }
    for file in opened.files:
        assert opened.read(file.path) == (bundle / file.path).read_bytes()
    assert opened.copy("fp16").file == "model.fp16.onnx"


def test_names_the_copies_that_there_are(bundle: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_bundle(bundle).copy("int8")
    assert caught.value.expected == "fp32, fp16"
    with pytest.raises(InputError):
        open_bundle(bundle).read("bundle.json")


def test_every_flipped_byte_is_refused(bundle: Path) -> None:
    for path in files_of(bundle):
        data = path.read_bytes()
        for place in {0, 1, len(data) // 3, len(data) // 2, len(data) - 2, len(data) - 1}:
            for bit in (0x01, 0x80):
                path.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
                with pytest.raises(BundleChanged, match=r"changed|bundle\.sha256") as caught:
                    open_bundle(bundle)
                assert path.name in str(caught.value)
        path.write_bytes(data)
    open_bundle(bundle)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_flipped_byte_is_refused(pristine: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(files_of(pristine)))
    content = path.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    flip = data.draw(st.integers(1, 255))
    try:
        path.write_bytes(content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :])
        with pytest.raises(BundleChanged):
            open_bundle(pristine)
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\n", lambda data: b""])
def test_another_size_is_refused(bundle: Path, change: Callable[[bytes], bytes]) -> None:
    for path in files_of(bundle):
        data = path.read_bytes()
        path.write_bytes(change(data))
        with pytest.raises(BundleChanged):
            open_bundle(bundle)
        path.write_bytes(data)


def test_every_missing_file_is_named(bundle: Path) -> None:
    for path in files_of(bundle):
        data = path.read_bytes()
        path.unlink()
        kind = BundleMissing if path.name == "bundle.json" else BundleFiles
        with pytest.raises(kind) as caught:
            open_bundle(bundle)
        assert path.relative_to(bundle).as_posix() in str(caught.value)
        path.write_bytes(data)


@pytest.mark.parametrize("name", ["notes.txt", ".DS_Store", "golden/0001.jpg", "model.onnx.data", "Ünï"])
def test_an_extra_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes(b"x")
    with pytest.raises(BundleFiles, match="not listed") as caught:
        open_bundle(bundle)
    assert ascii(name) in str(caught.value.found)


def test_an_empty_folder_is_extra(bundle: Path) -> None:
    (bundle / "golden" / "0002").mkdir()
    with pytest.raises(BundleFiles, match="no listed file"):
        open_bundle(bundle)


def test_a_file_name_that_is_no_text_is_extra(bundle: Path) -> None:
    try:
        (Path(os.fsdecode(os.fsencode(bundle) + b"/\xff.txt"))).write_bytes(b"")
    except OSError:
        pytest.skip("this file system has only names of text")
    with pytest.raises(BundleFiles) as caught:
        open_bundle(bundle)
    str(caught.value).encode("utf-8")


def test_links_are_refused_inside(bundle: Path, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    shutil.copytree(bundle, outside)
    for name in ("model.onnx", "golden/golden.json", "bundle.json", "bundle.sha256"):
        data = (bundle / name).read_bytes()
        (bundle / name).unlink()
        (bundle / name).symlink_to(outside / name)
        with pytest.raises(BundleFiles, match="plain files"):
            open_bundle(bundle)
        (bundle / name).unlink()
        (bundle / name).write_bytes(data)
    shutil.rmtree(bundle / "golden")
    (bundle / "golden").symlink_to(outside / "golden")
    with pytest.raises(BundleFiles, match="plain files"):
        open_bundle(bundle)


def test_a_pipe_is_refused_and_not_waited_for(bundle: Path) -> None:
    for name in ("model.onnx", "bundle.json", "bundle.sha256"):
        data = (bundle / name).read_bytes()
        (bundle / name).unlink()
        os.mkfifo(bundle / name)
        with pytest.raises(BundleFiles, match="plain files"):
            open_bundle(bundle)
        (bundle / name).unlink()
        (bundle / name).write_bytes(data)


def test_a_link_to_the_bundle_is_fine(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(bundle)
    (tmp_path / "house").symlink_to(tmp_path)
    assert open_bundle(tmp_path / "current").read("model.onnx")
    assert open_bundle(tmp_path / "house" / "bundle").id == open_bundle(str(bundle)).id


@pytest.mark.parametrize("version", [2, 99, 2**40])
def test_a_newer_format_is_refused_with_the_upgrade(bundle: Path, version: int) -> None:
    rewrite(bundle, {"format": "samesight-bundle", "format_version": version, "shards": [{"a": None}]})
    with pytest.raises(BundleNewer) as caught:
        open_bundle(bundle)
    assert caught.value.fix == "pip install --upgrade samesight"


@pytest.mark.parametrize(
    "path",
    [
        "../model.onnx",
        "golden/../../x",
        "/etc/passwd",
        "./model.onnx",
        "golden//golden.json",
        "golden/",
        "",
        ".",
        "..",
        "golden\\golden.json",
        "C:/model.onnx",
        "c:model.onnx",
        "//server/share",
        ".hidden",
        "golden/.hidden",
        "model.onnx.",
        "model .onnx",
        "nul",
        "golden/COM1.txt",
        "modèl.onnx",
        "model.onnx\n",
        "model\x00.onnx",
        "a/" * 8 + "b",
        "x" * 201,
        "bundle.json",
        "Bundle.sig",
        "bundle.sha256",
    ],
)
def test_paths_that_leave_or_confuse_are_refused(bundle: Path, path: str) -> None:
    document = document_of(bundle)
    document["files"][0]["path"] = path
    rewrite(bundle, document)
    with pytest.raises(BundlePath):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "path", ["model.onnx", "MODEL.onnx", "GOLDEN/golden.json", "golden", "Golden/x.json"]
)
def test_paths_that_are_one_on_some_systems_are_refused(bundle: Path, path: str) -> None:
    document = document_of(bundle)
    role = "golden" if path.startswith("golden/") else "model" if path.endswith(".onnx") else "document"
    document["files"].append({"path": path, "role": role, "size_bytes": 0, "sha256": "0" * 64})
    rewrite(bundle, document)
    with pytest.raises(BundlePath, match="one on some systems"):
        open_bundle(bundle)


@pytest.mark.parametrize("labels", [LABELS[:2], (*LABELS, "cow")])
def test_a_wrong_number_of_labels_is_its_own_error(bundle: Path, labels: tuple[str, ...]) -> None:
    document = document_of(bundle)
    document["labels"] = list(labels)
    document["golden"]["labels_without_sample"] = []
    rewrite(bundle, document)
    with pytest.raises(BundleLabels) as caught:
        open_bundle(bundle)
    assert caught.value.found == len(labels)
    with pytest.raises(BundleLabels):
        seal(bundle, tiny_info(labels=labels))


def _change(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *way, last = (int(step) if step.isdigit() else step for step in place.split("."))
        for step in way:
            document = document[step]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("format", "samesight"),
        ("format_version", 0),
        ("format_version", True),
        ("format_version", "1"),
        ("version", "1.0"),
        ("created", "yesterday"),
        ("labels.1", "cat"),
        ("labels.1", ""),
        ("labels.1", "\ud800"),
        ("labels.1", "a\nb"),
        ("labels", "cat"),
        ("preprocess.mean", [0, 0]),
        ("preprocess.resize.width", 9),
        ("preprocess.crop", {"width": 9, "height": 9}),
        ("input.shape.2", 9),
        ("input.shape.0", "N"),
        ("input.shape.0", 4),
        ("input.name", "x"),
        ("copies", []),
        ("copies.0.name", "fp16"),
        ("copies.0.name", "pytorch"),
        ("copies.0.file", "model.int8.onnx"),
        ("copies.0.file", "labels_mapping.json"),
        ("copies.1.file", "model.onnx"),
        ("copies.0.precision", "fp64"),
        ("copies.0.opset", 17.5),
        ("copies.0.recorded.test_accuracy", 1.5),
        ("copies.0.recorded.test_photos", -1),
        ("copies.0.recorded.max_abs_difference", 1e400),
        ("golden.labels_without_sample.0", "cow"),
        ("golden.publishable", 1),
        ("made.model", None),
        ("made.deep", {"a": {"b": 1}}),
        ("license", {}),
        ("files.0.role", "model"),
        ("files.0.size_bytes", 2**31),
        ("files.0.size_bytes", -1),
        ("files.0.sha256", "A" * 64),
        ("files", []),
        ("surplus", 1),
        ("input.surplus", 1),
        ("files.0.surplus", 1),
    ],
)
def test_what_the_format_does_not_allow_is_refused(bundle: Path, place: str, value: Any) -> None:
    document = document_of(bundle)
    _change(place, value)(document)
    rewrite(bundle, document)
    with pytest.raises(BundleInvalid) as caught:
        open_bundle(bundle)
    assert str(bundle) in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'{"format": "samesight-bundle", "format": "samesight-bundle", "format_version": 1}',
        b'{"format": "samesight-bundle", "format_version": NaN}',
        b'{"format": "samesight-bundle", "format_version": Infinity}',
        b'{"format": "samesight-bundle", "format_version": ' + b"9" * 5000 + b"}",
        b"\xef\xbb\xbf{}",
        b'{"format": "\xff"}',
        '{"format": "samesight-bundle"}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=lambda data: ascii(data[:30]),
)
def test_what_is_not_strict_json_is_refused(bundle: Path, data: bytes) -> None:
    rewrite(bundle, data)
    with pytest.raises(BundleInvalid):
        open_bundle(bundle)


def test_a_key_twice_is_refused_wherever_it_stands(bundle: Path) -> None:
    text = (bundle / "bundle.json").read_text()
    for key in ("name", "opset", "sha256", "publishable", "width"):
        at = text.index(f'"{key}":')
        value = text[at + len(key) + 3 :].split(",")[0].split("\n")[0]
        rewrite(bundle, f'{text[:at]}"{key}":{value}, {text[at:]}'.encode())
        with pytest.raises(BundleInvalid, match="strict JSON") as caught:
            open_bundle(bundle)
        assert "twice" in str(caught.value)


def test_a_bundle_json_beyond_its_limit_is_not_read(bundle: Path) -> None:
    rewrite(bundle, b" " * (MAX_JSON_BYTES + 1))
    with pytest.raises(BundleInvalid, match="too large"):
        open_bundle(bundle)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_forged_bundle_json_never_gives_another_error(pristine: Path, data: st.DataObject) -> None:
    """Whoever also forges bundle.sha256 gets a bundle that is the same in effect, or a BundleError."""
    original = (pristine / "bundle.json").read_bytes()
    place = data.draw(st.integers(0, len(original) - 1))
    new = data.draw(st.binary(max_size=3) | st.sampled_from([b"0", b'"', b"{", b",", b"-", b"e9", b"null"]))
    try:
        rewrite(pristine, original[:place] + new + original[place + data.draw(st.integers(0, 3)) :])
        try:
            opened = open_bundle(pristine)
        except BundleError as error:
            str(error).encode("utf-8")
        else:
            assert {file.path for file in opened.files} >= {"model.onnx"}
    finally:
        rewrite(pristine, original)


def test_the_bytes_that_are_read_are_checked_again(bundle: Path) -> None:
    opened = open_bundle(bundle)
    model = bundle / "model.onnx"
    data = model.read_bytes()
    model.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BundleChanged, match="SHA-256"):
        opened.read("model.onnx")
    model.write_bytes(data + b"\0")
    with pytest.raises(BundleChanged, match="size"):
        opened.read("model.onnx")
    model.unlink()
    with pytest.raises(BundleFiles):
        opened.read("model.onnx")


def test_what_is_no_bundle_is_said_so(bundle: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "nothing", tmp_path, bundle / "bundle.json"):
        with pytest.raises(BundleMissing) as caught:
            open_bundle(place)
        assert str(place) in str(caught.value)


def test_what_lies_near_a_bundle_is_named(bundle: Path, tmp_path: Path) -> None:
    for place, fix in ((bundle / "bundle.json", str(bundle)), (tmp_path, str(bundle))):
        with pytest.raises(BundleMissing) as caught:
            open_bundle(place)
        assert caught.value.fix == fix
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(BundleMissing) as caught:
        open_bundle(tmp_path / "run")
    assert caught.value.fix == f"samesight export {tmp_path / 'run'} --out BUNDLE"


def test_sealing_again_gives_the_same_id(bundle: Path) -> None:
    assert seal(bundle, tiny_info()) == open_bundle(bundle).id
    assert seal(bundle, tiny_info(version="1.2.1")) == open_bundle(bundle).id


def test_sealing_holds_to_the_rules(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    tiny_files(folder)
    with pytest.raises(BundleInvalid):
        seal(folder, tiny_info(copies=tiny_info().copies[:1]))
    with pytest.raises(BundleInvalid):
        seal(folder, tiny_info(made={"by": "x"}))
    (folder / "my notes.txt").write_text("x")
    with pytest.raises(BundlePath):
        seal(folder, tiny_info())
    assert not (folder / "bundle.json").exists()
    (folder / "my notes.txt").unlink()
    (folder / "bundle.sig").write_text("{}")
    with pytest.raises(InputError, match="never changed in place"):
        seal(folder, tiny_info())


def test_numbers_are_their_values(bundle: Path) -> None:
    """3.0 and 3 are one number to most languages, so they are one here."""
    text = (bundle / "bundle.json").read_text().replace('"opset": 17', '"opset": 1.7e1')
    rewrite(bundle, text.replace('"format_version": 1', '"format_version": 1.0').encode())
    assert open_bundle(bundle).copies[0].opset == 17


def test_labels_may_be_of_any_script(tmp_path: Path) -> None:
    labels = ("Кошка", "狗 (dog)", "🦉")
    opened = open_bundle(
        tiny_bundle(
            tmp_path / "b",
            labels=labels,
            golden={"publishable": True, "samples": 0, "origin": "", "labels_without_sample": ["🦉"]},
        )
    )
    assert opened.labels == labels
    json.dumps(opened.golden)


def test_a_fixed_batch_is_kept(tmp_path: Path) -> None:
    shapes = {"input_shape": (4, 3, 8, 8), "output_shape": (4, 3)}
    folder = tiny_bundle(tmp_path / "b", **one_copy(tiny_model(batch=4)), **shapes)
    assert open_bundle(folder).input_shape == (4, 3, 8, 8)
    document = document_of(folder)
    document["output"]["shape"][0] = 5
    rewrite(folder, document)
    with pytest.raises(BundleInvalid, match="disagree"):
        open_bundle(folder)


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with pytest.raises(BundleLabels), write_bundle(out) as folder:
        tiny_files(folder)
        seal(folder, tiny_info(labels=LABELS[:1]))
    assert list(tmp_path.iterdir()) == []
    with write_bundle(out) as folder:
        tiny_files(folder)
        made = seal(folder, tiny_info())
    assert open_bundle(out).id == made


def test_a_held_model_is_the_bytes_that_were_checked(bundle: Path, tmp_path: Path) -> None:
    """They are read once, whatever becomes of the file, and then no longer held."""
    folder = tmp_path / "held"
    shutil.copytree(bundle, folder)
    opened = open_bundle(folder, hold="fp32")
    whole = (bundle / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(b"another")
    assert opened.read("model.onnx") == whole
    with pytest.raises(BundleChanged):
        opened.read("model.onnx")
    with pytest.raises(BundleChanged):
        open_bundle(folder, hold="fp32")
    assert open_bundle(bundle, hold="no such copy").read("model.onnx") == whole
