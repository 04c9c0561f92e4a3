"""Download a file and tell its SHA-256, or check it against a pinned one.

Wherever Samesight takes photos it also takes URL#sha256=HEX: the file is downloaded once, and used only if it
is that very file. `samesight fetch URL` prints this form.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from samesight.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `samesight fetch`."""
    parser.add_argument(
        "url", metavar="URL", help="https://, http:// or file://, with or without #sha256=HEX"
    )
    parser.add_argument("--sha256", metavar="HEX", help="refuse any other file")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="where to (default: the URL's last name, here)"
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object: url, path, sha256, size_bytes, pinned"
    )


def run(args: argparse.Namespace) -> int:
    """Download the file; 0."""
    from samesight.data.fetch import PIN, fetch, file_name, pinned
    from samesight.files import sha256_file

    url, pin = pinned(args.url)
    if pin and args.sha256 and pin != args.sha256.lower():
        raise InputError("the URL and --sha256 pin different files", expected=pin, found=args.sha256)
    path = fetch(url, pin or args.sha256, args.out or Path(file_name(url)))
    sha256 = sha256_file(path)
    size_bytes = path.stat().st_size
    if args.json:
        answer = {
            "url": url,
            "path": str(path),
            "sha256": sha256,
            "size_bytes": size_bytes,
            "pinned": url + PIN + sha256,
        }
        print(json.dumps(answer))
        return 0
    print(f"{path}  {size_bytes:,} bytes\nsha256  {sha256}\npinned  {url}{PIN}{sha256}")
    print(f"\nIf it holds photos: samesight data '{url}{PIN}{sha256}'")
    return 0
