"""What else happens on the machine while a server is measured: kept small where the system allows, and told.

A server at 80 % of its rate makes up for a pause of its machine in five times the pause's length, and every
photo that comes meanwhile waits: one of 50 ms is seen in the p99 of ten seconds. Linux divides a core between
sessions, not programs (man 7 sched, "The autogroup feature"): a program of another session takes its share
even where `nice` or `chrt --idle` was meant to keep it back. So who is measured goes before them (`ahead`),
who measures goes before all (`at_once`), and `watched` tells what nobody on the machine can help: how long a
core did not run even what goes before all, since its hypervisor or the kernel kept it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EVERY_S = 0.002
LEAST_S = 0.002  # what comes no later than this is no pause


def ahead(pid: int) -> bool:
    """Give a process that has just begun a session, and all that it starts, the most of what is shared.

    False where the system has no such thing or does not allow it.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, pid, -20)
        Path(f"/proc/{pid}/autogroup").write_text("-20")
    except OSError:
        return False
    return True


def at_once(priority: int = 1) -> bool:
    """Let this process run as soon as it has something to do; False where that is not allowed."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except (AttributeError, OSError):
        return False
    return True


@contextlib.contextmanager
def watched() -> Iterator[dict[str, Any]]:
    """Filled when the block ends: how often, how long in sum and at most a core of the machine paused."""
    watchers = [
        subprocess.Popen(
            [sys.executable, __file__, str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for core in sorted(os.sched_getaffinity(0))
    ]
    for watcher in watchers:
        ahead(watcher.pid)
    found: dict[str, Any] = {}
    for watcher in watchers:
        assert watcher.stdout is not None
        watcher.stdout.readline()  # it has begun
    try:
        yield found
    finally:
        late = [ms for watcher in watchers for ms in json.loads(watcher.communicate()[0])]
        found.update(pauses=len(late), sum_ms=sum(late), max_ms=max(late, default=0.0))


def main() -> None:
    """Watch one core until stdin is closed, and print how many milliseconds late it was, each time."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    at_once(2)
    print("begun", flush=True)
    late = []
    due = time.perf_counter() + EVERY_S
    while not select.select([sys.stdin], [], [], max(0.0, due - time.perf_counter()))[0]:
        now = time.perf_counter()
        if now - due > LEAST_S:
            late.append(1000 * (now - due))
        due = max(due, now) + EVERY_S
    print(json.dumps(late))


if __name__ == "__main__":
    main()
