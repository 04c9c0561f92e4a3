"""The tables of a run, read back by the programs that they are for."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_samples import HOSTILE, LABELS, make_predictions, make_run, write_answers
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from samesight.data.split import Split, SplitItem, write_split
from samesight.report import write_tables

NAMES = ["per_class.csv", "confused_pairs.csv", "confusion_matrix.csv", "calibration.json"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def calibration(run: Path) -> dict[str, Any]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    found: dict[str, Any] = json.loads((run / "calibration.json").read_text(), parse_constant=refuse)
    return found


@pytest.mark.row("T1")
def test_tables_are_what_scikit_learn_counts(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", LABELS, per_class=30, accuracy=0.7)
    assert [path.name for path in write_tables(run)] == NAMES
    answers = rows(run / "test_predictions.csv")
    true, said = ([row[key] for row in answers] for key in ("label", "predicted"))
    with (run / "confusion_matrix.csv").open(newline="") as stream:
        head, *body = list(csv.reader(stream))
    assert head == ["label", *LABELS]
    assert [line[0] for line in body] == list(LABELS)
    counts = np.array([line[1:] for line in body], int)
    assert np.array_equal(counts, confusion_matrix(true, said, labels=list(LABELS)))
    expected = precision_recall_fscore_support(true, said, labels=list(LABELS), zero_division=0)
    table = rows(run / "per_class.csv")
    assert [row["label"] for row in table] == list(LABELS)
    for key, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert np.allclose([float(row[key]) for row in table], values, rtol=1e-5)
    for row in table:
        assert float(row["recall_low"]) <= float(row["recall"]) <= float(row["recall_high"])
        assert int(row["right"]) <= min(int(row["support"]), int(row["predicted"]))
    pairs = rows(run / "confused_pairs.csv")
    assert sum(int(pair["photos"]) for pair in pairs) == sum(a != b for a, b in zip(true, said, strict=True))
    assert [int(pair["photos"]) for pair in pairs] == sorted((int(p["photos"]) for p in pairs), reverse=True)


@pytest.mark.row("T1")
def test_calibration_with_and_without_logits(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", LABELS, per_class=60)
    write_tables(run)
    plain = calibration(run)
    assert plain["as_trained"]["nll"] is None
    assert (plain["temperature"], plain["with_temperature"]) == (None, None)
    make_predictions(run, LABELS, val=200, temperature=3.0)
    write_tables(run)
    found = calibration(run)
    assert found["photos"] == len(rows(run / "test_predictions.csv"))
    accuracy = found["accuracy"]
    assert accuracy["value"] == accuracy["right"] / found["photos"]
    for key in ("wilson_95", "bootstrap_95"):
        assert accuracy[key][0] <= accuracy["value"] <= accuracy[key][1]
    assert accuracy["groups"] is None
    assert found["temperature"]["fitted_on"] == "val"
    assert found["temperature"]["photos"] == 200
    assert found["temperature"]["value"] == pytest.approx(3.0, rel=0.35)
    for state in ("as_trained", "with_temperature"):
        for kind in ("ece_equal_width", "ece_equal_mass"):
            one = found[state][kind]
            low, high = one["interval_95"]
            assert 0 <= low <= one["value"] <= high <= 1
            assert sum(each["photos"] for each in one["bins"]) == found["photos"]
    assert found["with_temperature"]["nll"] < found["as_trained"]["nll"]
    assert found["with_temperature"]["accuracy"] == found["as_trained"]["accuracy"]


def test_many_classes_have_top_answers(tmp_path: Path) -> None:
    labels = [f"class {at}" for at in range(20)]
    run = make_run(tmp_path / "run", labels, per_class=4, accuracy=0.5)
    make_predictions(run, labels)
    write_tables(run)
    found = calibration(run)["accuracy"]
    assert found["value"] <= found["top3"] <= found["top5"] <= 1


def test_photos_of_one_group_are_drawn_together(tmp_path: Path) -> None:
    """Ten people of ten photos; three people's photos are all wrong."""
    names = [f"p{at // 10}/{at}.jpg" for at in range(100)]
    wrong = [at // 10 < 3 for at in range(100)]
    answers = [(name, "a", "b" if bad else "a", 0.9) for name, bad in zip(names, wrong, strict=True)]
    write_answers(tmp_path / "test_predictions.csv", answers)
    items = tuple(SplitItem(name, "0" * 64, "a", "test", name[:2]) for name in sorted(names))
    write_split(tmp_path / "split.json", Split(42, 0.2, 0.1, items))
    write_tables(tmp_path)
    found = calibration(tmp_path)["accuracy"]
    assert found["groups"] == 10
    wilson, grouped = (found[key][1] - found[key][0] for key in ("wilson_95", "bootstrap_95"))
    assert grouped > 2 * wilson


@pytest.mark.parametrize("count", [2, 1000, 1001])
def test_tables_stay_small_with_many_classes(tmp_path: Path, count: int) -> None:
    labels = [f"class {at:04}" for at in range(count)]
    random = np.random.default_rng(1)
    said = random.integers(count, size=4 * count)
    answers = [(f"{at}.jpg", labels[at % count], labels[guess], 0.5) for at, guess in enumerate(said)]
    write_answers(tmp_path / "test_predictions.csv", answers)
    written = write_tables(tmp_path)
    assert ("confusion_matrix.csv" in {path.name for path in written}) == (count <= 1000)
    assert len(rows(tmp_path / "per_class.csv")) == count
    assert sum(path.stat().st_size for path in written) < 3_000_000


def test_nothing_is_written_of_nothing(tmp_path: Path) -> None:
    assert write_tables(tmp_path) == []
    write_answers(tmp_path / "test_predictions.csv", [])
    assert write_tables(tmp_path) == []
    (tmp_path / "test_predictions.csv").write_text("name,label,predicted\n1,a,a\n")
    assert [path.name for path in write_tables(tmp_path)] == NAMES[:3], "without confidences, no calibration"


def test_labels_of_any_kind_survive(tmp_path: Path) -> None:
    labels = ['a "quoted", one', "two\nlines", HOSTILE.replace("\x00", ""), "ünï 照片"]
    write_answers(tmp_path / "test_predictions.csv", [("1", label, label, 0.5) for label in labels])
    write_tables(tmp_path)
    assert [row["label"] for row in rows(tmp_path / "per_class.csv")] == sorted(labels)
