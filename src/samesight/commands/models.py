"""Which pretrained networks there are, what they reach and what they cost; or all about one of them.

Without NAME, a table: torchvision's own figures, and the networks that ship with Samesight, which are trained
from scratch; --timm adds timm's. Nothing is downloaded, and PyTorch is not needed.

  samesight models --max-params 10M --min-top1 75
  samesight models --family resnet efficientnet --sort gflops --plot networks.png
  samesight models --timm --max-gflops 0.3 --csv small.csv

With NAME (as `samesight train --model` takes it, a network in a file of yours too), its layers with their
shapes, parameters and multiply-accumulates, its weights and their licence, what photos are made into for it;
and a picture of it.

  samesight models resnet50 --diagram resnet50.svg
  samesight models my_network.py:Net --classes 5 --size 64x64
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samesight.errors import InputError
from samesight.terminal import printable

if TYPE_CHECKING:
    from samesight.models.describe import Description
    from samesight.models.layers import Layer
    from samesight.preprocess import Preprocess
    from samesight.zoo import Wanted
    from samesight.zoo.table import Cost

SORTS = {
    **{name: name for name in ("top1", "top5", "params", "gflops", "name")},
    "size": "size_mib",
}
UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}
TABLE_ONLY = ("timm", "family", "max_params", "min_top1", "max_gflops", "max_size_mb", "sort", "csv", "plot")
COSTS: tuple[Cost, ...] = ("params", "gflops")
WHERE = {
    "torchvision": "torchvision",
    "timm": "timm",
    "samesight": "ships with Samesight, trained from scratch",
    "own file": "a network of your own",
}
NETWORK_ONLY = ("classes", "size", "depth", "diagram", "model_arg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="one network: resnet50, timm/NAME, small, path/to/file.py:Name",
    )
    parser.add_argument(
        "--weights",
        metavar="WHICH",
        help="IMAGENET1K_V1 and the like, or all (default: recommended)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    table = parser.add_argument_group("the table")
    table.add_argument(
        "--timm", action="store_true", default=None, help="timm's networks too; their accuracy is not known"
    )
    table.add_argument("--family", nargs="+", metavar="NAME", help="names that begin like one of these")
    table.add_argument("--max-params", type=_number, metavar="N", help="at most so many parameters, as 10M")
    table.add_argument("--min-top1", type=float, metavar="PERCENT", help="at least this accuracy on ImageNet")
    table.add_argument(
        "--max-gflops", type=float, metavar="N", help="at most so many 10⁹ multiply-accumulates a picture"
    )
    table.add_argument("--max-size-mb", type=float, metavar="N", help="a file of weights of at most N MiB")
    table.add_argument("--sort", choices=SORTS, help="best first, or smallest first (default: top1)")
    table.add_argument("--csv", type=Path, metavar="FILE", help="write the table as CSV too")
    table.add_argument("--plot", type=Path, metavar="FILE", help="draw accuracy against cost, .png or .svg")
    one = parser.add_argument_group("one network")
    one.add_argument("--classes", type=int, metavar="N", help="with so many outputs (default: its weights')")
    one.add_argument("--size", metavar="SIZE", help="for pictures of SIZE or WIDTHxHEIGHT (default: its own)")
    one.add_argument("--depth", type=int, metavar="N", help="put layers below N parts of a name together")
    one.add_argument("--diagram", type=Path, metavar="FILE", help="draw the network, .png or .svg")
    one.add_argument(
        "--model-arg",
        action="append",
        metavar="KEY=VALUE",
        help="an option for the network's constructor; may be repeated",
    )


def run(args: argparse.Namespace) -> int:
    """Print the table or the network; the exit code."""
    unfit = NETWORK_ONLY if args.name is None else TABLE_ONLY
    if wrong := [name for name in unfit if getattr(args, name) is not None]:
        told = f"is for the table, not for {args.name}" if args.name else "needs the NAME of one network"
        raise InputError(f"--{wrong[0].replace('_', '-')} {told}")
    return _table(args) if args.name is None else _network(args)


def _number(word: str) -> float:
    """A number with K, M, G or B behind it, as argparse wants its types to be."""
    plain = word.strip().upper()
    unit = plain[-1:] if plain[-1:] in UNITS else ""
    try:
        value = float(plain.removesuffix(unit)) * UNITS[unit]
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{word} is no number such as 10M or 500000")
    return value


def _table(args: argparse.Namespace) -> int:
    from samesight.files import write_file
    from samesight.progress import say
    from samesight.zoo import pareto, read_networks, select, sort_networks, table_version, to_csv
    from samesight.zoo.figure import check_suffix
    from samesight.zoo.text import notes, table_lines

    if args.plot:
        check_suffix(args.plot, "--plot")
    sources = ["torchvision", "samesight", *(["timm"] if args.timm else [])]
    wanted = _wanted(args)
    everything = (row for source in sources for row in read_networks(source))
    rows = sort_networks(select(everything, wanted), SORTS[args.sort or "top1"])
    fronts = {cost: pareto(rows, cost) for cost in COSTS}
    if args.plot:
        from samesight.zoo.plots import plot_networks

        say(f"drawn: {plot_networks(rows, args.plot)}")
    if args.csv:
        write_file(args.csv, to_csv(rows))
        say(f"written: {args.csv}")
    if args.json:
        versions = {source: table_version(source) for source in sources if source != "samesight"}
        shown = [{**asdict(row), "best_for": [c for c in COSTS if row in fronts[c]]} for row in rows]
        print(json.dumps({"versions": versions, "networks": shown}, indent=2, allow_nan=False))
        return 0
    if args.timm and (args.min_top1 is not None or args.max_size_mb is not None):
        say("timm states neither accuracy nor size: --min-top1 and --max-size-mb leave its networks out")
    if not rows:
        print("no network is like that")
        return 0
    for line in (*table_lines(rows, fronts), "", *notes(rows)):
        print(printable(line))
    say(f"Next: samesight models {rows[0].name}")
    return 0


def _wanted(args: argparse.Namespace) -> Wanted:
    from samesight.zoo import Wanted

    return Wanted(
        max_params=args.max_params,
        min_top1=args.min_top1,
        max_gflops=args.max_gflops,
        max_size_mib=args.max_size_mb,
        families=tuple(args.family or ()),
        **({"weights": args.weights} if args.weights else {}),
    )


def _network(args: argparse.Namespace) -> int:
    from samesight.commands.train import need_torch, pairs
    from samesight.progress import say
    from samesight.zoo.figure import check_suffix

    if args.diagram:
        check_suffix(args.diagram, "--diagram")
    if args.depth is not None and args.depth < 1:
        raise InputError("--depth counts the parts of a name", expected="1 or more", found=args.depth)
    need_torch()
    from samesight.models.describe import describe

    _check_name(args.name)
    found = describe(
        args.name,
        classes=args.classes,
        size=_size(args.size),
        weights=args.weights,
        options=pairs(args.model_arg or [], "--model-arg", "dropout=0.1"),
        steps=args.diagram is not None,
    )
    if args.diagram:
        from samesight.models.diagram import draw

        say(f"drawn: {draw(found.steps, _short(found.model), _facts(found), args.diagram)}")
    if args.json:
        print(json.dumps(_json(found, args.depth), indent=2, allow_nan=False))
        return 0
    for line in _network_lines(found, args.depth):
        print(printable(line))
    say(f"Next: samesight train PHOTOS --model {args.name}")
    return 0


def _check_name(name: str) -> None:
    """Raises InputError, with what to type instead, where there is no such network."""
    from samesight.models.create import near_names, source_of
    from samesight.zoo import read_networks

    try:
        source_of(name)
    except InputError as error:
        near = near_names(name)
        if any(row.name.startswith(name) for row in read_networks("torchvision")):
            near = [f"--family {name}"]
        fix = " or ".join(f"samesight models {words}" for words in near) or "samesight models"
        raise InputError(error.what, expected=error.expected, fix=fix) from error


def _size(word: str | None) -> tuple[int, int] | None:
    """A side, or WIDTHxHEIGHT, in pixels."""
    if word is None:
        return None
    sides = word.lower().split("x")
    if len(sides) > 2 or not all(
        side.isascii() and side.isdigit() and 0 < int(side) <= 8192 for side in sides
    ):
        raise InputError("--size wants a side or WIDTHxHEIGHT, in pixels", found=word, fix="--size 224")
    return int(sides[0]), int(sides[-1])


def _short(model: str) -> str:
    """The model without the folders of its file."""
    return Path(model).name if ".py" in model else model


def _facts(found: Description) -> str:
    from samesight.zoo.text import short_count

    summary = found.summary
    return (
        f"{short_count(summary.parameters)} parameters · {short_count(summary.macs)} multiply-accumulates "
        f"for one picture of {summary.size[0]}×{summary.size[1]}"
    )


def _layers(found: Description, depth: int | None) -> tuple[Layer, ...]:
    from samesight.models.layers import fold

    return found.summary.layers if depth is None else fold(found.summary, depth)


def _network_lines(found: Description, depth: int | None) -> Iterator[str]:
    from samesight.zoo.text import columns

    summary = found.summary
    rows = [
        (_called(layer), layer.kind, _shape(layer.output), f"{layer.parameters:,}", f"{layer.macs:,}")
        for layer in _layers(found, depth)
    ]
    rows.append(("total", "", _shape(summary.outputs), f"{summary.parameters:,}", f"{summary.macs:,}"))
    yield from columns(("layer", "kind", "output", "parameters", "MACs"), rows, ("layer", "kind", "output"))
    yield ""
    yield f"{_short(found.model)} ({WHERE[found.source]})"
    yield f"  picture       3×{summary.size[1]}×{summary.size[0]}"
    yield f"  parameters    {summary.parameters:,} ({summary.size_bytes / 2**20:.2f} MiB)"
    yield f"  MACs          {summary.macs:,} multiply-accumulates for one picture"
    yield f"  photos        {_preprocessing(found.preprocess)}"
    for row in found.known:
        if row.weights:
            reached = f"top-1 {row.top1:.2f} %, " if row.top1 is not None else ""
            mark = ", taken when none are named" if row.recommended and found.source == "torchvision" else ""
            yield f"  weights       {row.weights}: {reached}at {row.input_size} pixels{mark}"
    yield f"  licence       {found.license}"


def _called(layer: Layer) -> str:
    """The layer's name, and how often it is called where that is more than once."""
    name = layer.name or "(the network itself)"
    return f"{name} (×{layer.calls})" if layer.calls > 1 else name


def _shape(shape: tuple[int, ...] | None) -> str:
    return "×".join(map(str, shape or ())) or "-"


def _preprocessing(spec: Preprocess) -> str:
    """What is done to a photo, in a line."""
    if isinstance(spec.resize, int):
        crop = f", centre crop of {spec.crop[0]}×{spec.crop[1]}" if spec.crop else ""
        size = f"shortest edge to {spec.resize} pixels{crop}"
    else:
        size = f"to exactly {spec.resize[0]}×{spec.resize[1]} pixels"
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (spec.mean, spec.std))
    return f"{size} ({spec.interpolation}); mean {mean}; std {std}"


def _json(found: Description, depth: int | None) -> dict[str, Any]:
    summary = found.summary
    return {
        "model": found.model,
        "source": found.source,
        "input": [3, summary.size[1], summary.size[0]],
        "outputs": list(summary.outputs),
        "parameters": summary.parameters,
        "macs": summary.macs,
        "size_bytes": summary.size_bytes,
        "weights": found.weights,
        "license": found.license,
        "preprocess": found.preprocess.to_json(),
        "published": [asdict(row) for row in found.known],
        "layers": [asdict(layer) for layer in _layers(found, depth)],
    }
