"""Many photos through runners: logits, accuracy, agreement. Knows runners, not runtimes.

Photos are decoded in threads a little ahead of the networks, so that memory does not grow with their number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from samesight import preprocess as steps
from samesight.errors import InputError, one_line
from samesight.files import sha256_bytes, sha256_file
from samesight.preprocess import Preprocess
from samesight.progress import track
from samesight.runner import Runner, threads_for

__all__ = ["PhotoLogits", "accuracy", "agreement", "photo_logits", "photos_sha256"]

Source = TypeVar("Source")
Prepared = TypeVar("Prepared")


@dataclass(frozen=True)
class PhotoLogits:
    """What each runner answered for every photo that could be read."""

    logits: dict[str, NDArray[np.float32]]
    """By the runner's copy: (readable photos, classes), rows in the order of the photos."""
    read: NDArray[np.int64]
    """The place of each row's photo among the photos that were given."""
    errors: dict[int, str]
    """Why a photo could not be read, by its place."""


def photo_logits(
    runners: Sequence[Runner],
    photos: Sequence[Path],
    preprocess: Preprocess,
    *,
    batch: int = 16,
    what: str = "Classifying",
) -> PhotoLogits:
    """The logits of `photos` by every runner, each photo decoded once; a bar on stderr names `what`."""
    rows: dict[str, list[NDArray[np.float32]]] = {runner.copy: [] for runner in runners}
    assert len(rows) == len(runners), "two runners of one copy"
    read: list[int] = []
    errors: dict[int, str] = {}
    waiting: list[NDArray[np.float32]] = []

    def answer() -> None:
        tensors = np.stack(waiting)
        for runner in runners:
            rows[runner.copy].append(runner.logits(tensors))
        waiting.clear()

    def prepare(photo: Path) -> NDArray[np.float32]:
        return steps.preprocess(steps.read_photo(photo), preprocess)

    for index, tensor in enumerate(track(tensors(photos, prepare), what, total=len(photos))):
        if isinstance(tensor, InputError):
            errors[index] = one_line(tensor)
            continue
        read.append(index)
        waiting.append(tensor)
        if len(waiting) == batch:
            answer()
    if waiting:
        answer()
    none = np.zeros((0, 0), np.float32)
    logits = {copy: np.concatenate(parts) if parts else none for copy, parts in rows.items()}
    return PhotoLogits(logits=logits, read=np.array(read, np.int64), errors=errors)


def photos_sha256(photos: Iterable[Path]) -> str:
    """One SHA-256 for a set of photos by their bytes alone, whatever their names and their order."""
    return sha256_bytes("\n".join(sorted(map(sha256_file, photos))).encode())


def accuracy(logits: NDArray[Any], targets: Sequence[int] | NDArray[Any]) -> float:
    """The share, 0 to 1, of rows whose largest logit is the target's. A row that is not finite is wrong.

    NaN where there are no rows: nothing is known then.
    """
    if len(logits) != len(targets):
        raise ValueError(f"{len(logits)} rows of logits for {len(targets)} targets")
    if not len(logits):
        return float("nan")
    right = (logits.argmax(axis=1) == np.asarray(targets)) & _finite(logits)
    return float(right.mean())


def agreement(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The share, 0 to 1, of rows in which both name the same label. A row that is not finite never agrees.

    NaN where there are no rows.
    """
    if a.shape != b.shape:
        raise ValueError(f"logits of shape {a.shape} against {b.shape}")
    if not len(a):
        return float("nan")
    return float(((a.argmax(axis=1) == b.argmax(axis=1)) & _finite(a) & _finite(b)).mean())


def tensors(
    photos: Iterable[Source],
    prepare: Callable[[Source], Prepared],
    *,
    threads: int | None = None,
) -> Iterator[Prepared | InputError]:
    """`prepare(photo)` for each photo in order, or the error of one that cannot be read.

    Threads (`threads`, else one a CPU, at most eight) work at most four photos each ahead of the reader,
    and take no more from `photos`.
    """
    workers = threads_for(threads)
    running: deque[Future[Prepared | InputError]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for photo in photos:
            running.append(pool.submit(prepare, photo))
            if len(running) > 4 * workers:
                yield _outcome(running.popleft())
        while running:
            yield _outcome(running.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _outcome(future: Future[Prepared]) -> Prepared | InputError:
    try:
        return future.result()
    except InputError as error:
        return error


def _finite(logits: NDArray[Any]) -> NDArray[np.bool_]:
    result: NDArray[np.bool_] = np.isfinite(logits).all(axis=1)
    return result
