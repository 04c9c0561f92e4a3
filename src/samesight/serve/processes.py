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
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from types import FrameType

from samesight.errors import InputError, SamesightError
from samesight.serve.logs import Log, PlainHandler
from samesight.serve.settings import Settings

__all__ = ["serve"]

BACKLOG = 2048
RESTART_S = 1.0
HEALTHY_S = 10.0


def serve(settings: Settings) -> int:
    """Serve until told to stop; the exit code. The address is printed on stdout once it is listened to.

    Raises InputError where the address cannot be had, a BundleError where a bundle must not be served.
    """
    with _listen(settings.host, settings.port) as listening:
        print(_address(listening), flush=True)
        return run_one(settings, listening) if settings.workers == 1 else _run_several(settings, listening)


def run_one(settings: Settings, listening: socket.socket) -> int:
    """Serve in this process. Raises the error that keeps the server from becoming ready."""
    import uvicorn

    from samesight.serve.app import Service
    from samesight.serve.connection import connection_class

    failures: list[Exception] = []

    def failed(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    service = Service(settings, failed)
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
    log = Log(settings.log)
    context = multiprocessing.get_context("spawn")
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    with _shared_metrics():
        from prometheus_client.multiprocess import mark_process_dead

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        workers: dict[int, tuple[BaseProcess, float]] = {}
        code = 0
        try:
            while not stopping:
                for place in range(settings.workers):
                    process, since = workers.get(place, (None, 0.0))
                    if process is not None and process.is_alive():
                        continue
                    if process is not None:
                        mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
                        log("process ended", level="error", pid=process.pid, code=process.exitcode)
                        if process.exitcode in (1, 2) or time.monotonic() - since < HEALTHY_S:
                            return (
                                process.exitcode or 2
                            )  # it cannot be served: starting it again will not help
                        time.sleep(RESTART_S)
                    process = context.Process(
                        target=_child, args=(settings, listening), name=f"serve {place}"
                    )
                    process.start()
                    workers[place] = (process, time.monotonic())
                time.sleep(0.1)
        finally:
            for process, _ in workers.values():
                if process.is_alive():
                    process.terminate()
            end = time.monotonic() + settings.stop_timeout_s + 5
            for process, _ in workers.values():
                process.join(max(0.0, end - time.monotonic()))
                if process.is_alive():
                    process.kill()
                    code = 1
            for number, handler in before.items():
                signal.signal(number, handler)
    return code


def _child(settings: Settings, listening: socket.socket) -> None:
    try:
        code = run_one(settings, listening)
    except SamesightError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        code = error.exit_code
    sys.exit(code)


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
