"""Archives are unpacked once, safely, and a broken or unsafe one is one clear error that leaves nothing."""

from __future__ import annotations

import io
import stat
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_photos import packed, write_classes, write_photo

from samesight.data.archives import Limits, kind, unpack
from samesight.errors import ArchiveError
from samesight.files import cache_folder

pytestmark = pytest.mark.row("D1")


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMESIGHT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photo(tmp_path: Path) -> bytes:
    return write_photo(tmp_path / "one.png").read_bytes()


def tar_of(path: Path, *members: tuple[tarfile.TarInfo | str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for member, data in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def zip_of(path: Path, *members: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members:
            archive.writestr(member, data)
    return path


def refused(path: Path, message: str, limits: Limits | None = None) -> None:
    """The archive is refused, and nothing of it is left anywhere."""
    before = {p for p in path.parent.rglob("*") if "cache" not in p.parts}
    with pytest.raises(ArchiveError, match=message):
        unpack(path, limits or Limits())
    assert not list((cache_folder() / "photos").glob("*"))
    assert not list((cache_folder() / "photos").glob(".*"))
    assert {p for p in path.parent.rglob("*") if "cache" not in p.parts} == before


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_unpacked_once_and_only_what_photos_need(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "pets", {"cat": 2})
    for name in ("labels.csv", "run.sh", "inner.zip", ".DS_Store", "__MACOSX/x.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    place = unpack(packed(folder, tmp_path / "pets.zip"))
    assert files(place) == {"pets/cat/0.png", "pets/cat/1.png", "pets/labels.csv"}
    before = place.stat().st_mtime_ns
    renamed = (tmp_path / "pets.zip").rename(tmp_path / "other-name")
    assert unpack(renamed) == place
    assert place.stat().st_mtime_ns == before


ESCAPES = ["../x.png", "a/../../x.png", "/x.png", "//x.png", "C:/x.png", "C:x.png", "..\\x.png", "\\x.png"]


@pytest.mark.parametrize("name", ESCAPES)
def test_paths_that_leave_the_folder(tmp_path: Path, photo: bytes, name: str) -> None:
    refused(zip_of(tmp_path / "a.zip", ("a/1.png", photo), (name, photo)), "outside its folder")
    refused(tar_of(tmp_path / "a.tar", ("a/1.png", photo), (name, photo)), "outside its folder")


@pytest.mark.parametrize("name", ["../evil.sh", "/etc/x"])
def test_also_of_files_that_are_not_wanted(tmp_path: Path, photo: bytes, name: str) -> None:
    refused(tar_of(tmp_path / "a.tar", ("a/1.png", photo), (name, b"x")), "outside its folder")


@pytest.mark.parametrize(
    "type_", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar(tmp_path: Path, photo: bytes, type_: bytes) -> None:
    info = tarfile.TarInfo("a/2.png")
    info.type, info.linkname = type_, "a/1.png"
    refused(tar_of(tmp_path / "a.tar", ("a/1.png", photo), (info, b"")), "a link or a device")


def test_links_in_a_zip(tmp_path: Path, photo: bytes) -> None:
    info = zipfile.ZipInfo("a/2.png")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    refused(zip_of(tmp_path / "a.zip", ("a/1.png", photo), (info, b"/etc/passwd")), "a link or a device")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_twice(tmp_path: Path, photo: bytes) -> None:
    refused(zip_of(tmp_path / "a.zip", ("a/1.png", photo), ("a/1.png", b"other")), "a file twice")
    refused(tar_of(tmp_path / "a.tar", ("a/1.png", photo), ("./a//1.png", b"other")), "a file twice")
    refused(tar_of(tmp_path / "b.tar", ("a.png", photo), ("a.png/1.png", photo)), "cannot be unpacked")


def test_encrypted(tmp_path: Path, photo: bytes) -> None:
    data = bytearray(zip_of(tmp_path / "a.zip", ("a/1.png", photo)).read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    data[6] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    refused(tmp_path / "a.zip", "encrypted")


def test_limits(tmp_path: Path, photo: bytes) -> None:
    bomb = ("a/1.png", bytes(1 << 20))
    small = Limits(ratio=20, ratio_from_bytes=1000)
    refused(zip_of(tmp_path / "a.zip", bomb), "far more than its size", small)
    refused(tar_of(tmp_path / "a.tgz", bomb, mode="w:gz"), "far more than its size", small)
    refused(tar_of(tmp_path / "b.tgz", ("x.sh", bytes(1 << 20)), mode="w:gz"), "far more than", small)
    refused(
        tar_of(tmp_path / "c.tar", ("a/1.png", photo), ("a/2.png", photo)), "too many files", Limits(files=1)
    )
    refused(tar_of(tmp_path / "c.tar", ("a/1.png", photo)), "far more", Limits(size_bytes=len(photo) - 1))
    assert unpack(tar_of(tmp_path / "d.tar", ("a/1.png", photo)), Limits(files=1, size_bytes=len(photo)))


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.zip", ""), ("a.tar", "w"), ("a.tgz", "w:gz"), ("a.txz", "w:xz"), ("a.tbz", "w:bz2")],
)
def test_cut_short_anywhere(tmp_path: Path, name: str, mode: str) -> None:
    whole = packed(write_classes(tmp_path / "p", {"a": 3}), tmp_path / name, mode).read_bytes()
    end = len(whole) - (10240 if mode == "w" else 0)  # a tar ends in zeros, which nobody misses
    for length in range(1, end - 1, max(1, end // 12)):
        (tmp_path / name).write_bytes(whole[:length])
        refused(tmp_path / name, "archive")


@pytest.mark.parametrize(
    ("name", "mode"), [("a.zip", ""), ("a.tgz", "w:gz"), ("a.txz", "w:xz"), ("a.tbz", "w:bz2")]
)
def test_a_changed_byte_in_a_photo(tmp_path: Path, name: str, mode: str) -> None:
    data = bytearray(packed(write_classes(tmp_path / "p", {"a": 3}), tmp_path / name, mode).read_bytes())
    data[len(data) // 2] ^= 0x55
    (tmp_path / name).write_bytes(data)
    refused(tmp_path / name, "broken|cannot be unpacked")


def test_without_photos(tmp_path: Path) -> None:
    refused(tar_of(tmp_path / "a.tar", ("weights.pth", b"x")), "holds no photos")
    refused(tar_of(tmp_path / "b.tar"), "holds no photos")


def test_kinds(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ArchiveError, match="no archive") as caught:
        kind(tmp_path / "empty")
    assert "an empty file" in str(caught.value)
    with pytest.raises(ArchiveError, match="cannot read"):
        kind(tmp_path / "missing")


names = st.lists(
    st.sampled_from(["a", "..", ".", "", "b c", "x.png", "C:", "\\", "é", "a.."]), min_size=1, max_size=5
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(parts=st.lists(names, min_size=1, max_size=4))
def test_whatever_the_names_nothing_is_written_outside(tmp_path: Path, parts: list[list[str]]) -> None:
    members = [("/".join([*names, "1.png"]), str(index).encode()) for index, names in enumerate(parts)]
    around = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    warnings.simplefilter("ignore", UserWarning)  # zipfile warns of names that stand twice
    for archive in (tar_of(tmp_path / "t.tar", *members), zip_of(tmp_path / "z.zip", *members)):
        around.add(archive)
        try:
            place = unpack(archive)
        except ArchiveError:
            continue
        written = {path.read_bytes() for path in place.rglob("*") if path.is_file()}
        assert written == {data for _, data in members if data}
    assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == around


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    head=st.sampled_from([b"PK\3\4", b"PK\5\6", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0"]),
    rest=st.binary(max_size=300),
)
def test_any_bytes_are_one_error(tmp_path: Path, head: bytes, rest: bytes) -> None:
    (tmp_path / "x").write_bytes(head + rest)
    with pytest.raises(ArchiveError):
        unpack(tmp_path / "x")
