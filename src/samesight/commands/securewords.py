"""What the actions of `samesight secure` share: how they are made, and words that are one of a few."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from samesight.errors import InputError

__all__ = ["action", "add_bundle", "choice"]


def action(commands: Any, name: str, line: str, text: str) -> argparse.ArgumentParser:
    """The parser of one action, which can answer in JSON."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=line,
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """The bundle, and whose signature it must have."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's folder")
    parser.add_argument(
        "--trust", type=Path, metavar="KEY.pub", help="refuse a bundle not signed by this key"
    )


def choice(found: str, allowed: tuple[str, ...], what: str) -> str:
    """`found`, where it is one of `allowed`. Raises InputError."""
    if found not in allowed:
        raise InputError(f"there is no such {what}", expected=", ".join(allowed), found=found)
    return found
