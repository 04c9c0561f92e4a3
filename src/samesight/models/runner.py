"""A network as a runner: what `verify` and `evaluate` compare the copies with."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

__all__ = ["TorchRunner"]

BATCH = 32  # bounds the memory of one call; PyTorch's answers differ between batch sizes only in rounding


class TorchRunner:
    """PyTorch itself, in float32, in evaluation mode."""

    name = "pytorch"
    copy = "pytorch"

    def __init__(self, network: nn.Module) -> None:
        """Takes `network` over: puts it into evaluation mode where it stands."""
        self.network = network.eval()
        parameter = next(iter(network.parameters()), None)
        self.device = torch.device("cpu") if parameter is None else parameter.device

    def logits(self, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits (n, classes), float32, of `tensors` (n, 3, h, w), float32."""
        pieces = []
        with torch.inference_mode():
            for start in range(0, len(tensors), BATCH):
                piece = torch.from_numpy(np.ascontiguousarray(tensors[start : start + BATCH]))
                pieces.append(self.network(piece.to(self.device)).float().cpu().numpy())
        if not pieces:
            raise ValueError("no pictures to classify")
        return np.concatenate(pieces)
