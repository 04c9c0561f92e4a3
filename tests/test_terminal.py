"""File names and labels can neither break stdout nor steer a terminal."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samesight.terminal import printable


@pytest.mark.row("R1")
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.text(st.characters(codec=None), max_size=30)
    | st.binary().map(lambda b: b.decode("utf-8", "surrogateescape"))
)
def test_any_words_can_be_printed(monkeypatch: pytest.MonkeyPatch, encoding: str, words: str) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        shown = printable(words)
    shown.encode(encoding)
    assert shown.isprintable()
    if words.isprintable() and words.isascii():
        assert shown == words
