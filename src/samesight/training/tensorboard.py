"""History as TensorBoard's event files, for who watches training there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samesight.errors import InputError

__all__ = ["SCALARS", "TensorBoard"]

SCALARS = {
    "train_loss": "loss/train",
    "val_loss": "loss/val",
    "train_accuracy": "accuracy/train",
    "val_accuracy": "accuracy/val",
    "lr": "learning_rate",
    "images_per_second": "images_per_second",
    "seconds": "seconds",
}
"""The columns of history.csv that are written, and TensorBoard's names for them."""


class TensorBoard:
    """Writes rows of history into the event files of `folder`; the step of a scalar is its epoch.

    `after_epoch` is the last epoch that is complete already. What an interrupted run, or an earlier one in
    the same folder, wrote of later epochs is purged: TensorBoard no longer shows it.
    Raises InputError where the tensorboard package is not installed.
    """

    def __init__(self, folder: Path, after_epoch: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError(
                "--tensorboard needs a package that is not installed",
                expected="tensorboard",
                found=error,
                fix="pip install tensorboard",
            ) from error
        self._writer = SummaryWriter(os.fspath(folder), purge_step=after_epoch + 1)

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Write the scalars of one row of history, whole on disk before this returns; None is left out."""
        for column, name in SCALARS.items():
            value = row.get(column)
            if value is not None:
                self._writer.add_scalar(name, float(value), int(row["epoch"]))
        self._writer.flush()

    def close(self) -> None:
        """Write what is left and close the file."""
        self._writer.close()
