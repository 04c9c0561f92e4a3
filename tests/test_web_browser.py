"""@samesight/runtime as it is built, in a real Chromium: vectors, bundles, their proof and refusal."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_bundle
from browser import open_page, serve

from samesight.bundle import Bundle
from samesight.bundle.signing import new_key, sign_bundle
from samesight.preprocess import PHOTO_SUFFIXES
from samesight.runtime import load
from samesight.verify.tolerances import TOLERANCES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

VECTORS = Path(__file__).resolve().parent.parent / "spec" / "vectors"
CASES: dict[str, Any] = json.loads((VECTORS / "vectors.json").read_text())

pytestmark = pytest.mark.row("R3")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    return tiny_bundle.write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def bundle(photos: list[tuple[Path, str]], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    return tiny_bundle.make_bundle(folder, photos, tiny_bundle.make_weights(photos))


@pytest.fixture(scope="module")
def root(
    web_assets: Path,
    bundle: Bundle,
    photos: list[tuple[Path, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with the runtime, an empty page, the vectors, photos, and a bundle."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(web_assets / "runtime", folder / "runtime")
    shutil.copytree(VECTORS / "files", folder / "vectors")
    shutil.copytree(photos[0][0].parent.parent, folder / "photos")
    shutil.copytree(bundle.folder, folder / "bundle")
    shutil.copyfile(web_assets / "icon.svg", folder / "icon.svg")
    (folder / "index.html").write_text('<!doctype html><title>empty</title><link rel="icon" href="icon.svg">')
    return folder


@pytest.fixture(scope="module")
def url(root: Path) -> Iterator[str]:
    with serve(root) as address:
        yield address


@pytest.fixture
def page(chromium: Browser, url: str) -> Iterator[Page]:
    with open_page(chromium, url, quiet=False) as opened:  # of files that are missing the console tells too
        yield opened


@pytest.fixture(scope="module")
def engine(chromium: Browser, url: str) -> Iterator[Page]:
    """A page whose `engine` has the bundle."""
    with open_page(chromium, url) as opened:
        opened.evaluate(OPEN)
        yield opened


OPEN = """async (options) => {
    globalThis.samesight = await import("/runtime/index.js");
    globalThis.engine = await samesight.LocalInferenceEngine.load("bundle/", options ?? {});
}"""
REFUSED = """async ([address, options]) => {
    const { LocalInferenceEngine } = await import("/runtime/index.js");
    try {
        const engine = await LocalInferenceEngine.load(address, options);
        await engine.dispose();
        return null;
    } catch (error) {
        return [error.name, error.message];
    }
}"""


def refused(page: Page, address: str, **options: Any) -> str:
    """The name of the error with which a bundle is refused."""
    found = page.evaluate(REFUSED, [address, {"cache": False, **options}])
    assert found is not None, f"{address} was not refused"
    return str(found[0])


# the spec's vectors; those of photos are in conformance/


@pytest.mark.row("V1")
def test_resampling_and_normalising_are_what_the_vectors_say(engine: Page) -> None:
    def exact(width: int, height: int, interpolation: str = "box", **more: object) -> dict[str, object]:
        size = {"kind": "exact", "width": width, "height": height}
        numbers = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], **more}
        return {"resize": size, "crop": None, "interpolation": interpolation, **numbers}

    cases = [
        *(
            ("resized_sha256", case, exact(**case["to"], interpolation=case["interpolation"]))
            for case in CASES["resample"]
        ),
        *(("resized_sha256", case, case["preprocess"]) for case in CASES["resize"]),
        *(
            ("tensor_sha256", case, exact(256, 1, mean=case["mean"], std=case["std"]))
            for case in CASES["table"]
        ),
    ]
    found = engine.evaluate(
        """async (cases) => Promise.all(cases.map(async ([key, { from }, preprocess]) => {
            const { width, height } = from ?? { width: 256, height: 1 };
            const image = new ImageData(width, height);
            for (let at = 0, x = 1; at < image.data.length; at += 1) {
                if (at % 4 === 3) { image.data[at] = 255; continue; }
                x = (Math.imul(1664525, x) + 1013904223) >>> 0;
                image.data[at] = from === undefined ? at >> 2 : x >>> 24;
            }
            return (await engine.prepare(image, preprocess))[key];
        }))""",
        cases,
    )
    assert found == [case["sha256"] for _, case, _ in cases]
    assert len(cases) == 118


# answers


def test_answers_are_those_of_python(engine: Page, bundle: Bundle, photos: list[tuple[Path, str]]) -> None:
    classifier = load(bundle)
    read = [path for path, _ in photos if path.suffix != ".bmp"]
    assert {path.suffix for path in read} < PHOTO_SUFFIXES
    found = engine.evaluate(
        """async (paths) => Promise.all(paths.map(async (path) => {
            const answer = await engine.classify(new URL(`photos/${path}`, location), { top: 3 });
            return { ...answer, logits: [...answer.logits] };
        }))""",
        [f"{path.parent.name}/{path.name}" for path in read],
    )
    for path, answer in zip(read, found, strict=True):
        wanted = classifier.classify(path, top=3)
        assert (answer["label"], answer["index"]) == (wanted.label, wanted.index)
        assert [one["label"] for one in answer["top"]] == [one.label for one in wanted.top]
        assert answer["bundle"] == bundle.id
        assert answer["confidence"] == pytest.approx(wanted.confidence, abs=1e-4)
        allowed = TOLERANCES["fp32"].absolute(float(np.abs(wanted.logits).max()))
        np.testing.assert_allclose(answer["logits"], wanted.logits, rtol=0, atol=allowed)


@pytest.mark.parametrize("copy", ["fp32", "fp16"])
def test_every_golden_sample_is_proved_stage_by_stage(page: Page, bundle: Bundle, copy: str) -> None:
    page.evaluate(OPEN, {"copy": copy, "threads": 2})
    proof = page.evaluate("() => engine.verify()")
    canary = page.evaluate("() => engine.canary")
    assert proof["ok"]
    assert proof["copy"] == copy
    assert len(proof["samples"]) == bundle.golden["samples"] == 6
    assert canary["ok"]
    assert canary["reference"] == "PyTorch"
    for sample in proof["samples"]:
        stages = {stage["stage"]: stage for stage in sample["stages"]}
        assert list(stages) == ["decode", "resize", "normalise", "network", "labels"]
        assert all(stages[name]["max_abs_difference"] == 0 for name in ("decode", "resize", "normalise"))
        assert stages["network"]["max_abs_difference"] <= stages["network"]["allowed"]
        largest = max(TOLERANCES[copy].abs, TOLERANCES[copy].rel * 100)
        assert TOLERANCES[copy].abs <= stages["network"]["allowed"] <= largest


def test_tolerances_are_those_of_the_one_table(engine: Page) -> None:
    source = (VECTORS.parent.parent / "web" / "src" / "verify" / "tolerances.ts").read_text()
    for name in ("fp32", "fp16"):
        one = TOLERANCES[name]
        digits = [f"{value:g}".replace("e-0", "e-") for value in (one.abs, one.rel)]
        digits[0] = {"0.0001": "1e-4"}.get(digits[0], digits[0])
        assert f'{name}: {{ name: "{name}", abs: {digits[0]}, rel: {digits[1]} }}' in source
    # An int8 copy is judged by its own record, which the page does not read: it says "not proved" instead.
    assert "int8" not in source


def test_float16_edges_and_a_fixed_batch(
    chromium: Browser, url: str, root: Path, bundle: Bundle, tmp_path: Path
) -> None:
    import onnx
    from onnx import TensorProto, helper

    def change(folder: Path) -> None:
        """fp16: takes and gives float16, exactly four photos at a time."""
        model = onnx.load(folder / "model.fp16.onnx")
        (first, last) = model.graph.node[0], model.graph.node[-1]
        assert (first.op_type, last.op_type) == ("Cast", "Cast")
        for node in model.graph.node:
            for place, name in enumerate(node.input):
                node.input[place] = "input" if name == first.output[0] else name
            for place, name in enumerate(node.output):
                node.output[place] = "output" if name == last.input[0] else name
        model.graph.node.remove(first)
        model.graph.node.remove(last)
        half = TensorProto.FLOAT16
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("input", half, [4, 3, 32, 32]))
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("output", half, [4, 3]))
        onnx.save(model, folder / "model.fp16.onnx")
        single = onnx.load(folder / "model.fp32.onnx")
        for side in (single.graph.input[0], single.graph.output[0]):
            side.type.tensor_type.shape.dim[0].dim_value = 4
        onnx.save(single, folder / "model.fp32.onnx")

    from dataclasses import replace

    halves = tuple(
        replace(copy, input_dtype="float16", output_dtype="float16") if copy.name == "fp16" else copy
        for copy in bundle.copies
    )
    tiny_bundle.tampered(
        bundle,
        root / "halves",
        change,
        copies=halves,
        input_shape=(4, 3, 32, 32),
        output_shape=(4, 3),
    )
    with open_page(chromium, url) as page:
        for copy in ("fp32", "fp16"):
            proof = page.evaluate(
                """async (copy) => {
                    const { LocalInferenceEngine } = await import("/runtime/index.js");
                    const engine = await LocalInferenceEngine.load("halves/", { copy });
                    const proof = await engine.verify();
                    await engine.dispose();
                    return proof;
                }""",
                copy,
            )
            assert proof["ok"], proof


@pytest.mark.row("V1")
def test_verify_takes_the_browser_for_a_runner(web_assets: Path, chromium: Browser, bundle: Bundle) -> None:
    words = ["verify", str(bundle.folder), "--runner", "onnxruntime", "--runner", "web", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "samesight", *words], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["ok"]
    assert [(one["runner"], one["copy"]) for one in found["runners"]] == [
        ("onnxruntime", "fp32"),
        ("onnxruntime", "fp16"),
        ("web", "fp32"),
        ("web", "fp16"),
    ]
    assert all(one["samples"] == 6 and one["label_agreement"] == 1 for one in found["runners"])
    assert found["runners"][2]["max_abs_difference"] <= found["runners"][2]["allowed"]


# refusal


@pytest.mark.row("V3")
def test_a_flipped_byte_is_refused_wherever_it_stands(page: Page, root: Path, bundle: Bundle) -> None:
    place = root / "flipped"
    used = ["model.fp32.onnx", "golden/golden.json", "golden/logits/pytorch.f32", "golden/0001/photo.jpg"]
    (photo,) = [file.path for file in bundle.files if file.path.startswith("golden/0001/photo.")]
    used[-1] = photo
    for path in ("bundle.json", *used):
        shutil.copytree(bundle.folder, place)
        data = bytearray((place / path).read_bytes())
        data[len(data) // 2] ^= 1
        (place / path).write_bytes(data)
        assert refused(page, "flipped/") == "BundleChanged", path
        shutil.rmtree(place)


@pytest.mark.row("V3")
def test_a_bundle_that_breaks_a_rule_is_refused_with_its_error(
    page: Page, root: Path, bundle: Bundle
) -> None:
    document = json.loads((bundle.folder / "bundle.json").read_text())
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
        folder = root / f"broken-{number}"
        shutil.copytree(bundle.folder, folder)
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
        assert refused(page, f"broken-{number}/", copy=copy) == wanted, change
    assert refused(page, "nothing/") == "BundleMissing"


def write_document(folder: Path, data: bytes) -> None:
    """bundle.json with a bundle.sha256 that fits."""
    import hashlib

    (folder / "bundle.json").write_bytes(data)
    (folder / "bundle.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  bundle.json\n")


@pytest.mark.row("V3")
def test_json_is_read_strictly(page: Page, root: Path, bundle: Bundle) -> None:
    text = (bundle.folder / "bundle.json").read_text()
    spoilt = {
        "twice": text.replace('"name":', '"name": "x", "name":', 1),
        "nan": text.replace('"labels_without_sample": []', '"labels_without_sample": NaN'),
        "trailing": text + "{}",
        "bom": "\ufeff" + text,
        "single": text.replace('"', "'"),
    }
    for name, words in spoilt.items():
        assert words != text
        shutil.copytree(bundle.folder, root / name)
        write_document(root / name, words.encode())
        assert refused(page, f"{name}/") == "BundleInvalid", name
    shutil.copytree(bundle.folder, root / "floats")  # 3.0 is the integer 3
    write_document(root / "floats", text.replace('"format_version": 1', '"format_version": 1.0').encode())
    assert page.evaluate(REFUSED, ["floats/", {"cache": False}]) is None


@pytest.mark.row("V3")
def test_a_model_that_names_another_file_is_refused(page: Page, root: Path, bundle: Bundle) -> None:
    import onnx

    def change(folder: Path) -> None:
        model = onnx.load(folder / "model.fp32.onnx")
        onnx.save(
            model, folder / "model.fp32.onnx", save_as_external_data=True, size_threshold=0, location="w"
        )
        (folder / "w").unlink()

    tiny_bundle.tampered(bundle, root / "external", change)
    name, message = page.evaluate(REFUSED, ["external/", {}])
    assert name == "BundleInvalid"
    assert "another file" in message


@pytest.mark.row("V3")
def test_only_a_signature_by_the_trusted_key_will_do(
    page: Page, root: Path, bundle: Bundle, tmp_path: Path
) -> None:
    shutil.copytree(bundle.folder, root / "signed")
    private, public = new_key(tmp_path / "own.key")
    sign_bundle(root / "signed", private)
    own, other = public.read_text(), new_key(tmp_path / "other.key")[1].read_text()
    assert page.evaluate(REFUSED, ["signed/", {"trust": own}]) is None
    assert refused(page, "signed/", trust=other) == "SignatureError"
    assert refused(page, "bundle/", trust=own) == "SignatureError"
    document = bytearray((root / "signed" / "bundle.json").read_bytes())
    write_document(root / "signed", bytes(document).replace(b'"1.0.0"', b'"1.0.1"'))
    assert refused(page, "signed/", trust=own) == "SignatureError"


def test_a_canary_that_disagrees_is_told(page: Page, root: Path, bundle: Bundle) -> None:
    def change(folder: Path) -> None:
        path = folder / "golden" / "logits" / "pytorch.f32"
        logits = np.frombuffer(path.read_bytes(), "<f4").copy()
        logits[0] += 0.5
        path.write_bytes(logits.tobytes())

    tiny_bundle.tampered(bundle, root / "other-logits", change)
    canary = page.evaluate(
        """async () => {
            const { LocalInferenceEngine } = await import("/runtime/index.js");
            return (await LocalInferenceEngine.load("other-logits/")).canary;
        }"""
    )
    assert not canary["ok"]
    wrong = [stage for stage in canary["stages"] if not stage["ok"]]
    assert [stage["stage"] for stage in wrong] == ["network"]
    assert wrong[0]["max_abs_difference"] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("stage", ["decode", "resize", "normalise"])
def test_the_stage_that_differs_is_the_one_that_is_named(
    page: Page, root: Path, bundle: Bundle, stage: str
) -> None:
    key = {"decode": "decoded", "resize": "resized", "normalise": "tensor"}[stage]
    change = tiny_bundle.reworded({f"{key}_sha256": "0" * 64})
    tiny_bundle.tampered(bundle, root / f"other-{stage}", change)
    canary = page.evaluate(
        """async (address) => {
            const { LocalInferenceEngine } = await import("/runtime/index.js");
            return (await LocalInferenceEngine.load(address)).canary;
        }""",
        f"other-{stage}/",
    )
    assert [one["stage"] for one in canary["stages"] if one["ok"] is False] == [stage]


# the engine's life


def test_what_waits_is_bounded_and_stale_frames_are_dropped(engine: Page) -> None:
    found = engine.evaluate(
        """async () => {
            const frame = new ImageData(64, 48);
            const live = await Promise.allSettled(
                Array.from({ length: 9 }, () => engine.classify(frame, { live: true })));
            const stop = new AbortController();
            const waiting = Array.from({ length: 5 }, () => engine.classify(frame, { signal: stop.signal }));
            stop.abort();
            const aborted = await Promise.allSettled(waiting);
            const many = await samesight.LocalInferenceEngine.load("bundle/", { maxWaiting: 3 });
            const bounded = await Promise.allSettled(Array.from({ length: 9 }, () => many.classify(frame)));
            await many.dispose();
            const names = (all) => all.map(({ reason }) => reason?.name ?? "answered");
            const left = engine.pending;
            return { live: names(live), aborted: names(aborted), bounded: names(bounded), left };
        }"""
    )
    # Two are in the worker; of the rest only the newest frame is answered.
    assert found["live"] == ["answered"] * 2 + ["StaleError"] * 6 + ["answered"]
    assert found["aborted"] == ["answered"] * 2 + ["StaleError"] * 3
    assert found["bounded"] == ["answered"] * 5 + ["StaleError"] * 4
    assert found["left"] == 0


def test_disposing_ends_the_worker_and_rejects_what_waits(page: Page) -> None:
    page.evaluate(OPEN)
    assert len(page.workers) >= 1
    names = page.evaluate(
        """async () => {
            const waiting = Array.from({ length: 6 }, () => engine.classify(new ImageData(64, 48)));
            const all = Promise.allSettled(waiting);
            await engine.dispose();
            await engine.dispose();
            const after = await Promise.allSettled([engine.classify(new ImageData(8, 8))]);
            return [...await all, ...after].map(({ reason }) => reason?.name ?? "answered");
        }"""
    )
    assert names[-1] == "DisposedError"
    assert set(names) == {"answered", "DisposedError"}
    assert_no_worker(page)


def assert_no_worker(page: Page) -> None:
    """Fail where a worker is still there a few seconds later."""
    for _ in range(50):
        if not page.workers:
            return
        page.wait_for_timeout(100)
    pytest.fail(f"still there: {[worker.url for worker in page.workers]}")


@pytest.mark.slow
def test_nothing_leaks_over_twenty_lives(chromium: Browser, url: str) -> None:
    with open_page(chromium, url) as page:
        session = page.context.new_cdp_session(page)

        def live_and_die(times: int) -> float:
            page.evaluate(
                """async (times) => {
                    const { LocalInferenceEngine } = await import("/runtime/index.js");
                    for (let life = 0; life < times; life += 1) {
                        const engine = await LocalInferenceEngine.load("bundle/", { threads: 2 });
                        await engine.classify(new ImageData(64, 48));
                        await engine.dispose();
                    }
                }""",
                times,
            )
            page.wait_for_timeout(300)
            session.send("HeapProfiler.collectGarbage")
            used: float = session.send("Runtime.getHeapUsage")["usedSize"]
            return used

        before = live_and_die(2)
        after = live_and_die(20)
        assert_no_worker(page)
        assert after - before < 1_000_000, "bytes of the page's heap after twenty engines"


def test_one_thread_where_the_page_is_not_isolated(chromium: Browser, root: Path) -> None:
    with serve(root, isolated=False) as address, open_page(chromium, address) as page:
        page.evaluate(OPEN)
        assert page.evaluate("() => [crossOriginIsolated, engine.threads]") == [False, 1]
        assert page.evaluate("async () => (await engine.verify()).ok")
        assert refused(page, "bundle/", threads=2) == "BrowserError"


def test_files_are_kept_by_their_hash_and_checked_again(
    chromium: Browser, root: Path, bundle: Bundle
) -> None:
    with serve(root) as address, open_page(chromium, address) as page:
        fetched: list[str] = []
        page.context.on("request", lambda request: fetched.append(request.url.removeprefix(address)))
        page.evaluate(OPEN)
        assert "bundle/model.fp32.onnx" in fetched
        fetched.clear()
        page.evaluate(OPEN)
        assert [path for path in fetched if path.startswith("bundle/")] == [
            "bundle/bundle.json",
            "bundle/bundle.sha256",
        ]
        fetched.clear()
        spoilt = page.evaluate(
            """async () => {
                const cache = await caches.open("samesight-files-1");
                for (const key of await cache.keys()) {
                    if (key.url.includes("/sha256/")) await cache.put(key, new Response("something else"));
                }
                return (await cache.keys()).length;
            }"""
        )
        assert spoilt > 3
        page.evaluate(OPEN)
        assert "bundle/model.fp32.onnx" in fetched
        assert page.evaluate("() => engine.canary.ok")
        page.evaluate("() => samesight.LocalInferenceEngine.clearCache()")
        assert page.evaluate("() => caches.keys()") == []


def test_what_an_older_version_left_is_dropped(
    chromium: Browser, root: Path, bundle: Bundle, tmp_path: Path
) -> None:
    place = root / "changing"
    shutil.copytree(bundle.folder, place)
    keys = """async () => {
        const { LocalInferenceEngine } = await import("/runtime/index.js");
        await LocalInferenceEngine.load("changing/");
        const cache = await caches.open("samesight-files-1");
        return (await cache.keys()).map(({ url }) => url.split("/").at(-1));
    }"""
    with serve(root) as address, open_page(chromium, address) as page:
        before = set(page.evaluate(keys))
        shutil.rmtree(place)

        def change(folder: Path) -> None:
            weights = tiny_bundle.make_weights(tiny_bundle.write_photos(tmp_path / "photos"))
            (folder / "model.fp32.onnx").write_bytes(tiny_bundle.onnx_model(weights, names="new_"))

        changed = tiny_bundle.tampered(bundle, place, change, version="1.0.1")
        after = set(page.evaluate(keys))
        old = {file.sha256 for file in bundle.files} - {file.sha256 for file in changed.files}
        assert before & old
        assert not after & old


def test_pictures_of_every_kind_can_be_shown(page: Page) -> None:
    page.evaluate(OPEN)
    names = page.evaluate(
        """async () => {
            const blob = await (await fetch("photos/rose/0.jpg")).blob();
            const image = new Image();
            image.src = "photos/rose/0.jpg";
            await image.decode();
            const bitmap = await createImageBitmap(blob);
            const canvas = Object.assign(document.createElement("canvas"), { width: 60, height: 50 });
            canvas.getContext("2d").drawImage(image, 0, 0);
            const off = new OffscreenCanvas(60, 50);
            off.getContext("2d").drawImage(bitmap, 0, 0);
            const frame = new VideoFrame(canvas, { timestamp: 0 });
            const bytes = await blob.arrayBuffer();
            const shown = [blob, bytes, new Uint8Array(bytes), new URL("photos/rose/0.jpg", location), image,
                           bitmap, canvas, off, frame, canvas.getContext("2d").getImageData(0, 0, 60, 50)];
            const labels = await Promise.all(shown.map(async (one) => (await engine.classify(one)).label));
            frame.close();
            const video = document.createElement("video");
            const missing = new URL("photos/none.jpg", location);
            const wrong = await Promise.allSettled(
                ["photos/rose/0.jpg", null, missing, video].map((one) => engine.classify(one)));
            return [labels, wrong.map(({ reason }) => reason?.name)];
        }"""
    )
    assert names == [["rose"] * 10, ["InputError"] * 4]
