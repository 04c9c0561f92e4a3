"""The network under encryption: who owns the image and who owns the network never see each other's data.

  check BUNDLE        can this network run on a secure engine, and if not, what keeps it from it
  export BUNDLE       the files that another engine reads, proved to hold the same network
  run BUNDLE PHOTO…   a secure run with all parties on this machine, to try it out
  party --role ROLE   one party, on its own machine, with its own data only
  certificates        an authority and a certificate a party
  setup               install the secure engine into an environment of its own (0.85 GB)

`samesight secure check --help` and so on tell the rest; docs/secure.md tells who must be trusted, for what.

Exit code: 0 yes, 1 checked and no, 2 could not check."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samesight.errors import InputError
from samesight.numberoptions import whole

if TYPE_CHECKING:
    from samesight.secure.export import Exported

SHOWN = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `samesight secure`."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_check(commands)
    _add_export(commands)
    _add_run(commands)
    _add_party(commands)
    _add_certificates(commands)
    _add_setup(commands)


def run(args: argparse.Namespace) -> int:
    """Carry out one action; the exit code."""
    action: Callable[[argparse.Namespace], int] = args.run_action
    return action(args)


def _command(commands: Any, name: str, line: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=line,
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's folder")
    parser.add_argument(
        "--trust", type=Path, metavar="KEY.pub", help="refuse a bundle not signed by this key"
    )


def _add_check(commands: Any) -> None:
    parser = _command(
        commands,
        "check",
        "can this network run on a secure engine",
        "Whether each secure engine can run the network, and every obstacle by its node.\n\n"
        "Exit code: 0 it runs on all that were asked for, 1 it does not, 2 could not check.",
    )
    _add_bundle(parser)
    parser.add_argument(
        "--target", action="append", metavar="ENGINE", help=f"{', '.join(_TARGETS)} (default: all)"
    )
    parser.set_defaults(run_action=_check)


def _add_export(commands: Any) -> None:
    parser = _command(
        commands,
        "export",
        "files for another secure engine",
        "Write the network and some images as another secure engine reads them, and prove that the files\n"
        "hold the same network: it is rebuilt from them and compared on the golden samples.\n\n"
        "Exit code: 0 written and proved, 1 the files would not give the same answer, 2 could not be done.",
    )
    _add_bundle(parser)
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


def _choice(found: str, allowed: tuple[str, ...], what: str) -> str:
    if found not in allowed:
        raise InputError(f"there is no such {what}", expected=", ".join(allowed), found=found)
    return found


def _check(args: argparse.Namespace) -> int:
    from samesight.bundle import open_bundle
    from samesight.progress import say
    from samesight.secure.check import TARGETS, changes, obstacles
    from samesight.secure.reading import Network, read_onnx

    names = [_choice(name, _TARGETS, "engine") for name in args.target or _TARGETS]
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
        print(line)
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
        format=_choice(args.format, _FORMATS, "format"),
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
        print(line)
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


def _add_run(commands: Any) -> None:
    parser = _command(
        commands,
        "run",
        "a secure run with all parties on this machine",
        "Classify photos under encryption with every party as a process of its own on this machine: to\n"
        "try it out, and to see what it costs. Each answer is compared with the plain one.\n\n"
        "Exit code: 0 the same labels as without encryption, 1 another one, 2 could not be done.",
    )
    _add_bundle(parser)
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="a photo")
    _add_engine(parser)
    _add_reveal(parser)
    parser.set_defaults(run_action=_run)


def _add_party(commands: Any) -> None:
    parser = _command(
        commands,
        "party",
        "one party, on its own machine, with its own data only",
        "Take part in secure runs as one party.\n\n"
        "  --role model --bundle BUNDLE    owns the network, waits for the others, answers until stopped\n"
        "  --role helper                   has no data; lends its machine (aby3 only), until stopped\n"
        "  --role image PHOTO…             owns the photos, learns the answers, and ends\n\n"
        "Each party is reached at its HOST:PORT, the model's at the next port too. Certificates show who is\n"
        "who: their common name is the role; `samesight secure certificates` makes them.",
    )
    parser.add_argument("photos", nargs="*", type=Path, metavar="PHOTO", help="a photo, for --role image")
    parser.add_argument("--role", required=True, metavar="ROLE", help="model, image or helper")
    parser.add_argument("--bundle", type=Path, metavar="BUNDLE", help="the bundle, for --role model")
    parser.add_argument(
        "--trust", type=Path, metavar="KEY.pub", help="refuse a bundle not signed by this key"
    )
    parser.add_argument(
        "--peers", required=True, metavar="LIST", help="model=HOST:PORT,image=HOST:PORT,helper=HOST:PORT"
    )
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="this party's certificate (PEM)")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key (PEM)")
    parser.add_argument("--tls-ca", type=Path, metavar="FILE", help="the authority of all certificates (PEM)")
    parser.add_argument(
        "--wait", type=whole(1, 1024), default=60, metavar="SECONDS", help="for the others (default: 60)"
    )
    parser.add_argument(
        "--sessions", type=whole(1, 1024), metavar="N", help="end after N sessions (model, helper)"
    )
    parser.add_argument(
        "--max-queries", type=whole(), metavar="N", help="images answered for each image's owner, at most"
    )
    parser.add_argument("--ledger", type=Path, metavar="FILE", help="keep the count of queries in this file")
    _add_engine(parser)
    _add_reveal(parser)
    parser.set_defaults(run_action=_party)


def _add_certificates(commands: Any) -> None:
    parser = _command(
        commands,
        "certificates",
        "make an authority and a certificate a party",
        "Make an authority and a certificate for each party, for a year. Give each party its own\n"
        "certificate and key and ca.pem, and delete ca.key unless more are to be made.",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="the folder to write")
    parser.set_defaults(run_action=_certificates)


def _add_setup(commands: Any) -> None:
    parser = _command(
        commands,
        "setup",
        "install the secure engine into an environment of its own",
        "Install the secure engine (spu) with uv, or with venv and pip, into an environment of its own: it\n"
        "needs Python 3.11 and numpy below 2. About 0.85 GB. Nothing else is touched.",
    )
    parser.add_argument("--at", type=Path, metavar="FOLDER", help="where (default: in Samesight's cache)")
    parser.add_argument("--base", metavar="PYTHON", help="a Python 3.11 (default: found)")
    parser.set_defaults(run_action=_setup)


def _add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--protocol", default="aby3", metavar="NAME", help="aby3 or cheetah (default: aby3)")
    parser.add_argument(
        "--batch", type=whole(1, 1024), default=1, metavar="N", help="images a run (default: 1)"
    )
    parser.add_argument("--python", type=Path, metavar="PYTHON", help="the Python that has the engine")


def _add_reveal(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reveal",
        default="label",
        metavar="WHAT",
        help="label, or logits, which tell more of the network (default: label); the model's party allows it",
    )


def _setup(args: argparse.Namespace) -> int:
    from samesight.progress import say
    from samesight.secure.environment import PACKAGES, engine_folder, install

    folder = args.at or engine_folder()
    say(f"installing {', '.join(PACKAGES)} into {folder}")
    python = install(folder, args.base)
    print(json.dumps({"ok": True, "python": str(python)}) if args.json else python)
    hint = "" if args.at is None else f" --python {python}"
    say(f"Next: samesight secure run BUNDLE PHOTO{hint}")
    return 0


def _certificates(args: argparse.Namespace) -> int:
    from samesight.secure.certificates import make_certificates

    files = make_certificates(args.out)
    if args.json:
        print(json.dumps({"ok": True, "files": [str(path) for path in files]}))
        return 0
    for path in files:
        print(path)
    return 0


def _run(args: argparse.Namespace) -> int:
    from samesight.bundle import open_bundle
    from samesight.progress import say
    from samesight.secure.environment import find_python
    from samesight.secure.local import local_session
    from samesight.secure.protocols import protocol
    from samesight.secure.result import Run, print_run, run_photos

    _choice(args.reveal, ("label", "logits"), "thing to reveal")
    chosen = protocol(args.protocol)
    bundle = open_bundle(args.bundle, trust=args.trust)
    python = find_python(args.python)
    say(f"{chosen.name}: {len(chosen.roles)} processes on this machine; the network is being shared")
    with local_session(bundle, chosen, python, batch=args.batch, logits=args.reveal == "logits") as session:
        found: Run = run_photos(session, args.photos, args.batch, chosen, plain=bundle)
    print_run(found, as_json=args.json)
    say(f"Next: samesight verify {args.bundle} --runner secure    (the golden samples under encryption)")
    return 0 if found.ok else 1


def _party(args: argparse.Namespace) -> int:
    from samesight.secure.environment import find_python
    from samesight.secure.helperparty import serve_helper
    from samesight.secure.party import Place
    from samesight.secure.protocols import protocol
    from samesight.secure.wire import read_peers

    _choice(args.reveal, ("label", "logits"), "thing to reveal")
    chosen = protocol(args.protocol)
    _choice(args.role, chosen.roles, f"role in {chosen.name}")
    place = Place(
        chosen, read_peers(args.peers, chosen.roles), find_python(args.python), _tls(args), float(args.wait)
    )
    if args.role == "image":
        return _image_party(args, place)
    if args.photos:
        raise InputError("photos are for --role image only", found=args.photos[0])
    if args.role == "helper":
        done = serve_helper(place, sessions=args.sessions)
        if args.json:
            print(json.dumps({"ok": True, "sessions": done}))
        return 0
    return _model_party(args, place)


def _tls(args: argparse.Namespace) -> Any:
    from samesight.secure.wire import Tls

    given = (args.tls_cert, args.tls_key, args.tls_ca)
    if not any(given):
        return None
    if not all(given):
        raise InputError("a party shows a certificate", expected="--tls-cert, --tls-key and --tls-ca")
    return Tls(*given)


def _image_party(args: argparse.Namespace, place: Any) -> int:
    from samesight.secure.imageparty import ImageSession
    from samesight.secure.result import print_run, run_photos

    if not args.photos:
        raise InputError("the image's owner has no photo", fix="--role image PHOTO")
    with ImageSession(place, batch=args.batch, logits=args.reveal == "logits") as session:
        found = run_photos(session, args.photos, args.batch, place.protocol)
    print_run(found, as_json=args.json)
    return 0


def _model_party(args: argparse.Namespace, place: Any) -> int:
    from samesight.bundle import open_bundle
    from samesight.progress import say
    from samesight.secure.ledger import Ledger
    from samesight.secure.modelparty import serve_model
    from samesight.secure.served import served_from

    if args.bundle is None:
        raise InputError("the model's owner has a bundle", fix="--role model --bundle BUNDLE")
    bundle = open_bundle(args.bundle, trust=args.trust)
    ledger = Ledger(bundle.id, args.max_queries, args.ledger)
    served = served_from(bundle, reveal_logits=args.reveal == "logits", ledger=ledger)
    say(f"{place.protocol.name}: {place.protocol.trust}")
    answered = serve_model(served, place, sessions=args.sessions)
    if args.json:
        print(json.dumps({"ok": True, "images": answered, "by_owner": ledger.counts}))
    return 0
