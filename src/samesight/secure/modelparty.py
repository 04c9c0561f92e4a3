"""The model's owner: waits for the others, offers the network's public part, answers what is asked for."""

from __future__ import annotations

import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from samesight import __version__
from samesight.bundle import Bundle
from samesight.errors import PartyError, SamesightError
from samesight.progress import say
from samesight.secure import wire
from samesight.secure.ledger import Ledger
from samesight.secure.party import (
    COMPILE_SECONDS,
    LINK_SECONDS,
    MAX_BATCH,
    RUN_SECONDS,
    Place,
    figures_of,
    one_line,
    order_compile,
    started,
)
from samesight.secure.process import EngineProcess
from samesight.secure.protocols import MODEL
from samesight.secure.reading import Network
from samesight.secure.ways import ways
from samesight.secure.wire import Channel, Inbox, Message

__all__ = ["Door", "Served", "serve_model"]

MAX_WAITING = 8  # connections that have not said who they are


@dataclass(frozen=True)
class Served:
    """What the model's owner offers."""

    bundle: Bundle
    network: Network
    bits: int
    """Fraction bits of every number."""
    room: int
    """Numbers stay below 2^room."""
    reveal_logits: bool = False
    ledger: Ledger | None = None


class Door:
    """Takes connections and has each say who it is, without waiting for any."""

    def __init__(self, server: socket.socket, place: Place) -> None:
        self._server, self._place = server, place
        self.arrived: queue.Queue[tuple[str, Channel, Message]] = queue.Queue()
        self._room = threading.Semaphore(MAX_WAITING)
        threading.Thread(target=self._take, name="door", daemon=True).start()

    def _take(self) -> None:
        while True:
            self._room.acquire()
            stream = self._next()
            if stream is None:
                return
            threading.Thread(target=self._greet, args=(stream,), daemon=True).start()

    def _next(self) -> socket.socket | None:
        """The next connection, None when the door is closed."""
        self._server.settimeout(0.2)  # a closed socket does not wake who waits for it
        while True:
            try:
                return self._server.accept()[0]
            except TimeoutError:
                continue
            except OSError:
                return None

    def _greet(self, stream: socket.socket) -> None:
        channel = None
        try:
            channel = wire.open_channel(stream, self._place.tls, server=True)
            hello = channel.receive(wire.HANDSHAKE_SECONDS)
            if hello is None:
                raise PartyError("a connection ended before it said who it is")
            role = _check_hello(hello, channel, self._place)
            channel.stay_alive()
            self.arrived.put((role, channel, hello))
        except SamesightError as error:
            say(f"refused: {one_line(error)}")
            if channel is not None:
                with suppress(PartyError):
                    channel.send("stop", why=one_line(error))
                channel.close()
        finally:
            self._room.release()


def _check_hello(hello: Message, channel: Channel, place: Place) -> str:
    role: str = wire.field(hello, "role", str, 16)
    said = (hello["kind"], hello.get("version"), hello.get("protocol"))
    if said != ("hello", __version__, place.protocol.name):
        raise PartyError(
            "another version or protocol",
            expected=f"samesight {__version__}, {place.protocol.name}",
            found=f"samesight {said[1]}, {said[2]}"[:100],
        )
    if role not in place.protocol.roles or role == "model":
        raise PartyError("this protocol has no such party", found=role)
    if place.tls is not None and channel.role != role:
        raise PartyError(
            "the certificate is another party's",
            expected=f"a certificate with the common name {role}",
            found=channel.role,
        )
    return role


def serve_model(
    served: Served, place: Place, *, sessions: int | None = None, ready: Callable[[], None] | None = None
) -> int:
    """Serve sessions, one after another, until `sessions` have ended; how many images were answered.

    A session that fails is told and the next waited for; where only one is served, it is raised.
    Raises InputError where the place cannot be had.
    """
    place.check()
    answered = 0
    with wire.listen(place.sign_in, place.tls) as server:
        door = Door(server, place)
        say(f"{served.bundle.name}: waiting for {_others(place)} at {place.sign_in}")
        if ready is not None:
            ready()
        done = 0
        others: dict[str, tuple[Channel, Message]] = {}
        while sessions is None or done < sessions:
            done += 1
            try:
                _assemble(door, place, others, patience=None if sessions is None else place.wait_seconds)
                answered += _session(served, place, others)
            except PartyError as error:
                for channel, _ in others.values():
                    with suppress(PartyError):
                        channel.send("stop", why=one_line(error))
                if sessions == 1:
                    raise
                say(f"session ended: {one_line(error)}")
            finally:
                for channel, _ in others.values():
                    channel.close()
                others.clear()
    return answered


def _others(place: Place) -> str:
    return " and ".join(f"the {role}'s party" for role in place.protocol.roles[1:])


def _assemble(
    door: Door, place: Place, others: dict[str, tuple[Channel, Message]], patience: float | None
) -> None:
    """Wait until every other party has signed in; the image's owner no longer than `wait_seconds`."""
    until = None if patience is None else time.monotonic() + patience
    wanted = set(place.protocol.roles[1:])
    while set(others) != wanted:
        seconds = None if until is None else max(0.05, until - time.monotonic())
        try:
            role, channel, hello = door.arrived.get(timeout=seconds)
        except queue.Empty:
            missing = ", ".join(sorted(wanted - set(others)))
            raise PartyError(
                f"the {missing}'s party did not come", found=f"{place.wait_seconds:g} s"
            ) from None
        if role in others:  # whoever came first may be gone; the new one is there
            others[role][0].close()
        others[role] = (channel, hello)
        if until is None and "image" in others:
            until = time.monotonic() + place.wait_seconds


def _session(served: Served, place: Place, others: Mapping[str, tuple[Channel, Message]]) -> int:
    """One image's owner, from the offer to the last answer; how many images were answered."""
    image, hello = others["image"]
    batch = wire.field(hello, "batch", int, MAX_BATCH)
    wants_logits = wire.field(hello, "logits", bool)
    if batch < 1:
        raise PartyError("a batch has one image or more", found=batch)
    if wants_logits and not served.reveal_logits:
        raise PartyError("the model's owner reveals labels only", found="logits were asked for")
    owner = image.certificate or "this machine"
    ledger = served.ledger or Ledger(served.bundle.id)
    session = secrets.token_hex(16)
    graph = served.network.graph.with_batch(batch)
    public = {
        "session": session,
        "bundle": served.bundle.id,
        "graph": graph.to_json(),
        "bits": served.bits,
        "room": served.room,
        "logits": wants_logits,
    }
    inbox = Inbox()
    for role, (channel, _) in others.items():
        inbox.watch(role, channel.heard)
        more: dict[str, Any] = {}
        if role == "image":
            more = {
                "name": served.bundle.name,
                "labels": list(served.bundle.labels),
                "preprocess": served.bundle.preprocess.to_json(),
                "left": ledger.left(owner),
            }
        channel.send("offer", **public, **more)
    with started(place, inbox) as engine, ways(place, "model") as places:
        order_compile(engine, place, public)
        sides = {**dict.fromkeys(others, "compiled"), "engine": "compile"}
        compiled = _gather(inbox, sides, COMPILE_SECONDS)
        _check_programs(compiled)
        _tell(others, "link")
        engine.order("link", rank=MODEL, session=session, places=places)
        _gather(inbox, {**dict.fromkeys(others, "linked"), "engine": "link"}, LINK_SECONDS)
        flat = [values.reshape(-1) for values in served.network.weights.values()]
        _tell(others, "weights")
        engine.order("weights", np.concatenate(flat))
        shared = _gather(inbox, {**dict.fromkeys(others, "shared"), "engine": "weights"}, RUN_SECONDS)
        image.send("ready", weight_bytes=shared["engine"]["sent_bytes"])
        answered = _answer_queries(inbox, engine, others, ledger, owner, batch)
        engine.order("end")
        _gather(inbox, {"engine": "end"}, LINK_SECONDS)
        engine.end()
    return answered


def _answer_queries(
    inbox: Inbox,
    engine: EngineProcess,
    others: Mapping[str, tuple[Channel, Message]],
    ledger: Ledger,
    owner: str,
    batch: int,
) -> int:
    """Answer until the image's owner has no further image; every run counts as a full batch."""
    image, answered = others["image"][0], 0
    while True:
        name, message = inbox.next()
        if (name, message["kind"]) == ("image", "bye"):
            for role, (channel, _) in others.items():
                if role != "image":
                    channel.send("bye")
            return answered
        if (name, message["kind"]) != ("image", "query"):
            raise PartyError("another party said something unexpected", found=message["kind"][:50])
        ledger.count(owner, batch)
        _tell(others, "run")
        engine.order("run")
        ran = _gather(inbox, {**dict.fromkeys(others, "ran"), "engine": "run"}, RUN_SECONDS)
        answered += batch
        ran["model"] = ran.pop("engine")
        image.send("done", parties={role: figures_of(found) for role, found in ran.items()})


def _tell(others: Mapping[str, tuple[Channel, Message]], kind: str) -> None:
    for channel, _ in others.values():
        channel.send(kind)


def _check_programs(compiled: Mapping[str, Message]) -> None:
    """All parties must have made the same program of the public part, with the same versions."""
    for what in ("program", "versions"):
        found = {name: str(message.get(what)) for name, message in compiled.items()}
        if len(set(found.values())) != 1:
            words = "; ".join(f"{name}: {value[:120]}" for name, value in sorted(found.items()))
            raise PartyError(f"the parties do not have the same {what}", found=words)


def _gather(inbox: Inbox, wanted: Mapping[str, str], seconds: float) -> dict[str, Message]:
    """One message of a kind from each side, in any order. Raises PartyError."""
    found: dict[str, Message] = {}
    until = time.monotonic() + seconds
    while len(found) < len(wanted):
        name, message = inbox.next(max(0.1, until - time.monotonic()))
        if name in found or wanted.get(name) != message["kind"]:
            raise PartyError(
                "another party said something unexpected", found=f"{message['kind']} from the {name}"[:200]
            )
        found[name] = message
    return found
