"""What there is to know about one network before it is used: layers, weights, licence, preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import nn

from samesight.errors import InputError
from samesight.models.create import TIMM_PREFIX, create, import_timm, source_of
from samesight.models.layers import Summary, summarise
from samesight.models.pretrained import default_preprocess, license_of, named_weights
from samesight.models.trace import Step, trace
from samesight.models.weightless import without_weights
from samesight.preprocess import Preprocess
from samesight.zoo import Network, read_networks

__all__ = ["Description", "describe"]


@dataclass(frozen=True)
class Description:
    """A network, made without its weights, for pictures of one size."""

    model: str
    source: str  # as `source_of` tells it
    summary: Summary
    steps: tuple[Step, ...] = field(repr=False)  # for a picture of it; none where they were not asked for
    preprocess: Preprocess
    weights: str | None  # the name of those that are described
    known: tuple[Network, ...]  # what is published of each of its weights
    license: str


def describe(
    model: str,
    *,
    classes: int | None = None,
    size: tuple[int, int] | None = None,
    weights: str | None = None,
    options: Mapping[str, str] = {},
    steps: bool = False,
) -> Description:
    """What there is to know about `model`; nothing is downloaded, and no weights are needed.

    `classes`: outputs; None: those of its weights. `size`: (width, height) of its pictures; None: those that
    its weights want. `weights`: a name such as IMAGENET1K_V1, None for the recommended ones.
    `steps`: whether what it does is traced. Raises InputError.
    """
    source = source_of(model)
    if weights is not None and source != "torchvision":
        raise InputError(
            "weights are chosen by name for torchvision's networks only", where=model, found=weights
        )
    named = named_weights(model, weights) if source == "torchvision" else None
    preprocess = default_preprocess(model, weights)
    if size not in (None, preprocess.size):
        preprocess = replace(preprocess, resize=size, crop=None)
    chosen = preprocess.size

    def use(network: nn.Module) -> tuple[Summary, tuple[Step, ...]]:
        return summarise(network, chosen), tuple(trace(network, chosen)) if steps else ()

    summary, traced = without_weights(lambda: create(model, classes, options=options, size=chosen), use)
    return Description(
        model=model,
        source=source,
        summary=summary,
        steps=traced,
        preprocess=preprocess,
        weights=named and named.name,
        known=_known(model, source),
        license=license_of(named) if named else _license(model, source),
    )


def _known(model: str, source: str) -> tuple[Network, ...]:
    """The rows of the table that are about `model`."""
    if source == "own file":
        return ()
    names = {model}
    if source == "timm":
        config = import_timm().get_pretrained_cfg(model.removeprefix(TIMM_PREFIX))
        if config is not None:
            names.add(f"{TIMM_PREFIX}{config.architecture}.{config.tag}")
    return tuple(row for row in read_networks(source) if row.name in names)


def _license(model: str, source: str) -> str:
    if source != "timm":
        return "no pretrained weights"
    config = import_timm().get_pretrained_cfg(model.removeprefix(TIMM_PREFIX))
    return str((config and config.license) or "unknown")
