"""How our errors are told."""

from __future__ import annotations

from samesight.errors import PhotoError, one_line


def test_an_error_in_one_line() -> None:
    error = PhotoError("cannot\nread", where="/x", expected="a JPEG", found="a\n  PDF", fix="something")
    assert one_line(error) == "cannot read; expected a JPEG; found a PDF"
