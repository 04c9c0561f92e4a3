"""All parties on this machine, each a process of its own: for trying it out, and for `verify`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samesight.bundle import Bundle
from samesight.errors import PartyError
from samesight.secure.imageparty import ImageSession
from samesight.secure.party import Place
from samesight.secure.protocols import Protocol
from samesight.secure.wire import Address

__all__ = ["SecureRunner", "local_session"]

STOP_SECONDS = 15.0
LOOPBACK = "127.0.0.1"


@contextmanager
def local_session(
    bundle: Bundle, protocol: Protocol, python: Path, *, batch: int = 1, logits: bool = False
) -> Iterator[ImageSession]:
    """A session with the model's party and the helper as processes here; this process is the image's party.

    Raises PartyError with the last words of a party that failed.
    """
    place = Place(protocol, _free_places(protocol), python)
    words = ["--protocol", protocol.name, "--python", str(python), "--sessions", "1"]
    words += ["--peers", ",".join(f"{role}={address}" for role, address in place.peers.items())]
    with ExitStack() as stack:
        model = ["--bundle", str(bundle.folder), *(["--reveal", "logits"] if logits else [])]
        parties = [stack.enter_context(_party(["--role", "model", *model, *words]))]
        if "helper" in protocol.roles:
            parties.append(stack.enter_context(_party(["--role", "helper", *words])))
        try:
            with ImageSession(place, batch=batch, logits=logits) as session:
                yield session
        except PartyError as error:
            said = [line for party in parties if (line := party.trouble())]
            raise PartyError(error.what, where=error.where, found="; ".join(said) or error.found) from error


class _Party:
    def __init__(self, words: Sequence[str]) -> None:
        self._log = tempfile.TemporaryFile("w+", prefix="samesight-party-")  # noqa: SIM115  # closed in close()
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "samesight", "secure", "party", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            env=environment,
        )

    def trouble(self) -> str | None:
        """What it said last, where it failed."""
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            return None
        self._log.seek(0)
        lines = [line.strip() for line in self._log if line.strip()]
        errors = [number for number, line in enumerate(lines) if line.startswith("error:")]
        return " ".join(lines[errors[-1] :])[:400] if errors and self.process.returncode else None

    def close(self) -> None:
        """End it: by itself, else by a signal."""
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()


@contextmanager
def _party(words: Sequence[str]) -> Iterator[_Party]:
    party = _Party(words)
    try:
        yield party
    finally:
        party.close()


def _free_places(protocol: Protocol) -> dict[str, Address]:
    """Ports that were free a moment ago; the model's party needs two in a row."""
    with ExitStack() as stack:
        places = {}
        for role in protocol.roles:
            while True:
                first = stack.enter_context(socket.create_server((LOOPBACK, 0)))
                port = first.getsockname()[1]
                if role != "model":
                    break
                try:
                    stack.enter_context(socket.create_server((LOOPBACK, port + 1)))
                    break
                except (OSError, OverflowError):
                    continue
            places[role] = Address(LOOPBACK, port)
        return places


class SecureRunner:
    """The secure run as a runner: one session, kept open for all answers. Logits are revealed."""

    def __init__(self, bundle: Bundle, protocol: Protocol, python: Path, copy: str = "fp32") -> None:
        """The session begins with the first answer."""
        self.copy = copy
        self.name = "secure" if protocol.name == "aby3" else f"secure-{protocol.name}"
        self._stack = ExitStack()
        weakref.finalize(self, self._stack.close)  # nobody closes a runner
        self._session: ImageSession | None = None
        self._bundle, self._protocol, self._python = bundle, protocol, python

    def logits(self, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits (n, classes) of `tensors` (n, 3, height, width), one image at a time."""
        if self._session is None:
            self._session = self._stack.enter_context(
                local_session(self._bundle, self._protocol, self._python, logits=True)
            )
        rows = []
        for tensor in tensors:
            found = self._session.answer(tensor[None]).logits
            assert found is not None
            rows.append(found)
        return np.concatenate(rows)
