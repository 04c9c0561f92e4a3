"""Photos through a session of the image's party, and what is said of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samesight.bundle import Bundle
from samesight.preprocess import preprocess, read_photo
from samesight.progress import track
from samesight.secure.imageparty import Answer, ImageSession
from samesight.secure.protocols import LEAKS, Protocol
from samesight.terminal import printable

__all__ = ["Run", "print_run", "run_photos"]


@dataclass(frozen=True)
class Row:
    """One photo's answer."""

    path: str
    label: str
    index: int
    logits: tuple[float, ...] | None
    plain_label: str | None
    """Without encryption; None where this party does not have the network."""
    difference: float | None
    """The largest of the logits' from the plain ones, where they are revealed."""


@dataclass(frozen=True)
class Run:
    """What a secure run gave, and what it took."""

    protocol: Protocol
    bundle: str
    bits: int
    batch: int
    rows: tuple[Row, ...]
    setup_seconds: float
    seconds: tuple[float, ...]
    """Of each run of a batch."""
    weight_bytes: int
    parties: Mapping[str, Mapping[str, int]]
    """By role, of the last run."""

    @property
    def ok(self) -> bool:
        """Whether every label is the plain one, as far as that is known."""
        return all(row.plain_label in (None, row.label) for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """The object that `secure run --json` prints."""
        return {
            "ok": self.ok,
            "protocol": self.protocol.name,
            "promise": self.protocol.promise,
            "trust": self.protocol.trust,
            "leaks": LEAKS,
            "bundle": self.bundle,
            "fraction_bits": self.bits,
            "batch": self.batch,
            "setup_seconds": round(self.setup_seconds, 3),
            "seconds": [round(one, 3) for one in self.seconds],
            "weight_bytes": self.weight_bytes,
            "parties": {role: dict(figures) for role, figures in self.parties.items()},
            "photos": [vars(row) for row in self.rows],
        }


def run_photos(
    session: ImageSession,
    photos: Sequence[Path],
    batch: int,
    protocol: Protocol,
    plain: Bundle | None = None,
) -> Run:
    """Every photo's answer; with `plain`, compared with what that bundle says without encryption.

    Raises PhotoError where one cannot be read: all are read before any is sent.
    """
    offer = session.offer
    tensors = [preprocess(read_photo(path), offer.preprocess) for path in photos]
    references = None
    if plain is not None:
        from samesight.runtime import open_runner

        references = open_runner(plain, "fp32").logits(np.stack(tensors))
    answers: list[Answer] = []
    starts = range(0, len(tensors), batch)
    for start in track(starts, "Secure runs", len(starts)):
        answers.append(session.answer(np.stack(tensors[start : start + batch])))
    labels = np.concatenate([answer.labels for answer in answers])
    logits = np.concatenate([a.logits for a in answers if a.logits is not None]) if offer.logits else None
    rows = []
    for number, path in enumerate(photos):
        mine = None if logits is None else logits[number]
        other = None if references is None else references[number]
        difference = None if mine is None or other is None else float(np.abs(mine - other).max())
        rows.append(
            Row(
                str(path),
                offer.labels[labels[number]],
                int(labels[number]),
                None if mine is None else tuple(map(float, mine)),
                None if other is None else offer.labels[int(other.argmax())],
                difference,
            )
        )
    return Run(
        protocol=protocol,
        bundle=offer.bundle,
        bits=offer.bits,
        batch=batch,
        rows=tuple(rows),
        setup_seconds=session.setup_seconds,
        seconds=tuple(answer.seconds for answer in answers),
        weight_bytes=session.weight_bytes,
        parties=answers[-1].parties,
    )


def print_run(run: Run, *, as_json: bool) -> None:
    """The answers, and beneath them what was promised, what was not, and what it took."""
    if as_json:
        print(json.dumps(run.to_json(), indent=2, allow_nan=False))
        return
    width = max(len(printable(row.path)) for row in run.rows)
    for row in run.rows:
        plain = {None: "", row.label: "   as without encryption"}.get(
            row.plain_label, f"   WITHOUT ENCRYPTION: {printable(row.plain_label or '')}"
        )
        apart = "" if row.difference is None else f", logits within {row.difference:.2g}"
        print(f"{printable(row.path):<{width}}  {printable(row.label)}{plain}{apart}")
    print()
    print(f"protocol  {run.protocol.name}: {run.protocol.promise}")
    print(f"trust     {run.protocol.trust}")
    print(f"leaks     {LEAKS}")
    print(
        f"time      {run.setup_seconds:.1f} s to compile, connect and share the network, then "
        f"{np.mean(run.seconds):.2f} s a run of {run.batch}"
    )
    traffic = [
        f"{role} {figures['sent_bytes'] / 1e6:.1f} MB in {figures['messages']} messages"
        for role, figures in run.parties.items()
    ]
    print(f"sent      {', '.join(traffic)}; the network once, {run.weight_bytes / 1e6:.1f} MB")
