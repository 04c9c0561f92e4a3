"""A Chromium that is on this machine, driven by Playwright; none is downloaded."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

from samesight.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

__all__ = ["find_chromium", "launch", "playwright"]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# It is to show pages of this machine only: nothing is looked up, updated or synchronised.
ARGUMENTS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)


def find_chromium() -> str | None:
    """The path of a Chromium: `SAMESIGHT_CHROMIUM`, else the first on the PATH; None where there is none."""
    if named := os.environ.get("SAMESIGHT_CHROMIUM"):
        return shutil.which(named)
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def playwright() -> Playwright:
    """Playwright, started; to be stopped by its `stop()`. Raises MissingExtra where it is not installed."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise MissingExtra("a browser as runner", "browser") from error
    started: Playwright = sync_playwright().start()
    return started


def launch(driver: Playwright, *more: str, **options: Any) -> Browser:
    """A Chromium without a window, with `more` arguments. Raises InputError where there is none."""
    path = find_chromium()
    if path is None:
        raise InputError(
            "there is no Chromium on this machine",
            expected=f"one of {', '.join(NAMES)} on the PATH, or SAMESIGHT_CHROMIUM",
            fix="apt-get install chromium",
        )
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # it refuses root else
    browser: Browser = driver.chromium.launch(
        executable_path=path, args=[*ARGUMENTS, *root, *more], **options
    )
    return browser
