"""Many photos: answers streamed as JSON lines or CSV, and gone on with after a kill."""

from __future__ import annotations

import csv
import io
import json
from itertools import islice
from pathlib import Path

import pytest
from bare_bundle import tiny_bundle
from hypothesis import given
from hypothesis import strategies as st

from samesight.answers import answered, csv_heads, csv_line, json_line
from samesight.cli import main
from samesight.errors import InputError, PhotoError
from samesight.runtime import _shares, load

pytestmark = pytest.mark.row("R1")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("form", ["--csv", "--json"])
def test_a_run_that_was_killed_goes_on(
    bundle: Path, photo_folder: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = photo_folder / "grass" / "2.jpg"
    bad.write_bytes(bad.read_bytes()[:200])
    out = tmp_path / "answers"
    words = ["predict", str(bundle), str(photo_folder), form, "--out", str(out)]
    assert main(words) == 2
    whole = out.read_bytes()
    assert capsys.readouterr().out == ""
    assert len(whole.splitlines()) == 24 + (form == "--csv")
    assert main(words) == 2
    assert "--resume" in capsys.readouterr().err
    for cut in (0, 3, 500, len(whole) - 1, len(whole)):
        out.write_bytes(whole[:cut])
        lacks_bad = b"grass/2.jpg" not in whole[: whole[:cut].rfind(b"\n") + 1]
        assert main([*words, "--resume"]) == (2 if lacks_bad else 0)
        assert out.read_bytes() == whole
    out.write_bytes(b"something else\n")
    assert main([*words, "--resume"]) == 2
    assert out.read_bytes() == b"something else\n"


def test_csv(bundle: Path, photo_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(bundle), str(photo_folder), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 24
    expected = load(bundle).classify(photo_folder / "rose" / "3.jpg")
    (row,) = (row for row in rows if row["path"].endswith("rose/3.jpg"))
    assert (row["label"], int(row["index"]), row["error"]) == (expected.label, expected.index, "")
    assert float(row["confidence"]) == pytest.approx(expected.confidence, abs=1e-6)


@pytest.mark.parametrize("words", [["--csv", "--json"], ["--out", "x"], ["--resume", "--csv"]])
def test_options_that_do_not_fit(
    bundle: Path, photo_folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(bundle), str(photo_folder), *words]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_many_photos_answer_as_one_does(bundle: Path, photo_folder: Path) -> None:
    paths = sorted(photo_folder.rglob("*.jpg"))
    paths[5].write_bytes(b"broken")
    alone, many = load(bundle), load(bundle, many=True, threads=3)
    answers = list(many.classify_many(paths))
    assert isinstance(answers[5], PhotoError)
    for path, answer in zip(paths, answers, strict=True):
        if path != paths[5]:
            assert answer.label == alone.classify(path).label
            assert answer.confidence == pytest.approx(alone.classify(path).confidence, abs=1e-6)


@given(st.integers(0, 300), st.integers(1, 20), st.integers(2, 9))
def test_lanes_get_equal_shares_of_photos_that_are_counted(photos: int, batch: int, lanes: int) -> None:
    rounds = max(1, -(-photos // (lanes * batch)))
    sizes = list(islice(_shares([b""] * photos, batch, lanes), rounds * lanes))
    assert sum(sizes) == photos
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)  # none is empty while there are photos
    assert list(islice(_shares(iter([b""]), batch, lanes), 3)) == [batch] * 3


def test_lanes_take_no_more_photos_than_they_work_on(bundle: Path, photo_folder: Path) -> None:
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield photo_folder / "rose" / "0.jpg"

    answers = load(bundle, many=True, threads=2).classify_many(endless(), batch=4)
    for _ in range(20):
        next(answers)
    assert taken <= 20 + 4 * 4
    answers.close()


@given(st.text(st.characters(codec=None), min_size=1))
def test_every_path_is_found_again(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    folder = tmp_path_factory.mktemp("answers")
    error = PhotoError("a photo is damaged")
    (folder / "a.csv").write_text(csv_heads() + csv_line(path, error), encoding="ascii")
    (folder / "a.json").write_text(json_line(path, error), encoding="ascii")
    assert answered(folder / "a.csv", csv=True) == {path}
    assert answered(folder / "a.json", csv=False) == {path}
    assert json.loads((folder / "a.json").read_text())["path"] == path


@pytest.mark.parametrize("text", ["[1]\n", '{"path": 3}\n', "{}\n", "\xff\n", '"a\n'])
def test_other_files_are_not_gone_on_with(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file"
    path.write_text(text, encoding="latin-1")
    for form in (True, False):
        with pytest.raises(InputError):
            answered(path, csv=form)
    assert answered(tmp_path / "absent", csv=True) == set()
