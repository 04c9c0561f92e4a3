"""Checkpoints: `best.pth`, a plain state dict for anyone, and `last.pth`, from which training goes on.

Both are written aside and renamed, so a kill leaves the old file or the new. `last.pth` is nevertheless
checked before it is used: each member of the zip that torch.save writes carries its CRC-32.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from samesight.errors import CheckpointError
from samesight.files import write_file

__all__ = ["State", "epochs_without_gain", "read_last", "write_best", "write_last"]

FORMAT = "samesight-training-state"
VERSION = 2
GAIN = 0.999  # a loss that falls by less has not fallen
LOSS_SLACK = 1.05  # losses within 5 % are as good as equal

Row = dict[str, Any]
"""One epoch of history.csv."""


@dataclass
class State:
    """Where training stands after `epoch` complete epochs."""

    epoch: int = 0
    network: Mapping[str, Tensor] = field(default_factory=dict)
    optimiser: Mapping[str, Any] = field(default_factory=dict)
    average: Mapping[str, Tensor] = field(default_factory=dict)  # of the parameters; empty: there is none
    ended: str | None = None  # why training ended before all epochs were done
    history: list[Row] = field(default_factory=list)
    best_epoch: int = 0
    best_accuracy: float | None = None
    lowest_loss: float | None = None  # of the epochs whose accuracy is as good as the best one's
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    def take_if_better(self, accuracy: float | None, loss: float | None, photos: int) -> bool:
        """Whether the epoch just counted is the best so far by `photos` validation photos; it is then noted.

        The higher accuracy is better; but accuracies within one standard error of each other do not tell (on
        40 photos that is two of them), nor does a single photo, and then the loss does. Of losses as good as
        equal the newest is taken: the rate falls towards the end, and weights from there generalise better
        than a lucky epoch's. Without validation photos the newest is the best.
        """
        lowest = loss
        if accuracy is not None and loss is not None and self.best_accuracy is not None:
            best = self.best_accuracy
            error = math.sqrt(max(best * (1 - best), accuracy * (1 - accuracy)) / photos)
            if round(abs(accuracy - best) * photos) > max(1, error * photos):
                if accuracy < best:
                    return False
            elif self.lowest_loss is not None:
                if loss > self.lowest_loss * LOSS_SLACK:
                    return False
                lowest = min(loss, self.lowest_loss)
        self.best_epoch, self.best_accuracy, self.lowest_loss = self.epoch, accuracy, lowest
        return True


def epochs_without_gain(rows: Sequence[Row]) -> int:
    """The epochs since validation accuracy last rose above all before, or the loss fell below by 0.1 %."""
    gained, accuracy, loss = 0, -1.0, math.inf
    for place, row in enumerate(rows, 1):
        if row["val_accuracy"] is None or row["val_accuracy"] > accuracy or row["val_loss"] < GAIN * loss:
            gained = place
        if row["val_accuracy"] is not None:
            accuracy, loss = max(accuracy, row["val_accuracy"]), min(loss, row["val_loss"])
    return len(rows) - gained


def write_best(path: Path, network: Mapping[str, Tensor]) -> None:
    """Write a state dict, on the CPU, that `torch.load(path, weights_only=True)` reads anywhere."""
    write_file(path, _saved({name: tensor.detach().cpu() for name, tensor in network.items()}))


def write_last(path: Path, state: State) -> None:
    """Write everything that training needs to go on."""
    fields = {
        **vars(state),
        "network": dict(state.network),
        "optimiser": dict(state.optimiser),
        "average": dict(state.average),
    }
    write_file(path, _saved({"format": FORMAT, "format_version": VERSION, **fields}))


def read_last(path: Path) -> State:
    """The state in `path`. Raises CheckpointError where it is broken or of another kind."""
    fix = "another --out, to train anew"
    try:
        with zipfile.ZipFile(path) as members:
            broken = members.testzip()
        if broken is not None:
            raise zipfile.BadZipFile(f"the CRC-32 of {broken} is wrong")
        value = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, EOFError) as error:
        raise CheckpointError(
            "the state of training is broken", where=path, found=" ".join(str(error).split()), fix=fix
        ) from error
    if not isinstance(value, dict) or value.pop("format", None) != FORMAT:
        raise CheckpointError("this is not a state of training", where=path, expected=FORMAT, fix=fix)
    if value.pop("format_version", None) != VERSION or set(value) != set(asdict(State())):
        raise CheckpointError(
            "this state of training is of another version of Samesight", where=path, expected=VERSION, fix=fix
        )
    return State(**value)


def _saved(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()
