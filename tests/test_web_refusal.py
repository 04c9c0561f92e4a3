"""Bundles that break a rule, refused in a real Chromium by the error that names it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tiny_bundle
from browser import REFUSED, refused

from samesight.bundle import Bundle
from samesight.bundle.signing import new_key, sign_bundle

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.row("R3")


@pytest.mark.row("V3")
def test_a_flipped_byte_is_refused_wherever_it_stands(
    web_page: Page, web_root: Path, web_bundle: Bundle
) -> None:
    place = web_root / "flipped"
    used = ["model.fp32.onnx", "golden/golden.json", "golden/logits/pytorch.f32", "golden/0001/photo.jpg"]
    (photo,) = [file.path for file in web_bundle.files if file.path.startswith("golden/0001/photo.")]
    used[-1] = photo
    for path in ("bundle.json", *used):
        shutil.copytree(web_bundle.folder, place)
        data = bytearray((place / path).read_bytes())
        data[len(data) // 2] ^= 1
        (place / path).write_bytes(data)
        assert refused(web_page, "flipped/") == "BundleChanged", path
        shutil.rmtree(place)


@pytest.mark.row("V3")
def test_a_bundle_that_breaks_a_rule_is_refused_with_its_error(
    web_page: Page, web_root: Path, web_bundle: Bundle
) -> None:
    document = json.loads((web_bundle.folder / "bundle.json").read_text())
    first = document["files"][0]
    changes: list[tuple[str, dict[str, Any]]] = [
        ("BundleInvalid", {"surprise": 1}),
        ("BundleInvalid", {"format": "other"}),
        ("BundleNewer", {"format_version": 2}),
        ("BundleInvalid", {"name": ""}),
        ("BundleLabels", {"labels": ["one", "two"]}),
        ("BundleInvalid", {"labels": ["one", "one", "two"]}),
        ("BundlePath", {"files": [{**first, "path": "../up"}, *document["files"][1:]]}),
        ("BundlePath", {"files": [*document["files"], {**first, "path": "golden/0001/DECODED.png"}]}),
        ("BundleInvalid", {"preprocess": {**document["preprocess"], "std": [0, 1, 1]}}),
        (
            "BundleFiles",
            {"files": [*document["files"][:-1], {**document["files"][-1], "path": "model.int8.onnx"}]},
        ),
    ]
    for number, (wanted, change) in enumerate(changes):
        folder = web_root / f"broken-{number}"
        shutil.copytree(web_bundle.folder, folder)
        write_document(folder, json.dumps({**document, **change}).encode())
        copy = "fp32"
        if wanted == "BundleFiles":
            moved = document["files"][-1]["path"]
            copies = [
                {**one, "file": "model.int8.onnx" if one["file"] == moved else one["file"]}
                for one in document["copies"]
            ]
            write_document(folder, json.dumps({**document, **change, "copies": copies}).encode())
            copy = next(one["name"] for one in copies if one["file"] == "model.int8.onnx")
        assert refused(web_page, f"broken-{number}/", copy=copy) == wanted, change
    assert refused(web_page, "nothing/") == "BundleMissing"


def write_document(folder: Path, data: bytes) -> None:
    """bundle.json with a bundle.sha256 that fits."""
    (folder / "bundle.json").write_bytes(data)
    (folder / "bundle.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  bundle.json\n")


@pytest.mark.row("V3")
def test_json_is_read_strictly(web_page: Page, web_root: Path, web_bundle: Bundle) -> None:
    text = (web_bundle.folder / "bundle.json").read_text()
    spoilt = {
        "twice": text.replace('"name":', '"name": "x", "name":', 1),
        "nan": text.replace('"labels_without_sample": []', '"labels_without_sample": NaN'),
        "trailing": text + "{}",
        "bom": "\ufeff" + text,
        "single": text.replace('"', "'"),
    }
    for name, words in spoilt.items():
        assert words != text
        shutil.copytree(web_bundle.folder, web_root / name)
        write_document(web_root / name, words.encode())
        assert refused(web_page, f"{name}/") == "BundleInvalid", name
    shutil.copytree(web_bundle.folder, web_root / "floats")  # 3.0 is the integer 3
    write_document(web_root / "floats", text.replace('"format_version": 1', '"format_version": 1.0').encode())
    assert web_page.evaluate(REFUSED, ["floats/", {"cache": False}]) is None


@pytest.mark.row("V3")
def test_a_model_that_names_another_file_is_refused(
    web_page: Page, web_root: Path, web_bundle: Bundle
) -> None:
    import onnx

    def change(folder: Path) -> None:
        model = onnx.load(folder / "model.fp32.onnx")
        onnx.save(
            model, folder / "model.fp32.onnx", save_as_external_data=True, size_threshold=0, location="w"
        )
        (folder / "w").unlink()

    tiny_bundle.tampered(web_bundle, web_root / "external", change)
    name, message = web_page.evaluate(REFUSED, ["external/", {}])
    assert name == "BundleInvalid"
    assert "another file" in message


@pytest.mark.row("V3")
def test_only_a_signature_by_the_trusted_key_will_do(
    web_page: Page, web_root: Path, web_bundle: Bundle, tmp_path: Path
) -> None:
    shutil.copytree(web_bundle.folder, web_root / "signed")
    private, public = new_key(tmp_path / "own.key")
    sign_bundle(web_root / "signed", private)
    own, other = public.read_text(), new_key(tmp_path / "other.key")[1].read_text()
    assert web_page.evaluate(REFUSED, ["signed/", {"trust": own}]) is None
    assert refused(web_page, "signed/", trust=other) == "SignatureError"
    assert refused(web_page, "bundle/", trust=own) == "SignatureError"
    document = bytearray((web_root / "signed" / "bundle.json").read_bytes())
    write_document(web_root / "signed", bytes(document).replace(b'"1.0.0"', b'"1.0.1"'))
    assert refused(web_page, "signed/", trust=own) == "SignatureError"
