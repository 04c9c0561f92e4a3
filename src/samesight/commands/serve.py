"""Serve bundles over HTTP: the Open Inference Protocol v2 for programs, POST /classify and a page for people.

Each BUNDLE answers to its own name and version, or to NAME with NAME=BUNDLE. Its golden samples must pass
first; a bundle that is replaced on disk is proved, and takes over, while the old one serves. The address is
printed on stdout once it is listened to; GET /v2/health/ready says when answers can be had, GET /docs what
can be asked. Bearer tokens come from a file or from the environment variable SAMESIGHT_TOKEN.

Exit code: 0 stopped as told, 1 a golden sample has another answer here, 2 a bundle or option will not do."""

from __future__ import annotations

import argparse
from pathlib import Path

from samesight.errors import MissingExtra
from samesight.numberoptions import seconds, whole

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `samesight serve`."""
    from samesight.serve.settings import Settings, Source

    def option(name: str, field: str, words: str, **more: object) -> None:
        default = getattr(Settings, field)
        shown = "" if default is None else " (default: %(default)s)"
        parser.add_argument(name, default=default, help=words + shown, **more)  # type: ignore[arg-type]

    parser.add_argument(
        "bundles", nargs="+", type=Source.parse, metavar="BUNDLE", help="a bundle's folder, or NAME=folder"
    )
    option("--host", "host", "address to listen on; 0.0.0.0 for all")
    option("--port", "port", "0 for a free one", type=whole(0, 65535), metavar="N")
    parser.add_argument("--token", type=Path, metavar="FILE", help="bearer tokens that open, one a line")
    parser.add_argument(
        "--cors",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let pages of this origin ask (may be repeated; default: none)",
    )
    option("--copy", "copy", "which copy answers", metavar="NAME")
    option("--trust", "trust", "refuse bundles not signed by this key", type=Path, metavar="KEY.pub")
    parser.add_argument("--unproved", action="store_true", help="serve bundles without golden samples too")
    option(
        "--reload",
        "reload_s",
        "seconds between looks for replaced bundles; 0: never",
        type=float,
        metavar="S",
    )
    option("--workers", "workers", "processes", type=whole(1, 256), metavar="N")
    option(
        "--threads",
        "threads",
        "in each process (default: the CPUs, shared)",
        type=whole(1, 256),
        metavar="N",
    )
    option("--batch", "batch", "photos in a run (default: measured at start)", type=whole(1, 64), metavar="N")
    option("--queue", "queue", "photos that may wait; more are refused", type=whole(1, 100_000), metavar="N")
    option("--deadline", "deadline_s", "seconds for an answer", type=seconds(86400), metavar="S")
    option("--max-photos", "max_photos", "photos in a request", type=whole(1, 10_000), metavar="N")
    parser.add_argument(
        "--max-mib",
        type=whole(1, 2047),
        default=Settings.max_bytes >> 20,
        metavar="MIB",
        help="size of a request, uncompressed (default: %(default)s)",
    )
    option("--max-pixels", "max_pixels", "pixels of a photo", type=whole(1, 8192 * 8192), metavar="N")
    option("--memory-mib", "memory_mib", "memory for requests", type=whole(1, 1 << 20), metavar="MIB")
    option("--connections", "connections", "connections at a time", type=whole(1, 100_000), metavar="N")
    option(
        "--slow",
        "read_timeout_s",
        "seconds a client may take to send or read",
        type=seconds(86400),
        metavar="S",
    )
    option("--grace", "stop_timeout_s", "seconds to finish in when stopped", type=seconds(86400), metavar="S")
    option("--log", "log", "form of the log on stderr", choices=("json", "text", "off"))


def run(args: argparse.Namespace) -> int:
    """Serve until stopped; the exit code."""
    from samesight.progress import say
    from samesight.serve.settings import Settings, read_tokens

    try:
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtra("serving", "serve") from error
    from samesight.serve.processes import serve

    settings = Settings(
        sources=tuple(dict.fromkeys(args.bundles)),
        host=args.host,
        port=args.port,
        workers=args.workers,
        threads=args.threads,
        copy=args.copy,
        batch=args.batch,
        queue=args.queue,
        deadline_s=args.deadline,
        max_photos=min(args.max_photos, args.queue),
        max_bytes=args.max_mib << 20,
        max_pixels=args.max_pixels,
        memory_mib=args.memory_mib,
        connections=args.connections,
        read_timeout_s=args.slow,
        stop_timeout_s=args.grace,
        reload_s=args.reload,
        trust=args.trust,
        unproved=args.unproved,
        tokens=read_tokens(args.token),
        origins=tuple(args.cors),
        log=args.log,
    )
    if args.host not in LOOPBACK and not settings.tokens:
        say(f"warning: whoever reaches {args.host} may ask; --token FILE or SAMESIGHT_TOKEN demands a token")
    return serve(settings)
