"""A rehearsal of a recipe: every step of it in minutes, on a few photos, even without any weights.

It proves the path and the names of the artefacts before hours are spent. What it trains is worth nothing.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from samesight.data.photos import Photo, PhotoOptions, open_photos
from samesight.errors import SamesightError
from samesight.files import new_folder
from samesight.models import create, create_pretrained, default_preprocess
from samesight.models.create import source_of
from samesight.models.pretrained import UNTRAINED
from samesight.pictureoptions import PictureOptions
from samesight.preprocess import Preprocess, preprocess, read_photo
from samesight.progress import say
from samesight.training import TrainConfig
from samesight.training.state import write_best

__all__ = ["LABELS", "PHOTOS", "WORDS", "few_photos", "shortened", "write_stand_in"]

LABELS = 8  # the first ones
PHOTOS = 6  # of each label, in each part
RIDGE = 0.1  # as a part of what the photos' features are apart
WORDS = f"A rehearsal: {PHOTOS} photos of each of {LABELS} labels at most, one epoch, no accuracy wanted"


def few_photos(source: str, options: PhotoOptions, folder: Path) -> str:
    """A folder of the first photos of the first labels of `source`, in the parts that they are in there."""
    if not folder.is_dir():
        photos = open_photos(source, options)
        labels = set(photos.labels[:LABELS])
        taken: Counter[tuple[str | None, str]] = Counter()
        with new_folder(folder) as aside:
            for photo in photos.items:
                if photo.label not in labels or taken[photo.part, photo.label] == PHOTOS:
                    continue
                taken[photo.part, photo.label] += 1
                place = aside / (photo.part or "") / re.sub(r"[/\\\0]", "_", photo.label)
                place.mkdir(parents=True, exist_ok=True)
                number = taken[photo.part, photo.label]
                shutil.copyfile(photo.path, place / f"{number}-{photo.path.name}")
    return str(folder)


def shortened(config: TrainConfig, file: Path, source: str) -> TrainConfig:
    """`config` with one epoch a phase and no target; with untrained weights in `file` where it needs some.

    Weights that the user or the recipe names are never replaced. Untrained ones get the averages of batch
    normalisation of some photos of `source`: without them a deep network's logits are nearly the same for
    every label, and float16's rounding alone decides between them.
    """
    config = replace(config, epochs=1, target=None)
    if config.weights == UNTRAINED or source_of(config.model) in ("samesight", "own file"):
        return config
    config = replace(config, head_epochs=None if config.train == "head" else 1)
    if config.weights is None and not file.is_file():
        try:
            create_pretrained(config.model, None, offline=config.offline)
        except SamesightError as error:
            say(f"{config.model} starts untrained, since its weights cannot be had here: {error}")
            torch.manual_seed(config.seed)
            network = create(config.model, None).eval()
            spec = config.pictures.over(default_preprocess(config.model, None))
            one_each = {photo.label: photo for photo in open_photos(source, PhotoOptions()).items}
            _settle(network, _tensors(one_each.values(), spec))
            write_best(file, network.state_dict())
    return replace(config, weights=str(file)) if file.is_file() else config


def write_stand_in(
    model: str, pictures: PictureOptions, source: str, file: Path, seed: int
) -> tuple[str, ...]:
    """Write a checkpoint of `model` that knows the photos of `source`, in seconds; their labels.

    Its features are random; the averages of its batch normalisations are those of the photos, and its last
    layer is fitted to their labels by least squares, with small weights: large ones magnify rounding. So it
    prefers a label on each photo, which a network that is merely untrained does not, and its copies can be
    proved.
    """
    photos = open_photos(source, PhotoOptions())
    spec = pictures.over(default_preprocess(model, None))
    tensors = _tensors(photos.items, spec)
    labels = tuple(photos.labels)
    wanted = torch.tensor([[float(one.label == label) for label in labels] for one in photos.items])
    torch.manual_seed(seed)
    network = create(model, len(labels), size=spec.size).eval()
    last = [one for one in network.modules() if isinstance(one, nn.Linear)][-1]
    features: list[torch.Tensor] = []
    _settle(network, tensors)
    with torch.no_grad():
        hook = last.register_forward_pre_hook(lambda _, given: features.append(given[0]))
        network(tensors)
        hook.remove()
        mean = features[0].double().mean(dim=0)
        known = features[0].double() - mean
        alike = known @ known.T
        ridge = RIDGE * alike.diagonal().mean() * torch.eye(len(known), dtype=torch.float64)
        weight = torch.linalg.solve(alike + ridge, wanted.double()).T @ known
        last.weight.copy_(weight)
        last.bias.copy_(wanted.double().mean(dim=0) - weight @ mean)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_best(file, network.state_dict())
    return labels


def _tensors(photos: Iterable[Photo], spec: Preprocess) -> torch.Tensor:
    """The photos as a network is given them: (n, 3, height, width) float32."""
    return torch.from_numpy(np.stack([preprocess(read_photo(photo.path), spec) for photo in photos]))


def _settle(network: nn.Module, tensors: torch.Tensor) -> None:
    """Make every batch normalisation's averages those of `tensors`; `network` is in evaluation mode."""
    norms = [one for one in network.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        network(tensors)
    network.eval()
