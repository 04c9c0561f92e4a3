"""What the parties say to one another: who is let in, what is refused, and how an end is noticed."""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

pytest.importorskip("cryptography")

from samesight.cli import main
from samesight.errors import InputError, PartyError
from samesight.secure import wire
from samesight.secure.certificates import make_certificates
from samesight.secure.ledger import Ledger
from samesight.secure.modelparty import Door
from samesight.secure.party import Place, join, sign_in
from samesight.secure.process import EngineProcess
from samesight.secure.protocols import PROTOCOLS, protocol
from samesight.secure.wire import Address, Channel, Inbox, Tls, connect, listen, read_peers

PEERS = {role: Address("127.0.0.1", port) for role, port in (("model", 1), ("image", 2), ("helper", 3))}


def tls_of(folder: Path, role: str, authority: Path | None = None) -> Tls:
    return Tls(folder / f"{role}.pem", folder / f"{role}.key", (authority or folder) / "ca.pem")


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificates of the parties' authority, and those of a stranger's."""
    place = tmp_path_factory.mktemp("certificates")
    for name in ("ours", "strangers"):
        make_certificates(place / name)
    return place / "ours", place / "strangers"


def place_at(port: int, tls: Tls | None) -> Place:
    peers = {**PEERS, "model": Address("127.0.0.1", port - 1)}
    return Place(PROTOCOLS["aby3"], peers, Path("python"), tls, wait_seconds=1)


@pytest.mark.row("X3")
def test_only_parties_with_a_certificate_of_their_role_are_let_in(
    authorities: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    ours, strangers = authorities
    with listen(Address("127.0.0.1", 0), tls_of(ours, "model")) as server:
        port = server.getsockname()[1]
        door = Door(server, place_at(port, tls_of(ours, "model")))
        channel = sign_in(place_at(port, tls_of(ours, "image")), "image")
        role, _, hello = door.arrived.get(timeout=10)
        assert (role, hello["role"], channel.role) == ("image", "image", "model")
        channel.close()
        with pytest.raises(PartyError):  # another authority
            sign_in(place_at(port, tls_of(strangers, "image")), "image").receive(5)
        with pytest.raises(PartyError):  # another authority, though it trusts ours
            connect(Address("127.0.0.1", port), tls_of(strangers, "image", ours), 1).receive(5)
        plain = connect(Address("127.0.0.1", port), None, 1)
        plain.send("hello", role="image")
        with pytest.raises(PartyError):
            assert plain.receive(15) is not None
            plain.receive(15)
        # the helper's certificate does not make an image's owner
        answer = sign_in(place_at(port, tls_of(ours, "helper")), "image").receive(10)
        assert answer is not None
        assert answer["kind"] == "stop"
        assert "another party's" in answer["why"]
        assert door.arrived.empty()
    assert capsys.readouterr().err.count("refused:") >= 3


def test_another_version_is_told() -> None:
    with listen(Address("127.0.0.1", 0), None) as server:
        port = server.getsockname()[1]
        Door(server, place_at(port, None))
        channel = connect(Address("127.0.0.1", port), None, 1)
        channel.send("hello", role="image", version="0.0.1", protocol="aby3")
        answer = channel.receive(10)
        assert answer is not None
        assert "another version" in answer["why"]


def pair() -> tuple[Channel, socket.socket]:
    mine, other = socket.socketpair()
    return Channel(mine, None, None), other


@pytest.mark.row("X3")
def test_another_bundle_is_not_taken() -> None:
    channel, other = pair()
    model, inbox = Channel(other, None, None), Inbox()
    inbox.watch("model", channel.heard)
    model.send("offer", bundle="ab" * 32)
    place = replace(place_at(1, None), bundle_id="ab" * 6 + "c")
    with pytest.raises(PartyError, match="another bundle") as told:
        join(inbox, channel, cast("EngineProcess", None), place, "image", [])  # before any engine is asked
    assert told.value.found == "ab" * 32
    model.send("offer", bundle="ab" * 32)
    with pytest.raises(PartyError) as told:  # the one that is wanted; what else an offer has is missing here
        join(inbox, channel, cast("EngineProcess", None), replace(place, bundle_id="ab" * 6), "image", [])
    assert "another bundle" not in str(told.value)


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", 1 << 31),
        struct.pack(">I", 4) + b"null",
        struct.pack(">I", 2) + b"{}",
        struct.pack(">I", 2) + b"\xff\xff",
        struct.pack(">I", 12) + b'{"kind": 12}',
        struct.pack(">I", 100_000) + b"[" * 100_000,
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    channel, other = pair()
    threading.Thread(target=other.sendall, args=(data,), daemon=True).start()
    with pytest.raises(PartyError, match="sent"):
        channel.receive(5)


@pytest.mark.row("X3")
def test_an_end_is_noticed_at_once() -> None:
    channel, other = pair()
    inbox = Inbox()
    inbox.watch("helper", channel.receive)
    other.close()
    with pytest.raises(PartyError, match="helper's party went away"):
        inbox.expect("model", "offer", 5)


def test_a_side_that_stands_still_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "ALIVE_SECONDS", 0.05)
    monkeypatch.setattr(wire, "STILL_SECONDS", 0.5)
    one, other = socket.socketpair()
    mine, theirs = Channel(one, None, None), Channel(other, None, None)
    theirs.stay_alive()
    inbox = Inbox()
    inbox.watch("helper", mine.heard)
    time.sleep(1.5)  # much longer than a silence may be
    theirs.send("ran")
    assert inbox.expect("helper", "ran", 5)["kind"] == "ran"
    theirs._closed.set()  # it says no more, and does not go away either
    with pytest.raises(PartyError, match="nothing was heard"):
        inbox.next(10)


def test_an_engine_that_hangs_is_ended_while_its_answer_is_waited_for(tmp_path: Path) -> None:
    hanging = tmp_path / "python"
    hanging.write_text("#!/bin/sh\nexec sleep 600\n")
    hanging.chmod(0o755)
    engine = EngineProcess(hanging, 1)
    inbox = Inbox()
    inbox.watch("engine", engine.receive)
    time.sleep(0.3)  # until the thread reads
    begun = time.monotonic()
    engine.close()
    assert time.monotonic() - begun < 10
    with pytest.raises(PartyError, match=r"stopped|said"):
        inbox.next(10)


def test_an_engine_that_ended_stopped_though_its_log_is_gone(tmp_path: Path) -> None:
    """As where it is closed while a thread still reads from it."""
    ending = tmp_path / "python"
    ending.write_text("#!/bin/sh\nexit 0\n")
    ending.chmod(0o755)
    engine = EngineProcess(ending, 1)
    engine.log.unlink()
    with pytest.raises(PartyError, match="stopped"):
        engine.receive()
    engine.close()


def test_plain_connections_stay_on_this_machine() -> None:
    with pytest.raises(InputError, match="loopback"), listen(Address("192.0.2.1", 0), None):
        pass
    peers = {**PEERS, "image": Address("192.0.2.1", 9)}
    with pytest.raises(InputError, match="on this machine"):
        Place(PROTOCOLS["aby3"], peers, Path("python")).check()


def test_peers() -> None:
    found = read_peers("model=a:1,image=[::1]:2", ("model", "image"))
    assert found == {"model": Address("a", 1), "image": Address("::1", 2)}
    for words in ("model=a:1", "model=a:1,image=b", "model=a:1,image=b:0", "model=a:1,model=b:2", "x"):
        with pytest.raises(InputError):
            read_peers(words, ("model", "image"))


@pytest.mark.row("X3")
def test_protocols_for_debugging_are_not_offered() -> None:
    for name in ("SEMI2K", "ref2k", "SecureNN"):
        with pytest.raises(InputError, match="not offered as secure"):
            protocol(name)
    with pytest.raises(InputError, match="no such protocol"):
        protocol("aby4")


@pytest.mark.row("X3")
def test_queries_are_counted_before_they_are_answered(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    ledger = Ledger("a" * 64, limit=3, path=path)
    ledger.count("one", 2)
    assert Ledger("a" * 64, limit=3, path=path).left("one") == 1
    with pytest.raises(PartyError, match="no more images"):
        Ledger("a" * 64, limit=3, path=path).count("one", 2)
    assert Ledger("a" * 64, limit=3, path=path).left("another") == 3
    with pytest.raises(InputError, match="not one of this bundle"):
        Ledger("b" * 64, path=path)


@pytest.mark.parametrize(
    ("role", "given", "told"),
    [
        ("model", "ab" * 16, "has the bundle itself"),
        ("image", "AB" * 16, "12 to 64"),
        ("helper", "abc", "12 to 64"),
    ],
)
def test_a_bundle_id_that_is_none_is_told(
    role: str, given: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    peers = "model=127.0.0.1:1,image=127.0.0.1:2,helper=127.0.0.1:3"
    options = ["--role", role, "--peers", peers, "--bundle-id", given, "--python", sys.executable]
    assert main(["secure", "party", *options]) == 2
    assert told in capsys.readouterr().err
