"""What all parties of a secure computation have in common: where they are, their engines, how they join.

The model's party stands and waits; the others sign in. For each session it offers the network's public part,
every party compiles that by itself, and all programs must have one hash before anything is shared. From then
on the engines talk to one another, and the parties only watch: where one goes away, all stop at once.

ways.py   how their engines reach one another
modelparty.py  imageparty.py  helperparty.py   the three
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samesight import __version__
from samesight.errors import InputError, PartyError, SamesightError
from samesight.runner import cpus
from samesight.secure import wire
from samesight.secure.graph import Graph
from samesight.secure.process import EngineProcess
from samesight.secure.protocols import ROLES, Protocol
from samesight.secure.ranges import LEAST, LEAST_ROOM, MOST, WORD_BITS
from samesight.secure.wire import Address, Channel, Inbox, Message, Tls

__all__ = [
    "COMPILE_SECONDS",
    "FIGURES",
    "LINK_SECONDS",
    "MAX_BATCH",
    "RUN_SECONDS",
    "Place",
    "figures_of",
    "join",
    "one_line",
    "order_compile",
    "sign_in",
    "started",
]

COMPILE_SECONDS = 1200.0
LINK_SECONDS = 60.0
RUN_SECONDS = 3600.0
MAX_BATCH = 64


@dataclass(frozen=True)
class Place:
    """How a party takes part: the protocol, where all are, its certificate, the engine's Python."""

    protocol: Protocol
    peers: Mapping[str, Address]
    python: Path
    tls: Tls | None = None
    wait_seconds: float = 60.0
    """How long the others are waited for."""
    bundle_id: str | None = None
    """The bundle that is wanted, or how its id begins; None: any."""

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


@contextmanager
def started(place: Place, inbox: Inbox) -> Iterator[EngineProcess]:
    """A party's engine, whose answers come into `inbox`, ended afterwards."""
    engine = EngineProcess(place.python, place.threads)
    inbox.watch(engine.name, engine.receive)
    try:
        yield engine
    finally:
        engine.close()


def order_compile(engine: EngineProcess, place: Place, public: Mapping[str, Any]) -> None:
    """Have the engine compile the public part of an offer."""
    engine.order(
        "compile",
        graph=public["graph"],
        protocol=place.protocol.name,
        bits=public["bits"],
        room=public["room"],
        label=not public["logits"],
    )


def sign_in(place: Place, role: str, **more: Any) -> Channel:
    """A connection to the model's party, which has been told who comes. Raises PartyError."""
    channel = wire.connect(place.sign_in, place.tls, place.wait_seconds)
    if place.tls is not None and channel.role != "model":
        channel.close()
        raise PartyError(
            "who answers is not the model's party", where=place.sign_in, expected="model", found=channel.role
        )
    channel.send("hello", role=role, version=__version__, protocol=place.protocol.name, **more)
    return channel


def join(
    inbox: Inbox, channel: Channel, engine: EngineProcess, place: Place, role: str, places: Sequence[str]
) -> Message:
    """From the offer to the shared weights, for a party that has none; the offer. Raises PartyError."""
    offer = inbox.expect("model", "offer")
    channel.stay_alive()
    offered = wire.field(offer, "bundle", str, 64)
    if not offered.startswith(place.bundle_id or ""):
        raise PartyError("the model's party offers another bundle", expected=place.bundle_id, found=offered)
    session = wire.field(offer, "session", str, 64)
    bits = wire.field(offer, "bits", int, MOST)
    room = wire.field(offer, "room", int, WORD_BITS)
    if not session.isalnum() or bits < LEAST or room < LEAST_ROOM:
        raise PartyError("the model's party offers something that does not fit")
    wire.field(offer, "logits", bool)
    Graph.from_json(offer.get("graph"))
    order_compile(engine, place, offer)
    compiled = inbox.expect("engine", "compile", COMPILE_SECONDS)
    channel.send("compiled", program=compiled["program"], versions=compiled["versions"])
    inbox.expect("model", "link", COMPILE_SECONDS)
    engine.order("link", rank=ROLES.index(role), session=session, places=places)
    inbox.expect("engine", "link", LINK_SECONDS)
    channel.send("linked")
    inbox.expect("model", "weights", LINK_SECONDS)
    engine.order("weights")
    inbox.expect("engine", "weights", RUN_SECONDS)
    channel.send("shared")
    return offer


FIGURES = ("sent_bytes", "received_bytes", "messages", "memory_kib")


def figures_of(message: Message) -> dict[str, int]:
    """What a party's run took, by its own count. Raises PartyError where it does not fit."""
    return {name: wire.field(message, name, int, 1 << 50) for name in FIGURES}


def one_line(error: SamesightError) -> str:
    """What went wrong, short enough for a message."""
    parts = [error.what, *(str(fact) for fact in (error.found,) if fact is not None)]
    return "; ".join(" ".join(part.split()) for part in parts)[:400]
