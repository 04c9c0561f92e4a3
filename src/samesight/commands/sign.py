"""Make a key, or sign a bundle with one.

  samesight sign --new-key KEY          makes KEY (keep it secret) and KEY.pub (give it away)
  samesight sign BUNDLE --key KEY       writes bundle.sig into the bundle; an older signature is replaced

Whoever has KEY.pub adds --trust KEY.pub where a bundle is used, and is sure that it is as you signed it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from samesight.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `samesight sign`."""
    parser.add_argument("bundle", nargs="?", type=Path, metavar="BUNDLE", help="the bundle to sign")
    parser.add_argument("--key", type=Path, metavar="KEY", help="the private key to sign with")
    parser.add_argument("--new-key", type=Path, metavar="KEY", help="make KEY and KEY.pub; never overwrites")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Make a key or a signature; the exit code."""
    if args.new_key is not None and args.bundle is None and args.key is None:
        return _make_key(args)
    if args.new_key is None and args.bundle is not None and args.key is not None:
        return _sign(args)
    raise InputError(
        "either a key is made or a bundle is signed",
        expected="--new-key KEY, or BUNDLE --key KEY",
        fix="samesight sign --help",
    )


def _make_key(args: argparse.Namespace) -> int:
    from samesight.bundle.signing import new_key
    from samesight.progress import say

    private, public = new_key(args.new_key)
    if args.json:
        print(json.dumps({"private_key": str(private), "public_key": str(public)}))
        return 0
    print(
        f"{private}  the private key: whoever has it can sign in your name; it has no password\n"
        f"{public}  the public key: give it to those who use your bundles"
    )
    say(f"Next: samesight sign BUNDLE --key {private}")
    return 0


def _sign(args: argparse.Namespace) -> int:
    from samesight.bundle.signing import sign_bundle
    from samesight.progress import say

    bundle_id, public_key = sign_bundle(args.bundle, args.key)
    if args.json:
        print(json.dumps({"bundle": bundle_id, "public_key": public_key}))
        return 0
    print(f"signed {args.bundle}\n  bundle      {bundle_id}\n  public key  {public_key}")
    say(f"Next: samesight show {args.bundle} --trust {args.key}.pub")
    return 0
