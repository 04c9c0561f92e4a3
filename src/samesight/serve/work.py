"""The queue, and the threads that decode photos and run networks.

Every thread takes a photo through all its stages, one thread a CPU, each run of a network in its own thread:
on few cores this is quicker than decoding in some threads and computing in others, and no photo waits for
another's stage. Where larger batches were measured to pay, a thread takes as many photos as wait already, at
most its share; it never waits for more to come.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from samesight.errors import BundleInvalid, SamesightError
from samesight.preprocess import decode, normalise, resize
from samesight.serve.metrics import Metrics
from samesight.serve.refusal import Refusal
from samesight.serve.shelf import Served

__all__ = ["Content", "Pool"]

PIECE = 8  # rows of a tensor that are run together at most
SMOOTHING = 0.05

# A photo's file, or preprocessed photos (n, 3, height, width) float32.
Content: TypeAlias = bytes | NDArray[np.float32]
Finish: TypeAlias = Callable[[NDArray[np.float32]], Any]


@dataclass(eq=False, slots=True)
class _Job:
    served: Served
    content: Content
    finish: Finish
    deadline: float  # of time.monotonic
    future: asyncio.Future[Any]
    offered: float = field(default_factory=time.perf_counter)
    dropped: bool = False

    @property
    def rows(self) -> int:
        return 1 if isinstance(self.content, bytes) else len(self.content)


class Pool:
    """Threads behind a queue of bounded length."""

    def __init__(self, *, threads: int, length: int, max_pixels: int, metrics: Metrics) -> None:
        self.threads, self.length, self._max_pixels, self._metrics = threads, length, max_pixels, metrics
        self._waiting: deque[_Job] = deque()
        self._rows = 0  # that wait
        self._change = threading.Condition()
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._photo_s = 0.05  # of one thread for one photo, learnt as they come
        self._running: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads; answers go to the running event loop."""
        self._loop = asyncio.get_running_loop()
        for number in range(self.threads):
            thread = threading.Thread(target=self._work, name=f"serve-{number}", daemon=True)
            thread.start()
            self._running.append(thread)

    def close(self) -> None:
        """Finish what waits, then stop the threads."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        for thread in self._running:
            thread.join()

    @property
    def waiting(self) -> int:
        """Photos that wait."""
        return self._rows

    async def answers(
        self, served: Served, contents: Sequence[Content], finish: Finish, deadline: float
    ) -> list[Any]:
        """`finish(logits)` for each of `contents`, in order, or the SamesightError of one that has none.

        `finish` runs in a thread of the pool, on logits (n, classes). `deadline` is of time.monotonic. Raises
        Refusal: 429 where there is no room for all of them, 503 where the deadline has passed.
        """
        loop = asyncio.get_running_loop()
        jobs = [
            _Job(served, content, finish, deadline, loop.create_future())
            for whole in contents
            for content in _pieces(whole)
        ]
        self._offer(jobs)
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                found = [await job.future for job in jobs]
        except TimeoutError:
            raise self._too_late() from None
        finally:
            for job in jobs:
                job.dropped = True
        for one in found:
            if isinstance(one, Refusal):
                raise one
            if isinstance(one, Exception) and not isinstance(one, SamesightError):
                raise one
        return found

    def check_room(self, rows: int = 1) -> None:
        """Raise Refusal, 429, where `rows` photos find no room now: worth asking before a body is read."""
        if self._rows + rows > self.length:
            raise Refusal(
                429,
                "queue",
                f"the queue is full: {self._rows} of {self.length} places are taken, {rows} needed",
                retry_s=self._rows * self._photo_s / self.threads,
            )

    def _offer(self, jobs: Sequence[_Job]) -> None:
        rows = sum(job.rows for job in jobs)
        with self._change:
            self.check_room(rows)
            self._waiting.extend(jobs)
            self._rows += rows
            self._change.notify(len(jobs))

    def _too_late(self) -> Refusal:
        wait = self._rows * self._photo_s / self.threads
        return Refusal(503, "deadline", "the deadline passed before there was an answer", retry_s=wait)

    def _work(self) -> None:
        while (jobs := self._take()) is not None:
            start = time.perf_counter()
            rows = sum(job.rows for job in jobs)
            try:
                done = self._answer(jobs, start)
            except Exception as error:  # whoever waits must hear of it, whatever it is; the thread lives on
                done = [(job, error) for job in jobs]
            self._photo_s += SMOOTHING * ((time.perf_counter() - start) / rows - self._photo_s)
            assert self._loop is not None
            with contextlib.suppress(RuntimeError):  # the loop has gone: nobody waits any more
                self._loop.call_soon_threadsafe(_deliver, done)

    def _take(self) -> list[_Job] | None:
        """The next jobs of one bundle that are to be run together; None when all is done."""
        with self._change:
            while not self._waiting:
                if self._closing:
                    return None
                self._change.wait()
            jobs = [self._waiting.popleft()]
            rows, served = jobs[0].rows, jobs[0].served
            share = min(served.batch, math.ceil(self._rows / self.threads))
            while self._waiting and self._waiting[0].served is served:
                if rows + self._waiting[0].rows > share:
                    break
                jobs.append(self._waiting.popleft())
                rows += jobs[-1].rows
            self._rows -= rows
        return jobs

    def _answer(self, jobs: Sequence[_Job], start: float) -> list[tuple[_Job, Any]]:
        """Each job and its result, or the error that it has instead."""
        done: list[tuple[_Job, Any]] = []
        ready: list[tuple[_Job, NDArray[np.float32]]] = []
        now = time.monotonic()
        for job in jobs:
            self._metrics.stage("queue", start - job.offered)
            if job.dropped:
                continue
            if now > job.deadline:
                done.append((job, self._too_late()))
                continue
            try:
                ready.append((job, self._prepare(job)))
            except SamesightError as error:
                done.append((job, error))
        if ready:
            begin = time.perf_counter()
            tensors = [tensor for _, tensor in ready]
            logits = jobs[0].served.runner.logits(
                tensors[0] if len(tensors) == 1 else np.concatenate(tensors)
            )
            self._metrics.stage("network", time.perf_counter() - begin)
            self._metrics.batch(len(logits))
            place = 0
            for job, tensor in ready:
                rows = logits[place : place + len(tensor)]
                place += len(tensor)
                done.append((job, _finished(job, rows)))
        return done

    def _prepare(self, job: _Job) -> NDArray[np.float32]:
        """The tensor (n, 3, height, width) of a job. Raises PhotoError."""
        if not isinstance(job.content, bytes):
            return job.content
        spec = job.served.bundle.preprocess
        start = time.perf_counter()
        pixels = decode(job.content, max_pixels=self._max_pixels)
        decoded = time.perf_counter()
        tensor = normalise(resize(pixels, spec), spec)[np.newaxis]
        self._metrics.stage("decode", decoded - start)
        self._metrics.stage("resize", time.perf_counter() - decoded)
        return tensor


def _pieces(content: Content) -> list[Content]:
    if isinstance(content, bytes):
        return [content]
    return [content[start : start + PIECE] for start in range(0, len(content), PIECE)]


def _finished(job: _Job, logits: NDArray[np.float32]) -> Any:
    try:
        if not np.isfinite(logits).all():
            raise BundleInvalid("the network's answer is not a number", where=job.served.name)
        return job.finish(logits)
    except SamesightError as error:
        return error


def _deliver(done: Sequence[tuple[_Job, Any]]) -> None:
    for job, result in done:
        if not job.future.done():
            job.future.set_result(result)
