"""How soon a thread gets a core that others keep busy."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

__all__ = ["short_turns"]

SET_ATTRIBUTES = {"x86_64": 314, "aarch64": 274}  # Linux's number of the call sched_setattr
TURN_NS = 100_000  # the least that Linux takes


def short_turns() -> bool:
    """Whether this thread now has short turns on a core: it waits less for those of others, and has no more.

    Linux (from 6.12 on) lets an ordinary thread that wakes go before one of a longer turn, as long as it has
    not had its share; else it waits for the turn to end, some milliseconds where all cores are busy. Threads
    that this one starts inherit it. Anywhere else, and where a thread is not scheduled as usual, nothing is
    changed. See man 2 sched_setattr, of which Python has only the parts.
    """
    number = SET_ATTRIBUTES.get(platform.machine())
    if sys.platform != "linux" or number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    # struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = struct.pack("=IIQiIQQQ", 48, os.SCHED_OTHER, 0, nice, 0, TURN_NS, 0, 0)
    done: int = ctypes.CDLL(None).syscall(number, 0, attributes, 0)
    return done == 0
