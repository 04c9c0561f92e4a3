"""The browser as a runner: a bundle's copies in a Chromium on this machine, by @samesight/runtime."""

from __future__ import annotations

import base64
import shutil
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from samesight.bundle import Bundle
from samesight.errors import BundleInvalid
from samesight.web import chromium
from samesight.web.server import open_server
from samesight.web.site import assets, copy_bundle

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["BrowserRunner", "open_browser_runners"]

PAGE = '<!doctype html><title>Samesight</title><link rel="icon" href="icon.svg">'
OPEN = """async (copy) => {
    const { LocalInferenceEngine } = await import("/runtime/index.js");
    globalThis.engine = await LocalInferenceEngine.load("bundle/", { copy, canary: false, cache: false });
}"""
# Base64 both ways: as JSON numbers a tensor takes ten times as long.
LOGITS = """async (text) => {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const logits = await engine.logits(new Float32Array(bytes.buffer));
    return btoa(String.fromCharCode(...new Uint8Array(logits.buffer)));
}"""


class BrowserRunner:
    """One copy of a bundle in a page of a browser. Not safe to use from several threads."""

    name = "web"

    def __init__(self, page: Page, copy: str, browser: _Browser) -> None:
        self.copy = copy
        self._page = page
        self._browser = browser  # which ends when no runner needs it any more

    def logits(self, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits (n, classes) of `tensors` (n, 3, height, width), one after another."""
        rows = [self._page.evaluate(LOGITS, _text(tensor)) for tensor in tensors]
        return np.stack([np.frombuffer(base64.b64decode(row), "<f4") for row in rows]).astype(np.float32)


def open_browser_runners(bundle: Bundle, copies: Sequence[str]) -> list[BrowserRunner]:
    """A runner for each of `copies`, each in a page of its own.

    Raises MissingExtra or InputError where there is no Playwright, no Chromium, or the runtime was not built;
    BundleInvalid where the browser refuses the bundle.
    """
    browser = _Browser(bundle)
    return [BrowserRunner(browser.open(copy), copy, browser) for copy in copies]


class _Browser:
    """A Chromium, a server on loopback, a folder with the runtime and the bundle; gone with the object."""

    def __init__(self, bundle: Bundle) -> None:
        runtime = assets()
        driver = chromium.playwright()
        try:
            self._chromium = chromium.launch(driver)
        except BaseException:
            driver.stop()
            raise
        folder = Path(tempfile.mkdtemp(prefix="samesight-browser-"))
        shutil.copytree(runtime / "runtime", folder / "runtime")
        shutil.copyfile(runtime / "icon.svg", folder / "icon.svg")
        (folder / "index.html").write_text(PAGE)
        copy_bundle(bundle, folder / "bundle")
        self._server = open_server(folder)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        weakref.finalize(self, _end, self._chromium, driver, self._server, folder)

    def open(self, copy: str) -> Page:
        """A page in which the engine has loaded this copy."""
        page = self._chromium.new_page()
        page.set_default_timeout(0)  # a network may take its time
        page.goto(f"http://localhost:{self._server.server_port}/")
        from playwright.sync_api import Error

        try:
            page.evaluate(OPEN, copy)
        except Error as error:
            raise BundleInvalid(
                "the browser refuses the bundle", where=f"the {copy} copy", found=error.message
            ) from error
        return page


def _end(browser: Any, driver: Any, server: Any, folder: Path) -> None:
    browser.close()
    driver.stop()
    server.shutdown()
    server.server_close()
    shutil.rmtree(folder, ignore_errors=True)


def _text(tensor: NDArray[np.float32]) -> str:
    return base64.b64encode(np.ascontiguousarray(tensor, "<f4").tobytes()).decode()
