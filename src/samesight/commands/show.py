"""What a bundle holds: labels, preprocessing, copies with their recorded figures, golden samples, how it was
made, licence and signature. The bundle is checked first, as everywhere: what is shown is what would be used.

With --json, one object: everything that bundle.json says, and beside it `path`, `bundle` (the id) and
`signature`: `state` is "none", "unchecked", "malformed" or "trusted"; `public_key` where there is one."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samesight.errors import BundleError
from samesight.terminal import printable

if TYPE_CHECKING:
    from samesight.bundle import Bundle
    from samesight.preprocess import Preprocess

LABELS_SHOWN = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `samesight show`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--trust", type=Path, metavar="KEY.pub", help="refuse a bundle not signed by this key"
    )


def run(args: argparse.Namespace) -> int:
    """Show the bundle; the exit code."""
    from samesight.bundle import open_bundle
    from samesight.bundle.format import document
    from samesight.progress import say

    bundle = open_bundle(args.bundle, trust=args.trust)
    signature = _signature(bundle, trusted=args.trust is not None)
    if args.json:
        shown = {"path": str(args.bundle), "bundle": bundle.id, "signature": signature}
        print(json.dumps({**shown, **document(bundle, bundle.files)}, indent=2, allow_nan=False))
        return 0
    for line in _lines(bundle, signature):
        print(printable(line))
    say(f"Next: samesight predict {args.bundle} PHOTO")
    return 0


def _signature(bundle: Bundle, *, trusted: bool) -> dict[str, str]:
    """Whether the bundle is signed, by which key, and whether that was checked."""
    import base64

    from samesight.bundle import signature_of
    from samesight.bundle.signing import read_signature

    data = signature_of(bundle.folder)
    if data is None:
        return {"state": "none"}
    try:
        key, _ = read_signature(data)
    except BundleError:
        return {"state": "malformed"}
    state = "trusted" if trusted else "unchecked"
    return {"state": state, "public_key": base64.b64encode(key).decode()}


def _lines(bundle: Bundle, signature: Mapping[str, str]) -> Iterator[str]:
    golden = bundle.golden
    yield f"{bundle.name} {bundle.version}"
    yield _row("bundle", bundle.id)
    yield _row(
        "made", f"{bundle.created} by {bundle.made['by']} ({bundle.made['how']}, {bundle.made['model']})"
    )
    yield _row("licence", "; ".join(f"{key}: {terms}" for key, terms in bundle.license.items()))
    yield _row("signature", _signature_words(signature))
    yield _row("labels", f"{len(bundle.labels)}: {_some(bundle.labels)}")
    for place, words in enumerate(_preprocessing(bundle.preprocess)):
        yield _row("" if place else "photos", words)
    publish = "may be published" if golden["publishable"] else "must not be published"
    yield _row(
        "golden", f"{golden['samples']} samples, which {publish} ({golden['origin'] or 'origin unknown'})"
    )
    if without := golden["labels_without_sample"]:
        yield _row("", f"{len(without)} labels have none: {_some(without)}")
    yield ""
    yield from _copies(bundle)


def _row(name: str, words: str) -> str:
    return f"  {name:<11}{words}"


def _some(names: tuple[str, ...] | list[str]) -> str:
    more = f", and {len(names) - LABELS_SHOWN} more" if len(names) > LABELS_SHOWN else ""
    return ", ".join(names[:LABELS_SHOWN]) + more


def _signature_words(signature: Mapping[str, str]) -> str:
    return {
        "none": "none",
        "malformed": "there is one, but it cannot be read",
        "unchecked": f"by {signature.get('public_key')}, not checked (--trust KEY.pub checks it)",
        "trusted": f"by the trusted key {signature.get('public_key')}",
    }[signature["state"]]


def _preprocessing(spec: Preprocess) -> Iterator[str]:
    """What is done to a photo, a line a step."""
    if isinstance(spec.resize, int):
        yield f"shortest edge to {spec.resize} pixels ({spec.interpolation})"
    else:
        yield f"to exactly {spec.resize[0]} × {spec.resize[1]} pixels ({spec.interpolation})"
    if spec.crop is not None:
        yield f"centre crop of {spec.crop[0]} × {spec.crop[1]}"
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (spec.mean, spec.std))
    yield f"(value / 255 - mean) / std, mean {mean}, std {std}"


def _copies(bundle: Bundle) -> Iterator[str]:
    """A table: each copy with its size and what was recorded of it."""
    sizes = {file.path: file.size_bytes for file in bundle.files}
    rows = [
        ("copy", "file", "MiB", "opset", "input", "test accuracy", "labels as PyTorch", "largest difference")
    ]
    reference = bundle.reference["recorded"]
    rows.append((bundle.reference["framework"], "", "", "", "", _share(reference, "test_accuracy"), "", ""))
    for copy in bundle.copies:
        difference = copy.recorded.get("max_abs_difference")
        rows.append(
            (
                copy.name,
                copy.file,
                f"{sizes[copy.file] / 2**20:.2f}",
                str(copy.opset),
                copy.input_dtype,
                _share(copy.recorded, "test_accuracy"),
                _share(copy.recorded, "label_agreement"),
                "" if difference is None else f"{difference:.2g}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _share(recorded: Mapping[str, Any], key: str) -> str:
    share = recorded.get(key)
    return "" if share is None else f"{100 * share:.2f} %"
