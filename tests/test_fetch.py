"""Files from URLs: whole, pinned, taken up where a connection broke off, or not there."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tiny_photos import packed, write_classes

from samesight.cli import main
from samesight.data.fetch import fetch, fetch_pinned, file_name, pinned
from samesight.data.photos import PhotoOptions, open_photos
from samesight.errors import InputError
from samesight.files import cache_folder, sha256_bytes

pytestmark = pytest.mark.row("D1")

DATA = bytes(range(256)) * 40
SHA256 = sha256_bytes(DATA)


class Server(ThreadingHTTPServer):
    """Serves `data` on loopback, `times` times only `break_after` bytes of it; `ranges` were asked for."""

    daemon_threads = True
    data = DATA
    break_after: int | None = None
    times = 0
    ignore_ranges = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path in ("/moved", "/to-file"):
            self.send_response(302)
            self.send_header("Location", "/a.bin" if self.path == "/moved" else "file:///etc/hostname")
            self.end_headers()
            return
        start = 0 if asked is None or server.ignore_ranges else int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(server.data):
            self.send_error(416)
            return
        body = server.data[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.data) - 1}/{len(server.data)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.break_after is not None and server.times > 0:
            server.times -= 1
            body = body[: server.break_after]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMESIGHT_CACHE", str(tmp_path / "cache"))


def nothing_in(folder: Path) -> bool:
    return not folder.exists() or not [path for path in folder.rglob("*") if path.is_file()]


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "new" / "a.bin"
    assert fetch(f"{server.url}/a.bin", SHA256, out) == out
    assert out.read_bytes() == DATA
    assert fetch(f"{server.url}/a.bin", SHA256.upper(), out) == out
    assert len(server.ranges) == 1
    assert [path.name for path in out.parent.iterdir()] == ["a.bin"]


def test_redirects_are_followed_but_never_to_a_file(server: Server, tmp_path: Path) -> None:
    assert fetch(f"{server.url}/moved", SHA256, tmp_path / "a").read_bytes() == DATA
    with pytest.raises(InputError):
        fetch(f"{server.url}/to-file", None, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_another_file_than_the_pinned_one(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "new" / "a.bin"
    with pytest.raises(InputError, match="not the pinned one") as caught:
        fetch(f"{server.url}/a.bin", "0" * 64, out)
    assert SHA256 in str(caught.value)
    assert nothing_in(out.parent)


def test_a_broken_download_is_taken_up(server: Server, tmp_path: Path) -> None:
    server.break_after, server.times = 1000, 2
    assert fetch(f"{server.url}/a.bin", SHA256, tmp_path / "a").read_bytes() == DATA
    assert server.ranges == [None, "bytes=1000-", "bytes=2000-"]


def test_what_came_is_kept_for_the_next_run(server: Server, tmp_path: Path) -> None:
    server.break_after, server.times = 1000, 3
    with pytest.raises(InputError, match="broke off"):
        fetch(f"{server.url}/a.bin", SHA256, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert fetch(f"{server.url}/a.bin", SHA256, tmp_path / "a").read_bytes() == DATA
    assert server.ranges[-1] == "bytes=3000-"


def test_a_wrong_beginning_is_not_kept(server: Server, tmp_path: Path) -> None:
    for part in (b"another file's beginning", bytes(len(DATA)), bytes(2 * len(DATA))):
        (tmp_path / ".a.part").write_bytes(part)
        assert fetch(f"{server.url}/a.bin", SHA256, tmp_path / "a").read_bytes() == DATA
        (tmp_path / "a").unlink()


def test_a_server_without_ranges(server: Server, tmp_path: Path) -> None:
    server.ignore_ranges = True
    (tmp_path / ".a.part").write_bytes(DATA[:100])
    assert fetch(f"{server.url}/a.bin", SHA256, tmp_path / "a").read_bytes() == DATA


def test_limits_and_missing_files(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too large"):
        fetch(f"{server.url}/a.bin", None, tmp_path / "a", limit_bytes=len(DATA) - 1)
    with pytest.raises(InputError, match="cannot be read") as caught:
        fetch(f"{server.url}/missing", None, tmp_path / "a")
    assert "404" in str(caught.value)
    with pytest.raises(InputError):
        fetch("http://127.0.0.1:9/x", None, tmp_path / "a")
    with pytest.raises(InputError):
        fetch((tmp_path / "nothing").as_uri(), None, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_another_file_is_never_overwritten(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"mine")
    for sha256 in (None, SHA256):
        with pytest.raises(InputError, match="another file"):
            fetch(f"{server.url}/a.bin", sha256, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"mine"
    assert not server.ranges


def test_two_at_once_download_once(server: Server, tmp_path: Path) -> None:
    words = f"{server.url}/a.bin#sha256={SHA256}"
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(fetch_pinned(words))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert found[0].read_bytes() == DATA
    assert len(server.ranges) == 1


@pytest.mark.parametrize("words", ["ftp://x/y", "data:,x", "https://x/y#sha256=12", f"x://y#sha256={SHA256}"])
def test_urls_that_are_not_read(words: str) -> None:
    with pytest.raises(InputError):
        pinned(words)


def test_names_from_urls() -> None:
    assert file_name("https://x/a/b%20c.zip?d=e") == "b_c.zip"
    assert file_name("https://x/") == "download"
    assert file_name("https://x/..%2f..%2fetc") == "etc"
    assert file_name("https://x/.hidden") == "hidden"


def test_photos_from_a_pinned_url(server: Server, tmp_path: Path) -> None:
    server.data = packed(
        write_classes(tmp_path / "pets", {"cat": 2, "dog": 1}), tmp_path / "p.zip"
    ).read_bytes()
    words = f"{server.url}/pets.zip#sha256={sha256_bytes(server.data)}"
    with pytest.raises(InputError, match="--offline"):
        open_photos(words, PhotoOptions(offline=True))
    assert [photo.name for photo in open_photos(words).items] == ["cat/0.png", "cat/1.png", "dog/0.png"]
    assert len(open_photos(words, PhotoOptions(offline=True)).items) == 3
    assert len(server.ranges) == 1
    with pytest.raises(InputError, match="pinned SHA-256") as caught:
        open_photos(f"{server.url}/pets.zip")
    assert f"samesight fetch {server.url}/pets.zip" in str(caught.value)


def test_a_changed_file_in_the_cache_is_not_used(server: Server) -> None:
    words = f"{server.url}/a.bin#sha256={SHA256}"
    path = fetch_pinned(words)
    assert cache_folder() in path.parents
    path.write_bytes(b"changed")
    with pytest.raises(InputError, match="another file"):
        fetch_pinned(words)


def test_the_command(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"{server.url}/a.bin"
    assert main(["fetch", url]) == 0
    told = capsys.readouterr().out
    assert f"pinned  {url}#sha256={SHA256}" in told
    assert Path("a.bin").read_bytes() == DATA
    assert main(["fetch", url, "--sha256", SHA256, "--json", "--out", "b.bin"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {
        "url": url,
        "path": "b.bin",
        "sha256": SHA256,
        "size_bytes": len(DATA),
        "pinned": f"{url}#sha256={SHA256}",
    }
    assert main(["fetch", f"{url}#sha256={SHA256}", "--sha256", "0" * 64, "--out", "c.bin"]) == 2
    assert main(["fetch", f"file://{tmp_path}/a.bin#sha256={SHA256}", "--out", "d.bin"]) == 0
    assert Path("d.bin").read_bytes() == DATA
    assert main(["fetch", url]) == 2  # there already, and without a pin nobody knows whether it is the same
