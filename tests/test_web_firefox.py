"""@samesight/runtime in Debian's Firefox: the same vectors, the same answers, every copy proved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import firefox
import numpy as np
import pytest

from samesight.bundle import Bundle
from samesight.runtime import load
from samesight.verify.tolerances import TOLERANCES

VECTORS = Path(__file__).resolve().parent.parent / "spec" / "vectors"
CASES: dict[str, Any] = json.loads((VECTORS / "vectors.json").read_text())
READ = ("jpeg", "png", "webp")
WORK = """async ({ cases, paths }) => {
    const { LocalInferenceEngine } = await import("./runtime/index.js");
    const engine = await LocalInferenceEngine.load("bundle/");
    const prepared = await Promise.all(cases.map(async ({ file, preprocess }) => {
        try {
            const photo = new URL(`vectors/${file}`, location);
            const { tensor, ...hashes } = await engine.prepare(photo, preprocess);
            return hashes;
        } catch (error) {
            return `${error.name} ${error.kind}`;
        }
    }));
    const answers = await Promise.all(paths.map(async (path) => {
        const { label, logits } = await engine.classify(new URL(path, location));
        return [label, [...logits]];
    }));
    const context = new OffscreenCanvas(90, 70).getContext("2d");
    const noise = new ImageData(90, 70);
    noise.data.forEach((_, at) => { noise.data[at] = at % 4 === 3 ? 255 : (at * 7919) >> 3; });
    context.putImageData(noise, 0, 0);
    const drawn = await Promise.all([context.canvas, noise].map((one) => engine.prepare(one)));
    const { threads, canary } = engine;
    await engine.dispose();
    const proofs = [];
    for (const copy of ["fp32", "fp16"]) {
        const other = await LocalInferenceEngine.load("bundle/", { copy, threads: 1 });
        proofs.push(await other.verify());
        await other.dispose();
    }
    return {
        prepared, answers, threads, canary, proofs, drawn: drawn.map((one) => one.decoded_sha256),
        agent: navigator.userAgent, isolated: crossOriginIsolated,
    };
}"""

pytestmark = [pytest.mark.slow, pytest.mark.row("R3", "V1")]


@pytest.fixture(scope="module")
def found(web_root: Path, web_photos: list[tuple[Path, str]]) -> dict[str, Any]:
    """What Firefox makes of every vector, of photos, and of the bundle's copies."""
    paths = [f"photos/{path.parent.name}/{path.name}" for path, _ in web_photos if path.suffix != ".bmp"]
    cases = [*CASES["valid"], *CASES["invalid"]]
    said: dict[str, Any] = firefox.run(web_root, WORK, {"cases": cases, "paths": paths})
    return {**said, "cases": cases, "paths": paths}


def test_it_is_firefox_with_threads(found: dict[str, Any]) -> None:
    assert "Firefox/" in found["agent"]
    assert found["isolated"]
    assert found["threads"] >= 1
    assert found["canary"]["ok"]


def test_photos_become_what_the_vectors_say(found: dict[str, Any]) -> None:
    keys = ("width", "height", "decoded_sha256", "resized_sha256", "tensor_sha256")
    count = 0
    for case, answer in zip(found["cases"], found["prepared"], strict=True):
        if case in CASES["valid"] and case["format"] in READ:
            assert answer == {key: case[key] for key in keys}, case["file"]
            count += 1
        else:
            kind = (
                case["kind"] if Path(case["file"]).suffix not in (".bmp", ".gif", ".tif") else "unsupported"
            )
            assert answer == f"PhotoError {kind}", case["file"]
    assert count > 55


def test_pictures_of_a_canvas_are_read_as_they_were_drawn(found: dict[str, Any]) -> None:
    first, second = found["drawn"]
    assert first == second


def test_answers_are_those_of_python(
    found: dict[str, Any], web_bundle: Bundle, web_photos: list[tuple[Path, str]]
) -> None:
    classifier = load(web_bundle)
    photos = web_photos[0][0].parent.parent
    for path, (label, logits) in zip(found["paths"], found["answers"], strict=True):
        wanted = classifier.classify(photos / path.removeprefix("photos/"))
        assert label == wanted.label
        allowed = TOLERANCES["fp32"].absolute(float(np.abs(wanted.logits).max()))
        np.testing.assert_allclose(logits, wanted.logits, rtol=0, atol=allowed)


def test_every_golden_sample_is_proved(found: dict[str, Any]) -> None:
    assert [proof["copy"] for proof in found["proofs"]] == ["fp32", "fp16"]
    for proof in found["proofs"]:
        assert proof["ok"], proof
        assert len(proof["samples"]) == 6
