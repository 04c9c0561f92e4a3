"""`samesight secure run`, `party`, `certificates` and `setup`: the secure run itself."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from samesight.commands.securewords import action, add_bundle, choice
from samesight.errors import InputError
from samesight.numberoptions import whole

__all__ = ["add_certificates", "add_party", "add_run", "add_setup"]


def add_run(commands: Any) -> None:
    """`samesight secure run`."""
    parser = action(
        commands,
        "run",
        "a secure run with all parties on this machine",
        "Classify photos under encryption with every party as a process of its own on this machine: to\n"
        "try it out, and to see what it costs. Each answer is compared with the plain one.\n\n"
        "Exit code: 0 the same labels as without encryption, 1 another one, 2 could not be done.",
    )
    add_bundle(parser)
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="a photo")
    _add_engine(parser)
    _add_reveal(parser)
    parser.set_defaults(run_action=_run)


def add_party(commands: Any) -> None:
    """`samesight secure party`."""
    parser = action(
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
        "--bundle-id",
        metavar="ID",
        help="take no other bundle, for --role image and helper; its first digits will do",
    )
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


def add_certificates(commands: Any) -> None:
    """`samesight secure certificates`."""
    parser = action(
        commands,
        "certificates",
        "make an authority and a certificate a party",
        "Make an authority and a certificate for each party, for a year. Give each party its own\n"
        "certificate and key and ca.pem, and delete ca.key unless more are to be made.",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="the folder to write")
    parser.set_defaults(run_action=_certificates)


def add_setup(commands: Any) -> None:
    """`samesight secure setup`."""
    parser = action(
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

    choice(args.reveal, ("label", "logits"), "thing to reveal")
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

    choice(args.reveal, ("label", "logits"), "thing to reveal")
    chosen = protocol(args.protocol)
    choice(args.role, chosen.roles, f"role in {chosen.name}")
    peers, wanted, tls = read_peers(args.peers, chosen.roles), _bundle_id(args), _tls(args)
    place = Place(chosen, peers, find_python(args.python), tls, float(args.wait), wanted)
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


def _bundle_id(args: argparse.Namespace) -> str | None:
    """The wanted bundle's id, or how it begins. Raises InputError where it is none."""
    given: str | None = args.bundle_id
    if given is None:
        return None
    if args.role == "model":
        raise InputError(
            "the model's owner has the bundle itself", found="--bundle-id", fix="--bundle BUNDLE"
        )
    if not re.fullmatch("[0-9a-f]{12,64}", given):
        raise InputError("--bundle-id is not a bundle's id", expected="12 to 64 of its digits", found=given)
    return given


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
