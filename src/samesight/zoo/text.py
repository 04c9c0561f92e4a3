"""The table of networks as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from samesight.zoo.table import Cost, Network, table_version

__all__ = ["columns", "notes", "short_count", "table_lines"]

WORDS = {"params": "params", "gflops": "GFLOPS"}
UNKNOWN = "-"
LEFT = ("network", "weights", "licence", "best for")  # columns of words


def table_lines(rows: Sequence[Network], fronts: Mapping[Cost, Sequence[Network]]) -> Iterator[str]:
    """The table of `rows`, in their order; `fronts`: those of them that nothing beats at their cost."""
    heads = [
        "network",
        "weights",
        "top-1",
        "top-5",
        "params",
        "GFLOPS",
        "MiB",
        "pixels",
        "licence",
        "best for",
    ]
    cells = [_cells(row, fronts) for row in rows]
    if not any(row.source == "torchvision" and not row.recommended for row in rows):
        heads, cells = _without(heads, cells, "weights")  # the same word for all, and known
    if not any(row.license for row in rows):
        heads, cells = _without(heads, cells, "licence")
    yield from columns(heads, cells, left=LEFT)


def notes(rows: Sequence[Network]) -> Iterator[str]:
    """What the table's words mean, as far as they are in it."""
    counts = Counter(row.source for row in rows)
    if counts["torchvision"]:
        named = f"{counts['torchvision']} of torchvision {table_version('torchvision')}"
        yield f"{named}: its own figures, on ImageNet-1K at so many pixels."
    if counts["timm"]:
        named = f"{counts['timm']} of timm {table_version('timm')}"
        yield f"{named}, which states no accuracies; parameters and GFLOPS were counted by Samesight."
    if counts["samesight"]:
        yield f"{counts['samesight']} that ship with Samesight, to be trained from scratch."
    yield "GFLOPS: 10⁹ multiply-accumulates for one picture, as torchvision uses the word."
    if counts["torchvision"]:
        yield "best for: nothing in this table is as accurate with less."
        yield "licence: torchvision states none but those shown; ImageNet's own terms apply to them all."


def columns(heads: Sequence[str], cells: Sequence[Sequence[str]], left: Sequence[str]) -> Iterator[str]:
    """Rows under their heads, words to the left and figures to the right, without space at the end."""
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    for row in (heads, *cells):
        aligned = (
            cell.ljust(width) if head in left else cell.rjust(width)
            for head, cell, width in zip(heads, row, widths, strict=True)
        )
        yield "  ".join(aligned).rstrip()


def short_count(count: float) -> str:
    """A number of parameters or multiply-accumulates in three or four digits: 25.56 M."""
    for unit, word in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if count >= unit:
            return f"{count / unit:.2f} {word}" if count < 100 * unit else f"{count / unit:.1f} {word}"
    return f"{count:.0f}"


def _cells(row: Network, fronts: Mapping[Cost, Sequence[Network]]) -> list[str]:
    return [
        row.name,
        row.weights or UNKNOWN,
        _figure(row.top1, ".2f"),
        _figure(row.top5, ".2f"),
        short_count(row.params),
        _figure(row.gflops, ".3f" if (row.gflops or 0) < 10 else ".1f"),
        _figure(row.size_mib, ".1f"),
        str(row.input_size),
        row.license or UNKNOWN,
        ", ".join(WORDS[cost] for cost, front in fronts.items() if row in front),
    ]


def _figure(value: float | None, how: str) -> str:
    return UNKNOWN if value is None else format(value, how)


def _without(
    heads: Sequence[str], cells: Sequence[Sequence[str]], name: str
) -> tuple[list[str], list[list[str]]]:
    keep = [place for place, head in enumerate(heads) if head != name]
    return [heads[place] for place in keep], [[row[place] for place in keep] for row in cells]
