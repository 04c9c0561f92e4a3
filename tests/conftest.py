"""Parts that many tests share: real photos where they are at hand, small ones made here otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def packs() -> Path:
    """The folder of real photos and weights; the test is skipped where there is none."""
    folder = Path(os.environ.get("SAMESIGHT_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "SHA256SUMS").is_file():
        pytest.skip(f"the packs of real photos are not at {folder} (set SAMESIGHT_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per class: ten classes of 30 handwritten digits, 32 × 32 PNG, from scikit-learn."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("digits")
    images, targets = load_digits(return_X_y=True)
    for target in range(10):
        place = folder / str(target)
        place.mkdir()
        for index, values in enumerate(images[targets == target][:30]):
            grey = Image.fromarray((values.reshape(8, 8) * 15.9375).astype(np.uint8))
            grey.resize((32, 32), Image.Resampling.BICUBIC).save(place / f"{index:03}.png")
    return folder


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    """A folder per class: three classes of eight JPEGs, 64 × 48, each class of its own hue."""
    folder = tmp_path / "photos"
    random = np.random.default_rng(7)
    for hue, label in enumerate(("blue sky", "grass", "rose")):
        (folder / label).mkdir(parents=True)
        for index in range(8):
            pixels = random.integers(0, 80, (48, 64, 3), dtype=np.uint8)
            pixels[..., 2 - hue] += 150
            Image.fromarray(pixels).save(folder / label / f"{index}.jpg", quality=90)
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what tests unpack out of the user's cache."""
    monkeypatch.setenv("SAMESIGHT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def web_assets() -> Path:
    """The built web page and runtime, built anew where their sources are newer; skipped without Node.js."""
    import browser

    return browser.build_assets()


@pytest.fixture(scope="session")
def chromium(web_assets: Path) -> Iterator[Browser]:
    """A real Chromium with a camera that shows a test picture; the test is skipped where there is none."""
    import browser

    yield from browser.run_chromium()


@pytest.fixture(scope="session")
def samesight_rs() -> Path:
    """The Rust program, built anew where its sources are newer; skipped without cargo."""
    import cargo

    return cargo.build_program()
