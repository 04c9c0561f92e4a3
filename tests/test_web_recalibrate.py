"""A small bundle in a real Chromium, compared with a larger one on a real `samesight serve`, with consent."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_bundle
from browser import open_page, ready, serve
from serving import Server, serving

from samesight.bundle import Bundle
from samesight.errors import InputError
from samesight.web.policy import HEADERS, Recalibrate, header_file, headers, read_header_file
from samesight.web.server import open_server
from samesight.web.site import write_site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.row("R5")

POLICY = "Content-Security-Policy"


# the address, and what the page may reach


@pytest.mark.parametrize(
    ("words", "url"),
    [
        ("https://example.org", "https://example.org/classify"),
        ("https://example.org/classify?model=large", "https://example.org/classify?model=large"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/classify"),
        ("http://localhost:9/a/classify/", "http://localhost:9/a/classify"),
    ],
)
def test_the_policy_names_the_one_server(words: str, url: str) -> None:
    found = Recalibrate.parse(words)
    assert found.url == url
    policy = headers(found)[POLICY]
    assert f"connect-src 'self' blob: {url.partition('?')[0]};" in policy
    assert policy.replace(f" {found.source}", "") == HEADERS[POLICY]
    assert headers() == HEADERS
    assert read_header_file(header_file(found)) == headers(found)


@pytest.mark.parametrize(
    "words",
    [
        *("", "example.org", "ftp://example.org/", "https://", "https://user:word@example.org/"),
        *("https://example.org/#x", "https://example.org/;script-src", "https://example.org/ *"),
        *('https://example.org/"><script>', "https://example.org:99999/", "https://example.org/,"),
        *("http://example.org/classify", "http://[::1]:8000/"),
    ],
)
def test_an_address_that_will_not_do_is_refused(words: str) -> None:
    with pytest.raises(InputError):
        Recalibrate.parse(words)


def test_the_command_writes_the_server_into_the_site(
    web_bundle: Bundle, web_assets: Path, tmp_path: Path
) -> None:
    words = ["web", str(web_bundle.folder), "--out", str(tmp_path / "site"), "--json"]
    words += ["--recalibrate", "https://example.org/?model=large", "--recalibrate-every", "2.5"]
    done = subprocess.run(
        [sys.executable, "-m", "samesight", *words], capture_output=True, text=True, check=True
    )
    url = "https://example.org/classify"
    assert json.loads(done.stdout)["recalibrate"] == f"{url}?model=large"
    page = (tmp_path / "site" / "index.html").read_text()
    (meta,) = re.findall(r'http-equiv="Content-Security-Policy"\s+content="([^"]*)"', page)
    wanted = headers(Recalibrate.parse(url))[POLICY]
    assert (
        f"{meta}; frame-ancestors 'none'"
        == wanted
        == json.loads((tmp_path / "site" / "site.json").read_text())["policy"]
    )
    assert f'content="{url}?model=large" data-every-seconds="2.5"' in page


# the temperature


def surprise(logits: np.ndarray, wanted: np.ndarray, temperature: float) -> float:
    """The mean of -sum p log softmax(z / T), in float64."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    log = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    return float(-(wanted * log).sum(axis=1).mean())


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return found


def fitted(page: Page, logits: np.ndarray, wanted: np.ndarray) -> float:
    found: float = page.evaluate(
        """([logits, wanted]) => samesight.fitTemperature(logits.map((row, at) => (
            { logits: new Float32Array(row), probabilities: new Float64Array(wanted[at]) })))""",
        [logits.tolist(), wanted.tolist()],
    )
    return found


@pytest.mark.parametrize("true", [0.5, 1.0, 2.0, 13.0])
def test_a_temperature_that_explains_all_is_found(web_engine: Page, true: float) -> None:
    random = np.random.default_rng(4)
    logits = (random.standard_normal((9, 6)) * 3).astype(np.float32)
    assert fitted(web_engine, logits, softmax(logits / true)) == pytest.approx(true, rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_temperature_is_less_surprised(web_engine: Page, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = (random.standard_normal((12, 5)) * random.uniform(0.5, 8)).astype(np.float32)
    wanted = softmax(logits * random.uniform(0.2, 2) + random.standard_normal((12, 5)))
    found = fitted(web_engine, logits, wanted)
    least = surprise(logits, wanted, found)
    for other in np.geomspace(1 / 20, 20, 2001):
        assert least <= surprise(logits, wanted, float(other)) + 1e-12


def test_where_nothing_is_best_the_bound_is(web_engine: Page) -> None:
    logits = np.array([[4.0, 0.0, -1.0]], np.float32)
    assert fitted(web_engine, logits, np.array([[1.0, 0.0, 0.0]])) == pytest.approx(1 / 20)
    assert fitted(web_engine, logits, np.array([[0.0, 0.0, 1.0]])) == pytest.approx(20)


# the page beside a server


@pytest.fixture(scope="module")
def port() -> int:
    """A free port for the site, which the server must know before the site is written."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        found: int = one.getsockname()[1]
        return found


@pytest.fixture(scope="module")
def server(
    port: int,
    web_bundle: Bundle,
    web_photos: list[tuple[Path, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """A server of a network whose logits are half those of the page's, and of one with other labels."""
    folder = tmp_path_factory.mktemp("larger")
    weights = tiny_bundle.make_weights(web_photos)
    half = weights | {"w3": weights["w3"] / 2, "b3": weights["b3"] / 2}
    tiny_bundle.make_bundle(folder / "large", web_photos, half)

    def renamed(bundle: Path) -> None:
        record = bundle / "golden" / "golden.json"
        record.write_text(record.read_text().replace('"rose"', '"tulip"'))

    other = (*web_bundle.labels[:-1], "tulip")
    tiny_bundle.tampered(web_bundle, folder / "strange", renamed, labels=other)
    places = [f"large={folder / 'large'}", f"strange={folder / 'strange'}"]
    with serving(folder, *places, "--cors", f"http://localhost:{port}") as running:
        yield running


def test_a_larger_model_is_asked_only_with_consent_and_corrects_the_confidence(
    chromium: Browser, web_bundle: Bundle, web_assets: Path, server: Server, port: int, tmp_path: Path
) -> None:
    larger = Recalibrate.parse(f"{server.url}/classify?model=large", every_s=0.1)
    site = write_site(web_bundle, tmp_path / "site", recalibrate=larger).folder
    with serve(site, port=port) as url, open_page(chromium, url, permissions=["camera"]) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        ready(page)
        assert "no photo leaves it unless you allow it" in page.inner_text(".verdict")
        photo = page.locator(".samesight-example").first
        photo.click()
        page.get_by_role("button", name="Use the camera").click()
        page.get_by_text("frames a second").wait_for()
        page.wait_for_timeout(500)
        assert not [address for address in asked if address.startswith(server.url)]
        assert page.locator(".comparing").get_attribute("data-seen") == "0"
        switch = page.get_by_role("switch")
        switch.focus()
        page.keyboard.press("Space")
        page.wait_for_selector(".comparing:not([data-temperature='1'])")
        seen = page.locator(".comparing")
        # The larger model's logits are half of these: its probabilities are these at twice the temperature.
        assert float(seen.get_attribute("data-temperature") or 0) == pytest.approx(2, rel=1e-3)
        assert "100 %" in page.locator(".comparing .tile").first.inner_text()
        assert "it is less sure than it said" in page.inner_text(".comparing")
        page.wait_for_timeout(300)
        here, there = re.findall(r"(\d+) %", page.locator(".comparing .tile").nth(2).inner_text())
        assert here == there
        switch.click()
        page.wait_for_timeout(500)
        asked.clear()
        page.wait_for_timeout(500)
        assert not [address for address in asked if address.startswith(server.url)]
        lines = server.log.read_text()
    assert "rose" not in lines
    assert "image/png" not in lines


def test_the_policy_lets_the_page_reach_no_other_server(
    chromium: Browser, web_bundle: Bundle, web_assets: Path, server: Server, port: int, tmp_path: Path
) -> None:
    larger = Recalibrate.parse(f"{server.url}/classify")
    site = write_site(web_bundle, tmp_path / "site", recalibrate=larger).folder
    reach = """async (address) => {
        try { await fetch(address, { method: "POST" }); return "answered"; } catch { return "refused"; }
    }"""
    with (
        open_server(site) as other,
        serve(site, port=port) as url,
        open_page(chromium, url, quiet=False) as page,
    ):
        ready(page)
        assert page.evaluate(reach, f"{server.url}/classify") == "answered"
        assert page.evaluate(reach, f"{server.url}/v2/repository/index") == "refused"
        assert page.evaluate(reach, f"http://localhost:{other.server_port}/") == "refused"
        page.wait_for_selector("[data-offline=ready]")
        kept = page.evaluate(
            "async (name) => (await caches.match('runtime/worker.js')).headers.get(name)", POLICY
        )
        assert kept == headers(larger)[POLICY]


LIVE = """async ([url, consent, times]) => {
    const { LocalInferenceEngine } = await import("/runtime/index.js");
    const told = [];
    const onChange = (state) => told.push({ ...state, error: state.error?.message ?? null });
    const recalibrate = { url, everySeconds: 0.001, consent, onChange };
    const engine = await LocalInferenceEngine.load("bundle/", { recalibrate });
    const before = engine.recalibrated;
    const temperatures = [];
    for (let turn = 0; turn < times; turn += 1) {
        const count = told.length;
        const frame = new ImageData(60 + turn, 50);
        frame.data.fill(255).forEach((_, at) => { frame.data[at] = (at * (7 + turn)) % 251; });
        const { logits, confidence, temperature } = await engine.classify(frame, { live: true });
        const powers = [...logits].map((one) => Math.exp((one - Math.max(...logits)) / temperature));
        temperatures.push([temperature, confidence, 1 / powers.reduce((sum, one) => sum + one)]);
        const end = performance.now() + (consent ? 5000 : 100);
        while (told.length === count && performance.now() < end) await new Promise((go) => setTimeout(go, 5));
    }
    await engine.classify(new ImageData(60, 50));
    const state = engine.recalibrated;
    await engine.dispose();
    return { before: { ...before }, told, temperatures, seen: state.seen };
}"""


def test_an_engine_asks_and_rescales(chromium: Browser, web_root: Path, server: Server, port: int) -> None:
    larger = Recalibrate.parse(f"{server.url}/classify?model=large")
    (web_root / "_headers").write_text(header_file(larger))
    with serve(web_root, port=port) as url, open_page(chromium, url) as page:
        found = page.evaluate(LIVE, [larger.url, True, 8])
        assert found["before"]["temperature"] == 1
        assert found["seen"] == len(found["told"]) == 8, "and chosen photos are never sent"
        last = found["told"][-1]
        assert (last["same"], last["agreement"], last["needed"], last["error"]) == (8, 1, 0, None)
        assert last["temperature"] == pytest.approx(2, rel=1e-4), "so the server saw the very same pixels"
        used = [temperature for temperature, *_ in found["temperatures"]]
        assert used[:5] == [1] * 5
        assert used[5:] == pytest.approx([2] * 3, rel=1e-4)
        for _, confidence, wanted in found["temperatures"]:
            assert confidence == pytest.approx(wanted, rel=1e-12)
        assert page.evaluate(LIVE, [larger.url, False, 2])["told"] == []


def test_trouble_is_told_kindly(
    chromium: Browser, web_root: Path, server: Server, port: int, web_url: str
) -> None:
    (web_root / "_headers").write_text(header_file(Recalibrate.parse(f"{server.url}/classify")))

    def told(page: Page, url: str) -> str:
        found: dict[str, Any] = page.evaluate(LIVE, [url, True, 1])
        assert found["seen"] == 0
        return str(found["told"][0]["error"])

    with serve(web_root, port=port) as url, open_page(chromium, url, quiet=False) as page:
        assert "HTTP 404: there is no model huge" in told(page, f"{server.url}/classify?model=huge")
        strange = told(page, f"{server.url}/classify?model=strange")
        assert strange.startswith("the larger model has other labels")
        assert "no 'rose'" in strange
        assert "cannot be asked" in told(page, "http://127.0.0.1:9/classify"), "the policy forbids it"
    with open_page(chromium, web_url, quiet=False) as page:  # an origin that the server does not allow
        words = told(page, f"{server.url}/classify")
        assert "cannot be asked" in words
        assert f"samesight serve … --cors {web_url.rstrip('/')}" in words
        for options in ({"url": "blob:x"}, {"everySeconds": 0}, {"consent": None}):
            name = page.evaluate(
                """async (other) => {
                    const { LocalInferenceEngine } = await import("/runtime/index.js");
                    const recalibrate = { url: "https://a.example/", consent: true, ...other };
                    return LocalInferenceEngine.load("bundle/", { recalibrate }).catch(({ name }) => name);
                }""",
                options,
            )
            assert name == "InputError"
