"""The proof that a rewritten network, or one rebuilt from another engine's files, is still the bundle's own.

Both run in ONNX Runtime on the tensors of the bundle's golden samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samesight.bundle import Bundle
from samesight.errors import CopyError, InputError
from samesight.images.pixelfile import read_pixels
from samesight.preprocess import normalise
from samesight.runtime import OnnxRunner
from samesight.secure.graph import Graph, Weights
from samesight.secure.writing import write_onnx
from samesight.verify.golden import array_sha256, read_golden
from samesight.verify.tolerances import Tolerance

__all__ = ["Proof", "golden_tensors", "logits_of", "prove"]


@dataclass(frozen=True)
class Proof:
    """What was compared, and how far it lay apart."""

    samples: int
    max_abs_difference: float
    allowed: float | None  # null where the format itself is coarser than any tolerance: then labels alone
    label_agreement: float

    def to_json(self) -> dict[str, Any]:
        """The object in the export's record."""
        return dict(vars(self))


def golden_tensors(bundle: Bundle) -> Iterator[NDArray[np.float32]]:
    """The tensor (3, h, w) of each golden sample, held to the record. Raises InputError without any."""
    samples = read_golden(bundle).samples
    if not samples:
        raise InputError(
            "the bundle has no golden samples to prove anything by",
            where=bundle.folder,
            fix="export it again, with --samples PHOTOS",
        )
    for sample in samples:
        tensor = normalise(read_pixels(bundle.read(sample.resized)), bundle.preprocess)
        if array_sha256(tensor) != sample.tensor_sha256:
            raise InputError(
                f"golden sample {sample.id} does not give the recorded tensor",
                where=bundle.folder,
                fix=f"samesight verify {bundle.folder}",
            )
        yield tensor


def logits_of(graph: Graph, weights: Weights, tensors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The logits (n, classes) of a network for `tensors`, in ONNX Runtime."""
    runner = OnnxRunner(write_onnx(graph, weights), copy="rewritten")
    return runner.logits(np.stack(tensors))


def prove(
    what: str,
    found: NDArray[np.float32],
    expected: NDArray[np.float32],
    tolerance: Tolerance | None,
    fix: str | None = None,
) -> Proof:
    """The comparison of two arrays of logits. Raises CopyError where they differ by more than `tolerance`.

    Without a tolerance the labels alone must be the same.
    """
    difference = float(np.abs(found.astype(np.float64) - expected).max())
    agreement = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
    allowed = None if tolerance is None else tolerance.absolute(float(np.abs(expected).max()))
    too_far = not np.isfinite(found).all() or (allowed is not None and not difference <= allowed)
    if too_far or agreement < 1:
        raise CopyError(
            f"{what} is not the bundle's network any more",
            expected=f"the same labels{'' if allowed is None else f', logits within {allowed:.3g}'}",
            found=f"{agreement:.1%} of the labels, a difference of {difference:.3g}",
            fix=fix,
        )
    return Proof(len(found), difference, allowed, agreement)
