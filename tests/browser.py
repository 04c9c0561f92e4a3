"""A real Chromium, a built page and a served folder, for tests of what runs in a browser."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from samesight.errors import SamesightError
from samesight.web import chromium
from samesight.web.server import open_server
from samesight.web.site import assets

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parent.parent
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
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


def build_assets() -> Path:
    """The built page, after `make web`, by one of the test processes at a time."""
    if shutil.which("npm") is None or shutil.which("make") is None:
        pytest.skip("the web page is built by Node.js, npm and make, which are not here")
    with (ROOT / "web" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(["make", "web"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"`make web` fails:\n{done.stdout}\n{done.stderr}", pytrace=False)
    return assets()


def run_chromium() -> Iterator[Browser]:
    """A running Chromium, ended afterwards."""
    try:
        driver = chromium.playwright()
    except SamesightError as error:
        pytest.skip(str(error))
    try:
        if chromium.find_chromium() is None:
            pytest.skip("there is no Chromium (tests/setup_browser.sh installs Debian's)")
        with chromium.launch(driver, *CAMERA) as started:
            yield started
    finally:
        driver.stop()


@contextlib.contextmanager
def serve(folder: Path, *, port: int = 0, isolated: bool = True) -> Iterator[str]:
    """The address at which `folder` is served, as `samesight web --serve` does it."""
    with open_server(folder, port, isolated=isolated) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def open_page(browser: Browser, url: str, *, quiet: bool = True, **options: Any) -> Iterator[Page]:
    """A page of its own profile at `url`. With `quiet`, errors on its console fail the test."""
    with browser.new_context(**options) as context:
        page = context.new_page()
        trouble: list[str] = []
        page.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.goto(url)
        yield page
        assert not (quiet and trouble), trouble


def write_empty_page(web_assets: Path, folder: Path) -> None:
    """Fill `folder` with the runtime, and a page that has nothing in it."""
    shutil.copytree(web_assets / "runtime", folder / "runtime")
    shutil.copyfile(web_assets / "icon.svg", folder / "icon.svg")
    (folder / "index.html").write_text('<!doctype html><title>empty</title><link rel="icon" href="icon.svg">')


def refused(page: Page, address: str, **options: Any) -> str:
    """The name of the error with which a bundle is refused."""
    found = page.evaluate(REFUSED, [address, {"cache": False, **options}])
    assert found is not None, f"{address} was not refused"
    return str(found[0])


def assert_no_worker(page: Page) -> None:
    """Fail where a worker is still there a few seconds later."""
    for _ in range(50):
        if not page.workers:
            return
        page.wait_for_timeout(100)
    pytest.fail(f"still there: {[worker.url for worker in page.workers]}")


def ready(page: Page, wanted: str = "ready") -> None:
    """Wait until the demo page has loaded its bundle, or failed to."""
    page.wait_for_selector("main[data-status=ready], main[data-status=failed]", timeout=30_000)
    assert page.get_attribute("main", "data-status") == wanted, page.inner_text("main")
