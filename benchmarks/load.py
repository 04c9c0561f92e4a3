"""A load generator in a process of its own: photos over kept-open connections, latencies as JSON on stdout.

`python benchmarks/load.py URL PHOTO… --seconds 10 (--connections 8 | --rate 100 [--poisson])`

With --connections, each sends the next photo when it has the last answer: the most that the server can do.
With --rate, photos are due at fixed times (or, with --poisson, at random ones of that mean) whether or not
the server keeps up, and a latency counts from when its photo was due, so that waiting to be sent is not left
out. Requests are bytes made beforehand and answers are hardly parsed, so that the generator takes little of
the CPU that it shares with the server; what it took is reported. Where it may, it runs before all else on the
machine, as if it had one of its own: else how late it sends and hears of an answer would count as the
server's. How late it sent is reported too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import time
from collections import Counter, deque
from pathlib import Path
from urllib.parse import urlsplit

import uvloop
from pauses import at_once


class Connection(asyncio.Protocol):
    """One connection, on which one request is under way at most."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.done: asyncio.Future[int] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.buffer[:end]).lower()
        place = head.find(b"content-length:")
        length = int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
        if place < 0 and b"chunked" in head:
            if not self.buffer.endswith(b"0\r\n\r\n"):
                return
        elif len(self.buffer) < end + 4 + length:
            return
        self.buffer.clear()
        if self.done is not None and not self.done.done():
            self.done.set_result(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        if self.done is not None and not self.done.done():
            self.done.set_result(0)

    async def ask(self, request: bytes) -> int:
        """The status of the answer; 0 where the connection was lost."""
        if self.transport is None:
            return 0
        self.done = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.done


class Load:
    """What is sent, and what came back."""

    def __init__(self, url: str, photos: list[Path], form: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname, parts.port
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        self.requests = [made(path, parts.netloc, photo.read_bytes(), form) for photo in photos]
        self.next = 0
        self.seconds: list[float] = []
        self.late: list[float] = []  # seconds from when a photo was due to when it was written
        self.statuses: Counter[int] = Counter()
        self.started = 0.0
        self.free: deque[Connection] = deque()

    def request(self) -> bytes:
        self.next += 1
        return self.requests[self.next % len(self.requests)]

    async def connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self.host, self.port)
        return connection

    def note(self, status: int, since: float) -> None:
        self.statuses[status] += 1
        if status == 200:
            self.seconds.append(time.perf_counter() - since)

    async def closed(self, connections: int, seconds: float) -> None:
        async def one() -> None:
            connection = await self.connect()
            while time.perf_counter() < end:
                start = time.perf_counter()
                status = await connection.ask(self.request())
                self.note(status, start)
                if status == 0 or connection.transport is None:
                    connection = await self.connect()

        end = time.perf_counter() + seconds
        await asyncio.gather(*(one() for _ in range(connections)))

    async def open(self, rate: float, seconds: float, poisson: bool, most: int) -> None:
        async def one(due: float) -> None:
            try:
                connection = self.free.popleft() if self.free else await self.connect()
                self.late.append(time.perf_counter() - due)
                status = await connection.ask(self.request())
            except OSError:
                self.note(0, due)
                return
            self.note(status, due)
            if connection.transport is not None:
                self.free.append(connection)

        draw = random.Random(1)
        due = time.perf_counter()
        end = due + seconds
        running: set[asyncio.Task[None]] = set()
        while due < end:
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            if len(running) < most:
                task = asyncio.create_task(one(due))
                running.add(task)
                task.add_done_callback(running.discard)
            else:
                self.statuses[-1] += 1  # not sent: so many are under way already
            due += draw.expovariate(rate) if poisson else 1 / rate
        if running:
            await asyncio.wait(running, timeout=30)


def made(path: str, host: str, data: bytes, form: str) -> bytes:
    """A whole request: the photo as the body, or as the only file of a form."""
    kind = "image/jpeg"
    if form != "raw":
        head = f'--x\r\nContent-Disposition: form-data; name="{form}"; filename="a.jpg"\r\n'
        data = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + data + b"\r\n--x--\r\n"
        kind = "multipart/form-data; boundary=x"
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: {kind}\r\ncontent-length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def at(ordered: list[float], share: float) -> float | None:
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def main() -> None:
    """Send, and print what came back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--poisson", action="store_true")
    parser.add_argument("--form", default="raw", help="the name of the form's field (default: no form)")
    args = parser.parse_args()
    load = Load(args.url, args.photos, args.form)
    first = at_once()
    start, cpu = time.perf_counter(), time.process_time()
    if args.rate is None:
        uvloop.run(load.closed(args.connections, args.seconds))
    else:
        uvloop.run(load.open(args.rate, args.seconds, args.poisson, args.connections))
    wall = time.perf_counter() - start
    ordered, late = sorted(load.seconds), sorted(load.late)
    print(
        json.dumps(
            {
                "seconds": wall,
                "answered": len(ordered),
                "per_second": len(ordered) / wall,
                "statuses": {str(status): count for status, count in sorted(load.statuses.items())},
                "p50_ms": at(ordered, 0.5),
                "p95_ms": at(ordered, 0.95),
                "p99_ms": at(ordered, 0.99),
                "max_ms": at(ordered, 1.0),
                "late_p50_ms": at(late, 0.5),
                "late_p99_ms": at(late, 0.99),
                "late_max_ms": at(late, 1.0),
                "generator_first": first,
                "generator_cpus": (time.process_time() - cpu) / wall,
                "generator_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
