"""Network links with latency and bandwidth between processes of one machine, for kernels without netem.

Every byte from one party to another goes through here: it waits until the sender's line has carried what was
sent before it, and then as long as half a round trip. The line is the party's own, shared by all it sends to.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
CHUNK = 1 << 16
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Link:
    """What lies between two parties."""

    round_trip_ms: float
    megabits: float  # a second, out of each party


LINKS = {"lan": Link(1, 1000), "wan": Link(40, 100)}


class Line:
    """A party's way out."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._free = 0.0
        self._lock = threading.Lock()

    def arrival(self, size: int) -> float:
        """When so many bytes, given now, are there."""
        with self._lock:
            self._free = max(time.monotonic(), self._free) + size * 8 / (self.link.megabits * 1e6)
            return self._free + self.link.round_trip_ms / 2000


class Network:
    """Lines of all parties, and the ports that lead through them."""

    def __init__(self, link: Link, roles: tuple[str, ...]) -> None:
        self._lines = {role: Line(link) for role in roles}
        self._servers: list[socket.socket] = []

    def way(self, sender: str, receiver: str, port: int) -> int:
        """A port at which `sender` reaches `receiver` at `port`, and at the next one at the next one."""
        while True:
            first = socket.create_server((LOOPBACK, 0))
            found: int = first.getsockname()[1]
            try:
                second = socket.create_server((LOOPBACK, found + 1))
                break
            except (OSError, OverflowError):
                first.close()
        lines = self._lines[sender], self._lines[receiver]
        for server, target in ((first, port), (second, port + 1)):
            self._servers.append(server)
            threading.Thread(target=_take, args=(server, target, *lines), daemon=True).start()
        return found

    def close(self) -> None:
        """No further connections."""
        for server in self._servers:
            server.close()


def _take(server: socket.socket, target: int, out: Line, back: Line) -> None:
    with suppress(OSError):
        while True:
            near = server.accept()[0]
            far = _connected(target)
            for source, sink, line in ((near, far, out), (far, near, back)):
                sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                waiting: queue.Queue[tuple[float, bytes]] = queue.Queue()
                threading.Thread(target=_read, args=(source, waiting, line), daemon=True).start()
                threading.Thread(target=_write, args=(waiting, sink), daemon=True).start()


def _connected(port: int) -> socket.socket:
    """A connection to `port`, as soon as somebody listens there."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return socket.create_connection((LOOPBACK, port))
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def _read(source: socket.socket, waiting: queue.Queue[tuple[float, bytes]], line: Line) -> None:
    data = b""
    with suppress(OSError):
        while data := source.recv(CHUNK):
            waiting.put((line.arrival(len(data)), data))
    waiting.put((0.0, b""))


def _write(waiting: queue.Queue[tuple[float, bytes]], sink: socket.socket) -> None:
    with suppress(OSError):
        while True:
            due, data = waiting.get()
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            time.sleep(max(0.0, due - time.monotonic()))
            sink.sendall(data)
