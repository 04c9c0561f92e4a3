"""One connection: refused where there are too many, ended where its client takes too long to ask."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["connection_class"]

_BODY = b'{"error":"too many connections; try again"}'
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


def connection_class(limit: int, ask_s: float, metrics: Any) -> type[asyncio.Protocol]:
    """A protocol for uvicorn that holds `limit` connections, and gives each `ask_s` to send its headers."""

    class Connection(HttpToolsProtocol):
        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            metrics.connections.set(len(self.connections))
            if len(self.connections) > limit:
                metrics.rejected("connections")
                transport.write(_FULL)
                transport.close()
            else:
                self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)
            metrics.connections.set(len(self.connections))

        def on_message_begin(self) -> None:
            super().on_message_begin()
            if self._waiting is None:  # a further request on this connection
                self._wait()

        def on_headers_complete(self) -> None:
            self._stop_waiting()
            super().on_headers_complete()

        def _wait(self) -> None:
            self._waiting = self.loop.call_later(ask_s, self._too_slow)

        def _stop_waiting(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

        def _too_slow(self) -> None:
            metrics.rejected("slow")
            self.transport.abort()

    return Connection
