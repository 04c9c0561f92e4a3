"""What the page may do: its headers, its content-security-policy, and the one server that it may ask.

Without a larger model to be compared with, the page cannot reach anything but its own site. With one, its
policy names that server's address and no other, and the page still asks nothing before its visitor allows it.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from samesight.errors import InputError

__all__ = ["EVERY_S", "HEADERS", "Recalibrate", "header_file", "headers", "read_header_file", "written_into"]

EVERY_S = 30.0
_CONNECT = "connect-src 'self' blob:"
# Where threads are wanted a page must be cross-origin isolated; WebAssembly must be allowed, eval must not.
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
        f"{_CONNECT}; img-src 'self' blob:; media-src 'self' blob:; style-src 'self'; "
        "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}
_LOOPBACK = ("localhost", "127.0.0.1")
# None of what ends a policy's source or an attribute; nor the brackets of IPv6, which no policy can name.
_SAFE = re.compile(r"[A-Za-z0-9._~%/?=&:@+-]+")
_POLICY = re.compile(r'(<meta\s+http-equiv="Content-Security-Policy"\s+content="[^"]*)' + re.escape(_CONNECT))


@dataclass(frozen=True)
class Recalibrate:
    """A larger model that the page may be compared with: `POST /classify` of a `samesight serve`."""

    url: str
    every_s: float = EVERY_S

    @classmethod
    def parse(cls, words: str, every_s: float = EVERY_S) -> Recalibrate:
        """From a server's address, with or without /classify and a query that names a model.

        Raises InputError where it is none, or camera pictures would cross a network unencrypted.
        """
        try:
            parts = urlsplit(words)
            host, _ = parts.hostname, parts.port  # a port beyond 65535 is a ValueError too
        except ValueError:
            parts, host = urlsplit(""), None
        if (
            not host
            or parts.scheme not in ("http", "https")
            or "@" in parts.netloc
            or parts.fragment
            or not _SAFE.fullmatch(words)
        ):
            raise InputError(
                "this is not the address of a server",
                expected="https://example.org/classify?model=NAME, of `samesight serve`",
                found=words,
            )
        if parts.scheme == "http" and host not in _LOOPBACK:
            raise InputError(
                "pictures of a camera would be sent unencrypted",
                expected="https, or http on this machine's loopback",
                found=words,
                fix="put a proxy with TLS before `samesight serve`",
            )
        path = parts.path.rstrip("/") or "/classify"  # a policy's path with "/" at its end means all below it
        return cls(parts._replace(path=path).geturl(), every_s)

    @property
    def source(self) -> str:
        """The address as a content-security-policy names it: without its query, which no policy has."""
        return urlsplit(self.url)._replace(query="").geturl()


def headers(recalibrate: Recalibrate | None = None) -> dict[str, str]:
    """The HTTP headers that a site wants."""
    if recalibrate is None:
        return dict(HEADERS)
    policy = HEADERS["Content-Security-Policy"].replace(_CONNECT, f"{_CONNECT} {recalibrate.source}")
    return {**HEADERS, "Content-Security-Policy": policy}


def written_into(page: str, recalibrate: Recalibrate) -> str:
    """index.html with the larger model's address in its policy, and in an element that its script reads."""
    meta = (
        f'<meta name="samesight-recalibrate" content="{html.escape(recalibrate.url)}" '
        f'data-every-seconds="{recalibrate.every_s:g}" />\n    '
    )
    text, count = _POLICY.subn(lambda found: f"{found[0]} {recalibrate.source}", page)
    text = text.replace("<title>", f"{meta}<title>", 1)
    assert count == 1, "our own index.html has one policy"
    assert meta in text, "and a title"
    return text


def header_file(recalibrate: Recalibrate | None = None) -> str:
    """The file `_headers`: all headers for all paths, as Netlify and Cloudflare Pages read them."""
    return "/*\n" + "".join(f"  {name}: {value}\n" for name, value in headers(recalibrate).items())


def read_header_file(text: str) -> dict[str, str]:
    """The headers in a file that `header_file` wrote."""
    lines = (line.strip().partition(": ") for line in text.splitlines() if line.startswith("  "))
    return {name: value for name, _, value in lines}
