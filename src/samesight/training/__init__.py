"""Fine-tuning and training: photos to a run folder. Needs torch."""

from __future__ import annotations

from samesight.training.augment import AugmentOptions, color_jitter
from samesight.training.config import TrainConfig
from samesight.training.run import Run, open_run
from samesight.training.train import TrainResult, train

__all__ = ["AugmentOptions", "Run", "TrainConfig", "TrainResult", "color_jitter", "open_run", "train"]
