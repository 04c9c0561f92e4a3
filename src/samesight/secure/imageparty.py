"""The image's owner: signs in, gives its images to the computation, and alone learns the answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samesight.errors import InputError, PartyError, SamesightError
from samesight.preprocess import Preprocess
from samesight.secure import wire
from samesight.secure.graph import Graph
from samesight.secure.party import (
    FIGURES,
    LINK_SECONDS,
    MAX_BATCH,
    RUN_SECONDS,
    Place,
    figures_of,
    join,
    one_line,
    sign_in,
    started,
)
from samesight.secure.ways import ways
from samesight.secure.wire import Inbox, Message

__all__ = ["Answer", "ImageSession", "Offer"]


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
            self._channel = sign_in(self._place, "image", batch=self._batch, logits=self._logits)
            stack.callback(self._channel.close)
            self._inbox.watch("model", self._channel.heard)
            self._engine = stack.enter_context(started(self._place, self._inbox))
            places = stack.enter_context(ways(self._place, "image"))
            try:
                offer = join(self._inbox, self._channel, self._engine, self._place, "image", places)
                ready = self._inbox.expect("model", "ready", RUN_SECONDS)
            except SamesightError as error:
                with suppress(PartyError):
                    self._channel.send("stop", why=one_line(error))
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
        self._channel.send("ran", **figures_of(ran))
        done = self._inbox.expect("model", "done", RUN_SECONDS)
        values = ran["values"][:count]
        parties = {
            role: {name: int(found[name]) for name in FIGURES}
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
