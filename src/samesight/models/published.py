"""What torchvision and timm publish of their networks, as the table of `samesight models` keeps it.

`python -m samesight.models.published [torchvision] [timm] [samesight]` writes the files that the table is
read from. Torchvision's figures are its own. Timm's package states neither accuracy nor size: its accuracies
stay unknown, and its parameters and multiply-accumulates are counted here, which takes half an hour.
"""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import fields
from importlib.metadata import version
from typing import Any

import torch

from samesight.errors import SamesightError
from samesight.files import write_file
from samesight.models.create import TIMM_PREFIX, create, import_timm
from samesight.models.layers import summarise
from samesight.models.pretrained import stated_license
from samesight.models.shipped import SHIPPED
from samesight.models.weightless import without_weights
from samesight.progress import say
from samesight.zoo import FILES, Network

__all__ = ["installed", "published", "timm_networks"]

BILLION = 1e9


def published(source: str) -> Iterator[Network]:
    """The networks of "torchvision", "timm" or "samesight" as the installed package describes them."""
    return {"torchvision": _torchvision, "timm": timm_networks, "samesight": _shipped}[source]()


def _torchvision() -> Iterator[Network]:
    import torchvision

    for name in torchvision.models.list_models(module=torchvision.models):
        known = torchvision.models.get_model_weights(name)
        for weights in known:
            meta = weights.meta
            metrics = meta["_metrics"].get("ImageNet-1K", {})
            yield Network(
                name=name,
                source="torchvision",
                weights=weights.name,
                recommended=weights is known.DEFAULT,
                top1=_known(metrics.get("acc@1")),
                top5=_known(metrics.get("acc@5")),
                params=meta["num_params"],
                gflops=meta["_ops"],
                size_mib=meta["_file_size"],
                input_size=int(weights.transforms().crop_size[0]),
                classes=len(meta["categories"] or ()),
                license=stated_license(weights),
            )


def timm_networks(names: list[str] | None = None) -> Iterator[Network]:
    """Timm's networks with pretrained weights: `names` with their tags, or all."""
    timm = import_timm()
    counted: dict[tuple[object, ...], tuple[int, float | None]] = {}
    for name in timm.list_pretrained() if names is None else names:
        config = timm.get_pretrained_cfg(name)
        size = (int(config.input_size[2]), int(config.input_size[1]))
        key = (config.architecture, size, config.num_classes)
        if key not in counted:
            counted[key] = _count_timm(name, size)
        params, gflops = counted[key]
        yield Network(
            name=TIMM_PREFIX + name,
            source="timm",
            weights=config.tag or None,
            recommended=True,
            top1=None,
            top5=None,
            params=params,
            gflops=gflops,
            size_mib=None,
            input_size=min(size),
            classes=config.num_classes,
            license=None if config.license in (None, "unknown") else config.license,
        )


def _shipped() -> Iterator[Network]:
    for name, shipped in SHIPPED.items():
        size = shipped.preprocess.size
        found = without_weights(
            functools.partial(create, name, None, size=size), functools.partial(summarise, size=size)
        )
        yield Network(
            name=name,
            source="samesight",
            weights=None,
            recommended=True,
            top1=None,
            top5=None,
            params=found.parameters,
            gflops=_giga(found.macs),
            size_mib=round(found.size_bytes / 2**20, 3),
            input_size=min(size),
            classes=found.outputs[0],
            license=None,
        )


def _count_timm(name: str, size: tuple[int, int]) -> tuple[int, float | None]:
    """Parameters and 10⁹ multiply-accumulates; None for these where the network wants more than a picture."""
    timm = import_timm()
    with torch.device("meta"):
        network = timm.create_model(name, pretrained=False)
    params = sum(parameter.numel() for parameter in network.parameters())
    try:
        found = without_weights(
            lambda: timm.create_model(name, pretrained=False), lambda network: summarise(network, size)
        )
    except (RuntimeError, ValueError, TypeError, SamesightError) as error:
        say(f"{name}: {' '.join(str(error).split())[:100]}")
        return params, None
    return params, _giga(found.macs)


def _giga(macs: int) -> float:
    return round(macs / BILLION, 6)


def _known(value: Any) -> float | None:
    """A figure of torchvision's, whose word for an unknown one is NaN."""
    return None if value is None or math.isnan(value) else float(value)


def installed(source: str) -> str:
    """The installed version of the package `source`, without the name of its build."""
    return version(source).partition("+")[0]


def write(source: str) -> None:
    """Write the table's file of `source`, a line a network."""
    columns = [field.name for field in fields(Network) if field.name != "source"]
    rows = [json.dumps([getattr(row, column) for column in columns]) for row in published(source)]
    package = f'"version": {json.dumps(installed(source))},\n' if source != "samesight" else ""
    text = f'{{\n{package}"columns": {json.dumps(columns)},\n"rows": [\n'
    write_file(FILES[source], text + ",\n".join(rows) + "\n]\n}\n")
    say(f"{FILES[source].name}: {len(rows)} rows")


if __name__ == "__main__":
    for word in sys.argv[1:] or FILES:
        write(word)
