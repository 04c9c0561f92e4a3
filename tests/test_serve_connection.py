"""What comes over a connection before it is a request: endless heads, offers of other protocols, noise."""

from __future__ import annotations

import io
import json
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from bare_bundle import tiny_files, tiny_info
from PIL import Image
from serving import Server, serving

from samesight.bundle import seal

pytestmark = pytest.mark.row("R2")
HEAD = b"POST /classify HTTP/1.1\r\nhost: x\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("connection") / "bundle"
    folder.mkdir()
    tiny_files(folder)
    shutil.rmtree(folder / "golden")
    info = tiny_info()
    seal(folder, replace(info, golden=dict(info.golden, samples=0)))
    with serving(folder.parent, folder, "--unproved") as running:
        yield running


@pytest.fixture(scope="module")
def photo() -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def answers(server: Server, *pieces: bytes, wait_s: float = 0.1) -> list[tuple[int, dict[str, object]]]:
    """Statuses and bodies of all that comes back when these pieces are sent, until the server ends it."""
    host, port = server.place.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(wait_s)
        stream = connection.makefile("rb")
        found = []
        while line := stream.readline():
            headers = dict(iter(lambda: tuple(stream.readline().rstrip().split(b": ", 1)), (b"",)))
            body = stream.read(int(headers[b"content-length"]))
            found.append((int(line.split()[1]), json.loads(body)))
        return found


OFFERS = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIA\r\n",
    "websocket": b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
    "none": b"",
}


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("cut", [1, 40, 10_000])
def test_an_offer_of_another_protocol_is_passed_over(
    server: Server, photo: bytes, offer: str, chunked: bool, cut: int
) -> None:
    """As Java's client asks, and in what pieces the request comes; the connection goes on to be used."""
    size = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(photo)
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(photo), photo) if chunked else photo
    first = HEAD + OFFERS[offer] + size + b"\r\n\r\n" + body
    whole = first + b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    found = answers(server, whole[:cut], whole[cut : len(first) - 9], whole[len(first) - 9 :], wait_s=0.02)
    assert [status for status, _ in found] == [200, 200]
    assert found[0][1] == server.ask("POST", "/classify", photo).json


def test_an_offer_after_which_the_connection_ends(server: Server) -> None:
    head = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nConnection: close, Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert answers(server, head) == [(200, {"live": True})]


LONG = b"x" * 65_000


@pytest.mark.parametrize(
    "pieces",
    [
        (HEAD + b"a: " + LONG + b"x" * 600,),  # without end
        (HEAD + b"a: " + LONG, b"x" * 600),
        (HEAD + b"a: " + LONG + b"x" * 600 + b"\r\n\r\n",),
        (HEAD + b"a: b\r\n" * 20_000 + b"\r\n",),
        (b"GET /" + LONG + b"x" * 600 + b" HTTP/1.1\r\n\r\n",),
        (HEAD + OFFERS["h2c"] + b"a: " + LONG + b"x" * 600 + b"\r\n\r\n",),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\na: ", LONG, b"x" * 600),
    ],
)
def test_a_head_without_end_is_refused(server: Server, pieces: tuple[bytes, ...]) -> None:
    assert answers(server, *pieces) == [(431, {"error": "address and headers are longer than 65536 bytes"})]
    assert (
        answers(server, HEAD + b"connection: close\r\ncontent-length: 1\r\na: " + LONG + b"\r\n\r\nx")[0][0]
        == 415
    )


@pytest.mark.parametrize(
    "data",
    [
        b"noise\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the first bytes of TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n",
        HEAD + b"content-length: -3\r\n\r\n",
        HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",  # of two lengths
        HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
def test_noise_is_told_in_the_protocols_form(server: Server, data: bytes) -> None:
    found = answers(server, data)
    assert found[0] == (400, {"error": "this is not an HTTP/1.1 request that can be read"})
    assert 'samesight_rejections_total{reason="http"}' in server.ask("GET", "/metrics").body.decode()
