"""A real `samesight serve` in a process of its own on a free port, for the tests that ask it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

START_S = 60


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A running server."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    @property
    def place(self) -> str:
        """host:port"""
        return urlsplit(self.url).netloc

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(self.place, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of that name in the log so far."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def stop(self) -> int:
        """Tell it to stop; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


def start(
    folder: Path, *words: object, environment: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[str], Path]:
    """The process of `samesight serve`, its log in a file in `folder`."""
    log = folder / f"serve-{time.monotonic_ns()}.log"
    command = [sys.executable, "-m", "samesight", "serve", *map(str, words), "--port", "0"]
    with log.open("w") as stream:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            env={**os.environ, **(environment or {})},
        )
    return process, log


@contextlib.contextmanager
def serving(
    folder: Path, *words: object, ready: bool = True, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A server, ready to answer unless `ready` is false; stopped when the block ends."""
    process, log = start(folder, *words, environment=environment)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://"), log.read_text()
        server = Server(url, process, log)
        if ready:
            until(lambda: server.ask("GET", "/v2/health/ready").status == 200)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=30)
        assert process.stdout is not None
        process.stdout.close()


def until(done: Any, seconds: float = START_S) -> None:
    """Wait until `done()` is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if done():
                return
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


def multipart(*files: tuple[str, bytes]) -> tuple[bytes, dict[str, str]]:
    """A multipart/form-data body of files, and its header."""
    parts = [
        f'--xyz\r\nContent-Disposition: form-data; name="photo"; filename="{name}"\r\n\r\n'.encode() + data
        for name, data in files
    ]
    body = b"\r\n".join(parts) + b"\r\n--xyz--\r\n"
    return body, {"content-type": "multipart/form-data; boundary=xyz"}
