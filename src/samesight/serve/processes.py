"""The listening socket, and behind it one process or several.

With several, the first process answers nothing: it holds the socket, starts the others, starts one anew that
died, and hands on the signal to stop. Each of the others is a whole server with its own queue and networks.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from samesight.errors import InputError, SamesightError
from samesight.serve.logs import Log, PlainHandler
from samesight.serve.settings import Settings

__all__ = ["Proved", "serve"]

BACKLOG = 2048
HEALTHY_S = 10.0
KILL_S = 5.0
LOOK_S = 0.1  # between two looks at the processes


@dataclass(frozen=True)
class Proved:
    """Which of several processes have ever proved their bundles: each sets a flag of its own, so no lock."""

    flags: Any
    """One of each process, in memory that all of them share."""
    place: int
    """This process's."""

    def tell(self) -> None:
        """This process has."""
        self.flags[self.place] = 1

    def by_all(self) -> bool:
        """Whether all have."""
        return all(self.flags)


def serve(settings: Settings) -> int:
    """Serve until told to stop; the exit code. The address is printed on stdout once it is listened to.

    Raises InputError where the address cannot be had, a BundleError where a bundle must not be served.
    """
    with _listen(settings.host, settings.port) as listening:
        print(_address(listening), flush=True)
        return run_one(settings, listening) if settings.workers == 1 else _run_several(settings, listening)


def run_one(
    settings: Settings, listening: socket.socket, proved: Proved | None = None, *, at_once: bool = True
) -> int:
    """Serve in this process. Raises the error that keeps the server from becoming ready.

    `proved` is of several processes. Without `at_once`, this one answers nothing before its bundles have
    passed: others do so meanwhile.
    """
    import uvicorn

    from samesight.serve.app import Service
    from samesight.serve.connection import connection_class

    failures: list[Exception] = []

    def failed(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    service = Service(settings, failed, proved)
    if not at_once:
        service.load()
    _hear_uvicorn(service.log)
    server = uvicorn.Server(
        uvicorn.Config(
            service.app,
            http=connection_class(settings.connections, settings.read_timeout_s, service.metrics),
            loop="uvloop" if _has_uvloop() else "asyncio",
            ws="none",
            interface="asgi3",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=int(settings.idle_timeout_s),
            timeout_graceful_shutdown=int(settings.stop_timeout_s),
        )
    )
    # When all is done, uvicorn raises the signal that stopped it again: the process would end as if killed.
    before = {number: signal.signal(number, _ignore) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if failures:
        raise failures[0]
    service.log("stopped")
    return 0


def _run_several(settings: Settings, listening: socket.socket) -> int:
    """Start the processes, and watch over them until told to stop."""
    # Not an Event: where a signal interrupts one that is waited for, setting it waits for ever.
    told: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: told.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    workers: list[_Worker] = []
    try:
        with _shared_metrics():
            flags = multiprocessing.get_context("spawn").RawArray("b", settings.workers)
            workers += [
                _Worker(settings, listening, Proved(flags, place)) for place in range(settings.workers)
            ]
            while not told:
                for worker in workers:
                    if (code := worker.look_after()) is not None:
                        return code
                time.sleep(LOOK_S)
            return _end(workers, settings.stop_timeout_s)
    finally:
        _end(workers, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


class _Worker:
    """One of several processes, started again when it dies."""

    def __init__(self, settings: Settings, listening: socket.socket, proved: Proved) -> None:
        self._settings, self._listening, self._proved = settings, listening, proved
        self._log = Log(settings.log)
        self.start(at_once=True)

    def start(self, *, at_once: bool) -> None:
        context = multiprocessing.get_context("spawn")
        given = (self._settings, self._listening, self._proved, at_once)
        self.process = context.Process(target=_child, args=given, name=f"serve {self._proved.place}")
        self.process.start()
        self._since = time.monotonic()

    def look_after(self) -> int | None:
        """Start it again if it has died; an exit code where that would not help."""
        if self.process.is_alive():
            return None
        from prometheus_client.multiprocess import mark_process_dead

        code = self.process.exitcode
        mark_process_dead(self.process.pid)  # type: ignore[no-untyped-call]
        self._log("process ended", level="error", pid=self.process.pid, code=code)
        if code in (1, 2) or time.monotonic() - self._since < HEALTHY_S:
            return code if code in (1, 2) else 2  # it dies as it starts, or has said what is wrong
        # Until all have been ready, somebody must say that they are not; after that, others answer meanwhile.
        self.start(at_once=not self._proved.by_all())
        return None


def _end(workers: Sequence[_Worker], grace_s: float) -> int:
    """Stop every process; 0 where all were done in time, 1 where one had to be killed."""
    running = [worker.process for worker in workers if worker.process.is_alive()]
    for process in running:
        process.terminate()
    end = time.monotonic() + grace_s + KILL_S
    code = 0
    for process in running:
        process.join(max(0.0, end - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
            code = 1
    return code


def _child(settings: Settings, listening: socket.socket, proved: Proved, at_once: bool) -> None:
    """The main of one of several processes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is for the first; this one may be proving bundles
    threading.Thread(target=_stop_with_parent, name="serve-parent", daemon=True).start()
    try:
        code = run_one(settings, listening, proved, at_once=at_once)
    except SamesightError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        code = error.exit_code
    sys.exit(code)


def _stop_with_parent() -> None:
    """Wait until the parent is gone, however it went, and then stop as if it had said so."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _shared_metrics() -> Iterator[None]:
    """A folder in which all processes keep their counters; prometheus_client finds it by the environment."""
    from samesight.serve.metrics import SHARED_FOLDER

    folder = tempfile.mkdtemp(prefix="samesight-metrics-")
    os.environ[SHARED_FOLDER] = folder
    try:
        yield
    finally:
        del os.environ[SHARED_FOLDER]
        shutil.rmtree(folder, ignore_errors=True)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
        listening.set_inheritable(True)
    except (OSError, OverflowError) as error:
        found = getattr(error, "strerror", None) or error
        raise InputError(
            "the address cannot be listened to",
            where=f"{host}, port {port}",
            found=found,
            fix="another --port",
        ) from error
    return listening


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _hear_uvicorn(log: Log) -> None:
    logger = logging.getLogger("uvicorn.error")
    logger.handlers[:] = [PlainHandler(log)]
    logger.setLevel(logging.WARNING)
    logger.propagate = False


def _has_uvloop() -> bool:
    from importlib.util import find_spec

    return find_spec("uvloop") is not None


def _ignore(number: int, frame: FrameType | None) -> None:
    return
