"""Messages between the parties: JSON of a limited size over TLS, where each side shows its certificate.

Nothing is unpickled. A message is four bytes of length (big-endian) and UTF-8 JSON, one object with "kind".
The weights, the image and the answer never go this way: they travel as shares between the engines.
"""

from __future__ import annotations

import json
import queue
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from samesight.errors import InputError, PartyError
from samesight.files import sha256_bytes

__all__ = [
    "Address",
    "Channel",
    "Inbox",
    "Message",
    "Tls",
    "connect",
    "field",
    "is_loopback",
    "listen",
    "open_channel",
    "read_peers",
    "secure",
]

MAX_MESSAGE_BYTES = 16 << 20  # the public part of the largest network is 1 MB
HANDSHAKE_SECONDS = 10.0
SEND_SECONDS = 60.0
SILENT_SECONDS = 10  # a peer whose machine is gone is given up after this
ALIVE, ALIVE_SECONDS = "alive", 5.0  # said so often by each side in a session
STILL_SECONDS = 30.0  # a peer that does not even say that is given up: it stands still
Message: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Address:
    """Where a party is reached: the engines at `port`, the model's party for sign-in at `port` + 1."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Tls:
    """A party's certificate, its key, and the authority that all parties' certificates come from."""

    cert: Path
    key: Path
    ca: Path

    def context(self, *, server: bool) -> ssl.SSLContext:
        """TLS 1.3; both sides show a certificate of the authority. Raises InputError for unfit files."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        made.check_hostname = False  # who a party is stands in its certificate's common name, see _role_of
        made.verify_mode = ssl.CERT_REQUIRED
        try:
            made.load_cert_chain(self.cert, self.key)
            made.load_verify_locations(self.ca)
        except (OSError, ssl.SSLError) as error:
            raise InputError(
                "the certificate, key and authority cannot be used",
                where=f"{self.cert}, {self.key}, {self.ca}",
                found=error,
                fix="samesight secure certificates --out FOLDER",
            ) from error
        return made


class Channel:
    """A connection to one party. `role` is what its certificate says it is; None without TLS."""

    def __init__(self, stream: socket.socket, role: str | None, certificate: str | None) -> None:
        self._stream, self.role, self.certificate = stream, role, certificate
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def send(self, kind: str, **fields: Any) -> None:
        """Send a message. Raises PartyError where the other side is gone."""
        data = json.dumps({"kind": kind, **fields}, allow_nan=False).encode()
        assert len(data) <= MAX_MESSAGE_BYTES
        try:
            with self._lock:
                self._stream.sendall(struct.pack(">I", len(data)) + data)
        except OSError as error:
            raise PartyError("the connection to another party broke", found=error) from error

    def receive(self, seconds: float | None = None) -> Message | None:
        """The next message, None where the other side has closed. Raises PartyError for anything else."""
        try:
            head = self._exactly(4, seconds)
            if head is None:
                return None
            (size,) = struct.unpack(">I", head)
            if size > MAX_MESSAGE_BYTES:
                raise PartyError("another party sent a message that is too large", found=f"{size} bytes")
            data = self._exactly(size, HANDSHAKE_SECONDS * 6)
        except (OSError, ValueError) as error:
            raise PartyError("the connection to another party broke", found=error) from error
        try:
            message = json.loads(data or b"")
        except (ValueError, RecursionError) as error:
            raise PartyError("another party sent what is no message", found=error) from error
        if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
            raise PartyError("another party sent what is no message", found=type(message).__name__)
        return message

    def heard(self) -> Message | None:
        """The next message of a side that is to say every few seconds that it is there.

        None where it has closed. Raises PartyError where it has been silent.
        """
        while True:
            message = self.receive(STILL_SECONDS)
            if message is None or message["kind"] != ALIVE:
                return message

    def stay_alive(self) -> None:
        """Say every few seconds that this side is there, until the connection ends."""

        def beat() -> None:
            with suppress(PartyError):
                while not self._closed.wait(ALIVE_SECONDS):
                    self.send(ALIVE)

        threading.Thread(target=beat, name="alive", daemon=True).start()

    def _exactly(self, size: int, seconds: float | None) -> bytes | None:
        parts = bytearray()
        while len(parts) < size:
            self._wait(seconds)
            with self._lock:  # one TLS connection must not be read and written at the same time
                piece = self._stream.recv(min(size - len(parts), 1 << 20))
            if not piece:
                if parts:
                    raise PartyError("another party went away in the middle of a message")
                return None
            parts += piece
        return bytes(parts)

    def _wait(self, seconds: float | None) -> None:
        """Until there is something to read."""
        if isinstance(self._stream, ssl.SSLSocket) and self._stream.pending():
            return
        if not select.select([self._stream], [], [], seconds)[0]:
            raise PartyError("nothing was heard from another party", found=f"{seconds:g} s")

    def close(self) -> None:
        """Close it; the other side sees the end."""
        self._closed.set()
        with suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)
        self._stream.close()


class Inbox:
    """Messages from several sides in one queue, so that none that goes away is waited for."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[str, Message | PartyError | None]] = queue.Queue()

    def watch(self, name: str, receive: Any) -> None:
        """Put what `receive()` gives into the queue until it gives None, which is put there too."""

        def read() -> None:
            while True:
                try:
                    message = receive()
                except PartyError as error:
                    self._queue.put((name, error))
                    return
                self._queue.put((name, message))
                if message is None:
                    return

        threading.Thread(target=read, name=f"from {name}", daemon=True).start()

    def next(self, seconds: float | None = None) -> tuple[str, Message]:
        """Who sent the next message, and the message.

        Raises PartyError where a side has closed, has said that it stops, or nothing came in time.
        """
        try:
            name, message = self._queue.get(timeout=seconds)
        except queue.Empty:
            raise PartyError("nothing was heard from the other parties", found=f"{seconds:g} s") from None
        if isinstance(message, PartyError):
            raise PartyError(message.what, where=f"{name}'s party", found=message.found) from message
        if message is None:
            raise PartyError(f"the {name}'s party went away")
        if message["kind"] == "stop":
            why = message.get("why")
            raise PartyError(f"the {name}'s party stopped", found=why if isinstance(why, str) else None)
        return name, message

    def expect(self, name: str, kind: str, seconds: float | None = None) -> Message:
        """The next message, which must be of that kind from that side. Raises PartyError."""
        found, message = self.next(seconds)
        if (found, message["kind"]) != (name, kind):
            raise PartyError(
                "another party said something unexpected",
                expected=f"{kind} from the {name}",
                found=f"{message['kind']} from the {found}"[:200],
            )
        return message


def field(message: Mapping[str, Any], name: str, kind: type | tuple[type, ...], limit: int = 1 << 31) -> Any:
    """A field of a message, of a type, not longer or larger than `limit`. Raises PartyError."""
    value = message.get(name)
    fits = isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)
    if fits and isinstance(value, (int, float)):
        fits = -limit <= value <= limit
    elif fits and isinstance(value, (str, list, dict)):
        fits = len(value) <= limit
    if not fits:
        raise PartyError("another party sent a message that does not fit", found=f"{message['kind']}: {name}")
    return value


@contextmanager
def listen(address: Address, tls: Tls | None) -> Iterator[socket.socket]:
    """A listening socket. Raises InputError where it cannot be had, or is not loopback and has no TLS."""
    _check_plain(address, tls)
    try:
        server = socket.create_server((address.host, address.port), reuse_port=False)
    except OSError as error:
        raise InputError("cannot listen there", where=address, found=error.strerror or error) from error
    with server:
        yield server


def connect(address: Address, tls: Tls | None, seconds: float) -> Channel:
    """A connection to the model's party, tried for `seconds`. Raises PartyError."""
    import time

    _check_plain(address, tls)
    until = time.monotonic() + seconds
    while True:
        try:
            stream = socket.create_connection((address.host, address.port), timeout=HANDSHAKE_SECONDS)
            return open_channel(stream, tls, server=False)
        except OSError as error:
            if time.monotonic() > until:
                raise PartyError(
                    "the model's party cannot be reached", where=address, found=error.strerror or error
                ) from error
            time.sleep(0.2)


def open_channel(stream: socket.socket, tls: Tls | None, *, server: bool) -> Channel:
    """A channel over a fresh connection, after the certificates. Raises PartyError where they do not fit."""
    stream.settimeout(HANDSHAKE_SECONDS)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 4), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_SECONDS * 1000)
    role = certificate = None
    if tls is not None:
        stream, role, certificate = secure(stream, tls, server=server)
    stream.settimeout(SEND_SECONDS)
    return Channel(stream, role, certificate)


def secure(stream: socket.socket, tls: Tls, *, server: bool) -> tuple[ssl.SSLSocket, str | None, str]:
    """The connection under TLS, the role in the other side's certificate, and that one's SHA-256.

    Raises PartyError where the certificates do not fit.
    """
    stream.settimeout(HANDSHAKE_SECONDS)
    try:
        secured = tls.context(server=server).wrap_socket(stream, server_side=server)
    except OSError as error:  # ssl.SSLError is one
        stream.close()
        raise PartyError("a connection was refused: no certificate that fits", found=error) from error
    return secured, _role_of(secured), sha256_bytes(secured.getpeercert(binary_form=True) or b"")


def _role_of(stream: ssl.SSLSocket) -> str | None:
    """The common name of the other side's certificate: its role."""
    subject: Any = (stream.getpeercert() or {}).get("subject", ())
    names = [value for row in subject for key, value in row if key == "commonName"]
    return names[0] if len(names) == 1 else None


def _check_plain(address: Address, tls: Tls | None) -> None:
    if tls is None and not is_loopback(address.host):
        raise InputError(
            "without certificates the parties talk over loopback only",
            where=address,
            fix="--tls-cert, --tls-key and --tls-ca; samesight secure certificates makes them",
        )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by name or number."""
    import ipaddress

    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def read_peers(words: str, roles: tuple[str, ...]) -> dict[str, Address]:
    """Each role's address from "model=HOST:PORT,image=HOST:PORT". Raises InputError."""
    found: dict[str, Address] = {}
    for word in words.split(","):
        role, _, place = word.strip().partition("=")
        host, _, port = place.rpartition(":")
        if role in found or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65535:
            raise InputError(
                "--peers cannot be read",
                expected=",".join(f"{one}=HOST:PORT" for one in roles),
                found=word,
            )
        found[role] = Address(host.strip("[]"), int(port))
    if set(found) != set(roles):
        raise InputError(
            "--peers does not name the parties of this protocol",
            expected=", ".join(roles),
            found=", ".join(found),
        )
    return found
