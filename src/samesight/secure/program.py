"""The network as a program of the secure engine (spu), and the shares that it runs on.

Imports jax and spu, so it is imported in the engine's own environment alone; needs numpy besides, and of
Samesight only graph.py and jaxnet.py.

https://github.com/secretflow/spu: `api.Io` splits arrays into shares, `api.Runtime` computes on them, and
`libspu.link` carries what the protocol sends.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import spu.api
import spu.libspu
from numpy.typing import NDArray

from samesight.secure.compiled import Compiled
from samesight.secure.graph import Graph
from samesight.secure.jaxnet import forward, laid_out
from samesight.secure.protocols import IMAGE, MODEL, PROTOCOLS
from samesight.secure.signs import WIDTH

__all__ = ["Engine", "Traffic"]

RECEIVE_SECONDS = 3600  # the parties watch each other themselves; the engine only must not give up first
MAX_META_BYTES = 4096
MAX_CHUNKS = 4096
MAX_SHARE_BYTES = 8 << 30


@dataclass(frozen=True)
class Traffic:
    """What one party sent and received, by the engine's own count."""

    sent_bytes: int
    received_bytes: int
    messages: int
    """How many times it waited for one, or more, from another party: what latency multiplies."""


class Engine:
    """One party's engine: compiled for one network, linked with the others, then run image by image."""

    def __init__(self, graph: Graph, protocol: str, bits: int, room: int, *, label: bool) -> None:
        """Compile, with `bits` fraction bits, for values below 2^`room`.

        Every party does this by itself from the public part; the hashes must agree.
        """
        self.graph = graph
        self.protocol = PROTOCOLS[protocol]
        self.config = _config(protocol, bits)
        weights = [np.zeros(shape, np.float32) for shape in graph.weight_shapes.values()]
        empty = laid_out(graph, dict(zip(graph.weight_shapes, weights, strict=True)))
        image = np.zeros(graph.shape, np.float32)
        self._names = ["image", *graph.weight_shapes]
        cut = max(0, bits + room + 2 - WIDTH) if self.protocol.name == "aby3" else None
        self._program = Compiled(forward(graph, label=label), [image, *empty], self._names, cut)

    @property
    def id(self) -> str:
        """The SHA-256 of the compiled program and of how it is run."""
        return hashlib.sha256(self._program.id.encode() + self.config.SerializeToString()).hexdigest()

    def link(self, rank: int, session: str, places: Sequence[str], log: Path) -> None:
        """Connect with the others; `places` has a host and port a rank, `log` takes the engine's words."""
        desc = spu.libspu.link.Desc()
        desc.id = session
        desc.recv_timeout_ms = RECEIVE_SECONDS * 1000
        desc.connect_retry_times = 60
        desc.connect_retry_interval_ms = 250
        for number, place in enumerate(places):
            desc.add_party(f"{session}:{number}", place)
        self.rank = rank
        self._log = log
        self._link = spu.libspu.link.create_brpc(desc, rank)
        self._io = spu.api.Io(len(places), self.config)
        self._runtime = spu.api.Runtime(self._link, self.config)

    def share_weights(self, weights: Mapping[str, NDArray[np.float32]] | None) -> int:
        """Give the weights to the computation: the model's party alone has them. How many bytes it sent."""
        rows = None if weights is None else laid_out(self.graph, weights)
        sent = 0
        for number, name in enumerate(self._names[1:]):
            sent += self._share(name, None if rows is None else rows[number], MODEL)
        return sent

    def answer(self, image: NDArray[np.float32] | None) -> tuple[NDArray[Any] | None, float, Traffic]:
        """One run: the answer (at the image's party alone), seconds, and what was sent.

        `image` (n, 3, h, w) float32 is the image party's; the others give None.
        """
        start = time.monotonic()
        before = os.path.getsize(self._log)
        image_bytes = self._share("image", image, IMAGE)
        self._program.run(self._runtime, self.rank)
        mine = self._runtime.get_var("answer")
        result: NDArray[Any] | None = None
        if self.rank == IMAGE:
            shares = [mine if rank == IMAGE else self._receive(rank) for rank in range(self._link.world_size)]
            result = np.asarray(self._io.reconstruct(shares))
        else:
            image_bytes += self._send(IMAGE, mine)
        seconds = time.monotonic() - start
        return result, seconds, _traffic(self._log, before, image_bytes)

    def close(self) -> None:
        """Wait for what is under way, and disconnect."""
        self._link.stop_link()

    def _share(self, name: str, values: NDArray[np.float32] | None, owner: int) -> int:
        """Split the owner's array and give each party its share. How many bytes were sent."""
        sent = 0
        if values is not None:
            private = owner if self.protocol.private_inputs else -1
            shares = self._io.make_shares(values, spu.libspu.Visibility.VIS_SECRET, private)
            for rank, share in enumerate(shares):
                if rank != owner:
                    sent += self._send(rank, share)
            mine = shares[owner]
        else:
            mine = self._receive(owner)
        self._runtime.set_var(name, mine)
        return sent

    def _send(self, rank: int, share: Any) -> int:
        chunks = list(share.share_chunks)
        head = struct.pack(">II", len(share.meta), len(chunks))
        sizes = b"".join(struct.pack(">Q", len(chunk)) for chunk in chunks)
        data = b"".join([head, share.meta, sizes, *chunks])
        self._link.send(rank, data)
        return len(data)

    def _receive(self, rank: int) -> Any:
        """A share from another party. Raises ValueError for what is none."""
        data = self._link.recv(rank)
        if not 8 <= len(data) <= MAX_SHARE_BYTES:
            raise ValueError(f"a share of {len(data)} bytes")
        meta_size, count = struct.unpack_from(">II", data)
        place = 8 + meta_size + 8 * count
        if meta_size > MAX_META_BYTES or count > MAX_CHUNKS or place > len(data):
            raise ValueError("a share that does not fit")
        sizes = struct.unpack_from(f">{count}Q", data, 8 + meta_size)
        if place + sum(sizes) != len(data):
            raise ValueError("a share that does not fit")
        share = spu.libspu.Share()
        share.meta = data[8 : 8 + meta_size]
        chunks = []
        for size in sizes:
            chunks.append(data[place : place + size])
            place += size
        share.share_chunks = chunks
        return share


def _config(protocol: str, bits: int) -> Any:
    config = spu.libspu.RuntimeConfig()
    config.protocol = getattr(spu.libspu.ProtocolKind, PROTOCOLS[protocol].engine_name)
    config.field = spu.libspu.FieldType.FM64
    config.fxp_fraction_bits = bits
    config.experimental_enable_colocated_optimization = PROTOCOLS[protocol].private_inputs
    config.enable_pphlo_profile = True  # the only way to the engine's count of bytes and messages
    return config


_COUNT = re.compile(
    rb"Link details: total send bytes (\d+), recv bytes (\d+), send actions (\d+), recv actions (\d+)"
)


def _traffic(log: Path, start: int, more_bytes: int) -> Traffic:
    """The engine's count of what it ran, from its log behind `start`, and the shares of image and answer."""
    with log.open("rb") as stream:
        stream.seek(start)
        found = _COUNT.findall(stream.read())
    runs = [tuple(map(int, run)) for run in found]
    sent, received, messages = (sum(run[place] for run in runs) for place in (0, 1, 3))
    return Traffic(sent + more_bytes, received, messages)
