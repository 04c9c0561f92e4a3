"""A site on this machine's loopback, with the headers that it wants: to look at, not for the public."""

from __future__ import annotations

import functools
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from samesight.errors import InputError
from samesight.web.policy import HEADERS, read_header_file

__all__ = ["open_server"]

HOST = "127.0.0.1"
_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


def open_server(folder: Path, port: int = 0, *, isolated: bool = True) -> ThreadingHTTPServer:
    """A server of `folder` on loopback, not yet running; port 0 takes a free one.

    It sends the headers in the folder's file `_headers`, or those that any site wants where there is none.
    `isolated` False leaves out the headers that threads need, as many hosts do. Raises InputError where the
    port is taken.
    """
    handler = functools.partial(_Handler, directory=str(folder), isolated=isolated)
    try:
        return _Server((HOST, port), handler)
    except OSError as error:
        raise InputError(
            "cannot listen on a port", where=f"{HOST}:{port}", found=error.strerror, fix="another --port"
        ) from error


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing where the browser went away, as it does when a page is left while it loads."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    extensions_map = {  # noqa: RUF012 - what the base class reads
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".json": "application/json",
        ".webp": "image/webp",
        ".webmanifest": "application/manifest+json",
    }

    def __init__(self, *args: object, directory: str, isolated: bool) -> None:
        self._isolated = isolated
        super().__init__(*args, directory=directory)  # type: ignore[arg-type]

    def parse_request(self) -> bool:
        """Refuse requests for other hosts: a foreign name that leads to loopback must not read the site."""
        if not super().parse_request():
            return False
        if urlsplit(f"//{self.headers.get('Host', '')}").netloc.rsplit(":", 1)[0] in _NAMES:
            return True
        self.send_error(421, "this server answers for localhost only")
        return False

    def end_headers(self) -> None:
        file = Path(self.directory) / "_headers"
        for name, value in (read_header_file(file.read_text()) if file.is_file() else HEADERS).items():
            if self._isolated or not name.startswith("Cross-Origin-"):
                self.send_header(name, value)
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def list_directory(self, path: object) -> None:
        self.send_error(404, "there is no such file")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the page is what is looked at."""
