"""@samesight/runtime as it is built, in a real Chromium: tensors, answers, and the life of an engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_bundle
from browser import OPEN, assert_no_worker, open_page, refused, serve

from samesight.bundle import Bundle
from samesight.preprocess import PHOTO_SUFFIXES
from samesight.runtime import load
from samesight.verify.tolerances import TOLERANCES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

VECTORS = Path(__file__).resolve().parent.parent / "spec" / "vectors"
CASES: dict[str, Any] = json.loads((VECTORS / "vectors.json").read_text())

pytestmark = pytest.mark.row("R3")


@pytest.mark.row("V1")
def test_resampling_and_normalising_are_what_the_vectors_say(web_engine: Page) -> None:
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
    found = web_engine.evaluate(
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


def test_answers_are_those_of_python(
    web_engine: Page, web_bundle: Bundle, web_photos: list[tuple[Path, str]]
) -> None:
    classifier = load(web_bundle)
    read = [path for path, _ in web_photos if path.suffix != ".bmp"]
    assert {path.suffix for path in read} < PHOTO_SUFFIXES
    found = web_engine.evaluate(
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
        assert answer["bundle"] == web_bundle.id
        assert answer["confidence"] == pytest.approx(wanted.confidence, abs=1e-4)
        allowed = TOLERANCES["fp32"].absolute(float(np.abs(wanted.logits).max()))
        np.testing.assert_allclose(answer["logits"], wanted.logits, rtol=0, atol=allowed)


def test_pictures_of_every_kind_can_be_shown(web_page: Page) -> None:
    web_page.evaluate(OPEN)
    names = web_page.evaluate(
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


# the engine's life


def test_what_waits_is_bounded_and_stale_frames_are_dropped(web_engine: Page) -> None:
    found = web_engine.evaluate(
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


def test_disposing_ends_the_worker_and_rejects_what_waits(web_page: Page) -> None:
    web_page.evaluate(OPEN)
    assert len(web_page.workers) >= 1
    names = web_page.evaluate(
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
    assert_no_worker(web_page)


@pytest.mark.slow
def test_nothing_leaks_over_twenty_lives(chromium: Browser, web_url: str) -> None:
    with open_page(chromium, web_url) as page:
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


def test_one_thread_where_the_page_is_not_isolated(chromium: Browser, web_root: Path) -> None:
    with serve(web_root, isolated=False) as address, open_page(chromium, address) as page:
        page.evaluate(OPEN)
        assert page.evaluate("() => [crossOriginIsolated, engine.threads]") == [False, 1]
        assert page.evaluate("async () => (await engine.verify()).ok")
        assert refused(page, "bundle/", threads=2) == "BrowserError"


def test_files_are_kept_by_their_hash_and_checked_again(
    chromium: Browser, web_root: Path, web_bundle: Bundle
) -> None:
    with serve(web_root) as address, open_page(chromium, address) as page:
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
    chromium: Browser, web_root: Path, web_bundle: Bundle, tmp_path: Path
) -> None:
    place = web_root / "changing"
    shutil.copytree(web_bundle.folder, place)
    keys = """async () => {
        const { LocalInferenceEngine } = await import("/runtime/index.js");
        await LocalInferenceEngine.load("changing/");
        const cache = await caches.open("samesight-files-1");
        return (await cache.keys()).map(({ url }) => url.split("/").at(-1));
    }"""
    with serve(web_root) as address, open_page(chromium, address) as page:
        before = set(page.evaluate(keys))
        shutil.rmtree(place)

        def change(folder: Path) -> None:
            weights = tiny_bundle.make_weights(tiny_bundle.write_photos(tmp_path / "photos"))
            (folder / "model.fp32.onnx").write_bytes(tiny_bundle.onnx_model(weights, names="new_"))

        changed = tiny_bundle.tampered(web_bundle, place, change, version="1.0.1")
        after = set(page.evaluate(keys))
        old = {file.sha256 for file in web_bundle.files} - {file.sha256 for file in changed.files}
        assert before & old
        assert not after & old
