"""Parts that many tests share: real photos where they are at hand, small ones made here otherwise."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from samesight.errors import InputError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from samesight.bundle import Bundle


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


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small real bundle with golden samples, its 15 photos in the folder `photos` beside it; not to be
    changed, since many tests share it."""
    import tiny_bundle

    folder = tmp_path_factory.mktemp("shared")
    photos = tiny_bundle.write_photos(folder / "photos")
    return tiny_bundle.make_bundle(folder / "bundle", photos, tiny_bundle.make_weights(photos))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what tests unpack out of the user's cache."""
    monkeypatch.setenv("SAMESIGHT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def engine() -> Path:
    """The Python that has the secure engine; the test is skipped where there is none."""
    import secure_engine

    try:
        return secure_engine.find()
    except InputError as error:
        pytest.skip(" ".join(f"{error.what}: {error.found or error.fix}".split()))


@pytest.fixture(scope="session")
def web_assets() -> Path:
    """The built web page and runtime, built anew where their sources are newer; skipped without Node.js."""
    import browser

    return browser.build_assets()


@pytest.fixture(scope="module")  # Playwright keeps an event loop running, in which other modules' could not
def chromium(web_assets: Path) -> Iterator[Browser]:
    """A real Chromium with a camera that shows a test picture; the test is skipped where there is none."""
    import browser

    yield from browser.run_chromium()


# What the tests in a browser share: a small bundle with its photos, served beside the runtime.


@pytest.fixture(scope="session")
def web_photos(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    """Fifteen photos of three labels, in every common form."""
    import tiny_bundle

    return tiny_bundle.write_photos(tmp_path_factory.mktemp("web") / "photos")


@pytest.fixture(scope="session")
def web_bundle(web_photos: list[tuple[Path, str]], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of a small network that knows them."""
    import tiny_bundle

    folder = tmp_path_factory.mktemp("web") / "tiny"
    return tiny_bundle.make_bundle(folder, web_photos, tiny_bundle.make_weights(web_photos))


@pytest.fixture(scope="module")
def web_root(
    web_assets: Path,
    web_bundle: Bundle,
    web_photos: list[tuple[Path, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with the runtime, an empty page, the vectors, photos, and the bundle."""
    import browser

    folder = tmp_path_factory.mktemp("served")
    browser.write_empty_page(web_assets, folder)
    shutil.copytree(ROOT / "spec" / "vectors" / "files", folder / "vectors")
    shutil.copytree(web_photos[0][0].parent.parent, folder / "photos")
    shutil.copytree(web_bundle.folder, folder / "bundle")
    return folder


@pytest.fixture(scope="module")
def web_url(web_root: Path) -> Iterator[str]:
    """Where it is served."""
    import browser

    with browser.serve(web_root) as address:
        yield address


@pytest.fixture
def web_page(chromium: Browser, web_url: str) -> Iterator[Page]:
    """A page there in a profile of its own."""
    import browser

    # of files that are missing the console tells too
    with browser.open_page(chromium, web_url, quiet=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def web_engine(chromium: Browser, web_url: str) -> Iterator[Page]:
    """A page whose `engine` has the bundle."""
    import browser

    with browser.open_page(chromium, web_url) as opened:
        opened.evaluate(browser.OPEN)
        yield opened


@pytest.fixture(scope="session")
def samesight_rs() -> Path:
    """The Rust program, built anew where its sources are newer; skipped without cargo."""
    import cargo

    return cargo.build_program()
