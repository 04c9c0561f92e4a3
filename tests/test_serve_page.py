"""The page to drop photos on, in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
from playwright.sync_api import Browser, Page
from serving import Server, serving

from samesight.bundle import Bundle
from samesight.runtime import load

pytestmark = [pytest.mark.row("R2"), pytest.mark.slow]

TOKEN = "a-token-for-a-page"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    yield from browser.run_chromium()


@pytest.fixture(scope="module")
def photos(bundle: Bundle) -> list[Path]:
    return sorted((bundle.folder.parent / "photos").rglob("*.jpg"))[:2]


def opened(chromium: Browser, server: Server) -> Page:
    page = chromium.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.goto(server.url)
    return page


def test_photos_are_shown_with_their_labels(
    chromium: Browser, bundle: Bundle, photos: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "spoilt.jpg").write_bytes(photos[0].read_bytes()[:300])
    with serving(tmp_path, bundle.folder, f"other={bundle.folder}") as server:
        page = opened(chromium, server)
        page.locator("#which option").nth(1).wait_for(state="attached")
        assert page.locator("#whichlabel").is_visible()
        assert not page.locator("#tokenlabel").is_visible()
        page.set_input_files("#files", [*photos, tmp_path / "spoilt.jpg"])
        page.locator(".error").wait_for()
        assert "cut short" in page.locator(".error").inner_text()
        told = [words.strip() for words in page.locator(".row.best span:first-child").all_inner_texts()]
        assert told == [load(bundle).classify(photo).label for photo in reversed(photos)]
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.close()


def test_a_token_is_asked_for_where_one_is_needed(
    chromium: Browser, bundle: Bundle, photos: list[Path], tmp_path: Path
) -> None:
    with serving(tmp_path, bundle.folder, environment={"SAMESIGHT_TOKEN": TOKEN}) as server:
        page = opened(chromium, server)
        page.locator("#tokenlabel").wait_for()
        page.set_input_files("#files", photos[:1])
        page.locator(".error").wait_for()
        assert "bearer token" in page.locator(".error").inner_text()
        page.fill("#token", TOKEN)
        page.set_input_files("#files", photos[:1])
        page.locator(".row.best").wait_for()
        assert not page.locator("#whichlabel").is_visible()  # one model leaves no choice
        page.close()
