"""Parties on machines of their own: network namespaces, each with its address, certificate and data alone.

Needs root, iproute2, and a kernel that gives out namespaces; skipped with the reason where one is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tiny_bundle import make_bundle, make_weights, write_photos

from samesight.bundle import Bundle
from samesight.runtime import load
from samesight.secure.certificates import make_certificates

pytestmark = [pytest.mark.slow, pytest.mark.row("X3")]
ROLES = ("model", "image", "helper")
STRANGER = "other"
ENDS_WITHIN = 90.0  # seconds; 30 of them until a party that stands still is given up
NETWORK = "10.213.47"


def ip(*words: str) -> None:
    """One order to iproute2. Raises CalledProcessError."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=30)


@dataclass(frozen=True)
class Machines:
    """Namespaces by role, each with a folder of its own and one address in a network of theirs."""

    prefix: str
    folders: dict[str, Path]

    def address(self, role: str) -> str:
        return f"{NETWORK}.{[*ROLES, STRANGER].index(role) + 1}"

    @property
    def peers(self) -> str:
        return ",".join(f"{role}={self.address(role)}:9000" for role in ROLES)

    def words(self, role: str, command: list[str]) -> list[str]:
        """`command` on a machine: in its namespace, with nothing in the other machines' folders."""
        hidden = [f"mount -t tmpfs none {folder}" for one, folder in self.folders.items() if one != role]
        script = "; ".join(["set -e", *hidden, f"cd {self.folders[role]}", 'exec "$@"'])
        return ["ip", "netns", "exec", self.prefix + role, "sh", "-c", script, "sh", *command]

    def party(self, role: str, python: Path, *more: str) -> subprocess.Popen[str]:
        """A party that was started on its machine; its own process is what is returned."""
        command = [
            sys.executable,
            "-m",
            "samesight",
            "secure",
            "party",
            "--role",
            role,
            "--peers",
            self.peers,
        ]
        command += ["--tls-cert", f"{role}.pem", "--tls-key", f"{role}.key", "--tls-ca", "ca.pem"]
        return subprocess.Popen(
            self.words(role, [*command, "--python", str(python), *more]),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_THREAD_LIMIT": "1"},
        )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("tiny")
    photos = write_photos(folder / "photos")
    return make_bundle(folder / "bundle", photos, make_weights(photos))


@pytest.fixture(scope="module")
def machines(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Four machines behind one switch: the three parties, and a stranger."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if shutil.which("ip") is None:
        pytest.skip("iproute2 is not installed (apt-get install iproute2)")
    base = tmp_path_factory.mktemp("machines")
    prefix = f"ss{os.getpid()}-"
    folders = {role: base / role for role in (*ROLES, STRANGER)}
    made = Machines(prefix, folders)
    switch = f"{prefix}switch"
    with ExitStack() as stack:
        try:
            for name in (switch, *(prefix + role for role in folders)):
                ip("netns", "add", name)
                stack.callback(_forget, name)
            ip("-n", switch, "link", "add", "br0", "type", "bridge")
            ip("-n", switch, "link", "set", "br0", "up")
            for number, role in enumerate(folders):
                end = f"port{number}"
                ip(
                    "-n",
                    switch,
                    "link",
                    "add",
                    end,
                    "type",
                    "veth",
                    "peer",
                    "name",
                    "eth0",
                    "netns",
                    prefix + role,
                )
                ip("-n", switch, "link", "set", end, "master", "br0", "up")
                ip("-n", prefix + role, "addr", "add", f"{made.address(role)}/24", "dev", "eth0")
                for device in ("eth0", "lo"):
                    ip("-n", prefix + role, "link", "set", device, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {(error.stderr or str(error)).strip()[:200]}")
        certificates, strangers = base / "certificates", base / "strangers"
        make_certificates(certificates)
        make_certificates(strangers)
        for role, folder in folders.items():
            folder.mkdir()
            source = strangers if role == STRANGER else certificates
            shutil.copy(certificates / "ca.pem", folder)
            name = "image" if role == STRANGER else role
            for ending in ("pem", "key"):
                shutil.copy(source / f"{name}.{ending}", folder / f"{role}.{ending}")
        shutil.rmtree(certificates)
        shutil.rmtree(strangers)
        shutil.copytree(tiny.folder, folders["model"] / "bundle")
        sample = sorted((tiny.folder.parent / "photos").rglob("*.png"))[0]
        shutil.copy(sample, folders["image"] / "photo.png")
        yield made


def _forget(name: str) -> None:
    with suppress(subprocess.CalledProcessError):
        ip("netns", "del", name)


def left_over(machines: Machines) -> list[str]:
    """Processes that are still on one of the machines."""
    found = []
    for role in machines.folders:
        done = subprocess.run(
            ["ip", "netns", "pids", machines.prefix + role], capture_output=True, text=True, check=True
        )
        found += done.stdout.split()
    return found


def ended(parties: dict[str, subprocess.Popen[str]], seconds: float) -> dict[str, tuple[str, str]]:
    """What each party said, once all have ended."""
    until = time.monotonic() + seconds
    try:
        return {
            role: party.communicate(timeout=max(0.1, until - time.monotonic()))
            for role, party in parties.items()
        }
    finally:
        for party in parties.values():
            with suppress(ProcessLookupError):
                party.kill()


def errors(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("error:")]


def refused(machines: Machines, tls: bool) -> bool:
    """Whether the model's party turns a stranger away, plain or with another authority's certificate."""
    script = """if True:
        import socket, ssl, sys
        context = ssl.create_default_context(cafile="ca.pem")
        context.check_hostname = False
        context.load_cert_chain("other.pem", "other.key")
        try:
            stream = socket.create_connection((sys.argv[1], 9001), timeout=20)
            stream = context.wrap_socket(stream) if sys.argv[2] == "tls" else stream
            stream.sendall(b"\\0\\0\\0\\x11" + b'{"kind": "hello"}')
            sys.exit(0 if stream.recv(1) == b"" else 1)
        except (ssl.SSLError, ConnectionError):
            sys.exit(0)
    """
    words = [sys.executable, "-c", script, machines.address("model"), "tls" if tls else "plain"]
    return subprocess.run(machines.words(STRANGER, words), timeout=120, check=False).returncode == 0


def wait_for(path: Path, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path.name} did not come"
        time.sleep(0.1)


def test_three_machines_with_certificates_and_their_own_data(
    tiny: Bundle, machines: Machines, engine: Path
) -> None:
    look = machines.words(STRANGER, ["ls", str(machines.folders["model"] / "bundle")])
    assert subprocess.run(look, capture_output=True, check=False).returncode != 0
    parties = {
        "model": machines.party("model", engine, "--bundle", "bundle", "--sessions", "1", "--json"),
        "helper": machines.party("helper", engine, "--sessions", "1", "--json"),
    }
    try:
        assert refused(machines, tls=False)
        assert refused(machines, tls=True)
        parties["image"] = machines.party("image", engine, "photo.png", "--json")
    finally:
        said = ended(parties, 500 if "image" in parties else 0)
    assert {role: party.returncode for role, party in parties.items()} == dict.fromkeys(parties, 0), said
    answer = json.loads(said["image"][0])
    photo = machines.folders["image"] / "photo.png"
    assert answer["photos"][0]["label"] == load(tiny).classify(photo).label
    assert set(answer["parties"]) == set(ROLES)
    assert left_over(machines) == []


@pytest.mark.parametrize(
    ("role", "kind"),
    [*((role, signal.SIGKILL) for role in ROLES), ("helper", signal.SIGSTOP)],
)
def test_a_party_that_dies_or_stands_still_ends_it_for_all(
    machines: Machines, engine: Path, role: str, kind: signal.Signals
) -> None:
    """With one line each, and nothing left running on any machine."""
    ledger = machines.folders["model"] / "queries.json"
    ledger.unlink(missing_ok=True)
    parties = {
        "model": machines.party(
            "model", engine, "--bundle", "bundle", "--sessions", "1", "--ledger", ledger.name
        ),
        "helper": machines.party("helper", engine, "--sessions", "1"),
        "image": machines.party("image", engine, *["photo.png"] * 400),
    }
    lost = parties.pop(role)
    try:
        wait_for(ledger, 500)
        lost.send_signal(kind)
        begun = time.monotonic()
        said = ended(parties, ENDS_WITHIN)
        took = time.monotonic() - begun
    finally:
        lost.kill()
        lost.communicate()
    for one, party in parties.items():
        assert party.returncode == 2, (one, said[one])
        assert len(errors(said[one][1])) == 1, said[one][1]
        assert "Traceback" not in said[one][1]
    assert took < (ENDS_WITHIN if kind == signal.SIGSTOP else ENDS_WITHIN / 3)
    time.sleep(2)  # the lost party's engine ends with its pipe
    assert left_over(machines) == []
