"""`samesight predict --cluster ray`: photos without number through a bundle, on one machine or many."""

from __future__ import annotations

import argparse
import json
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samesight.errors import InputError, MissingExtra
from samesight.terminal import printable

if TYPE_CHECKING:
    from samesight.cluster.job import Job
    from samesight.cluster.run import Done


def run(args: argparse.Namespace) -> int:
    """Make or take up the job, work until nothing is missing, tell what came out; the exit code."""
    _check(args)
    if not all(map(find_spec, ("ray", "pyarrow", "pandas"))):  # not imported: Ray reads the environment then
        raise MissingExtra("predicting with --cluster ray", "ray")
    from samesight.bundle import open_bundle
    from samesight.cluster.job import Asked, make_job, open_job
    from samesight.cluster.run import classify
    from samesight.cluster.shards import bundle_files
    from samesight.cluster.sources import photos_of
    from samesight.files import write_json
    from samesight.progress import say

    bundle = open_bundle(args.bundle, trust=args.trust)
    copy = bundle.copy(args.copy or "fp32").name
    asked = Asked(tuple(args.images), args.column, bundle.id, copy, args.engine, args.top)
    if args.resume:
        job = open_job(args.out, asked)
    else:
        if args.out.exists():
            raise InputError("there is something already", where=args.out, fix="--resume, or another --out")
        job = make_job(args.out, asked, photos_of(args.images, args.column))
    with job.locked():
        start = time.monotonic()
        missing = job.missing()
        say(f"{job.photos} photos in {job.shards} shards, {len(missing)} of them to do")
        done = None
        if missing:
            done = classify(job, bundle_files(bundle), address=args.address, workers=args.workers)
        job.tidy()
        summary = _summary(args.out, job, done, time.monotonic() - start)
        write_json(job.folder / "summary.json", summary)
    if args.json:
        print(json.dumps(summary, allow_nan=False))
    else:
        print(_words(summary))
        read = f"pandas.read_parquet('{printable(summary['answers'])}')"
        say(f'Next: python -c "import pandas; print({read})"')
    return 2 if summary["errors"] else 0


def _check(args: argparse.Namespace) -> None:
    """Raise InputError for words that do not go together."""
    if args.out is None:
        raise InputError("--cluster needs a folder for the answers", fix="--out DIR")
    if args.csv:
        raise InputError("a cluster's answers are Parquet", fix="leave --csv out")
    if args.engine == "auto":
        raise InputError(
            "what is quickest on this machine says nothing about others",
            expected="an engine by its name",
            fix="--engine onnxruntime",
        )
    if args.threads is not None:
        raise InputError("each worker has one thread", fix="--workers N")
    if args.address is not None and args.address == "local":
        raise InputError("a Ray of this machine needs no address", fix="leave --address out")


def _summary(out: Path, job: Job, done: Done | None, seconds: float) -> dict[str, Any]:
    """What is told and kept: of all answers, and of this run."""
    totals = job.totals()
    photos = 0 if done is None else done.photos
    return {
        "out": str(out),
        "answers": str(out / "answers"),
        "bundle": job.asked.bundle,
        "photos": totals["photos"],
        "errors": totals["errors"],
        "shards": job.shards,
        "run": {
            "photos": photos,
            "shards": 0 if done is None else done.shards,
            "workers": 0 if done is None else done.workers,
            "seconds": round(seconds, 3),
            "photos_per_worker_second": round(photos / done.worker_seconds, 2) if done else None,
            "cpu_ms_photo": round(1000 * done.cpu_seconds / photos, 3) if done else None,
        },
    }


def _words(summary: dict[str, Any]) -> str:
    ran = summary["run"]
    lines = [f"{summary['photos']} photos have a row in {printable(summary['answers'])}"]
    if summary["errors"]:
        lines.append(f"{summary['errors']} of them could not be classified: their rows have an error")
    if ran["photos"]:
        rate = ran["photos"] / ran["seconds"]
        lines.append(
            f"this run: {ran['photos']} photos in {ran['seconds']:.1f} s by {ran['workers']} workers, "
            f"{rate:.1f} a second"
        )
    return "\n".join(lines)
