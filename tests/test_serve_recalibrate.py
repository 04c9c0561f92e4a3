"""The server's half of recalibration: a frame of a page, shown to a larger bundle."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving import Server, serving, until
from tiny_bundle import LABELS

from samesight.bundle import Bundle
from samesight.preprocess import decode
from samesight.runtime import load

pytestmark = pytest.mark.row("R5")

PAGE = "https://app.example"
ASKED = "/classify?model=large&top=3"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server would keep what it keeps for a while."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def server(bundle: Bundle, scratch: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two bundles, for the pages of one origin, with limits that are quickly reached."""
    words = (f"small={bundle.folder}", f"large={bundle.folder}", "--cors", PAGE, "--max-pixels", 250_000)
    queue = ("--threads", 1, "--queue", 2, "--max-photos", 1)
    folder = tmp_path_factory.mktemp("recalibrate")
    with serving(folder, *words, *queue, environment={"TMPDIR": str(scratch)}) as running:
        yield running


def frame(bundle: Bundle, label: str) -> bytes:
    """A photo as a page sends it: the pixels that it saw, as a PNG of no metadata."""
    photo = next((bundle.folder.parent / "photos" / label).glob("0.*"))
    stream = io.BytesIO()
    Image.fromarray(decode(photo.read_bytes())).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("label", LABELS)
def test_every_probability_of_the_very_pixels_is_told(server: Server, bundle: Bundle, label: str) -> None:
    data = frame(bundle, label)
    answer = server.ask("POST", ASKED, data, {"content-type": "image/png", "origin": PAGE})
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.json == load(bundle).classify(data, top=3).to_json("photo")
    assert answer.json["label"] == label
    assert {one["label"] for one in answer.json["top"]} == set(LABELS)
    assert sum(one["probability"] for one in answer.json["top"]) == pytest.approx(1, abs=1e-12)


def test_only_the_pages_that_are_named_may_ask(server: Server, bundle: Bundle) -> None:
    wish = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    for origin, status in ((PAGE, 200), ("https://other.example", 400), ("null", 400)):
        answer = server.ask("OPTIONS", ASKED, None, {"origin": origin, **wish})
        assert answer.status == status
        allowed = answer.headers.get("access-control-allow-origin")
        assert allowed == (PAGE if status == 200 else None)
        assert "access-control-allow-credentials" not in answer.headers
    other = {"content-type": "image/png", "origin": "https://other.example"}
    answer = server.ask("POST", ASKED, frame(bundle, "rose"), other)
    assert "access-control-allow-origin" not in answer.headers


def test_a_page_can_read_why_and_for_how_long_it_is_refused(server: Server, bundle: Bundle) -> None:
    heads = {"content-type": "image/png", "origin": PAGE}
    stream = io.BytesIO()
    Image.fromarray(np.zeros((501, 500, 3), np.uint8)).save(stream, "PNG")
    answer = server.ask("POST", ASKED, stream.getvalue(), heads)
    assert answer.status == 413
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "250000 pixels" in answer.json["error"]
    missing = server.ask("POST", "/classify?model=larger&top=3", frame(bundle, "rose"), heads)
    assert missing.status == 404
    assert missing.headers["access-control-allow-origin"] == PAGE
    shown = {word.strip().lower() for word in answer.headers["access-control-expose-headers"].split(",")}
    assert "retry-after" in shown


def test_nothing_of_a_frame_is_kept(server: Server, bundle: Bundle, scratch: Path) -> None:
    data = frame(bundle, "grass")
    heads = {"content-type": "image/png", "origin": PAGE}
    before = len(server.events("request"))
    assert server.ask("POST", f"{ASKED}&name=a-visitor.png", data, heads).status == 200
    until(lambda: len(server.events("request")) > before)
    assert not list(scratch.iterdir())
    log = server.log.read_text()
    assert "a-visitor" not in log
    assert not any(label in log for label in LABELS)
    told = {"time", "level", "event", "method", "route", "status", "ms", "model", "version", "photos"}
    assert set(server.events("request")[-1]) <= told
