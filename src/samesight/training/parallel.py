"""Training in several processes, on one machine or many: `torchrun -m samesight train …`.

Each process has the whole network and a share of every batch; gradients are averaged. The first one alone
prepares the photos and writes the run folder, which all of them see.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from samesight.errors import InputError

__all__ = ["ALONE", "Ranks", "open_ranks"]

T = TypeVar("T")
PATIENCE = timedelta(hours=2)  # while the first process reads and hashes all photos, the others wait


@dataclass(frozen=True)
class Ranks:
    """This process's number, how many there are, and its number on its machine."""

    rank: int
    count: int
    local: int

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's share of `items`: every count-th."""
        return items[self.rank :: self.count]

    def wait(self) -> None:
        """Go on when every process is here."""
        if self.count > 1:
            distributed.barrier()

    def end(self) -> None:
        """Part from the others, when all are here."""
        if self.count > 1:
            distributed.barrier()
            distributed.destroy_process_group()

    def given(self, value: T) -> T:
        """The first process's `value`, to every process."""
        if self.count == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def sums(self, *numbers: float) -> list[float]:
        """Each of the numbers, summed over the processes."""
        if self.count == 1:
            return list(numbers)
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        total = torch.tensor(numbers, dtype=torch.float64, device=device)
        distributed.all_reduce(total)
        return [float(number) for number in total]

    def whole(self, rows: Tensor) -> Tensor:
        """Of rows that were shared out by `share`, all, in the order that they had before."""
        if self.count == 1:
            return rows
        parts: list[Any] = [None] * self.count
        distributed.all_gather_object(parts, rows)
        together = torch.empty((sum(map(len, parts)), *rows.shape[1:]), dtype=rows.dtype)
        for rank, part in enumerate(parts):
            together[rank :: self.count] = part
        return together


ALONE = Ranks(0, 1, 0)


def open_ranks(device: str) -> Ranks:
    """The place of this process among those that torchrun started; alone where it did not.

    Raises InputError where there are fewer GPUs than processes.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return ALONE
    ranks = Ranks(int(os.environ["RANK"]), count, int(os.environ.get("LOCAL_RANK", "0")))
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        if ranks.local >= torch.cuda.device_count():
            raise InputError(
                "there are more processes than GPUs on this machine",
                found=f"{torch.cuda.device_count()} GPUs",
                fix="torchrun --nproc-per-node GPUS, or --device cpu",
            )
        torch.cuda.set_device(ranks.local)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    return ranks
