"""What is known of each pretrained network, and which of them are wanted.

The figures lie in JSON files beside this one, written by `python -m samesight.models.published` from the
metadata of torchvision and timm, and held equal to it by a test.
"""

from __future__ import annotations

import csv
import difflib
import functools
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from samesight.errors import InputError
from samesight.files import read_json

__all__ = [
    "FILES",
    "Network",
    "Wanted",
    "pareto",
    "read_networks",
    "select",
    "sort_networks",
    "table_version",
    "to_csv",
]

FILES = {name: Path(__file__).with_name(f"{name}.json") for name in ("torchvision", "timm", "samesight")}
RECOMMENDED = "DEFAULT"
ALL = "all"

Cost = Literal["params", "gflops"]


@dataclass(frozen=True)
class Network:
    """A network with one set of weights. What nobody states is None, never a guess."""

    name: str
    source: str  # "torchvision", "timm" or "samesight"
    weights: str | None  # their name; None where there are none, and the network is trained from scratch
    recommended: bool  # whether they are the ones that are taken when none are named
    top1: float | None  # per cent on ImageNet-1K's validation photos, at `input_size`
    top5: float | None
    params: int
    gflops: float | None  # 10⁹ multiply-accumulates for one picture, as torchvision states them
    size_mib: float | None  # of the file of weights
    input_size: int  # pixels of the shorter side
    classes: int  # that the head has
    license: str | None  # that the source states for the weights


@dataclass(frozen=True)
class Wanted:
    """Which networks are wanted. A bound leaves out the networks whose figure is not known."""

    max_params: float | None = None
    min_top1: float | None = None
    max_gflops: float | None = None
    max_size_mib: float | None = None
    families: tuple[str, ...] = ()  # beginnings of names
    weights: str = RECOMMENDED  # a name of weights, the recommended ones, or "all"

    def __post_init__(self) -> None:
        """Raises InputError where a bound cannot be met."""
        bounds = (self.max_params, self.max_gflops, self.max_size_mib)
        if any(bound is not None and not bound > 0 for bound in bounds):
            raise InputError("a bound must be above 0", found=min(b for b in bounds if b is not None))
        if self.min_top1 is not None and not 0 <= self.min_top1 <= 100:
            raise InputError("top-1 is in per cent", expected="0 to 100", found=self.min_top1)


@functools.cache
def _read(source: str) -> dict[str, Any]:
    document: dict[str, Any] = read_json(FILES[source])
    return document


def table_version(source: str) -> str:
    """The version of the package that the figures of `source` were taken from."""
    return str(_read(source)["version"])


def read_networks(source: str) -> tuple[Network, ...]:
    """The networks of "torchvision", "timm" or "samesight", once for each of their weights."""
    document = _read(source)
    return tuple(
        Network(source=source, **dict(zip(document["columns"], row, strict=True))) for row in document["rows"]
    )


def select(networks: Iterable[Network], wanted: Wanted) -> list[Network]:
    """The networks that are as wanted. Raises InputError where a family or a name of weights fits none."""
    rows = list(networks)
    for family in wanted.families:
        if not any(_bare(row).startswith(family) for row in rows):
            known = _families(rows)
            near = difflib.get_close_matches(family, known, n=5, cutoff=0.4) or known
            raise InputError("no network's name begins like that", expected=", ".join(near), found=family)
    names = sorted({row.weights for row in rows if row.weights and row.source == "torchvision"})
    if wanted.weights not in (RECOMMENDED, ALL, *(row.weights for row in rows)):
        raise InputError(
            "there are no such weights", expected=", ".join([RECOMMENDED, ALL, *names]), found=wanted.weights
        )
    return [row for row in rows if _fits(row, wanted)]


def _families(networks: Iterable[Network]) -> list[str]:
    """What the names begin with, before the first digit or underscore, in their order."""
    return sorted({re.split(r"[\d_.]", _bare(row))[0] for row in networks})


def sort_networks(networks: Iterable[Network], by: str) -> list[Network]:
    """The networks by a figure: best accuracy first, else smallest first; those without it last."""
    sign = -1 if by in ("top1", "top5") else 1

    def key(row: Network) -> tuple[Any, ...]:
        value = getattr(row, by)
        if isinstance(value, str):
            return False, value, ""
        return value is None, sign * (value or 0), row.name

    return sorted(networks, key=key)


def pareto(networks: Sequence[Network], cost: Cost) -> list[Network]:
    """The networks than which none is both cheaper and more accurate, cheapest first."""
    known = [row for row in networks if row.top1 is not None and getattr(row, cost) is not None]
    front: list[Network] = []
    for row in sorted(known, key=lambda row: (getattr(row, cost), -(row.top1 or 0))):
        if not front or (row.top1 or 0) > (front[-1].top1 or 0):
            front.append(row)
    return front


def to_csv(networks: Iterable[Network]) -> str:
    """The networks as CSV, a column a field; a figure that is not known is empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [field.name for field in fields(Network)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in networks)
    return stream.getvalue()


def _bare(row: Network) -> str:
    return row.name.removeprefix("timm/")


def _fits(row: Network, wanted: Wanted) -> bool:
    if wanted.weights == RECOMMENDED and not row.recommended:
        return False
    if wanted.weights not in (RECOMMENDED, ALL, row.weights):
        return False
    if wanted.families and not _bare(row).startswith(wanted.families):
        return False
    bounds = (
        (row.params, wanted.max_params),
        (row.gflops, wanted.max_gflops),
        (row.size_mib, wanted.max_size_mib),
    )
    if any(bound is not None and (value is None or value > bound) for value, bound in bounds):
        return False
    return wanted.min_top1 is None or (row.top1 is not None and row.top1 >= wanted.min_top1)
