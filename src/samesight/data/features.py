"""What a bundle's network sees in photos: the features that its head is given, without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from samesight.bundle import Bundle, open_bundle
from samesight.bundle.onnxparts import head_input, with_output
from samesight.errors import InputError
from samesight.evaluate import photo_logits
from samesight.runner import Runner, threads_for
from samesight.runtime import OnnxRunner, open_runner

__all__ = ["bundle_of", "photo_features"]

COPY = "fp32"
BATCH = 16


def bundle_of(folder: Path) -> Bundle:
    """The bundle in `folder`, or in the run folder `folder`. Raises InputError, BundleError."""
    if (folder / "bundle.json").is_file():
        return open_bundle(folder)
    if (folder / "bundle" / "bundle.json").is_file():
        return open_bundle(folder / "bundle")
    if (folder / "run.json").is_file():
        raise InputError(
            "the run has not been exported, and photos are looked at without PyTorch",
            where=folder,
            fix=f"samesight export {folder} --out {folder}/bundle",
        )
    raise InputError("there is neither a run nor a bundle", where=folder, expected="run.json or bundle.json")


def photo_features(bundle: Bundle, photos: Sequence[Path]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The features (n, width) of those of `photos` that can be read, and their places among `photos`.

    What the head is given, averaged over its places where the head is a convolution (SqueezeNet's); the
    logits of a network whose head is neither that nor a matrix.
    """
    copy = bundle.copy(COPY) if COPY in {one.name for one in bundle.copies} else bundle.copies[0]
    checked = open_runner(bundle, copy.name)
    model = bundle.read(copy.file)
    inside = head_input(model)
    runner: Runner = checked if inside is None else _Inside(checked, with_output(model, inside), inside)
    answers = photo_logits([runner], photos, bundle.preprocess, batch=BATCH, what="Looking at photos")
    return answers.logits[runner.copy], answers.read


class _Inside:
    """A runner that answers with a tensor from inside the network instead of with its logits."""

    def __init__(self, checked: OnnxRunner, model: bytes, tensor: str) -> None:
        """`checked` has shown that the model is sound; `model` is the same with `tensor` as an output."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads_for(None)
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4
        self.name, self.copy = checked.name, checked.copy
        self._input, dtype, shape = checked.signature["input"]
        self._dtype = np.dtype(dtype)
        self._batch = shape[0] if isinstance(shape[0], int) else None
        self._tensor = tensor
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def logits(self, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The features (n, width) of `tensors` (n, 3, height, width)."""
        step = self._batch or max(1, len(tensors))
        pieces = []
        for start in range(0, len(tensors), step):
            piece = tensors[start : start + step].astype(self._dtype)
            full = np.zeros((step, *piece.shape[1:]), self._dtype)
            full[: len(piece)] = piece
            (found,) = self._session.run([self._tensor], {self._input: full})
            pieces.append(_rows(found)[: len(piece)])
        return np.concatenate(pieces)


def _rows(found: NDArray[Any]) -> NDArray[np.float32]:
    """(n, channels, height, width) averaged over its places; anything else as rows."""
    found = found.astype(np.float32)
    return found.mean(axis=(2, 3)) if found.ndim == 4 else found.reshape(len(found), -1)
