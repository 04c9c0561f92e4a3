"""One call in a thread of its own."""

from __future__ import annotations

import threading

import pytest

from samesight.meanwhile import Meanwhile


def test_the_call_is_made_in_another_thread_meanwhile() -> None:
    go = threading.Event()
    call = Meanwhile(lambda: (go.wait(30), threading.get_ident()))
    go.set()
    assert call.result()[0]
    assert call.result()[1] != threading.get_ident()


def test_what_it_raises_is_raised_where_the_result_is_asked_for() -> None:
    call = Meanwhile(lambda: [][0])
    with pytest.raises(IndexError):
        call.result()
