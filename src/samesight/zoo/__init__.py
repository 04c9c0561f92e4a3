"""The table of pretrained networks. Needs no torch: the figures lie in files beside it."""

from __future__ import annotations

from samesight.zoo.table import (
    FILES,
    Network,
    Wanted,
    pareto,
    read_networks,
    select,
    sort_networks,
    table_version,
    to_csv,
)

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
