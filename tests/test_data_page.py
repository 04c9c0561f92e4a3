"""The page of `samesight data`: every finding with its pictures, self-contained, and safe from file names."""

from __future__ import annotations

import re
import shutil
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path

import pytest
from looklike import COPIES, natural, write_set
from tiny_photos import write_photo

from samesight.cli import main
from samesight.data.checks import DataReport, check_photos
from samesight.data.clean import ALWAYS, BY_CHOICE
from samesight.data.findings import KINDS, find
from samesight.data.photos import open_photos
from samesight.data.prepare import prepare
from samesight.data.thresholds import THRESHOLDS
from samesight.report.datapage import PICTURES, write_data_page

pytestmark = pytest.mark.row("D6")
DOCS = Path(__file__).resolve().parent.parent / "docs" / "data.md"


class Read(HTMLParser):
    """Pictures, links, anchors and plain words of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.pictures: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "img":
            self.pictures.append(found["src"] or "")
        for key in ("href", "src", "action"):
            if found.get(key) and tag != "img":
                self.links.append(found[key] or "")
        if found.get("id"):
            self.anchors.add(found["id"] or "")

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    folder = write_set(tmp_path / "messy", 10)
    shutil.copy(folder / "a" / "00.png", folder / "b" / "conflict.png")
    shutil.copy(folder / "a" / "02.png", folder / "a" / "02 again.png")
    COPIES["cropped"](natural(3)).save(folder / "a" / "03 cropped.png")
    natural(77).point(lambda level: level // 5).save(folder / "a" / "dark.png")
    (folder / "a" / "broken.png").write_bytes(b"")
    write_photo(folder / "<script>alert(1)<" / "x.png", (40, 40))
    return folder


def page_of(folder: Path, tmp_path: Path, **more: bool) -> tuple[Read, str, DataReport]:
    prepared = prepare(folder)
    out = write_data_page(prepared.report, prepared.photos, tmp_path / "data.html", **more)
    words = out.read_text()
    return Read(words), words, prepared.report


def test_every_finding_is_there_with_its_pictures(messy: Path, tmp_path: Path) -> None:
    page, _, report = page_of(messy, tmp_path)
    found = find(report)
    assert {one.kind.name for one in found} >= {"unreadable", "conflict", "duplicate", "near", "dark"}
    for one in found:
        assert one.kind.name in page.anchors
        assert f"{len(one.cases)} × {one.title}" in page.words
        assert one.kind.why in page.words  # options in it stand in elements of their own
    for name in ("a/00.png", "b/conflict.png", "a/02 again.png", "a/03 cropped.png", "a/dark.png"):
        assert name in page.words
    assert len(page.pictures) == 2 + 2 + 2 + 2 + 1  # conflict, duplicates (it is one, too), near, dark
    assert all(src.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for src in page.pictures)


def test_it_leads_nowhere_and_lets_nothing_run(messy: Path, tmp_path: Path) -> None:
    page, words, _ = page_of(messy, tmp_path)
    assert all(link.startswith("#") and link[1:] in page.anchors for link in page.links)
    assert not re.search(r"https?:|//cdn|url\(", words)
    assert "default-src &#x27;none&#x27;" in words
    assert "<script>alert" not in words
    assert "&lt;script&gt;alert(1)&lt;" in words


def test_without_photos(messy: Path, tmp_path: Path) -> None:
    page, _, _ = page_of(messy, tmp_path, pictures=False)
    assert page.pictures == []
    assert "a/dark.png" in page.words


def test_nothing_wrong(tmp_path: Path) -> None:
    page, _, _ = page_of(write_set(tmp_path / "good", 10), tmp_path)
    assert "Nothing wrong was found" in page.words
    assert page.pictures == []
    assert {"found", "classes", "checks"} <= page.anchors


def test_a_photo_that_is_gone_is_named(messy: Path, tmp_path: Path) -> None:
    prepared = prepare(messy)
    (messy / "a" / "dark.png").unlink()
    out = write_data_page(prepared.report, prepared.photos, tmp_path / "data.html")
    assert "a/dark.png: 99 %" in Read(out.read_text()).words


def test_the_page_is_bounded(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    for index in range(300):
        target = folder / f"class {index % 150}" / f"{index}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shown = natural(index % 100, (40, 40)).point([level // 5 + index // 100 for level in range(256)] * 3)
        shown.save(target)
    photos = open_photos(folder)
    out = write_data_page(check_photos(photos), photos, tmp_path / "data.html")
    page = Read(out.read_text())
    assert 0 < len(page.pictures) <= 2 * PICTURES
    assert out.stat().st_size < 1_500_000
    assert "all are in data.json" in page.words


def test_photos_without_labels_have_a_page_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(4):
        write_photo(tmp_path / "p" / f"{index}.png", (40, 40))
    assert main(["data", str(tmp_path / "p"), "--out", str(tmp_path / "out")]) == 0
    assert str(tmp_path / "out" / "data.html") in capsys.readouterr().out
    assert "photos without labels" in (tmp_path / "out" / "data.html").read_text()


def rows_of(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading of docs/data.md."""
    part = DOCS.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_docs_list_every_threshold_as_it_is() -> None:
    assert rows_of("Thresholds") == [
        [row.name, f"{row.value:g}", row.unit, row.reason] for row in THRESHOLDS.values()
    ]


def test_the_docs_list_every_check() -> None:
    left = {**dict.fromkeys(ALWAYS, "`--fix`"), **{name: f"`--fix-also {name}`" for name in BY_CHOICE}}
    assert rows_of("Checks") == [
        [f"`{one.name}`", one.title, "problem" if one.problem else "look", left.get(one.name, "")]
        for one in KINDS.values()
    ]


def test_the_docs_list_every_field() -> None:
    told = {name for row in rows_of("data.json") for name in re.findall(r"`(\w+)`", row[0])}
    assert told == {one.name for one in fields(DataReport)} - {"hashes"} | {"out", "page", "split"}
