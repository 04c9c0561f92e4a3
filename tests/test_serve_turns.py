"""The event loop's turns on a core: shorter than the others', with the same share, where Linux has them."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from samesight.serve.turns import SET_ATTRIBUTES, TURN_NS, short_turns

pytestmark = pytest.mark.row("R2")
GET_ATTRIBUTES = {"x86_64": 315, "aarch64": 275}


def attributes() -> tuple[int, int, int]:
    """Policy, nice and turn in nanoseconds of this thread, as the kernel has them."""
    found = ctypes.create_string_buffer(48)
    assert ctypes.CDLL(None).syscall(GET_ATTRIBUTES[platform.machine()], 0, found, 48, 0) == 0
    _, policy, _, nice, _, turn_ns, _, _ = struct.unpack("=IIQiIQQQ", found.raw)
    return policy, nice, turn_ns


def in_a_thread(look: Callable[[], object]) -> object:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(look).result()


def has_turns() -> bool:
    """Whether this kernel tells an ordinary thread's turn: Linux from 6.12 on does."""
    known = sys.platform == "linux" and platform.machine() in GET_ATTRIBUTES
    return known and in_a_thread(attributes)[2] > 0  # type: ignore[index]


@pytest.mark.skipif(not has_turns(), reason="needs Linux 6.12 or later")
@pytest.mark.parametrize("nice", [0, 3])
def test_turns_are_short_and_nothing_else_changes(nice: int) -> None:
    def look() -> object:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + nice)
        before = attributes()
        return before, short_turns(), attributes()

    (policy, level, turn_ns), done, after = in_a_thread(look)  # type: ignore[misc]
    assert done
    assert after == (policy, level, TURN_NS)
    assert turn_ns > TURN_NS


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_a_thread_that_is_scheduled_otherwise_is_left_alone() -> None:
    def look() -> object:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        return short_turns(), os.sched_getscheduler(0)

    assert in_a_thread(look) == (False, os.SCHED_BATCH)


def test_an_unknown_machine_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert "riscv64" not in SET_ATTRIBUTES
    assert not short_turns()
