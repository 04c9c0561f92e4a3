"""One party of a secure computation: the model's owner, the image's owner, or the helper of a third.

The model's party stands and waits; the others sign in. For each session it offers the network's public part,
every party compiles that by itself, and all programs must have one hash before anything is shared. From then
on the engines talk to one another, and the parties only watch: where one goes away, all stop at once.
"""

from __future__ import annotations

import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samesight import __version__
from samesight.bundle import Bundle
from samesight.errors import InputError, PartyError, SamesightError
from samesight.preprocess import Preprocess
from samesight.progress import say
from samesight.runner import cpus
from samesight.secure import wire
from samesight.secure.graph import Graph
from samesight.secure.ledger import Ledger
from samesight.secure.process import EngineProcess
from samesight.secure.protocols import ROLES, Protocol
from samesight.secure.ranges import LEAST, MOST
from samesight.secure.reading import Network
from samesight.secure.wire import Address, Channel, Inbox, Message, Tls

__all__ = ["Answer", "ImageSession", "Offer", "Place", "Served", "serve_helper", "serve_model"]

COMPILE_SECONDS = 1200.0
LINK_SECONDS = 60.0
RUN_SECONDS = 3600.0
MAX_BATCH = 64
MAX_WAITING = 8  # connections that have not said who they are


@dataclass(frozen=True)
class Place:
    """How a party takes part: the protocol, where all are, its certificate, the engine's Python."""

    protocol: Protocol
    peers: Mapping[str, Address]
    python: Path
    tls: Tls | None = None
    wait_seconds: float = 60.0
    """How long the others are waited for."""

    @property
    def sign_in(self) -> Address:
        """Where the model's party takes the others' signing in."""
        model = self.peers["model"]
        return Address(model.host, model.port + 1)

    @property
    def threads(self) -> int:
        """How many threads an engine takes: this machine's cores, shared by the parties that are on it."""
        here = sum(wire.is_loopback(address.host) for address in self.peers.values())
        return max(1, cpus() // max(1, here))

    def link_order(self, role: str, session: str) -> dict[str, Any]:
        """The order by which an engine connects with the others."""
        tls = None
        if self.tls is not None:
            tls = {"cert": str(self.tls.cert), "key": str(self.tls.key), "ca": str(self.tls.ca)}
        places = [str(self.peers[one]) for one in self.protocol.roles]
        return {"rank": ROLES.index(role), "session": session, "places": places, "tls": tls}

    def check(self) -> None:
        """Refuse plain connections that leave this machine. Raises InputError."""
        for address in self.peers.values():
            if self.tls is None and not wire.is_loopback(address.host):
                raise InputError(
                    "without certificates all parties must be on this machine",
                    found=address,
                    fix="--tls-cert, --tls-key and --tls-ca; samesight secure certificates makes them",
                )
        if self.tls is not None:
            self.tls.context(server=True)


@dataclass(frozen=True)
class Served:
    """What the model's owner offers."""

    bundle: Bundle
    network: Network
    bits: int
    reveal_logits: bool = False
    ledger: Ledger | None = None


@dataclass(frozen=True)
class Offer:
    """What the image's owner is told: everything that is public, and how to prepare an image."""

    bundle: str
    name: str
    labels: tuple[str, ...]
    preprocess: Preprocess
    graph: Graph
    bits: int
    logits: bool
    left: int | None


@dataclass(frozen=True)
class Answer:
    """The answers for some images, and what they took."""

    labels: NDArray[np.int64]
    """(n,) indices."""
    logits: NDArray[np.float32] | None
    """(n, classes), where logits are revealed."""
    seconds: float
    parties: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By role: sent_bytes, received_bytes, messages, memory_kib."""


@contextmanager
def _engine(place: Place, inbox: Inbox) -> Iterator[EngineProcess]:
    engine = EngineProcess(place.python, place.threads)
    inbox.watch(engine.name, engine.receive)
    try:
        yield engine
    finally:
        engine.close()


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


# ---- the model's owner


class _Door:
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
            self.arrived.put((role, channel, hello))
        except SamesightError as error:
            say(f"refused: {_one_line(error)}")
            if channel is not None:
                with suppress(PartyError):
                    channel.send("stop", why=_one_line(error))
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
        door = _Door(server, place)
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
                        channel.send("stop", why=_one_line(error))
                if sessions == 1:
                    raise
                say(f"session ended: {_one_line(error)}")
            finally:
                for channel, _ in others.values():
                    channel.close()
                others.clear()
    return answered


def _others(place: Place) -> str:
    return " and ".join(f"the {role}'s party" for role in place.protocol.roles[1:])


def _assemble(
    door: _Door, place: Place, others: dict[str, tuple[Channel, Message]], patience: float | None
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
        "logits": wants_logits,
    }
    inbox = Inbox()
    for role, (channel, _) in others.items():
        inbox.watch(role, channel.receive)
        more: dict[str, Any] = {}
        if role == "image":
            more = {
                "name": served.bundle.name,
                "labels": list(served.bundle.labels),
                "preprocess": served.bundle.preprocess.to_json(),
                "left": ledger.left(owner),
            }
        channel.send("offer", **public, **more)
    with _engine(place, inbox) as engine:
        _order_compile(engine, place, public)
        sides = {**dict.fromkeys(others, "compiled"), "engine": "compile"}
        compiled = _gather(inbox, sides, COMPILE_SECONDS)
        _check_programs(compiled)
        _tell(others, "link")
        engine.order("link", **place.link_order("model", session))
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
        image.send("done", parties={role: _figures(found) for role, found in ran.items()})


def _tell(others: Mapping[str, tuple[Channel, Message]], kind: str) -> None:
    for channel, _ in others.values():
        channel.send(kind)


_FIGURES = ("sent_bytes", "received_bytes", "messages", "memory_kib")


def _figures(message: Message) -> dict[str, int]:
    return {name: wire.field(message, name, int, 1 << 50) for name in _FIGURES}


def _check_programs(compiled: Mapping[str, Message]) -> None:
    """All parties must have made the same program of the public part, with the same versions."""
    for what in ("program", "versions"):
        found = {name: str(message.get(what)) for name, message in compiled.items()}
        if len(set(found.values())) != 1:
            words = "; ".join(f"{name}: {value[:120]}" for name, value in sorted(found.items()))
            raise PartyError(f"the parties do not have the same {what}", found=words)


def _order_compile(engine: EngineProcess, place: Place, public: Mapping[str, Any]) -> None:
    engine.order(
        "compile",
        graph=public["graph"],
        protocol=place.protocol.name,
        bits=public["bits"],
        label=not public["logits"],
    )


# ---- the others


def _sign_in(place: Place, role: str, **more: Any) -> Channel:
    channel = wire.connect(place.sign_in, place.tls, place.wait_seconds)
    if place.tls is not None and channel.role != "model":
        channel.close()
        raise PartyError(
            "who answers is not the model's party", where=place.sign_in, expected="model", found=channel.role
        )
    channel.send("hello", role=role, version=__version__, protocol=place.protocol.name, **more)
    return channel


def _join(inbox: Inbox, channel: Channel, engine: EngineProcess, place: Place, role: str) -> Message:
    """From the offer to the shared weights, for a party that has none; the offer. Raises PartyError."""
    offer = inbox.expect("model", "offer")
    session = wire.field(offer, "session", str, 64)
    bits = wire.field(offer, "bits", int, MOST)
    if not session.isalnum() or bits < LEAST:
        raise PartyError("the model's party offers something that does not fit")
    wire.field(offer, "logits", bool)
    Graph.from_json(offer.get("graph"))
    _order_compile(engine, place, offer)
    compiled = inbox.expect("engine", "compile", COMPILE_SECONDS)
    channel.send("compiled", program=compiled["program"], versions=compiled["versions"])
    inbox.expect("model", "link", COMPILE_SECONDS)
    engine.order("link", **place.link_order(role, session))
    inbox.expect("engine", "link", LINK_SECONDS)
    channel.send("linked")
    inbox.expect("model", "weights", LINK_SECONDS)
    engine.order("weights")
    inbox.expect("engine", "weights", RUN_SECONDS)
    channel.send("shared")
    return offer


def serve_helper(place: Place, *, sessions: int | None = None) -> int:
    """Lend this machine to sessions, without any data; how many ended well.

    Raises PartyError where the model's party cannot be reached, or where the only session fails.
    """
    place.check()
    done = well = 0
    while sessions is None or done < sessions:
        with ExitStack() as stack:
            inbox = Inbox()
            channel = _sign_in(place, "helper")
            stack.callback(channel.close)
            inbox.watch("model", channel.receive)
            engine = stack.enter_context(_engine(place, inbox))
            say("signed in as the helper; waiting for an image's owner")
            done += 1
            try:
                _join(inbox, channel, engine, place, "helper")
                _help(inbox, channel, engine)
                well += 1
            except PartyError as error:
                with suppress(PartyError):
                    channel.send("stop", why=_one_line(error))
                if sessions == 1:
                    raise
                say(f"session ended: {_one_line(error)}")
                time.sleep(0.5)
    return well


def _help(inbox: Inbox, channel: Channel, engine: EngineProcess) -> None:
    while _next_order(inbox) == "run":
        engine.order("run")
        ran = inbox.expect("engine", "run", RUN_SECONDS)
        channel.send("ran", **_figures(ran))
    engine.order("end")
    inbox.expect("engine", "end", LINK_SECONDS)
    engine.end()


def _next_order(inbox: Inbox) -> str:
    """What the model's party says next: run, or bye. Raises PartyError for anything else."""
    name, message = inbox.next()
    if name != "model" or message["kind"] not in ("run", "bye"):
        raise PartyError("another party said something unexpected", found=message["kind"][:50])
    return str(message["kind"])


class ImageSession:
    """The image's owner in one session, as a context manager: signed in, then asked for answers."""

    def __init__(self, place: Place, *, batch: int = 1, logits: bool = False) -> None:
        """`batch`: how many images each run takes."""
        if not 1 <= batch <= MAX_BATCH:
            raise InputError("a batch that cannot be", expected=f"1 to {MAX_BATCH} images", found=batch)
        place.check()
        self._place, self._batch, self._logits = place, batch, logits
        self._stack = ExitStack()

    def __enter__(self) -> ImageSession:
        """Sign in and wait until the network is shared. Raises PartyError."""
        start = time.monotonic()
        with ExitStack() as stack:
            self._inbox = Inbox()
            self._channel = _sign_in(self._place, "image", batch=self._batch, logits=self._logits)
            stack.callback(self._channel.close)
            self._inbox.watch("model", self._channel.receive)
            self._engine = stack.enter_context(_engine(self._place, self._inbox))
            try:
                offer = _join(self._inbox, self._channel, self._engine, self._place, "image")
                ready = self._inbox.expect("model", "ready", RUN_SECONDS)
            except SamesightError as error:
                with suppress(PartyError):
                    self._channel.send("stop", why=_one_line(error))
                raise
            self.offer = _read_offer(offer)
            self.weight_bytes: int = wire.field(ready, "weight_bytes", int, 1 << 50)
            self._stack = stack.pop_all()
        self.setup_seconds = time.monotonic() - start
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Leave; the others are told."""
        with suppress(PartyError):
            if error is None:
                self._channel.send("bye")
                self._engine.order("end")
                self._inbox.expect("engine", "end", LINK_SECONDS)
                self._engine.end()
            else:
                self._channel.send("stop", why="the image's owner stopped")
        self._stack.close()

    def answer(self, tensors: NDArray[np.float32]) -> Answer:
        """The answers for (n, 3, h, w), n at most the batch; missing ones are filled up with zeros.

        Raises PartyError, and InputError for tensors that do not fit.
        """
        count = len(tensors)
        shape = self.offer.graph.shape
        if not 1 <= count <= shape[0] or tensors.shape[1:] != shape[1:]:
            raise InputError("tensors that do not fit", expected=shape, found=tensors.shape)
        full = np.zeros(shape, np.float32)
        full[:count] = tensors
        self._channel.send("query")
        self._inbox.expect("model", "run", RUN_SECONDS)
        self._engine.order("run", full)
        ran = self._inbox.expect("engine", "run", RUN_SECONDS)
        self._channel.send("ran", **_figures(ran))
        done = self._inbox.expect("model", "done", RUN_SECONDS)
        values = ran["values"][:count]
        parties = {
            role: {name: int(found[name]) for name in _FIGURES}
            for role, found in wire.field(done, "parties", dict, 3).items()
        }
        logits = None
        if self._logits:
            logits = np.asarray(values, np.float32)
            labels = logits.argmax(axis=1)
        else:
            labels = np.asarray(values, np.int64)
        if labels.min() < 0 or labels.max() >= len(self.offer.labels):
            raise PartyError("the answer is no label", found=labels.tolist())
        return Answer(labels, logits, float(ran["seconds"]), parties)


def _read_offer(offer: Message) -> Offer:
    labels: Sequence[Any] = wire.field(offer, "labels", list, 100_000)
    graph = Graph.from_json(offer["graph"])
    if not all(isinstance(one, str) and len(one) <= 512 for one in labels) or len(labels) != graph.classes:
        raise PartyError("the model's party offers labels that do not fit")
    left = offer.get("left")
    preprocess = Preprocess.from_json(offer.get("preprocess"))
    width, height = preprocess.size
    if graph.shape[2:] != (height, width):
        raise PartyError("the model's party offers a preprocessing that does not fit its network")
    return Offer(
        bundle=wire.field(offer, "bundle", str, 64),
        name=wire.field(offer, "name", str, 100),
        labels=tuple(labels),
        preprocess=preprocess,
        graph=graph,
        bits=int(offer["bits"]),
        logits=bool(offer["logits"]),
        left=left if type(left) is int else None,
    )


def _one_line(error: SamesightError) -> str:
    parts = [error.what, *(str(fact) for fact in (error.found,) if fact is not None)]
    return "; ".join(" ".join(part.split()) for part in parts)[:400]
