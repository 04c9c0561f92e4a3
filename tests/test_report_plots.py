"""The two pictures of a run folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_samples import HOSTILE, LABELS, make_run, write_answers

from samesight.report import write_plots


@pytest.mark.row("T1")
@pytest.mark.parametrize("count", [2, 100])
def test_history_and_confusion_matrix_are_drawn(tmp_path: Path, count: int) -> None:
    run = make_run(tmp_path / "run", [f"class {at}" for at in range(count)], per_class=4)
    assert write_plots(run) == [run / "history.png", run / "confusion_matrix.png"]
    for name, least in (("history.png", (1200, 400)), ("confusion_matrix.png", (500, 500))):
        with Image.open(run / name) as picture:
            assert picture.format == "PNG"
            assert picture.width >= least[0]
            assert picture.height >= least[1]
            assert np.asarray(picture.convert("L")).std() > 5, "something is drawn"


def test_only_what_is_there_is_drawn(tmp_path: Path) -> None:
    assert write_plots(tmp_path) == []
    write_answers(tmp_path / "test_predictions.csv", [("1.jpg", "a", "b", 0.5)])
    assert write_plots(tmp_path) == [tmp_path / "confusion_matrix.png"]


@pytest.mark.filterwarnings("ignore:Glyph")
def test_labels_are_never_read_as_formulas(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [r"$\frac{1}$", HOSTILE, "_^%#"])
    assert len(write_plots(run)) == 2


def test_pyplot_is_not_touched(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", LABELS)
    code = (
        "import sys, pathlib; from samesight.report import write_plots;"
        "write_plots(pathlib.Path(sys.argv[1]));"
        "assert 'matplotlib.pyplot' not in sys.modules; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(run)], check=True)
