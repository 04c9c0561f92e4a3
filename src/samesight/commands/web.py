"""Turn a bundle into a web page that classifies photos in the browser, and proves itself there.

  samesight web BUNDLE --out SITE      a folder for any static host: no CDN, no server, no call home
  samesight web BUNDLE --serve         the same on this machine, to look at
  samesight web small --out SITE --recalibrate https://example.org/classify?model=large

Photos never leave the visitor's device, but with --recalibrate, and then only pictures of the camera, where
the visitor allows it. Golden photos that may not be published stay here: the page then carries drawn pictures
to check browsers by (docs/browser.md).

Exit code: 0 the site is there, 2 it could not be written.

With --json, one object: "folder", "id", "bundle" (the id of the bundle in it), "original" (whether that is
the bundle as it was), "samples" ("golden" or "synthetic"), "size_bytes", "recalibrate" (the larger model's
address, or null); with --serve also "url"."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from samesight.errors import InputError
from samesight.numberoptions import seconds
from samesight.web.policy import EVERY_S

if TYPE_CHECKING:
    from samesight.web.site import Site

PORT = 8000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `samesight web`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's folder")
    parser.add_argument("--out", type=Path, metavar="SITE", help="the folder to write")
    parser.add_argument("--replace", action="store_true", help="put the new site in the place of an old one")
    parser.add_argument("--serve", action="store_true", help="serve it on this machine until Ctrl-C")
    parser.add_argument(
        "--port", type=int, default=PORT, help="of --serve (default: %(default)s; 0: a free one)"
    )
    parser.add_argument(
        "--trust", type=Path, metavar="KEY.pub", help="refuse a bundle not signed by this key"
    )
    parser.add_argument(
        "--recalibrate",
        metavar="URL",
        help="let visitors compare it with a larger bundle, which `samesight serve --cors` answers there",
    )
    parser.add_argument(
        "--recalibrate-every",
        type=seconds(86400),
        default=EVERY_S,
        metavar="S",
        help="seconds between two pictures (default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Write the site, and serve it if asked; the exit code."""
    from samesight.bundle import open_bundle
    from samesight.web.policy import Recalibrate
    from samesight.web.site import write_site

    if args.out is None and not args.serve:
        raise InputError("nothing is asked for", expected="--out SITE, --serve, or both")
    larger = None
    if args.recalibrate is not None:
        larger = Recalibrate.parse(args.recalibrate, args.recalibrate_every)
    bundle = open_bundle(args.bundle, trust=args.trust)
    if args.out is not None:
        site = write_site(bundle, args.out, replace=args.replace, recalibrate=larger)
        return _serve(args, site) if args.serve else _tell(args, site)
    with tempfile.TemporaryDirectory(prefix="samesight-web-") as folder:
        return _serve(args, write_site(bundle, Path(folder) / "site", recalibrate=larger))


def _tell(args: argparse.Namespace, site: Site) -> int:
    from samesight.progress import say

    print(json.dumps(site.to_json(), indent=2) if args.json else site.folder)
    _say_what_left(site)
    say(f"Next: samesight web {args.bundle} --serve    (or put the folder on any host; docs/browser.md)")
    return 0


def _serve(args: argparse.Namespace, site: Site) -> int:
    from samesight.progress import say
    from samesight.web.server import open_server

    with open_server(site.folder, args.port) as server:
        url = f"http://localhost:{server.server_port}/"
        print(json.dumps({**site.to_json(), "url": url}, indent=2) if args.json else url, flush=True)
        _say_what_left(site)
        say("Serving on this machine only; Ctrl-C ends it")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("stopped")
    return 0


def _say_what_left(site: Site) -> None:
    from samesight.progress import say

    if not site.original:
        say(
            "The bundle has no golden photos that may be published, so none is in the site: its bundle has "
            "drawn pictures in their place, another id, and no signature"
        )
