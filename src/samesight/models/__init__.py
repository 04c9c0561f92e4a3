"""Networks: made by name, given weights, given a new head, run. Needs torch."""

from __future__ import annotations

from samesight.models.checkpoints import Checkpoint, load_state, open_checkpoint, read_checkpoint
from samesight.models.create import create, model_names
from samesight.models.describe import Description, describe
from samesight.models.heads import head_layers, head_parameters, replace_head
from samesight.models.layers import Layer, Summary, summarise
from samesight.models.pretrained import Pretrained, create_pretrained, default_preprocess
from samesight.models.runner import TorchRunner

__all__ = [
    "Checkpoint",
    "Description",
    "Layer",
    "Pretrained",
    "Summary",
    "TorchRunner",
    "create",
    "create_pretrained",
    "default_preprocess",
    "describe",
    "head_layers",
    "head_parameters",
    "load_state",
    "model_names",
    "open_checkpoint",
    "read_checkpoint",
    "replace_head",
    "summarise",
]
