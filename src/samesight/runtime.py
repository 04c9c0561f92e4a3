"""A bundle that answers: ONNX Runtime on the CPU, from photo to label. No torch, no onnx.

>>> from samesight.runtime import load
>>> load("bundle").classify("photo.jpg").label  # doctest: +SKIP
'cat'
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as _state
from PIL.Image import Image

from samesight.bundle import Bundle, Copy, open_bundle
from samesight.bundle.onnxparts import names_other_files
from samesight.errors import BundleInvalid, InputError, PhotoError, SamesightError
from samesight.evaluate import tensors as _tensors
from samesight.images.decoding import PILLOW_TROUBLE
from samesight.preprocess import decode, normalise, read_photo, resize, rgb
from samesight.runner import Runner, softmax, threads_for

__all__ = [
    "Classifier",
    "OnnxRunner",
    "PhotoLike",
    "Prediction",
    "Runner",
    "Top",
    "load",
    "open_runner",
    "softmax",
]

TOP = 5
BATCH = 8
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
_ORT_ERRORS: tuple[type[Exception], ...] = (
    *(kind for kind in vars(_state).values() if isinstance(kind, type) and issubclass(kind, Exception)),
    RuntimeError,
    ValueError,  # a name in a damaged model that is not UTF-8
)

PhotoLike: TypeAlias = str | Path | bytes | Image | NDArray[np.uint8]


@dataclass(frozen=True)
class Top:
    """One of the likeliest labels."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What a photo shows, likeliest first."""

    label: str
    index: int
    confidence: float
    """The probability of `label`, 0 to 1: the softmax of the logits, in float64."""
    top: tuple[Top, ...]
    logits: NDArray[np.float32]
    """(classes,)"""
    bundle: str
    """The id of the bundle that answered."""

    def to_json(self, path: str | Path) -> dict[str, Any]:
        """The object that `samesight predict --json` prints for the photo at `path`."""
        return {
            "path": str(path),
            "label": self.label,
            "index": self.index,
            "confidence": self.confidence,
            "top": [vars(one) for one in self.top],
            "bundle": self.bundle,
        }


@dataclass(frozen=True)
class _Side:
    """An input or output of a model, as the model has it."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]


class OnnxRunner:
    """One ONNX model in ONNX Runtime on the CPU. Safe to use from several threads."""

    name = "onnxruntime"

    def __init__(self, model: bytes, *, copy: str, threads: int | None = None) -> None:
        """Load `model`, with `threads` threads for each answer (as many as there are CPUs, at most eight).

        Raises BundleInvalid where ONNX Runtime cannot load it, or it is not of photos to logits.
        """
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = threads_for(threads)
        options.inter_op_num_threads = 1
        # Threads that wait by spinning take the CPU from those that decode: a third of all time on two cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # what matters is raised
        self.copy = copy
        _check_whole(model, copy)
        try:
            self._session = onnxruntime.InferenceSession(
                model,
                options,
                providers=["CPUExecutionProvider"],
                enable_fallback=0,  # which would print on stdout
            )
            inputs = [_Side(one.name, one.type, tuple(one.shape)) for one in self._session.get_inputs()]
            outputs = [_Side(one.name, one.type, tuple(one.shape)) for one in self._session.get_outputs()]
        except _ORT_ERRORS as error:
            raise BundleInvalid(
                "ONNX Runtime cannot load a model", where=f"the {copy} copy", found=_first_line(error)
            ) from error
        self._input = _only(inputs, "input", 4, copy)
        self._output = _only(outputs, "output", 2, copy)
        self._dtype = np.dtype(_DTYPES[self._input.type])
        first = self._input.shape[0]
        self.batch = first if isinstance(first, int) else None

    @property
    def signature(self) -> dict[str, tuple[str, str, tuple[int | str | None, ...]]]:
        """Name, dtype and shape of the input and the output, as the model has them."""
        sides = {"input": self._input, "output": self._output}
        return {key: (one.name, _DTYPES[one.type], one.shape) for key, one in sides.items()}

    def logits(self, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits (n, classes) of `tensors` (n, 3, height, width), in float32.

        A model of a fixed batch is fed in pieces, the last filled up with zeros. Raises BundleInvalid.
        """
        fed = np.ascontiguousarray(tensors, self._dtype)
        if self.batch is None:
            return self._run(fed)
        pieces = []
        for start in range(0, max(1, len(fed)), self.batch):
            piece = fed[start : start + self.batch]
            full = np.zeros((self.batch, *fed.shape[1:]), self._dtype)
            full[: len(piece)] = piece
            pieces.append(self._run(full)[: len(piece)])
        return np.concatenate(pieces)

    def _run(self, fed: NDArray[Any]) -> NDArray[np.float32]:
        try:
            (output,) = self._session.run([self._output.name], {self._input.name: fed})
        except _ORT_ERRORS as error:
            raise BundleInvalid(
                "ONNX Runtime cannot run a model", where=f"the {self.copy} copy", found=_first_line(error)
            ) from error
        classes = self._output.shape[1]
        shape = (len(fed), classes if isinstance(classes, int) else output.shape[-1])
        if output.shape != shape:  # ONNX Runtime does not hold a model to what it declares
            raise BundleInvalid(
                "a model answers in another shape than it declares",
                where=f"the {self.copy} copy",
                expected=_dimensions(shape),
                found=_dimensions(output.shape),
            )
        return np.asarray(output, np.float32)


class Classifier:
    """A bundle, loaded. Safe to use from several threads."""

    def __init__(self, bundle: Bundle, copy: Copy, runner: Runner, *, threads: int | None = None) -> None:
        self.bundle = bundle
        self.copy = copy
        self._runner = runner
        self._threads = threads

    def classify(self, photo: PhotoLike, *, top: int = TOP) -> Prediction:
        """What `photo` shows: a path, the bytes of an image file, a PIL image, or a uint8 array.

        A PIL image gives its pixels as they are, as RGB; an array is RGB, of shape (height, width, 3).
        Raises PhotoError where the photo cannot be read, InputError where it is something else, and
        BundleInvalid where the network's answer is not a number.
        """
        tensor = self._prepare(photo)
        return self.prediction(self._runner.logits(tensor[np.newaxis])[0], top)

    def classify_many(
        self, photos: Iterable[PhotoLike], *, top: int = TOP, batch: int = BATCH
    ) -> Iterator[Prediction | SamesightError]:
        """For each photo in order what it shows, or the error of one that could not be classified.

        Photos are decoded in threads a little ahead; no more than a few batches are held at a time.
        """
        held: deque[NDArray[np.float32] | InputError] = deque()
        for tensor in _tensors(photos, self._prepare, threads=self._threads):
            held.append(tensor)
            if len(held) == batch:
                yield from self._answers(held, top)
                held.clear()
        yield from self._answers(held, top)

    def _answers(
        self, held: Iterable[NDArray[np.float32] | InputError], top: int
    ) -> Iterator[Prediction | SamesightError]:
        good = [one for one in held if not isinstance(one, InputError)]
        rows = iter(self._runner.logits(np.stack(good)) if good else ())
        for one in held:
            if isinstance(one, InputError):
                yield one
                continue
            try:
                yield self.prediction(next(rows), top)
            except BundleInvalid as error:
                yield error

    def _prepare(self, photo: PhotoLike) -> NDArray[np.float32]:
        spec = self.bundle.preprocess
        return normalise(resize(_pixels(photo), spec), spec)

    def prediction(self, logits: NDArray[np.float32], top: int = TOP) -> Prediction:
        """What `logits` (classes,) say, likeliest first. Raises BundleInvalid where one is not a number."""
        if not np.isfinite(logits).all():
            raise BundleInvalid(
                "the network's answer is not a number",
                where=f"the {self.copy.name} copy of {self.bundle.name}",
                expected=f"{len(logits)} finite logits",
                found=f"{np.count_nonzero(~np.isfinite(logits))} that are not",
                fix="another --copy" if len(self.bundle.copies) > 1 else None,
            )
        probabilities = softmax(logits)
        order = np.argsort(-logits, kind="stable")[: max(top, 1)]
        best = tuple(Top(self.bundle.labels[i], int(i), float(probabilities[i])) for i in order)
        first = best[0]
        return Prediction(first.label, first.index, first.probability, best, logits, self.bundle.id)


def load(
    bundle: Bundle | Path | str, *, copy: str = "fp32", threads: int | None = None, trust: Path | None = None
) -> Classifier:
    """The classifier of `bundle`, by its copy of that name; with `trust`, signed by the key in that file.

    Raises a BundleError where the bundle fails a check, InputError where it has no such copy.
    """
    opened = (
        bundle if isinstance(bundle, Bundle) and trust is None else open_bundle(_folder(bundle), trust=trust)
    )
    runner = open_runner(opened, copy, threads=threads)
    return Classifier(opened, opened.copy(copy), runner, threads=threads)


def open_runner(bundle: Bundle, copy: str, *, threads: int | None = None) -> OnnxRunner:
    """The runner of one copy, which takes and gives what bundle.json says.

    Raises BundleInvalid where it does not, InputError where there is no such copy.
    """
    said = bundle.copy(copy)
    runner = OnnxRunner(bundle.read(said.file), copy=copy, threads=threads)
    for side, dtype, shape in (
        ("input", said.input_dtype, bundle.input_shape),
        ("output", said.output_dtype, bundle.output_shape),
    ):
        name, real_dtype, real_shape = runner.signature[side]
        fits = len(shape) == len(real_shape) and all(map(_fits, shape, real_shape))
        if (name, real_dtype) != (side, dtype) or not fits:
            raise BundleInvalid(
                f"the {side} of a model is not what bundle.json says",
                where=bundle.folder / said.file,
                expected=f"'{side}', {dtype}, {_dimensions(shape)}",
                found=f"'{name}', {real_dtype}, {_dimensions(real_shape)}",
            )
    return runner


def _fits(said: int | str, real: int | str | None) -> bool:
    """Whether a dimension of the model is the one in bundle.json: any name will do for "batch"."""
    return not isinstance(real, int) if said == "batch" else said == real


def _dimensions(shape: Iterable[object]) -> str:
    return " × ".join("?" if one is None else str(one) for one in shape)


def _folder(bundle: Bundle | Path | str) -> Path | str:
    return bundle.folder if isinstance(bundle, Bundle) else bundle


def _pixels(photo: PhotoLike) -> NDArray[np.uint8]:
    """The photo as uint8 RGB, (height, width, 3)."""
    if isinstance(photo, str | Path):
        return decode(read_photo(Path(photo)))
    if isinstance(photo, bytes):
        return decode(photo)
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
            raise InputError(
                "an array is not a photo",
                expected="uint8 of shape (height, width, 3), RGB",
                found=f"{photo.dtype} of shape {photo.shape}",
            )
        return np.ascontiguousarray(photo)
    if isinstance(photo, Image):
        return _pixels_of_image(photo)
    raise InputError(
        "this is not a photo",
        expected="a path, bytes, a PIL image or a uint8 array",
        found=type(photo).__name__,
    )


def _pixels_of_image(image: Image) -> NDArray[np.uint8]:
    try:
        return rgb(image)  # which reads the file only now, where the image was only opened
    except PILLOW_TROUBLE as error:
        raise PhotoError("a photo is damaged", found=_first_line(error)) from error


def _only(sides: list[_Side], what: str, rank: int, copy: str) -> _Side:
    """The one input or output of a model, a floating-point tensor of that rank."""
    found = ", ".join(f"{one.name} {one.type} {one.shape}" for one in sides)
    if len(sides) != 1 or sides[0].type not in _DTYPES or len(sides[0].shape) != rank:
        raise BundleInvalid(
            f"the {what} of a model is not that of an image classifier",
            where=f"the {copy} copy",
            expected=f"one float tensor of {rank} dimensions",
            found=found,
        )
    return sides[0]


def _check_whole(model: bytes, copy: str) -> None:
    try:
        whole = not names_other_files(model)
    except ValueError as error:
        raise BundleInvalid("a model is not an ONNX file", where=f"the {copy} copy", found=error) from error
    if not whole:
        raise BundleInvalid(
            "a model keeps tensors in another file, which no bundle vouches for",
            where=f"the {copy} copy",
            fix="export it anew, with its tensors inside",
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
