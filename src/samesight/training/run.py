"""The run folder: what training leaves for people and for the stages that follow."""

from __future__ import annotations

import csv
import io
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from samesight.data.split import Split, read_split
from samesight.errors import InputError
from samesight.files import read_json, sha256_file, write_file
from samesight.models import create, load_state, read_checkpoint
from samesight.models.own import is_own
from samesight.preprocess import Preprocess

__all__ = ["FORMAT", "HISTORY_COLUMNS", "Run", "csv_text", "machine", "open_run", "versions"]

FORMAT = "samesight-run"
VERSION = 1
BEST = "checkpoints/best.pth"
LAST = "checkpoints/last.pth"
HISTORY_COLUMNS = (
    "epoch", "phase", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds",
    "images_per_second",
)  # fmt: skip
PREDICTION_COLUMNS = ("name", "label", "predicted", "confidence")


@dataclass(frozen=True)
class Run:
    """A run folder, read."""

    folder: Path
    model: str
    model_options: Mapping[str, str]
    labels: tuple[str, ...]
    preprocess: Preprocess
    weights: str  # what it was fine-tuned from
    weights_license: str
    results: Mapping[str, Any]  # empty until training is complete
    value: Mapping[str, Any]  # all of run.json

    @property
    def is_complete(self) -> bool:
        """Whether training ended and the held-out part was read."""
        return self.value.get("status") == "complete"

    @property
    def split(self) -> Split:
        """The split that the run was trained on."""
        return read_split(self.folder / "split.json")

    @property
    def checkpoint(self) -> Path:
        """The best weights, a plain state dict."""
        return self.folder / BEST

    def network(self) -> nn.Module:
        """The network with the best weights, in evaluation mode. Raises InputError, CheckpointError."""
        if is_own(self.model):
            self._check_own_file()
        network = create(self.model, len(self.labels), options=self.model_options, size=self.preprocess.size)
        load_state(network, read_checkpoint(self.checkpoint), self.checkpoint)
        return network.eval()

    def _check_own_file(self) -> None:
        file, recorded = Path(self.model.rpartition(":")[0]), self.value.get("model_file_sha256")
        if file.is_file() and recorded and sha256_file(file) != recorded:
            raise InputError(
                "the file of the network has changed since it was trained",
                where=file,
                expected=f"SHA-256 {recorded}",
                fix="the file as it was, or samesight train anew",
            )


def open_run(folder: Path) -> Run:
    """The run in `folder`. Raises InputError where there is none, or one that this version cannot read."""
    file = Path(folder) / "run.json"
    if not file.is_file():
        raise InputError(
            "there is no run in the folder", where=folder, fix=f"samesight train PHOTOS --out {folder}"
        )
    value = read_json(file)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise InputError("this is not a run of samesight train", where=file, expected=f'"format": "{FORMAT}"')
    if value.get("format_version") != VERSION:
        raise InputError(
            "the run was written by a newer Samesight", where=file, fix="pip install --upgrade samesight"
        )
    try:
        return Run(
            folder=Path(folder),
            model=str(value["model"]),
            model_options={str(k): str(v) for k, v in value["model_options"].items()},
            labels=tuple(map(str, value["labels"])),
            preprocess=Preprocess.from_json(value["preprocess"]),
            weights=str(value["weights"]),
            weights_license=str(value["weights_license"]),
            results=dict(value["results"] or {}),
            value=value,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError("run.json is not as Samesight writes it", where=file, found=repr(error)) from error


def csv_text(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV with a header; floats shortened to 6 significant digits, None left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = (row[column] for column in columns)
        writer.writerow([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in cells])
    return text.getvalue()


def write_history(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write history.csv: a row for each complete epoch."""
    write_file(folder / "history.csv", csv_text(HISTORY_COLUMNS, rows))


def versions() -> dict[str, str]:
    """The versions of what training ran on."""
    import numpy
    import PIL
    import torch
    import torchvision

    from samesight import __version__

    return {
        "samesight": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
    }


def machine(device: str, threads: int) -> dict[str, Any]:
    """Where training ran, and how busy that was."""
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {
        "system": platform.platform(terse=True),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "device": device,
        "threads": threads,
        "load_average": load,
    }
