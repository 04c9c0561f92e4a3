"""The study in files, under the names that a folder or a recipe gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samesight.files import write_file, write_json
from samesight.quantize.study.plots import plot_dynamic, plot_static
from samesight.quantize.study.tables import csv_text

__all__ = ["StudyNames", "write_study"]


@dataclass(frozen=True)
class StudyNames:
    """What each file is called."""

    json: str = "quantization_study.json"
    csv: str = "quantization_study.csv"
    dynamic: str = "batch_size_analysis_combined.png"
    static: str = "static_quant_analysis.png"


def write_study(study: Mapping[str, Any], out: Path, names: StudyNames = StudyNames()) -> list[Path]:
    """Write the study into `out`; the paths."""
    write_json(out / names.json, study)
    write_file(out / names.csv, csv_text(study))
    drawn = [plot_dynamic(study, out / names.dynamic), plot_static(study, out / names.static)]
    return [out / names.json, out / names.csv, *drawn]
