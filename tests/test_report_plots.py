"""The pictures of a run folder."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_samples import HOSTILE, LABELS, make_predictions, make_run, write_answers

from samesight.report import write_plots

PICTURES = {"history.png": (1200, 800), "confusion_matrix.png": (500, 500), "reliability.png": (1200, 700)}


@pytest.mark.row("T1")
@pytest.mark.parametrize("count", [2, 1000])
def test_history_confusions_and_reliability_are_drawn(tmp_path: Path, count: int) -> None:
    labels = [f"class {at}" for at in range(count)]
    run = make_run(tmp_path / "run", labels, per_class=2)
    make_predictions(run, labels)
    assert write_plots(run) == [run / name for name in PICTURES]
    for name, least in PICTURES.items():
        with Image.open(run / name) as picture:
            assert picture.format == "PNG"
            assert picture.width >= least[0]
            assert picture.height >= least[1]
            assert max(picture.size) <= 2000
            assert np.asarray(picture.convert("L")).std() > 5, "something is drawn"
        assert (run / name).stat().st_size < 500_000


def test_only_what_is_there_is_drawn(tmp_path: Path) -> None:
    assert write_plots(tmp_path) == []
    write_answers(tmp_path / "test_predictions.csv", [("1.jpg", "a", "b", 0.5)])
    assert write_plots(tmp_path) == [tmp_path / "confusion_matrix.png", tmp_path / "reliability.png"]
    (tmp_path / "test_predictions.csv").write_text("name,label,predicted\n1,a,a\n")
    assert write_plots(tmp_path) == [tmp_path / "confusion_matrix.png"]


@pytest.mark.parametrize(
    "history",
    [
        "epoch,train_loss\n1,0.5\n",
        "epoch,phase,lr,train_loss,val_accuracy,seconds\n1,head,0,nan,,\n2,all,1e-9,inf,0.5,3\nx,,,,,\n",
        "epoch\n1\n2\n",
    ],
)
def test_a_history_with_holes_is_drawn(tmp_path: Path, history: str) -> None:
    (tmp_path / "history.csv").write_text(history)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert write_plots(tmp_path) == [tmp_path / "history.png"]


def test_labels_are_never_read_as_formulas_and_no_letter_is_complained_of(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [r"$\frac{1}$", HOSTILE, "_^%#", "照片", "صورة"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(write_plots(run)) == 3


def test_pyplot_is_not_touched(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", LABELS)
    code = (
        "import sys, pathlib; from samesight.report import write_plots;"
        "write_plots(pathlib.Path(sys.argv[1]));"
        "assert 'matplotlib.pyplot' not in sys.modules; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(run)], check=True)
