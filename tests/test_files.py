"""Files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from samesight.errors import InputError
from samesight.files import new_folder, read_json, sha256_bytes, sha256_file, write_file, write_json


def test_a_written_file_replaces_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_file(path, "old")
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]
    assert sha256_file(path) == sha256_bytes(b"new")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_files_have_the_rights_that_the_umask_allows(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_file(tmp_path / "file", b"")
        with new_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(old)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


def test_a_folder_is_there_only_when_its_block_ends_well(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(RuntimeError), new_folder(out) as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with new_folder(out) as folder:
        (folder / "whole").write_text("x")
        assert not out.exists()
    assert (out / "whole").read_text() == "x"


def test_a_folder_is_replaced_only_when_told(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").touch()
    with pytest.raises(InputError, match="already"), new_folder(out):
        pass
    with new_folder(out, replace=True) as folder:
        (folder / "new").touch()
        assert (out / "old").exists()
    assert [p.name for p in out.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("text", "found"), [("{", "not JSON"), ("[" * 100_000, "not JSON"), (" " * 200, "large")]
)
def test_json_that_cannot_be_read_is_one_error(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(InputError, match=found):
        read_json(path, limit_bytes=100 if found == "large" else 1 << 20)
    with pytest.raises(InputError, match="cannot read"):
        read_json(tmp_path / "none.json")


def test_a_folder_is_replaced_where_the_system_cannot_exchange_in_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    test_a_folder_is_replaced_only_when_told(tmp_path)
