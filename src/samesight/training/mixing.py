"""Two photos of a batch in one: mixup (https://arxiv.org/abs/1710.09412), CutMix (https://arxiv.org/abs/1905.04899).

Off by default: both need more epochs than fine-tuning has.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["mix"]


def mix(
    pictures: Tensor, alphas: tuple[float, float], random: np.random.Generator
) -> tuple[Tensor, Tensor, float]:
    """`pictures` (n, 3, h, w) mixed with one another, with which (n,) int64, and the share that is their own.

    `alphas` are mixup's and CutMix's; where both are on, each batch takes one of them.
    """
    mixup, cutmix = alphas
    others = torch.from_numpy(random.permutation(len(pictures))).to(pictures.device)
    if not cutmix or (mixup and random.random() < 0.5):
        kept = float(random.beta(mixup, mixup))
        return kept * pictures + (1 - kept) * pictures[others], others, kept
    share = 1 - float(random.beta(cutmix, cutmix))
    height, width = pictures.shape[-2:]
    h, w = round(height * share**0.5), round(width * share**0.5)
    top, left = int(random.integers(0, height - h + 1)), int(random.integers(0, width - w + 1))
    mixed = pictures.clone()
    mixed[..., top : top + h, left : left + w] = pictures[others, :, top : top + h, left : left + w]
    return mixed, others, 1 - h * w / (height * width)
