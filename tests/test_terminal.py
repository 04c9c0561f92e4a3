"""File names and labels can neither break stdout nor steer a terminal."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from tiny_photos import write_classes

from samesight.cli import main
from samesight.terminal import printable, steady


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


@pytest.mark.row("R1")
@given(words=st.text(st.characters(codec="utf-8"), max_size=30))
def test_what_is_said_keeps_its_lines_and_steers_nothing(words: str) -> None:
    shown = steady(words)
    assert shown.count("\n") == words.count("\n")
    assert all(line.isprintable() for line in shown.split("\n"))
    if all(line.isprintable() for line in words.split("\n")):
        assert shown == words


@pytest.mark.row("D6")
@pytest.mark.skipif(sys.platform == "win32", reason="file names there hold no line breaks")
def test_a_label_with_a_line_break_is_one_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label, count in (("new\nline", 2), ("\x1b[2Jbad", 2), ("日本語", 2)):
        write_classes(tmp_path / "photos", {label: count})
    assert main(["data", str(tmp_path / "photos"), "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.split("\n")
    assert all(line.isprintable() for line in lines)
    rows = [line for line in lines if "█" in line]
    assert [row.partition("  ")[0] for row in rows] == ["\\x1b[2Jbad", "new\\nline", "日本語"]
    assert len({cell_len(row) for row in rows}) == 1  # signs of two cells do not push the columns


@pytest.mark.row("R1")
def test_an_error_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "no\x1b[2Jsuch"]) == 2
    shown = capsys.readouterr().err
    assert "\\x1b[2J" in shown
    assert "\x1b" not in shown
