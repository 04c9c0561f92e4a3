"""`samesight report`: what it writes, where, and what it prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from report_samples import LABELS, make_photo_run, make_predictions, make_run

from samesight.cli import main


@pytest.mark.row("T1")
def test_a_run_gets_its_page_tables_and_pictures(
    tmp_path: Path, photo_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_photo_run(tmp_path / "run", photo_folder)
    make_predictions(run, LABELS)
    before = set(run.iterdir())
    assert main(["report", str(run)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{run / 'report.html'}\n"
    new = {path.name for path in set(run.iterdir()) - before}
    assert new == {
        "report.html", "per_class.csv", "confused_pairs.csv", "confusion_matrix.csv", "calibration.json",
        "confusion_matrix.png", "reliability.png", "worst_mistakes.png",
    }  # fmt: skip
    for name in new - {"report.html"}:
        assert name in said.err


def test_another_page_is_written_alone(
    tmp_path: Path, photo_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_photo_run(tmp_path / "run", photo_folder)
    before = set(run.iterdir())
    page = tmp_path / "elsewhere" / "page.html"
    assert main(["report", str(run), "--out", str(page), "--no-photos", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"page": str(page), "files": []}
    assert set(run.iterdir()) == before
    assert list(page.parent.iterdir()) == [page]
    assert "<img" not in page.read_text()


def test_what_was_written_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", LABELS)
    assert main(["report", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["page"] == str(run / "report.html")
    assert found["files"]
    assert all(Path(path).is_file() for path in found["files"])


def test_without_matplotlib_there_are_no_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", LABELS)
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["report", str(run)]) == 0
    said = capsys.readouterr()
    assert "without pictures" in said.err
    assert "samesight[train]" in said.err
    assert not list(run.glob("*.png"))
    assert (run / "per_class.csv").is_file()


def test_a_folder_that_is_neither(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "neither a run nor a bundle" in capsys.readouterr().err
