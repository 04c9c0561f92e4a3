"""The engines' ways to one another: bytes go through unchanged; nobody comes in without the right role."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cryptography")

from samesight.secure.certificates import make_certificates
from samesight.secure.local import _free_places
from samesight.secure.party import Place
from samesight.secure.protocols import PROTOCOLS
from samesight.secure.ways import ways
from samesight.secure.wire import Address, Tls

ABY3 = PROTOCOLS["aby3"]


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("ours", "strangers"):
        make_certificates(folder / name)
    return folder / "ours", folder / "strangers"


def place(peers: dict[str, Address], folder: Path | None, role: str, ca: Path | None = None) -> Place:
    tls = None
    if folder is not None:
        tls = Tls(folder / f"{role}.pem", folder / f"{role}.key", (ca or folder) / "ca.pem")
    return Place(ABY3, peers, Path("python"), tls)


@contextmanager
def engine(address: str) -> Iterator[None]:
    """Something that gives back what it is given, where an engine would listen."""
    host, _, port = address.partition(":")

    def echo(stream: socket.socket) -> None:
        with suppress(OSError), stream:
            while data := stream.recv(1 << 16):
                stream.sendall(data)

    def take() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=echo, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server((host, int(port))) as server:
        threading.Thread(target=take, daemon=True).start()
        yield


def through(address: str, data: bytes) -> bytes:
    """What comes back of `data`, which is sent while it comes; nothing where the connection is ended."""
    host, _, port = address.partition(":")
    found = bytearray()
    with suppress(OSError), socket.create_connection((host, int(port)), timeout=20) as stream:
        threading.Thread(target=lambda: _send(stream, data), daemon=True).start()
        while len(found) < len(data) and (piece := stream.recv(1 << 16)):
            found += piece
    return bytes(found)


def _send(stream: socket.socket, data: bytes) -> None:
    with suppress(OSError):
        stream.sendall(data)


@pytest.mark.row("X3")
def test_bytes_go_both_ways_unchanged_under_tls(authorities: tuple[Path, Path]) -> None:
    peers, data = _free_places(ABY3), np.random.default_rng(1).bytes(12_000_000)
    with (
        ways(place(peers, authorities[0], "model"), "model") as model,
        ways(place(peers, authorities[0], "image"), "image") as image,
        engine(model[0]),
    ):
        assert model[0] != str(peers["model"]), "the engine itself is not to be reached from outside"
        assert all(address.startswith("127.0.0.1:") for address in (*model, *image))
        assert through(image[0], data) == data


@pytest.mark.row("X3")
def test_nobody_comes_in_without_the_right_role(
    authorities: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    ours, strangers = authorities
    peers, hello = _free_places(ABY3), b"hello" * 100
    with ways(place(peers, ours, "model"), "model") as model, engine(model[0]):
        outside = str(peers["model"])
        assert through(outside, hello) == b"", "a plain connection"
        for folder, role, ca in ((strangers, "image", ours), (ours, "model", None)):
            other = _free_places(ABY3) | {"model": peers["model"]}
            with ways(place(other, folder, role, ca), "image") as image:
                assert through(image[0], hello) == b"", f"{folder.name}, {role}"
    # what answers at the helper's address is the model's party
    other = _free_places(ABY3)
    elsewhere = other | {"helper": other["model"]}
    with (
        ways(place(other, ours, "model"), "model") as model,
        engine(model[0]),
        ways(place(elsewhere, ours, "image"), "image") as image,
    ):
        assert through(image[2], hello) == b""
        assert through(image[0], hello) == hello
    assert "at the helper's address" in capsys.readouterr().err


def test_without_certificates_nothing_is_in_between() -> None:
    peers = _free_places(ABY3)
    with ways(place(peers, None, "image"), "image") as found:
        assert found == [str(peers[role]) for role in ABY3.roles]
