"""`samesight web`: what the site holds and what it does not, the server, and the page in a real Chromium."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_bundle
from browser import open_page, ready, serve

from samesight.bundle import Bundle, open_bundle
from samesight.bundle.signing import new_key, sign_bundle
from samesight.errors import InputError
from samesight.images.imagefile import image_format
from samesight.runtime import open_runner
from samesight.verify.golden import read_golden
from samesight.web import site as sites
from samesight.web.policy import HEADERS
from samesight.web.publish import synthetic_photo, write_publishable
from samesight.web.site import write_site

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.row("R3")


@pytest.fixture(scope="module")
def private(web_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same, of photos that may not be published."""
    secret = {**web_bundle.golden, "publishable": False}
    return tiny_bundle.tampered(web_bundle, tmp_path_factory.mktemp("private") / "tiny", golden=secret)


@pytest.fixture(scope="module")
def site(web_assets: Path, web_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_site(web_bundle, tmp_path_factory.mktemp("sites") / "site").folder


@pytest.fixture(scope="module")
def url(site: Path) -> Iterator[str]:
    with serve(site) as address:
        yield address


# what is written


def test_a_publishable_bundle_goes_as_it_is(site: Path, web_bundle: Bundle) -> None:
    inside = open_bundle(site / "bundle")
    assert inside.id == web_bundle.id
    assert len(read_golden(inside).samples) == 6
    listed = json.loads((site / "site.json").read_text())
    paths = [one["path"] for one in listed["files"]]
    assert {"index.html", "page.js", "runtime/worker.js", "bundle/bundle.json"} <= set(paths)
    assert all((site / path).is_file() for path in paths)
    assert f'"{listed["id"]}"' in (site / "service-worker.js").read_text()
    assert "Content-Security-Policy: default-src 'none'" in (site / "_headers").read_text()


def test_nothing_in_the_site_names_another_host(site: Path) -> None:
    known = {  # words in the libraries' own messages and namespaces; nothing is fetched from there
        "www.w3.org",
        "react.dev",
        "fb.me",
        "github.com",
        "onnxruntime.ai",
        "localhost",
        "web.dev",
    }
    for path in site.rglob("*"):
        if path.suffix in (".js", ".mjs", ".css", ".html", ".json", ".svg", ".webmanifest"):
            hosts = set(re.findall(r"https?://([a-z0-9.-]+)", path.read_text()))
            assert hosts <= known, path


@pytest.mark.row("V3")
def test_photos_that_may_not_be_published_stay_here(
    private: Bundle, web_assets: Path, tmp_path: Path
) -> None:
    written = write_site(private, tmp_path / "site")
    inside = open_bundle(tmp_path / "site" / "bundle")
    assert not written.original
    assert inside.id == written.bundle != private.id
    assert inside.version == "1.0.0+published"
    assert inside.made["published_from"] == private.id
    assert inside.golden["samples"] == len(read_golden(inside).samples) == 0
    photos = {file.sha256 for file in private.files if file.role == "golden"}
    assert not photos & {file.sha256 for file in inside.files if file.size_bytes}
    assert {file.role for file in inside.files} == {"model", "golden", "document"}
    for copy in private.copies:
        assert inside.read(copy.file) == private.read(copy.file)
    drawn = json.loads(inside.read("synthetic/synthetic.json"))
    assert drawn["reference"].startswith("ONNX Runtime")
    kinds = [image_format(inside.read(sample["photo"])) for sample in drawn["samples"]]
    assert set(kinds) == {"jpeg", "png", "webp"}


def test_synthetic_pictures_are_told_apart_and_drawn_alike_again(private: Bundle, tmp_path: Path) -> None:
    assert synthetic_photo(2) == synthetic_photo(2) != synthetic_photo(8)
    one, two = (write_publishable(private, tmp_path / name) for name in ("one", "two"))
    assert one == two
    inside = open_bundle(tmp_path / "one")
    rows = np.frombuffer(inside.read("synthetic/logits/reference.f32"), "<f4").reshape(6, 3)
    assert np.ptp(rows, axis=0).max() > 0.1, "different pictures give different answers"
    assert open_runner(inside, "fp16").logits(np.zeros((1, 3, 32, 32), np.float32)).shape == (1, 3)


def test_a_site_replaces_only_a_site(web_bundle: Bundle, web_assets: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    first = write_site(web_bundle, out)
    with pytest.raises(InputError, match="something at the output path"):
        write_site(web_bundle, out)
    assert write_site(web_bundle, out, replace=True).id == first.id
    (tmp_path / "precious").mkdir()
    with pytest.raises(InputError, match="not a site"):
        write_site(web_bundle, tmp_path / "precious", replace=True)


def test_a_page_that_was_not_built_is_told_with_the_command(
    web_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sites, "__file__", str(tmp_path / "site.py"))
    with pytest.raises(InputError) as caught:
        write_site(web_bundle, tmp_path / "site")
    assert caught.value.fix == "make web"
    assert not (tmp_path / "site").exists()


def test_the_command_writes_the_site_and_says_so(
    web_bundle: Bundle, web_assets: Path, tmp_path: Path
) -> None:
    shutil.copytree(web_bundle.folder, tmp_path / "signed")
    key, public = new_key(tmp_path / "key")
    sign_bundle(tmp_path / "signed", key)
    words = [sys.executable, "-m", "samesight", "web", tmp_path / "signed", "--out", tmp_path / "site"]
    done = subprocess.run(
        [*map(str, words), "--trust", str(public), "--json"], capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    assert said["bundle"] == web_bundle.id
    assert said["original"]
    assert said["samples"] == "golden"
    assert (tmp_path / "site" / "bundle" / "bundle.sig").is_file()
    assert "Next: samesight web" in done.stderr
    again = subprocess.run([*map(str, words[:5])], capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "--out SITE, --serve" in again.stderr


def test_the_server_sends_its_headers_and_answers_for_localhost_only(site: Path) -> None:
    with serve(site) as address:
        port = int(address.rsplit(":", 1)[1].strip("/"))

        def ask(path: str, host: str = f"localhost:{port}") -> http.client.HTTPResponse:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path, headers={"Host": host})
            return connection.getresponse()

        answer = ask("/runtime/ort-wasm-simd-threaded.wasm")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/wasm"
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert "'unsafe-eval'" not in HEADERS["Content-Security-Policy"]
        assert "unsafe-inline" not in HEADERS["Content-Security-Policy"]
        assert ask("/runtime/").status == 404
        assert ask("/../../etc/passwd").status == 404
        assert ask("/", host="evil.example").status == 421


# the page


def test_the_page_answers_and_proves_itself(
    chromium: Browser, url: str, web_bundle: Bundle, web_photos: list[tuple[Path, str]]
) -> None:
    with open_page(chromium, url) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        ready(page)
        assert page.inner_text("h1") == "tiny"
        assert "the same answer as PyTorch" in page.inner_text(".verdict")
        chosen = [path for path, label in web_photos if label == "rose" and path.suffix in (".jpg", ".webp")]
        page.set_input_files("input[type=file]", chosen)
        page.locator(".samesight-bars").nth(1).wait_for()
        first = page.locator(".samesight-bars .is-first .samesight-label").all_inner_texts()
        assert first == ["rose", "rose"]
        page.get_by_role("button", name="Prove it").click()
        page.wait_for_selector(".proving[data-ok=true]")
        assert "6 of 6 samples, every stage" in page.inner_text(".notice")
        assert page.locator(".proving tbody td .good").count() == 6 * 6
        assert web_bundle.id in page.inner_text("main")
        assert all(address.startswith((url, "blob:")) for address in asked), "nothing is asked of other hosts"


def test_the_page_can_be_used_with_the_keyboard_and_fits_a_phone(chromium: Browser, url: str) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}
    with open_page(chromium, url, **phone) as page:
        ready(page)
        page.wait_for_selector(".samesight-example img")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        seen = []
        for _ in range(14):
            page.keyboard.press("Tab")
            seen.append(page.evaluate("document.activeElement.innerText || document.activeElement.type"))
        assert {"file", "Use the camera", "Prove it"} <= set(seen)
        page.locator(".samesight-example").first.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector(".samesight-bars")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 26)"


def test_the_camera_is_labelled_live(chromium: Browser, url: str) -> None:
    with open_page(chromium, url, permissions=["camera"]) as page:
        ready(page)
        page.get_by_role("button", name="Use the camera").click()
        page.get_by_text("frames a second").wait_for()
        assert float(page.locator(".samesight-rate").get_attribute("data-rate") or 0) > 1
        assert page.locator(".samesight-camera .is-first .samesight-label").inner_text() in tiny_bundle.LABELS
        assert page.evaluate("document.querySelector('video').videoWidth") > 0
        page.get_by_role("button", name="Stop the camera").click()
        assert page.locator("video").count() == 0


def test_a_photo_that_cannot_be_read_is_told_why(chromium: Browser, url: str, tmp_path: Path) -> None:
    wrong = {"cut.jpg": b"\xff\xd8\xff\xe0", "words.png": b"not a picture", "empty.webp": b""}
    for name, data in wrong.items():
        (tmp_path / name).write_bytes(data)
    with open_page(chromium, url) as page:
        ready(page)
        page.set_input_files("input[type=file]", [tmp_path / name for name in wrong])
        page.locator(".samesight-trouble").nth(2).wait_for()
        told = page.inner_text(".samesight-answers")
        for words in ("cut short", "not a photo of a kind", "file is empty"):
            assert words in told


def test_after_the_first_visit_the_page_needs_no_network(
    chromium: Browser, site: Path, tmp_path: Path
) -> None:
    with serve(site) as address:
        page = chromium.new_context().new_page()
        page.goto(address)
        ready(page)
        page.wait_for_selector("[data-offline=ready]")
    try:  # the server is gone now
        page.goto(address)
        ready(page)
        page.get_by_role("button", name="Prove it").click()
        page.wait_for_selector(".proving[data-ok=true]")
        page.locator(".samesight-example").first.click()
        page.wait_for_selector(".samesight-bars")
    finally:
        page.context.close()


def test_a_host_without_headers_is_isolated_from_the_second_visit_on(chromium: Browser, site: Path) -> None:
    with serve(site, isolated=False) as address, open_page(chromium, address) as page:
        ready(page)
        assert not page.evaluate("crossOriginIsolated")
        page.wait_for_selector("[data-offline=ready]")
        page.goto(address)
        ready(page)
        assert page.evaluate("crossOriginIsolated")
        assert "fp32" in page.inner_text("main")


def test_a_new_site_takes_the_place_of_the_old(
    chromium: Browser, web_bundle: Bundle, web_assets: Path, tmp_path: Path
) -> None:
    out = tmp_path / "site"
    write_site(web_bundle, out)
    with serve(out) as address, open_page(chromium, address, quiet=False) as page:
        ready(page)
        page.wait_for_selector("[data-offline=ready]")
        changed = tiny_bundle.tampered(web_bundle, tmp_path / "changed", version="2.0.0")
        write_site(changed, out, replace=True)
        page.goto(address)  # still the old one, whole
        ready(page)
        assert "version 1.0.0" in page.inner_text(".kicker")
        page.get_by_role("button", name="Load it").click()
        page.get_by_text("version 2.0.0").wait_for()
        ready(page)
        pages = [name for name in page.evaluate("caches.keys()") if name.startswith("samesight-page-")]
        assert len(pages) == 1
        page.goto(address)
        ready(page)
        assert "version 2.0.0" in page.inner_text(".kicker")


def test_a_bundle_that_does_not_agree_is_not_passed_off_as_good(
    chromium: Browser, web_bundle: Bundle, web_assets: Path, tmp_path: Path
) -> None:
    def change(folder: Path) -> None:
        path = folder / "golden" / "logits" / "pytorch.f32"
        path.write_bytes((np.frombuffer(path.read_bytes(), "<f4") + np.float32(0.5)).tobytes())

    site = write_site(tiny_bundle.tampered(web_bundle, tmp_path / "other", change), tmp_path / "site").folder
    with serve(site) as address, open_page(chromium, address) as page:
        ready(page)
        assert "does not give the recorded answer" in page.inner_text(".verdict")
        assert page.get_by_role("alert").count() == 1
        page.get_by_role("button", name="Prove it").click()
        page.wait_for_selector(".proving[data-ok=false]")
        assert "Not the same: 6 of 6 samples differ" in page.inner_text(".notice")
    data = bytearray((site / "bundle" / "model.fp32.onnx").read_bytes())
    data[100] ^= 1
    (site / "bundle" / "model.fp32.onnx").write_bytes(data)
    with serve(site) as address, open_page(chromium, address) as page:
        ready(page, "failed")
        assert "its SHA-256 is not the recorded one" in page.inner_text("[role=alert]")


def test_drawn_pictures_prove_a_private_bundle(
    chromium: Browser, private: Bundle, web_assets: Path, tmp_path: Path
) -> None:
    site = write_site(private, tmp_path / "site").folder
    with serve(site) as address, open_page(chromium, f"{address}?copy=fp16&threads=1") as page:
        ready(page)
        assert "the same answer as ONNX Runtime" in page.inner_text(".verdict")
        page.get_by_role("button", name="Prove it").click()
        page.wait_for_selector(".proving[data-ok=true]")
        assert "6 of 6" in page.inner_text(".notice")


def test_the_address_of_the_page_cannot_bring_a_foreign_bundle(chromium: Browser, url: str) -> None:
    with open_page(chromium, f"{url}?bundle=https://evil.example/") as page:
        asked: list[Any] = []
        page.on("request", lambda request: asked.append(request.url))
        ready(page)
        assert page.inner_text("h1") == "tiny"
        assert not [address for address in asked if "evil" in address]
