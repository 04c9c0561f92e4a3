"""`samesight secure check` and `export`: who can run a network, and the files that another engine reads."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samesight.commands.securewords import action, add_bundle, choice
from samesight.errors import InputError
from samesight.numberoptions import whole
from samesight.terminal import steady

if TYPE_CHECKING:
    from samesight.secure.export import Exported

__all__ = ["add_check", "add_export"]

SHOWN = 12


def add_check(commands: Any) -> None:
    """`samesight secure check`."""
    parser = action(
        commands,
        "check",
        "can this network run on a secure engine",
        "Whether each secure engine can run the network, and every obstacle by its node.\n\n"
        "Exit code: 0 it runs on all that were asked for, 1 it does not, 2 could not check.",
    )
    add_bundle(parser)
    parser.add_argument(
        "--target", action="append", metavar="ENGINE", help=f"{', '.join(_TARGETS)} (default: all)"
    )
    parser.set_defaults(run_action=_check)


def add_export(commands: Any) -> None:
    """`samesight secure export`."""
    parser = action(
        commands,
        "export",
        "files for another secure engine",
        "Write the network and some images as another secure engine reads them, and prove that the files\n"
        "hold the same network: it is rebuilt from them and compared on the golden samples.\n\n"
        "Exit code: 0 written and proved, 1 the files would not give the same answer, 2 could not be done.",
    )
    add_bundle(parser)
    parser.add_argument("--format", required=True, metavar="FORMAT", help=", ".join(_FORMATS))
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="the folder to write")
    parser.add_argument(
        "--photo",
        action="append",
        type=Path,
        metavar="PHOTO",
        help="an image to write (may be repeated; default: the first three golden samples where the bundle "
        "says that they may be shown, else a drawn picture)",
    )
    parser.add_argument(
        "--batch", type=whole(1, 1024), default=1, metavar="N", help="images at once (default: 1)"
    )
    parser.add_argument(
        "--scale", type=whole(1, 1024), default=12, metavar="BITS", help="athos: fraction bits (default: 12)"
    )
    parser.add_argument(
        "--channels",
        type=_range,
        default=(100020, 100049),
        metavar="FIRST-LAST",
        help="scale-mamba: channels for parameters (default: 100020-100049)",
    )
    parser.add_argument(
        "--inputs",
        type=_range,
        default=(90050, 90059),
        metavar="FIRST-LAST",
        help="scale-mamba: channels for images (default: 90050-90059)",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="scale-mamba: the state dict that the bundle was made from, whose normalisations stay apart "
        "(new_gamma, new_beta); without, they are 1 and 0, since the bundle has them in its weights. "
        "Needs PyTorch",
    )
    parser.add_argument("--replace", action="store_true", help="replace what is at --out")
    parser.set_defaults(run_action=_export)


_TARGETS = ("spu", "athos", "llama", "secfloat", "mp-spdz", "scale-mamba")
_FORMATS = ("onnx", *_TARGETS[1:])


def _range(word: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,9})-([0-9]{1,9})", word)
    if not found or int(found[1]) > int(found[2]):
        raise argparse.ArgumentTypeError(f"{word!a} is not a range, as 100020-100049")
    return int(found[1]), int(found[2])


def _check(args: argparse.Namespace) -> int:
    from samesight.bundle import open_bundle
    from samesight.progress import say
    from samesight.secure.check import TARGETS, changes, obstacles
    from samesight.secure.reading import Network, read_onnx

    names = [choice(name, _TARGETS, "engine") for name in args.target or _TARGETS]
    bundle = open_bundle(args.bundle, trust=args.trust)
    found = read_onnx(bundle.read(bundle.copy("fp32").file))
    readable = isinstance(found, Network)
    rows = {name: obstacles(found, TARGETS[name]) if isinstance(found, Network) else found for name in names}
    ok = not any(rows.values())
    written = changes(found.source, found) if isinstance(found, Network) else []
    if args.json:
        record = {
            "ok": ok,
            "bundle": bundle.id,
            "name": bundle.name,
            "network": found.graph.id if isinstance(found, Network) else None,
            "changes": written,
            "targets": {
                name: {"ok": not row, "obstacles": [one.to_json() for one in row]}
                for name, row in rows.items()
            },
        }
        print(json.dumps(record, indent=2))
        return 0 if ok else 1
    for line in _check_lines(bundle.name, rows, written, readable=readable):
        print(steady(line))
    fitting = [name for name, row in rows.items() if not row]
    if "spu" in fitting:
        say(f"Next: samesight secure run {args.bundle} PHOTO --protocol aby3")
    elif fitting:
        say(f"Next: samesight secure export {args.bundle} --format {fitting[0]} --out FOLDER")
    return 0 if ok else 1


def _check_lines(
    name: str, rows: dict[str, list[Any]], written: list[str], *, readable: bool
) -> Iterator[str]:
    from samesight.secure.check import TARGETS

    yield name
    if written:
        yield "as export writes it:"
        yield from (f"  - {line}" for line in written)
    width = max(map(len, rows))
    if not readable:
        yield "steps that no engine here knows:"
        yield from _obstacle_lines(next(iter(rows.values())))
        return
    for target, row in rows.items():
        verdict = "runs" if not row else f"does not run: {len(row)} obstacle{'s' if len(row) > 1 else ''}"
        yield f"{target:<{width}}  {verdict}   ({TARGETS[target].title})"
        yield from _obstacle_lines(row)


def _obstacle_lines(row: list[Any]) -> Iterator[str]:
    """The obstacles, those of one kind together."""
    kinds: dict[tuple[str, str, str], list[str]] = {}
    for one in row:
        kinds.setdefault((one.operator, one.what, one.fix), []).append(one.node)
    for (operator, what, fix), nodes in kinds.items():
        more = f" and {len(nodes) - 3} more" if len(nodes) > 3 else ""
        yield f"  {operator}: {what}"
        yield f"    at:  {', '.join(nodes[:3])}{more}"
        yield f"    try: {fix}"


def _export(args: argparse.Namespace) -> int:
    from samesight.bundle import open_bundle
    from samesight.progress import say
    from samesight.secure.export import ExportRequest, export_secure
    from samesight.secure.formats.scalemamba import Channels

    request = ExportRequest(
        format=choice(args.format, _FORMATS, "format"),
        out=args.out,
        photos=tuple(args.photo or ()),
        batch=args.batch,
        scale=args.scale,
        channels=Channels(args.channels, args.inputs),
        state=_state(args),
        replace=args.replace,
    )
    done = export_secure(open_bundle(args.bundle, trust=args.trust), request)
    if args.json:
        print(json.dumps(done.to_json(), indent=2))
        return 0
    for line in _export_lines(done):
        print(steady(line))
    say(f"Next: {_NEXT[done.format]}")
    return 0


_NEXT = {
    "onnx": "give model.onnx to the engine's compiler",
    "athos": "python CompileONNXGraph.py --config config.json --role server    (in EzPC's Athos)",
    "llama": "python main.py --path model.onnx --backend LLAMA --scale 12 --bitlength 40 --generate code",
    "secfloat": "python main.py --path model.onnx --backend SECFLOAT --generate executable",
    "mp-spdz": "./compile.py -R 64 NAME    (in MP-SPDZ, with Programs and Player-Data copied there)",
    "scale-mamba": "copy the data into FANNG-MPC's Data; channels.md says which channel reads which file",
}


def _state(args: argparse.Namespace) -> Any:
    if args.checkpoint is None:
        return None
    if args.format != "scale-mamba":
        raise InputError("--checkpoint is for scale-mamba only", found=args.format)
    from samesight.models.checkpoints import read_checkpoint

    return {name: tensor.numpy() for name, tensor in read_checkpoint(args.checkpoint).items()}


def _export_lines(done: Exported) -> Iterator[str]:
    paths = list(done.files)
    yield f"{done.out}: {len(paths)} files for {done.format}"
    yield from (f"  {path}" for path in paths[:SHOWN])
    if len(paths) > SHOWN:
        yield f"  … and {len(paths) - SHOWN} more"
    yield f"images: {', '.join(done.images)}"
    for what, proof in (("rewritten", done.rewritten), ("rebuilt from the files", done.rebuilt)):
        allowed = "labels alone are held" if proof.allowed is None else f"{proof.allowed:.3g} allowed"
        yield (
            f"{what}: the same labels on {proof.samples} golden samples, logits within "
            f"{proof.max_abs_difference:.3g} of PyTorch's ({allowed})"
        )
