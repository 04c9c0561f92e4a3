"""The engines' ways to one another: with certificates, through TLS of our own at both ends.

An engine listens on loopback alone. What comes to its party's address from outside must be TLS 1.3 with a
certificate of the authority, whose common name is another party's role; what its engine sends to another
party goes out the same way, to a certificate of that very role. The engine's own TLS is not used: its server
would answer plain connections at the same port too.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from samesight.errors import PartyError
from samesight.progress import say
from samesight.secure import wire
from samesight.secure.party import Place
from samesight.secure.wire import HANDSHAKE_SECONDS, Tls

__all__ = ["ways"]

LOOPBACK = "127.0.0.1"
CHUNK = 1 << 18
MAX_WAITING_BYTES = 4 << 20  # read from one side and not yet taken by the other
LAST_SECONDS = 5.0  # for what is still to be sent when a side has ended


@contextmanager
def ways(place: Place, role: str) -> Iterator[list[str]]:
    """Where each party is, by rank, as `role`'s engine is to be told.

    Raises InputError where the address cannot be had.
    """
    tls = place.tls
    if tls is None:
        yield [str(place.peers[one]) for one in place.protocol.roles]
        return
    others = {one: place.peers[one] for one in place.protocol.roles if one != role}
    with ExitStack() as stack:
        inner = stack.enter_context(_free_port())
        outside = stack.enter_context(wire.listen(place.peers[role], tls))
        _serve(outside, lambda stream: _let_in(stream, tls, set(others), inner))
        found = {role: f"{LOOPBACK}:{inner}"}
        for other, address in others.items():
            server = stack.enter_context(socket.create_server((LOOPBACK, 0)))
            _serve(server, _outward(tls, other, (address.host, address.port)))
            found[other] = f"{LOOPBACK}:{server.getsockname()[1]}"
        yield [found[one] for one in place.protocol.roles]


@contextmanager
def _free_port() -> Iterator[int]:
    """A port of loopback that was free a moment ago."""
    with socket.create_server((LOOPBACK, 0)) as server:
        port: int = server.getsockname()[1]
    yield port


def _serve(server: socket.socket, carry: Callable[[socket.socket], None]) -> None:
    """Have `carry` take every connection, in a thread of its own, until `server` is closed."""

    def take() -> None:
        server.settimeout(0.2)  # a closed socket does not wake who waits for it
        while True:
            try:
                stream = server.accept()[0]
            except TimeoutError:
                continue
            except OSError:
                return
            threading.Thread(target=carry, args=(stream,), daemon=True).start()

    threading.Thread(target=take, daemon=True).start()


def _let_in(stream: socket.socket, tls: Tls, roles: set[str], port: int) -> None:
    """From another party to this one's engine, where the certificate is one of theirs."""
    try:
        secured, role, _ = wire.secure(stream, tls, server=True)
    except PartyError as error:
        say(f"refused: {error.what}")
        return
    if role not in roles:
        say(f"refused: the certificate of {role}")
        secured.close()
        return
    try:
        engine = socket.create_connection((LOOPBACK, port), timeout=HANDSHAKE_SECONDS)
    except OSError:  # not there yet: the other engine asks again
        secured.close()
        return
    _relay(secured, engine)


def _outward(tls: Tls, role: str, address: tuple[str, int]) -> Callable[[socket.socket], None]:
    """From this party's engine to another party, where the certificate is of that role."""

    def carry(stream: socket.socket) -> None:
        try:
            plain = socket.create_connection(address, timeout=HANDSHAKE_SECONDS)
            secured, found, _ = wire.secure(plain, tls, server=False)
        except (OSError, PartyError):  # not there yet: the engine asks again
            stream.close()
            return
        if found != role:
            say(f"refused: {found} at the {role}'s address")
            secured.close()
            stream.close()
            return
        _relay(stream, secured)

    return carry


def _relay(one: socket.socket, two: socket.socket) -> None:
    """Carry bytes both ways until a side ends: a TLS connection is read and written by one thread only."""
    other = {one: two, two: one}
    waiting = {one: bytearray(), two: bytearray()}
    for stream in other:
        stream.setblocking(False)
        with suppress(OSError):
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with suppress(OSError, ValueError):
        ended = None
        while ended is None:
            ended = _turn(other, waiting)
        last = other[ended]
        last.settimeout(LAST_SECONDS)
        last.sendall(waiting[last])
    for stream in other:
        with suppress(OSError):
            stream.shutdown(socket.SHUT_RDWR)
        stream.close()


def _turn(
    other: dict[socket.socket, socket.socket], waiting: dict[socket.socket, bytearray]
) -> socket.socket | None:
    """Read and send what can be without waiting for more; the side that has ended, if one has."""
    reading = [one for one in other if len(waiting[other[one]]) < MAX_WAITING_BYTES]
    held = [one for one in reading if isinstance(one, ssl.SSLSocket) and one.pending()]
    sending = [one for one in other if waiting[one]]
    readable, _, _ = select.select(reading, sending, [], 0 if held else None)
    for one in {*readable, *held}:
        with suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            data = one.recv(CHUNK)
            if not data:
                return one
            waiting[other[one]] += data
    for one in other:
        if waiting[one]:
            with suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
                del waiting[one][: one.send(waiting[one])]
    return None
