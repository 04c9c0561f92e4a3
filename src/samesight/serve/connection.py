"""One connection: refused where there are too many, ended where its client is slow or its headers endless."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from samesight.serve.metrics import Metrics

__all__ = ["connection_class"]

OFFER = (b"connection", b"upgrade", b"http2-settings")
HEAD_BYTES = 1 << 16  # of a request before its body: address and headers


def _answer(status: str, error: str, *headers: str) -> bytes:
    """A whole refusal in the protocol's form, for what never becomes a request."""
    body = json.dumps({"error": error})
    lines = (f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(body)}", *headers)
    return "\r\n".join((*lines, "connection: close", "", body)).encode()


_FULL = _answer("503 Service Unavailable", "too many connections; try again", "retry-after: 1")
_LONG = _answer(
    "431 Request Header Fields Too Large", f"address and headers are longer than {HEAD_BYTES} bytes"
)
_UNREADABLE = _answer("400 Bad Request", "this is not an HTTP/1.1 request that can be read")


def _without_offer(parser: Any, url: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The head that `parser` has read, as a client sends it that offers no other protocol."""
    start = b"%s %s HTTP/%s" % (parser.get_method(), url, parser.get_http_version().encode())
    lines = [start, *(b"%s: %s" % pair for pair in headers if pair[0] not in OFFER)]
    if any(name == b"connection" and b"close" in value.lower() for name, value in headers):
        lines.append(b"connection: close")
    return b"\r\n".join((*lines, b"", b""))


def connection_class(limit: int, ask_s: float, metrics: Metrics) -> type[asyncio.Protocol]:
    """A protocol for uvicorn that holds `limit` connections, and gives each `ask_s` to send its headers."""
    return type("Connection", (_Connection,), {"limit": limit, "ask_s": ask_s, "metrics": metrics})


class _Connection(HttpToolsProtocol):
    """uvicorn's connection, with what uvicorn leaves open: `connection_class` sets the three below."""

    limit: int
    ask_s: float
    metrics: Metrics

    _waiting: asyncio.TimerHandle | None = None  # runs while a head is awaited
    _head = 0  # bytes of this request's address and headers
    _loose = 0  # bytes that have come, and have not yet become a whole head or a piece of a body
    _plain = b""  # a head without the offer of another protocol

    # How many connections there are, and how long one may take to ask.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.metrics.connections.set(len(self.connections))
        if len(self.connections) > self.limit:
            self._refuse("connections", _FULL)
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)
        self.metrics.connections.set(len(self.connections))

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self.ask_s, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _too_slow(self) -> None:
        self.metrics.rejected("slow")
        self.transport.abort()

    def _refuse(self, reason: str, answer: bytes) -> None:
        self.metrics.rejected(reason)
        self.transport.write(answer)
        self.transport.close()

    # What comes over it. Headers and what else is no body (trailers, the sizes of chunks) are held to
    # HEAD_BYTES as they come: uvicorn's parser gathers them without limit, and ever more slowly.

    def data_received(self, data: bytes) -> None:
        self._loose += len(data)
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.send_400_response("")
        if self._loose > HEAD_BYTES and not self.transport.is_closing():
            self._refuse("head", _LONG)

    def send_400_response(self, msg: str) -> None:
        if self._head > HEAD_BYTES:
            self._refuse("head", _LONG)
        else:
            self._refuse("http", _UNREADABLE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0
        if self._waiting is None:  # a further request on this connection
            self._wait()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value) + len(": \r\n"))

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > HEAD_BYTES:
            raise ValueError  # ends the parser, and so in send_400_response

    def on_body(self, body: bytes) -> None:
        self._loose = 0
        super().on_body(body)

    # An offer to speak another protocol (`Upgrade: h2c` comes with every request of Java's client) is passed
    # over, which RFC 9110, 7.8 allows: the parser would drop the body behind it, so the head is parsed anew
    # without.

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            rest = data[offer.args[0] :]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.feed_data(self._plain + rest)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            self._plain = _without_offer(self.parser, self.url, self.headers)
            return
        self._stop_waiting()
        self._loose = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()
