"""Prove that every copy in a bundle still gives PyTorch's answer: on this machine, from the photo's bytes on.

The bundle carries golden samples: photos, what each stage makes of them, and PyTorch's logits. Each stage is
judged on its right input, so the first one that differs is the one that is named. With --photos, each copy's
accuracy is measured as well; without, it is shown as it was recorded at export.

Exit code: 0 the same everywhere, 1 something differs, 2 could not be checked.

With --json, one object: "ok", "stages", "runners", "first_difference" (null, or where a difference begins);
docs/verify.md describes it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samesight.errors import InputError
from samesight.numberoptions import whole
from samesight.terminal import steady

if TYPE_CHECKING:
    from samesight.verify.verification import RunnerResult, Verification

SHOWN = 5
NOT_KNOWN = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `samesight verify`."""
    from samesight.data.photos import add_photo_arguments
    from samesight.runners import ELSEWHERE, RUNNERS

    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's folder")
    parser.add_argument(
        "--photos",
        metavar="PHOTOS",
        help="measure accuracy on these too: photos in any form, or a folder that `data` or `train` wrote",
    )
    parser.add_argument(
        "--part",
        choices=("held-out", "all"),
        default="held-out",
        help="where the photos are split: the held-out part, or all (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write that object to a file too")
    parser.add_argument(
        "--copy", action="append", metavar="NAME", help="only this copy (may be repeated; default: all)"
    )
    parser.add_argument(
        "--runner",
        action="append",
        metavar="NAME",
        help=f"run the copies in this runtime (may be repeated; default: onnxruntime; there are: "
        f"{', '.join((*RUNNERS, *ELSEWHERE))})",
    )
    parser.add_argument(
        "--samples",
        type=whole(),
        metavar="N",
        help="only the first N golden samples, where a runner is slow (default: all)",
    )
    parser.add_argument(
        "--url", metavar="URL", help="the address of the server, for --runner server (default copy: fp32)"
    )
    parser.add_argument("--token", type=Path, metavar="FILE", help="the file of the server's bearer token")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="BUNDLE",
        help="where a copy differs, name the layer by comparing it with the same copy of this bundle",
    )
    parser.add_argument(
        "--trust", type=Path, metavar="KEY.pub", help="refuse a bundle not signed by this key"
    )
    add_photo_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Verify the bundle; the exit code."""
    from samesight.bundle import open_bundle
    from samesight.files import write_json
    from samesight.progress import say
    from samesight.runners import open_runners, own_stages
    from samesight.verify import verify
    from samesight.verify.golden import read_golden
    from samesight.verify.layers import explain_by_layers

    bundle = open_bundle(args.bundle, trust=args.trust)
    against = None if args.against is None else open_bundle(args.against)
    names = args.runner or (["onnxruntime"] if args.url is None else ["server"])
    copies = args.copy or (["fp32"] if "server" in names else [copy.name for copy in bundle.copies])
    golden = read_golden(bundle)
    if not golden.samples:
        raise InputError(
            "the bundle has no golden samples, so there is nothing to prove it by",
            where=args.bundle,
            fix="export it again, with --samples PHOTOS",
        )
    if args.samples is not None:
        golden = golden.first(args.samples)
    server = _server_options(args, names)
    copies = list(dict.fromkeys(copies))
    runners = open_runners(bundle, names, copies, server=server)
    photos = None if args.photos is None else chosen_photos(args, bundle.labels)
    found = verify(bundle, golden, runners, photos=photos, explain=explain_by_layers(bundle, against))
    found = replace(found, own_stages=own_stages(bundle, names, copies, args.samples))
    if args.out is not None:
        write_json(args.out, found.to_json())
    if args.json:
        print(json.dumps(found.to_json(), indent=2, allow_nan=False))
    else:
        for line in _lines(found):
            print(steady(line))
        say(f"Next: {_next_command(args, found)}")
    return 0 if found.ok else 1


def _server_options(args: argparse.Namespace, names: Sequence[str]) -> dict[str, str | None]:
    """Where the server is, and what opens it."""
    if "server" not in names:
        if args.url or args.token:
            raise InputError("--url and --token are of a server", fix="--runner server")
        return {}
    from samesight.serve.settings import read_tokens

    return {"url": args.url, "token": next(iter(read_tokens(args.token)), None)}


def chosen_photos(args: argparse.Namespace, labels: Sequence[str]) -> tuple[list[Path], list[int | None]]:
    """The paths of the photos that accuracy is measured on, and the indices of their labels."""
    from samesight.data.labels import bind
    from samesight.data.photos import open_photos, photo_options
    from samesight.data.prepare import is_prepared, open_prepared
    from samesight.progress import say

    if is_prepared(args.photos):
        photos, split, _ = open_prepared(Path(args.photos))
        parts = {item.name: item.part for item in split.items}
    else:
        photos = open_photos(args.photos, photo_options(args))
        parts = {photo.name: photo.part for photo in photos.items if photo.part is not None}
    part = next((part for part in ("test", "val") if part in parts.values()), None)
    rows = list(zip(photos.items, bind(photos, labels), strict=True))
    if args.part == "held-out" and part is not None:
        rows = [(photo, target) for photo, target in rows if parts.get(photo.name) == part]
        say(f"{len(rows)} photos of the part '{part}' (--part all takes all {len(photos.items)})")
    return [photo.path for photo, _ in rows], [target for _, target in rows]


def _lines(found: Verification) -> Iterator[str]:
    """The tables and the verdict."""
    yield f"{found.name} {found.version}  (bundle {found.bundle[:12]})"
    if found.labels_without_sample:
        names = ", ".join(found.labels_without_sample[:SHOWN])
        more = len(found.labels_without_sample) - SHOWN
        yield f"labels without a golden sample: {names}{f' and {more} more' if more > 0 else ''}"
    yield ""
    yield from _columns(_stage_rows("stage", [stage.to_json() for stage in found.stages]))
    yield ""
    for own in found.own_stages:
        yield from _columns(_stage_rows(f"in {own.runner}", own.stages))
        yield ""
    head = ("runner", "copy", "samples", "max |diff|", "allowed", "mean |diff|", "labels", "accuracy")
    yield from _columns([head, *map(_runner_row, found.runners)])
    yield ""
    yield from _verdict(found)


def _stage_rows(head: str, stages: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [(head, "samples", "different", "largest difference")]
    for stage in stages:
        largest = NOT_KNOWN
        if stage["stage"] in ("decode", "resize", "normalise", "network"):
            largest = _number(stage["max_abs_difference"]) if stage["samples"] else "not judged"
        rows.append((stage["stage"], str(stage["samples"]), str(stage["different"]), largest))
    return rows


def _runner_row(runner: RunnerResult) -> tuple[str, ...]:
    photos = runner.photos
    words = []
    if photos.measured is not None:
        words.append(f"{photos.measured:.2%} of {photos.photos} photos")
    if photos.recorded is not None:
        beside = "" if photos.recorded_photos is None else f" of {photos.recorded_photos}"
        words.append(f"recorded: {photos.recorded:.2%}{beside}")
    if photos.raw_label_agreement is not None:
        words.append(f"as fp32 on {photos.raw_label_agreement:.2%}")
    if photos.unread:
        words.append(f"{photos.unread} could not be read")
    return (
        runner.runner,
        runner.copy,
        str(runner.samples),
        _number(runner.max_abs_difference),
        _number(runner.allowed),
        _number(runner.mean_abs_difference),
        NOT_KNOWN if runner.label_agreement is None else f"{runner.label_agreement:.2%}",
        "; ".join(words) or NOT_KNOWN,
    )


def _verdict(found: Verification) -> Iterator[str]:
    """What it comes to, in plain words."""
    first = found.first_difference
    if found.ok:
        copies = len(found.runners)
        yield (
            f"the same answer everywhere: {copies} {'copy' if copies == 1 else 'copies'}, "
            f"{found.samples} golden samples, every stage from the photo's bytes to the label"
        )
        return
    if first is None:
        yield "not everything could be judged"
        return
    where = first["sample"] or "the photos"
    on = f"sample {where}" if where.isdigit() else where
    copy = "" if first["copy"] is None else f", {first['copy']} copy"
    whose = "" if first["runner"] is None else f" ({first['runner']}{copy})"
    yield f"differs from the {first['stage']} stage on: {on}{whose}"
    for stage in found.stages:
        if stage.first is not None:
            several = f"{stage.different} of {stage.samples} samples, first {stage.first.sample}"
            yield f"  {stage.stage}, {several}:"
            yield f"    {stage.first.what}"
    for own in found.own_stages:
        for row in own.stages:
            if row["first"] is not None and row["stage"] != "network":  # which the runners' own rows tell
                several = f"{row['different']} of {row['samples']} samples, first {row['first']['sample']}"
                yield f"  {own.runner}, {row['stage']}, {several}:"
                yield f"    {row['first']['what']}"
    for runner in found.runners:
        for words in (*runner.photos.problems, *(runner.notes if runner.different else ())):
            yield f"  {runner.runner}, {runner.copy} copy: {words}"


def _next_command(args: argparse.Namespace, found: Verification) -> str:
    if found.ok and args.photos is None:
        return f"samesight verify {args.bundle} --photos PHOTOS    (measures the accuracy of each copy)"
    if found.ok:
        return f"samesight predict {args.bundle} PHOTO"
    if args.against is None and any(runner.different and not runner.layer for runner in found.runners):
        return f"samesight verify {args.bundle} --against OTHER_BUNDLE    (names the layer that differs)"
    return f"samesight show {args.bundle}"


def _number(value: float | None) -> str:
    if value is None:
        return "not known"
    return "0" if value == 0 else f"{value:.3g}"


def _columns(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield ("  " + "  ".join(cells)).rstrip()
