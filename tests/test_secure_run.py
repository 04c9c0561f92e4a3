"""Real secure runs: every party a process of its own. Skipped where the engine is not installed."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tiny_bundle import make_bundle, make_weights, write_photos

from samesight.bundle import Bundle
from samesight.cli import main
from samesight.errors import PartyError
from samesight.runtime import load
from samesight.secure import local
from samesight.secure.protocols import PROTOCOLS
from samesight.secure.prove import golden_tensors
from samesight.verify.golden import REFERENCE, read_golden


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("tiny")
    photos = write_photos(folder / "photos")
    return make_bundle(folder / "bundle", photos, make_weights(photos))


@pytest.mark.row("X3")
def test_a_run_gives_the_plain_labels_and_logits(tiny: Bundle, engine: Path) -> None:
    tensors = np.stack(list(golden_tensors(tiny)))
    expected = read_golden(tiny).logits[REFERENCE]
    with local.local_session(tiny, PROTOCOLS["aby3"], engine, batch=4, logits=True) as session:
        answer = session.answer(tensors[:3])
        assert answer.logits is not None
        assert np.abs(answer.logits - expected[:3]).max() < 1e-3
        assert answer.labels.tolist() == expected[:3].argmax(axis=1).tolist()
        assert session.offer.bundle == tiny.id
        assert set(answer.parties) == {"model", "image", "helper"}
        assert all(found["messages"] > 0 for found in answer.parties.values())


@pytest.mark.row("X3")
def test_a_party_that_dies_ends_the_run_for_all(
    tiny: Bundle, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def popen(command: list[str], **more: object) -> subprocess.Popen[bytes]:
        process = real(command, **more)  # type: ignore[call-overload]
        if "party" in command:
            started.append(process)
        return process

    monkeypatch.setattr(local.subprocess, "Popen", popen)
    begun = 0.0
    with (
        pytest.raises(PartyError, match="helper"),
        local.local_session(tiny, PROTOCOLS["aby3"], engine) as session,
    ):
        session.answer(next(golden_tensors(tiny))[None])
        os.kill(started[1].pid, signal.SIGKILL)
        started[1].wait()
        begun = time.monotonic()
        session.answer(next(golden_tensors(tiny))[None])
    assert time.monotonic() - begun < 20
    assert all(process.poll() is not None for process in started)


@pytest.mark.slow
@pytest.mark.row("X3")
@pytest.mark.parametrize("name", ["aby3", "cheetah"])
def test_the_run_command(
    tiny: Bundle, engine: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(tiny.read(read_golden(tiny).samples[0].resized))
    words = ["secure", "run", str(tiny.folder), str(photo), "--protocol", name, "--python", str(engine)]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["photos"][0]["label"] == load(tiny).classify(photo).label
    assert found["photos"][0]["logits"] is None  # the label alone is revealed
    assert found["trust"].startswith("semi-honest")


def _is_let_in(port: int, certificate: Path | None, authority: Path) -> bool:
    """Whether whoever listens there answers a request over TLS, from one who shows this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(authority)
    if certificate is not None:
        context.load_cert_chain(certificate.with_suffix(".pem"), certificate.with_suffix(".key"))
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as stream,
            context.wrap_socket(stream) as secured,
        ):
            secured.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            return _answer_of(secured).startswith(b"HTTP")
    except (ssl.SSLError, OSError):
        return False


def _answer_of(stream: socket.socket) -> bytes:
    try:
        return stream.recv(4096)
    except OSError:
        return b""


@pytest.mark.slow
@pytest.mark.row("X3")
def test_parties_with_certificates(tiny: Bundle, engine: Path, tmp_path: Path) -> None:
    from samesight.secure.certificates import make_certificates
    from samesight.secure.helperparty import serve_helper
    from samesight.secure.imageparty import ImageSession
    from samesight.secure.ledger import Ledger
    from samesight.secure.modelparty import serve_model
    from samesight.secure.party import Place
    from samesight.secure.served import served_from
    from samesight.secure.wire import Tls

    made = tmp_path / "certificates"
    make_certificates(made)
    peers = local._free_places(PROTOCOLS["aby3"])

    def place(role: str) -> Place:
        tls = Tls(made / f"{role}.pem", made / f"{role}.key", made / "ca.pem")
        return Place(PROTOCOLS["aby3"], peers, engine, tls)

    served = served_from(tiny, ledger=Ledger(tiny.id, limit=1))
    done: list[int] = []
    threads = [
        threading.Thread(target=lambda: done.append(serve_model(served, place("model"), sessions=2))),
        threading.Thread(target=lambda: serve_helper(place("helper"), sessions=2)),
    ]
    for thread in threads:
        thread.start()
    tensors = np.stack(list(golden_tensors(tiny)))
    expected = read_golden(tiny).logits[REFERENCE].argmax(axis=1)
    with ImageSession(place("image")) as session:
        assert session.answer(tensors[:1]).labels.tolist() == expected[:1].tolist()
        assert session.offer.left == 1
        strangers = tmp_path / "strangers"
        make_certificates(strangers)
        for port in {peers["model"].port, peers["helper"].port}:  # where the engines talk to one another
            assert _is_let_in(port, made / "image", made / "ca.pem"), "one of the parties"
            assert not _is_let_in(port, strangers / "image", made / "ca.pem"), "another authority's"
            assert not _is_let_in(port, None, made / "ca.pem"), "no certificate"
            with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
                plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
                plain.settimeout(10)
                assert not _answer_of(plain).startswith(b"HTTP"), "a plain connection"
    with (
        pytest.raises(PartyError, match=r"stopped|went away") as caught,
        ImageSession(place("image")) as session,
    ):
        session.answer(tensors[1:2])
    assert "no more images" in str(caught.value.found)
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert done == [1]
