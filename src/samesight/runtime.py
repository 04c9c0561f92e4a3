"""A bundle that answers: ONNX Runtime on the CPU, from photo to label. No torch, no onnx.

>>> from samesight.runtime import load
>>> load("bundle").classify("photo.jpg").label  # doctest: +SKIP
'cat'
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as _state
from PIL.Image import Image

from samesight.answer import Answer, Top, likeliest
from samesight.bundle import Bundle, Copy, open_bundle
from samesight.bundle.onnxparts import check_whole
from samesight.errors import BundleInvalid, InputError, PhotoError, SamesightError
from samesight.evaluate import tensors as _tensors
from samesight.images.decoding import PILLOW_TROUBLE
from samesight.preprocess import decode, normalise, read_photo, resize, rgb
from samesight.runner import USUAL, Runner, Settings, Shape, answers_of, check_sides, softmax, threads_for
from samesight.runners import open_runners

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
MANY = 1000  # photos that an engine is chosen for where there are many
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
_ORT_ERRORS: tuple[type[Exception], ...] = (
    *(kind for kind in vars(_state).values() if isinstance(kind, type) and issubclass(kind, Exception)),
    RuntimeError,
    ValueError,  # a name in a damaged model that is not UTF-8
)

PhotoLike: TypeAlias = str | Path | bytes | Image | NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction(Answer):
    """What a photo shows, likeliest first, and the logits that say so."""

    logits: NDArray[np.float32]
    """(classes,)"""


@dataclass(frozen=True)
class _Side:
    """An input or output of a model, as the model has it."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]


class OnnxRunner:
    """One ONNX model in ONNX Runtime on the CPU. Safe to use from several threads."""

    name = "onnxruntime"

    def __init__(self, model: bytes, *, copy: str, settings: Settings = USUAL) -> None:
        """Load `model`. Raises BundleInvalid where ONNX Runtime cannot, or it is not of photos to logits."""
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = threads_for(settings.threads)
        options.inter_op_num_threads = 1
        # Threads that wait by spinning take the CPU from those that decode: a third of all time on two cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if settings.spinning else "0")
        options.enable_cpu_mem_arena = options.enable_mem_pattern = settings.arena
        options.log_severity_level = 4  # what matters is raised
        self.copy = copy
        check_whole(model, copy)
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

    @property
    def signature(self) -> dict[str, tuple[str, str, Shape]]:
        """Name, dtype and shape of the input and the output, as the model has them."""
        sides = {"input": self._input, "output": self._output}
        return {key: (one.name, _DTYPES[one.type], one.shape) for key, one in sides.items()}

    def logits(self, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits (n, classes) of `tensors` (n, 3, height, width), in float32. Raises BundleInvalid."""
        return answers_of(self._run, tensors, self.signature, self.copy)

    def _run(self, fed: NDArray[Any]) -> NDArray[Any]:
        try:
            (output,) = self._session.run([self._output.name], {self._input.name: fed})
        except _ORT_ERRORS as error:
            raise BundleInvalid(
                "ONNX Runtime cannot run a model", where=f"the {self.copy} copy", found=_first_line(error)
            ) from error
        return np.asarray(output)


class Classifier:
    """A bundle, loaded. Safe to use from several threads."""

    def __init__(
        self,
        bundle: Bundle,
        copy: Copy,
        runner: Runner,
        *,
        threads: int | None = None,
        lanes: int = 1,
        batch: int = BATCH,
    ) -> None:
        self.bundle = bundle
        self.copy = copy
        self.engine = runner.name
        self._runner = runner
        self._threads = threads
        self._lanes = lanes
        self._batch = batch

    def classify(self, photo: PhotoLike, *, top: int = TOP) -> Prediction:
        """What `photo` shows: a path, the bytes of an image file, a PIL image, or a uint8 array.

        A PIL image gives its pixels as they are, as RGB; an array is RGB, of shape (height, width, 3).
        Raises PhotoError where the photo cannot be read, InputError where it is something else, and
        BundleInvalid where the network's answer is not a number.
        """
        tensor = self._prepare(photo)
        return self.prediction(self._runner.logits(tensor[np.newaxis])[0], top)

    def classify_many(
        self, photos: Iterable[PhotoLike], *, top: int = TOP, batch: int | None = None
    ) -> Iterator[Prediction | SamesightError]:
        """For each photo in order what it shows, or the error of one that could not be classified.

        Photos are decoded in threads a little ahead; no more than a few batches are held at a time. Where it
        is known how many photos there are, lanes get equal shares.
        """
        size = batch or self._batch
        if self._lanes > 1:
            yield from self._in_lanes(photos, top, size)
            return
        held: deque[NDArray[np.float32] | InputError] = deque()
        for tensor in _tensors(photos, self._prepare, threads=self._threads):
            held.append(tensor)
            if len(held) == size:
                yield from self._answers(held, top)
                held.clear()
        yield from self._answers(held, top)

    def _in_lanes(
        self, photos: Iterable[PhotoLike], top: int, batch: int
    ) -> Iterator[Prediction | SamesightError]:
        """Each lane takes a batch of photos from their bytes to their answers, all on one core.

        Nothing waits for another core, which on two cores saves a tenth of the time.
        """

        def answer(some: tuple[PhotoLike, ...]) -> list[Prediction | SamesightError]:
            return list(self._answers([self._prepared(photo) for photo in some], top))

        rest, sizes = iter(photos), _shares(photos, batch, self._lanes)
        running: deque[Future[list[Prediction | SamesightError]]] = deque()
        pool = ThreadPoolExecutor(self._lanes, thread_name_prefix="lane")
        try:
            while some := tuple(islice(rest, next(sizes))):
                running.append(pool.submit(answer, some))
                if len(running) > self._lanes:
                    yield from running.popleft().result()
            while running:
                yield from running.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _prepared(self, photo: PhotoLike) -> NDArray[np.float32] | InputError:
        try:
            return self._prepare(photo)
        except InputError as error:
            return error

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
        order = np.argsort(-logits, kind="stable")[: max(top, 1)].tolist()
        wide = logits.astype(np.float64)
        best = likeliest((wide - wide.max()).tolist(), order, self.bundle.labels)
        return Prediction(best, self.bundle.id, logits)


def load(
    bundle: Bundle | Path | str,
    *,
    copy: str | None = None,
    engine: str = "onnxruntime",
    threads: int | None = None,
    many: bool = False,
    trust: Path | None = None,
) -> Classifier:
    """The classifier of `bundle`; with `trust`, signed by the key in that file.

    `engine` is "onnxruntime", "openvino", "openvino-bf16", or "auto": what `samesight bench` measured to be
    quickest on this machine, and ONNX Runtime where it was not asked to. `copy` is "fp32" where nothing is
    said, and with "auto" the one that was quickest. `many` prepares for `classify_many` over many photos:
    each thread then runs the network for photos of its own.

    Raises a BundleError where the bundle fails a check, InputError where there is no such copy or engine,
    MissingExtra where the engine is not installed.
    """
    if not isinstance(bundle, Bundle) or trust is not None:
        hold = None if engine == "auto" else copy or "fp32"
        bundle = open_bundle(_folder(bundle), trust=trust, hold=hold)
    engine, copy, settings, batch = _chosen(bundle, engine, copy, threads, many)
    (runner,) = open_runners(bundle, [engine], [copy], settings)
    return Classifier(bundle, bundle.copy(copy), runner, threads=threads, lanes=settings.lanes, batch=batch)


def _chosen(
    bundle: Bundle, engine: str, copy: str | None, threads: int | None, many: bool
) -> tuple[str, str, Settings, int]:
    """Engine, copy, settings and batch: as asked for, else as measured here, else the usual ones."""
    if engine == "auto":
        from samesight.profiles import choose

        found = choose(bundle, copy=copy, threads=threads, photos=MANY if many else 1)
        if found is not None:
            return found.engine, found.copy, found.settings, found.batch
        engine = "onnxruntime"
    lanes = threads_for(threads) if many else 1
    return engine, copy or "fp32", Settings(threads=1 if many else threads, lanes=lanes), BATCH


def open_runner(bundle: Bundle, copy: str, *, settings: Settings = USUAL) -> OnnxRunner:
    """ONNX Runtime with one copy, which takes and gives what bundle.json says.

    Raises BundleInvalid where it does not, InputError where there is no such copy.
    """
    runner = OnnxRunner(bundle.read(bundle.copy(copy).file), copy=copy, settings=settings)
    check_sides(bundle, copy, runner.signature)
    return runner


def _shares(photos: Iterable[PhotoLike], batch: int, lanes: int) -> Iterator[int]:
    """The sizes of batches, at most `batch`, nearly equal and as many a lane where photos are counted."""
    if isinstance(photos, Sized):
        rounds = max(1, -(-len(photos) // (batch * lanes)))
        small, larger = divmod(len(photos), rounds * lanes)
        for place in range(rounds * lanes):
            yield small + (place < larger)
    yield from repeat(batch)


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


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
