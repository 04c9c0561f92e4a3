"""One suite, three languages: spec/vectors in Python, in the browser and in Rust.

Each runtime is asked what becomes of a photo, and must say what the vector says. What it is let off, and why,
is in exemptions.json; nothing else is.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tiny_bundle
from browser import open_page, serve

from samesight.errors import PhotoError
from samesight.preprocess import Preprocess, decode, normalise, resize
from samesight.verify.golden import array_sha256

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HERE = Path(__file__).resolve().parent
VECTORS = HERE.parent.parent / "spec" / "vectors"
CASES: dict[str, Any] = json.loads((VECTORS / "vectors.json").read_text())
EXEMPTIONS: dict[str, Any] = json.loads((HERE / "exemptions.json").read_text())
KEYS = ("width", "height", "decoded_sha256", "resized_sha256", "tensor_sha256")
FORMATS = {"jpg": "jpeg", "png": "png", "webp": "webp", "bmp": "bmp", "gif": "gif", "tif": "tiff"}

# Of each case what its photo becomes, or {"kind": the kind of refusal}.
Prepare = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]

pytestmark = pytest.mark.row("V1")


def in_python(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def one(case: dict[str, Any]) -> dict[str, Any]:
        data = (VECTORS / "files" / case["file"]).read_bytes()
        spec = Preprocess.from_json(case["preprocess"])
        try:
            pixels = decode(data)
            small = resize(pixels, spec)
        except PhotoError as error:
            return {"kind": error.kind}
        hashes = map(array_sha256, (pixels, small, normalise(small, spec)))
        return dict(zip(KEYS, (pixels.shape[1], pixels.shape[0], *hashes), strict=True))

    return [one(case) for case in cases]


@pytest.fixture(scope="module")
def in_rust(samesight_rs: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepare:
    file = tmp_path_factory.mktemp("rust") / "preprocess.json"

    def prepare(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for spec in {json.dumps(case["preprocess"]) for case in cases}:
            file.write_text(spec)
            names = [case["file"] for case in cases if json.dumps(case["preprocess"]) == spec]
            paths = [str(VECTORS / "files" / name) for name in names]
            command = [str(samesight_rs), "prepare", str(file), *paths]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            rows = map(json.loads, done.stdout.splitlines())
            found |= dict(zip(names, rows, strict=True))
        return [found[case["file"]] for case in cases]

    return prepare


@pytest.fixture(scope="module")
def in_the_browser(
    web_assets: Path, chromium: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prepare]:
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(web_assets / "runtime", folder / "runtime")
    shutil.copytree(VECTORS / "files", folder / "vectors")
    shutil.copyfile(web_assets / "icon.svg", folder / "icon.svg")
    (folder / "index.html").write_text('<!doctype html><title>empty</title><link rel="icon" href="icon.svg">')
    photos = tiny_bundle.write_photos(tmp_path_factory.mktemp("photos"))
    tiny_bundle.make_bundle(folder / "bundle", photos, tiny_bundle.make_weights(photos))
    with serve(folder) as address, open_page(chromium, address) as page:
        page.evaluate(
            """async () => {
                const { LocalInferenceEngine } = await import("/runtime/index.js");
                globalThis.engine = await LocalInferenceEngine.load("bundle/");
            }"""
        )
        yield lambda cases: page.evaluate(
            """async (cases) => Promise.all(cases.map(async ({ file, preprocess }) => {
                try {
                    const { tensor, ...found } = await engine.prepare(
                        new URL(`vectors/${file}`, location), preprocess);
                    return found;
                } catch (error) {
                    if (error.name !== "PhotoError") throw error;
                    return { kind: error.kind };
                }
            }))""",
            cases,
        )


@pytest.fixture(params=["python", "web", "rust"])
def runtime(request: pytest.FixtureRequest) -> tuple[Prepare, set[str]]:
    """A runtime, and the formats that it leaves out."""
    names = {"web": "in_the_browser", "rust": "in_rust"}
    name = request.param
    prepare = request.getfixturevalue(names[name]) if name in names else in_python
    return prepare, {row["format"] for row in EXEMPTIONS[name]["formats"]}


def test_photos_become_what_the_vectors_say(runtime: tuple[Prepare, set[str]]) -> None:
    prepare, left_out = runtime
    found = prepare(CASES["valid"])
    for case, answer in zip(CASES["valid"], found, strict=True):
        wanted = {key: case[key] for key in KEYS}
        if case["format"] in left_out:
            wanted = {"kind": "unsupported"}
        assert {key: answer[key] for key in wanted} == wanted, case["file"]


@pytest.mark.row("D6")
def test_photos_are_refused_as_the_vectors_say(runtime: tuple[Prepare, set[str]]) -> None:
    prepare, left_out = runtime
    for case, answer in zip(CASES["invalid"], prepare(CASES["invalid"]), strict=True):
        is_left_out = FORMATS[case["file"].rsplit(".", 1)[1]] in left_out
        assert answer["kind"] == ("unsupported" if is_left_out else case["kind"]), case["file"]


def test_every_exemption_has_a_reason_and_is_one_that_the_specification_allows() -> None:
    assert set(EXEMPTIONS) == {"python", "web", "rust"}
    for runtime in EXEMPTIONS.values():
        assert list(runtime) == ["formats"]
        for row in runtime["formats"]:
            assert row["format"] in ("bmp", "gif", "tiff"), "JPEG, PNG and WebP must be read by every runtime"
            assert len(row["reason"].split()) > 3
