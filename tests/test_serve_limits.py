"""What a server does with too much: refuses it early, in time, and goes on answering the others."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bare_bundle import tiny_files, tiny_info
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from serving import Server, multipart, serving, until

from samesight.bundle import seal
from samesight.errors import InputError
from samesight.serve.body import Budget, Lease, split_parts
from samesight.serve.refusal import Refusal
from samesight.serve.settings import Settings, Source, read_tokens
from samesight.serve.shelf import best_batch, precedence
from samesight.serve.work import Pool

pytestmark = pytest.mark.row("R2")

MIB = 1 << 20


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One without golden samples, so that it is ready at once."""
    folder = tmp_path_factory.mktemp("limits") / "bundle"
    folder.mkdir()
    tiny_files(folder)
    shutil.rmtree(folder / "golden")
    info = tiny_info()
    seal(folder, replace(info, golden=dict(info.golden, samples=0)))
    return folder


def picture(side: int, form: str = "PNG") -> bytes:
    noise = np.random.default_rng(1).integers(0, 255, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, form)
    return stream.getvalue()


def flat_png(width: int, height: int) -> bytes:
    """A PNG of one colour: few bytes, many pixels."""
    stream = io.BytesIO()
    Image.new("1", (width, height)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def small(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with small limits and one thread."""
    words = ("--unproved", "--threads", 1, "--queue", 4, "--max-photos", 3, "--max-mib", 2, "--memory-mib", 4)
    limits = ("--max-pixels", 4_000_000, "--slow", 1, "--connections", 40)
    with serving(tmp_path_factory.mktemp("small"), bundle, *words, *limits) as server:
        yield server


def test_bytes_are_counted_before_anything_is_decoded(small: Server) -> None:
    too_many = b"\0" * (2 * MIB + 1)
    for body, headers in (
        (too_many, {}),
        (gzip.compress(too_many), {"content-encoding": "gzip"}),
        (zlib.compress(too_many), {"content-encoding": "deflate"}),
    ):
        answer = small.ask("POST", "/classify", body, headers)
        assert answer.status == 413
        assert "longer than 2097152 bytes" in answer.json["error"]
    with socket.create_connection(small.place.split(":")) as connection:  # and of a body of unknown length
        connection.sendall(b"POST /classify HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(3):
            connection.sendall(b"100000\r\n" + b"\0" * MIB + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_pixels_are_counted_before_anything_is_decoded(small: Server) -> None:
    assert small.ask("POST", "/classify", flat_png(2000, 2000)).status == 200
    answer = small.ask("POST", "/classify", flat_png(2001, 2000))
    assert answer.status == 413
    assert "4000000 pixels" in answer.json["error"]
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0))
    assert small.ask("POST", "/classify", bomb).status == 413


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def test_photos_are_counted(small: Server) -> None:
    one = picture(10)
    assert small.ask("POST", "/classify", *multipart(*[("a.png", one)] * 3)).status == 200
    answer = small.ask("POST", "/classify", *multipart(*[("a.png", one)] * 4))
    assert answer.status == 413
    assert "at most 3 photos" in answer.json["error"]


def test_ten_times_the_load_gives_answers_and_429(small: Server) -> None:
    slow = picture(700)  # 1.4 MB of noise
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: small.ask("POST", "/classify", slow), range(60)))
    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) == {200, 429}, statuses
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status == 429)
    assert small.ask("POST", "/classify", picture(10)).status == 200


def test_what_is_too_late_is_refused_with_503(bundle: Path, tmp_path: Path) -> None:
    slow = picture(900)
    with serving(tmp_path, bundle, "--unproved", "--threads", 1, "--deadline", 0.05) as server:
        with ThreadPoolExecutor(10) as threads:
            answers = list(threads.map(lambda _: server.ask("POST", "/classify", slow), range(30)))
        late = [answer for answer in answers if answer.status == 503]
        assert late
        assert {answer.status for answer in answers} <= {200, 503}
        assert "deadline" in late[0].json["error"]
        assert "retry-after" in late[0].headers
        # A client's own deadline, in the microseconds of the protocol's clients.
        image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [""]}
        body = json.dumps({"parameters": {"timeout": 1}, "inputs": [image]}).encode()
        assert server.ask("POST", "/v2/models/tiny-net/infer", body).status == 503


def test_slow_clients_are_cut_off(small: Server) -> None:
    host, port = small.place.split(":")
    head = b"POST /classify HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n"
    with contextlib.ExitStack() as stack:
        silent, half_a_head, half_a_body = (
            stack.enter_context(socket.create_connection((host, int(port)), timeout=10)) for _ in range(3)
        )
        half_a_head.sendall(head)
        half_a_body.sendall(head + b"\r\n" + b"x" * 500)
        start = time.monotonic()
        assert half_a_body.recv(4096).startswith(b"HTTP/1.1 408 ")
        for connection in (silent, half_a_head):
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(10) == b""
        assert time.monotonic() - start < 8


def test_too_many_connections_are_told_so(small: Server) -> None:
    host, port = small.place.split(":")
    with contextlib.ExitStack() as stack:
        held = [
            stack.enter_context(socket.create_connection((host, int(port)), timeout=10)) for _ in range(60)
        ]
        answers = []
        for connection in held:
            connection.setblocking(False)
        time.sleep(0.4)
        for connection in held:
            with contextlib.suppress(BlockingIOError):
                answers.append(connection.recv(400))
    assert 15 <= len(answers) <= 25
    assert all(answer.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in answer for answer in answers)
    until(lambda: small.ask("GET", "/v2/health/ready").status == 200)


def test_what_was_begun_is_finished_when_told_to_stop(bundle: Path, tmp_path: Path) -> None:
    slow = picture(1000)
    with serving(tmp_path, bundle, "--unproved", "--threads", 1, "--deadline", 60) as server:
        with ThreadPoolExecutor(6) as threads:
            answers = [threads.submit(server.ask, "POST", "/classify", slow) for _ in range(6)]
            until(lambda: any(answer.done() for answer in answers))
            server.process.send_signal(signal.SIGTERM)
            assert [answer.result().status for answer in answers] == [200] * 6
        assert server.process.wait(30) == 0


def test_memory_for_requests_is_lent_and_given_back() -> None:
    budget = Budget(10)
    with Lease(budget) as one:
        one.upto(6)
        one.upto(4)
        with pytest.raises(Refusal) as refused, Lease(budget) as other:
            other.upto(5)
        assert refused.value.status == 429
        assert budget.held_bytes == 6
    assert budget.held_bytes == 0


class Held:
    """A runner that waits until it is let go, and remembers its batches."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.batches: list[int] = []

    def logits(self, tensors: np.ndarray) -> np.ndarray:
        self.go.wait(10)
        self.batches.append(len(tensors))
        return tensors.reshape(len(tensors), -1)[:, :2].astype(np.float32)


def rows(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32).reshape(-1, 1, 1, 1).repeat(3, axis=1)


def with_pool(length: int, use: Any, threads: int = 1) -> Any:
    async def body() -> Any:
        loud = SimpleNamespace(stage=lambda *_: None, batch=lambda _: None)
        pool = Pool(threads=threads, length=length, max_pixels=1, metrics=loud)  # type: ignore[arg-type]
        pool.start()
        try:
            return await use(pool)
        finally:
            await asyncio.to_thread(pool.close)

    return asyncio.run(body())


def test_what_waits_is_run_together_and_each_gets_its_own() -> None:
    runner = Held()
    served: Any = SimpleNamespace(runner=runner, batch=4, name="held")

    async def use(pool: Pool) -> list[Any]:
        def one(n: int) -> asyncio.Task[list[Any]]:
            soon = time.monotonic() + 10
            return asyncio.create_task(
                pool.answers(served, [rows(n)], lambda found: float(found[0, 0]), soon)
            )

        ask = [one(0)]
        await asyncio.sleep(0)
        while pool.waiting:
            await asyncio.sleep(0.01)
        ask += [one(n) for n in range(1, 9)]
        await asyncio.sleep(0)
        assert pool.waiting == 8
        runner.go.set()
        return [(await task)[0] for task in ask]

    assert with_pool(20, use) == [float(n) for n in range(9)]
    assert runner.batches == [1, 4, 4]


def test_a_queue_takes_a_request_whole_or_not_at_all() -> None:
    runner = Held()
    served: Any = SimpleNamespace(runner=runner, batch=1, name="held")

    async def use(pool: Pool) -> None:
        soon = time.monotonic() + 10
        first = asyncio.create_task(pool.answers(served, [rows(1)], float, soon))
        await asyncio.sleep(0)
        while pool.waiting:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(pool.answers(served, [rows(1, 2, 3)], len, soon))
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await pool.answers(served, [rows(1), rows(2)], len, soon)
        assert refused.value.status == 429
        with pytest.raises(Refusal) as late:
            await pool.answers(served, [rows(1)], len, time.monotonic() + 0.05)
        assert late.value.status == 503
        first.cancel()
        runner.go.set()
        assert await second == [3]

    with_pool(4, use)
    assert sum(runner.batches) == 4, "what nobody waits for any more is not run"


def test_a_fault_is_told_and_the_thread_lives_on() -> None:
    class Faulty(Held):
        def logits(self, tensors: np.ndarray) -> np.ndarray:
            if tensors[0, 0, 0, 0] == 0:
                raise ZeroDivisionError
            return tensors[:, :2, 0, 0] * np.float32("nan" if tensors[0, 0, 0, 0] == 1 else 1)

    served: Any = SimpleNamespace(runner=Faulty(), batch=1, name="faulty")

    async def use(pool: Pool) -> None:
        soon = time.monotonic() + 10
        with pytest.raises(ZeroDivisionError):
            await pool.answers(served, [rows(0)], len, soon)
        (error,) = await pool.answers(served, [rows(1)], len, soon)
        assert "not a number" in str(error)
        assert await pool.answers(served, [rows(2)], len, soon) == [1]

    with_pool(4, use)


class Timed:
    """A runner and its clocks: what a run and a photo take, and what a busy machine makes of any run."""

    def __init__(self, run_s: float, photo_s: float) -> None:
        self.run_s, self.photo_s, self.cpu, self.wall = run_s, photo_s, 0.0, 0.0

    def logits(self, tensors: np.ndarray) -> np.ndarray:
        self.cpu += self.run_s + self.photo_s * len(tensors)
        self.wall += 0.03
        return tensors

    def thread_time(self) -> float:
        return self.cpu

    def monotonic(self) -> float:
        return self.wall


def best_of(run_s: float, photo_s: float, dimension: int | str, monkeypatch: pytest.MonkeyPatch) -> int:
    runner = Timed(run_s, photo_s)
    monkeypatch.setattr("samesight.serve.shelf.time", runner)
    return best_batch(runner, (2, 2), dimension)  # type: ignore[arg-type]


def test_a_batch_is_used_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert best_of(0, 0.01, "batch", monkeypatch) == 1
    assert best_of(0.0005, 0.01, "batch", monkeypatch) == 1, "a gain too small to wait for others"
    assert best_of(0.01, 0.01, "batch", monkeypatch) == 8
    assert best_of(0.01, 0.2, "batch", monkeypatch) == 1
    assert best_of(0.01, 0.01, 3, monkeypatch) == 3


def test_versions_are_ordered_as_semantic_versions_are() -> None:
    ordered = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
    ]
    ordered += ["1.0.0", "1.2.0", "1.10.0+build", "2.0.0"]
    assert sorted(reversed(ordered), key=precedence) == ordered  # noqa: C414


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["b", "xyz", "", "b\xff"]))
def test_multipart_noise_is_read_or_refused(body: bytes, boundary: str) -> None:
    for data in (body, f"--{boundary}\r\n".encode() + body + f"\r\n--{boundary}--".encode()):
        with contextlib.suppress(Refusal):
            assert len(split_parts(data, f"multipart/form-data; boundary={boundary}", 3)) <= 3


NAMES = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=5)
FILES = st.tuples(NAMES, st.binary(max_size=99).filter(lambda data: b"--xyz" not in data))


@given(st.lists(FILES, min_size=1, max_size=3))
def test_multipart_comes_through_whole(files: list[tuple[str, bytes]]) -> None:
    body, headers = multipart(*files)
    parts = split_parts(body, headers["content-type"], 3)
    assert [(part.filename, part.data) for part in parts] == files


def test_settings_that_contradict_each_other_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options, words in (
        ({"queue": 2, "max_photos": 3}, "--max-photos"),
        ({"memory_mib": 1, "max_bytes": 2 * MIB}, "--max-mib"),
        ({"origins": ("example.org",)}, "origin"),
    ):
        with pytest.raises(InputError, match=words):
            Settings(sources=(), **options)  # type: ignore[arg-type]
    assert Source.parse("a=b/c") == Source(Path("b/c"), "a")
    assert Source.parse("./a=b") == Source(Path("./a=b"))
    for text, words in (("", "no token"), ("short", "malformed"), ("with blank in it", "malformed")):
        (tmp_path / "tokens").write_text(text)
        with pytest.raises(InputError, match=words):
            read_tokens(tmp_path / "tokens")
    monkeypatch.setenv("SAMESIGHT_TOKEN", "from-the-environment")
    assert read_tokens(None) == ("from-the-environment",)
    monkeypatch.delenv("SAMESIGHT_TOKEN")
    assert read_tokens(None) == ()


def test_an_address_that_is_taken_is_told(bundle: Path, small: Server) -> None:
    command = [sys.executable, "-m", "samesight", "serve", str(bundle), "--port", small.place.split(":")[1]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "cannot be listened to" in done.stderr
    assert "--port" in done.stderr
