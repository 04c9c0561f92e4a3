"""Ray: started here or joined elsewhere, one worker a CPU, shards handed out until none is missing.

One CPU of the cluster is left to reading and to Ray's own work, so that nothing ever waits for a CPU that a
worker has. A Ray that is started here is told of one CPU more than there are, so this costs no worker.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from samesight.cluster.job import Job
from samesight.cluster.shards import Shards
from samesight.errors import InputError, SamesightError
from samesight.progress import track
from samesight.runner import cpus

__all__ = ["Done", "Worker", "classify"]

STORE_BYTES = 100 << 20  # of memory for Ray's objects, beside the bundle: a shard's number is small
KNOCK_S = 10.0
STARTS = 2
START_S = 180.0  # for Ray's own processes
LONG = 40  # bytes of a folder's path, from which the names of Ray's sockets in it are too long
# Read by Ray when it is imported or started.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
# Of a Ray that is started here: all its sockets on loopback, by its switch for systems without clusters.
# Its processes have 30 seconds to start by default, which on a busy machine are too few.
LOCAL = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_agent_register_timeout_ms": "180000"}


@dataclass(frozen=True)
class Done:
    """What one run did. Seconds of a shard are those of its worker alone."""

    shards: int
    photos: int
    workers: int
    worker_seconds: float
    cpu_seconds: float


class Worker:
    """What Ray keeps in each of its processes. A failure is an answer: Ray would print it, or retry."""

    def __init__(self, job: Job, files: Any) -> None:
        """`files` is Ray's reference to the bundle's."""
        import ray

        self._failure: str | None = None
        try:
            self._shards = Shards(job, ray.get(files))
        except SamesightError as error:
            self._failure = _packed(error)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        """One JSON text a shard: what it took, or why no worker could do it."""
        return {"record": [self._record(int(shard)) for shard in batch["shard"]]}

    def _record(self, shard: int) -> str:
        if self._failure is not None:
            return self._failure
        try:
            return json.dumps(self._shards.work(shard))
        except SamesightError as error:
            return _packed(error)


def classify(
    job: Job, files: Mapping[str, bytes], *, address: str | None = None, workers: int | None = None
) -> Done:
    """Classify what is missing of a job, by the bundle of these files.

    Without an `address` a Ray of this machine is started, and ended with the work. Raises InputError where a
    Ray cannot be had, or the error of a worker that cannot work at all.
    """
    missing = job.missing()
    size = sum(map(len, files.values()))
    with _running(address, workers, size) as ray:
        count = min(workers or _spare(ray), len(missing))
        # The largest shards, which stand last, are begun first: the end of the work is not one worker's.
        records = _records(ray, job, files, missing[::-1], count)
        try:
            done = [_unpacked(one) for one in track(records, "Classifying", len(missing))]
        except ray.exceptions.RayError as error:
            raise _cluster_failed(error) from error
    return Done(
        shards=len(done),
        photos=sum(one["photos"] for one in done),
        workers=count,
        worker_seconds=sum(one["seconds"] for one in done),
        cpu_seconds=sum(one["cpu_seconds"] for one in done),
    )


def _records(
    ray: Any, job: Job, files: Mapping[str, bytes], shards: Sequence[int], workers: int
) -> Iterator[str]:
    """What workers say of each shard, as it is done."""
    import ray.data as data

    context = data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    dataset = data.from_items([{"shard": one} for one in shards], override_num_blocks=len(shards))
    answers = dataset.map_batches(
        Worker,
        batch_size=1,
        compute=data.ActorPoolStrategy(size=workers),
        num_cpus=1,
        fn_constructor_args=(job, ray.put(dict(files))),
    )
    for batch in answers.iter_batches(batch_size=None, prefetch_batches=0):
        yield from map(str, batch["record"])


@contextlib.contextmanager
def _running(address: str | None, workers: int | None, bundle_bytes: int) -> Iterator[Any]:
    """The package ray, connected: to a Ray of this machine that ends with the block, or to the one there."""
    with _environment(QUIET if address else QUIET | LOCAL | {"RAY_AUTH_TOKEN": _token()}):
        import ray

        folder = None if address else tempfile.mkdtemp(prefix="samesight-ray-", dir=_short_folder())
        options: dict[str, Any] = {"address": address}
        if not address:
            options = {
                "address": "local",
                "num_cpus": (workers or cpus()) + 1,
                "include_dashboard": False,
                "object_store_memory": STORE_BYTES + 3 * bundle_bytes,
                "_node_ip_address": "127.0.0.1",
                "_temp_dir": folder,
            }
        with contextlib.redirect_stdout(sys.stderr):  # where Ray tells of workers that died
            try:
                _init(ray, options)
                yield ray
            finally:
                ray.shutdown()
                if folder is not None:
                    shutil.rmtree(folder, ignore_errors=True)


def _init(ray: Any, options: Mapping[str, Any]) -> None:
    """Start or join. Raises InputError."""
    address = options["address"]
    joining = address != "local"
    if joining:
        _check_listening(address)
    for _ in range(1 if joining else STARTS):
        try:
            with _quiet(), _patient():
                ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **options)
            return
        except Exception as error:  # Ray raises plain ones here
            problem = error
            ray.shutdown()
    raise InputError(
        "there is no Ray to work with" if joining else "Ray cannot be started here",
        where=address if joining else None,
        found=_first_line(problem),
        fix="ray status, on that cluster" if joining else None,
    ) from problem


def _check_listening(address: str) -> None:
    """Raise InputError where nobody listens at HOST:PORT, which Ray takes minutes to find out."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:  # auto, or an address of Ray's own kinds
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            "there is no Ray to work with",
            where=address,
            found=getattr(error, "strerror", None) or error,
            fix="ray status, on that cluster",
        ) from error


@cache
def _token() -> str:
    """Without which nobody else on this machine may ask our Ray; the same throughout, since Ray keeps it."""
    return secrets.token_hex(32)


def _spare(ray: Any) -> int:
    """The CPUs of the cluster but one, at least one."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)


@contextlib.contextmanager
def _environment(words: Mapping[str, str]) -> Iterator[None]:
    """These variables of the environment, of those that the user has not set, while the block runs."""
    ours = {name: word for name, word in words.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _patient() -> Iterator[None]:
    """Ray waits START_S for its first node while the block runs: by itself 30 s, whatever is set."""
    from ray._private import services

    look = getattr(services, "get_node", None)
    if look is None:  # another version of Ray, which has its own ways
        yield
        return

    def look_patiently(*words: Any, **more: Any) -> Any:
        end = time.monotonic() + START_S
        while True:
            try:
                return look(*words, **more)
            except RuntimeError:  # it is not there yet
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    services.get_node = look_patiently
    try:
        yield
    finally:
        services.get_node = look


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing on stderr, where Ray tells of its own log while the block runs; what matters is raised."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _short_folder() -> str | None:
    return "/tmp" if len(tempfile.gettempdir()) > LONG and os.path.isdir("/tmp") else None


def _packed(error: SamesightError) -> str:
    facts = (error.what, error.where, error.expected, error.found, error.fix)
    words = [None if fact is None else str(fact) for fact in facts]
    return json.dumps({"failure": words, "exit_code": error.exit_code})


def _unpacked(text: str) -> dict[str, Any]:
    """What a worker says of a shard. Raises the error that kept it from working."""
    record: dict[str, Any] = json.loads(text)
    if "failure" in record:
        what, where, expected, found, fix = record["failure"]
        error = SamesightError(what, where=where, expected=expected, found=found, fix=fix)
        error.exit_code = record["exit_code"]
        raise error
    return record


def _cluster_failed(error: Exception) -> SamesightError:
    return SamesightError(
        "the cluster could not go on; what is answered is kept",
        found=_first_line(error),
        fix="the same command with --resume",
    )


def _first_line(error: Exception) -> str:
    """What is said first; of an error in a worker, what was said there, without the way that it came."""
    said: Any = error
    while getattr(said, "cause", None) is not None:
        said = said.cause
    return f"{type(said).__name__}: {str(said).strip()}".split("\n", 1)[0][:300]
