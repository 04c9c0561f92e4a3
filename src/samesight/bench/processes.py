"""Workers started one after another, and what they say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from samesight.bench.contenders import Contender

__all__ = ["run_job", "run_module", "start_of"]

LAST_WORDS = 300


def start_of(contender: Contender, *, bundle: Path | None, model: Path | None) -> dict[str, Any]:
    """The part of a job that says what is to be opened, and how."""
    return {
        "bundle": None if bundle is None else str(bundle),
        "model": None if model is None else str(model),
        "engine": contender.engine,
        "copy": contender.copy,
        "settings": asdict(contender.settings),
    }


def run_job(job: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker answers; {"error", "found"} where it could not do the job."""
    return run_module("samesight.bench.worker", {**job, "spawned": time.monotonic()})


def run_module(module: str, job: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON that `python -m module` prints when it is given `job` on stdin.

    {"error", "found"} where it could not do the job, also where it died.
    """
    source = str(Path(__file__).resolve().parents[2])  # the process runs this very Samesight
    paths = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        answer: dict[str, Any] = json.loads(lines[-1])
        return answer
    if done.returncode == -signal.SIGINT:  # which the terminal sent to us as well
        raise KeyboardInterrupt
    last = (done.stderr.strip().splitlines() or ["no words"])[-1][:LAST_WORDS]
    return {"error": f"its process ended with code {done.returncode}", "found": last}
