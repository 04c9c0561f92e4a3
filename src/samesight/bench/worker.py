"""One measurement in a process of its own: `python -m samesight.bench.worker`, job on stdin, JSON on stdout.

Engines in one process spin against each other and share what they allocate, so each has a process, which
ends before the next begins. `spawned` in a job is the parent's monotonic clock, which is this process's too.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samesight.errors import SamesightError
from samesight.runner import Runner, Settings
from samesight.runners import open_model, open_runners

__all__ = ["main", "peak_bytes"]

WARM_CALLS = 2


def main() -> None:
    """Do the job on stdin, and print its result as the last line of stdout."""
    job = json.load(sys.stdin)
    answer = sys.stdout
    sys.stdout = sys.stderr  # whatever an engine prints is no part of the result
    try:
        result = {"time": _time, "answers": _answers}[job["kind"]](job)
    except SamesightError as error:
        result = {"error": error.what, "found": None if error.found is None else str(error.found)}
    print(json.dumps(result), file=answer, flush=True)


def peak_bytes() -> int | None:
    """The most memory that this process has had at once; None where the system does not tell.

    VmHWM begins anew with the program; ru_maxrss, which the parent's size can be part of, does not.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _open(job: Mapping[str, Any]) -> Runner:
    settings = Settings(**job["settings"])
    if job.get("bundle") is None:
        return open_model(job["engine"], Path(job["model"]).read_bytes(), job["copy"], settings)
    from samesight.bundle import open_bundle

    (runner,) = open_runners(open_bundle(job["bundle"]), [job["engine"]], [job["copy"]], settings)
    return runner


def _time(job: Mapping[str, Any]) -> dict[str, Any]:
    """How long calls take at each batch, from small to large, and how much memory was needed up to it."""
    runner = _open(job)
    inputs = np.load(job["inputs"], allow_pickle=False)
    runner.logits(inputs[:1])
    load = time.monotonic() - job["spawned"]
    result: dict[str, Any] = {"load_seconds": load, "loaded_bytes": peak_bytes(), "batches": []}
    for batch in sorted(job["batches"]):
        tensors = inputs[np.arange(batch) % len(inputs)]
        calls, wall = _calls(runner, tensors, job)
        result["batches"].append(
            {
                "batch": batch,
                "calls_ms": calls,
                "photo_ms": 1000 * wall / (len(calls) * batch),
                "peak_bytes": peak_bytes(),
            }
        )
    result["load_average"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return result


def _calls(runner: Runner, tensors: NDArray[np.float32], job: Mapping[str, Any]) -> tuple[list[float], float]:
    """The milliseconds of each call, and the seconds that all took together, in the lanes asked for."""
    lanes = job["settings"]["lanes"]
    limit, least, most = job["seconds"], job["least_calls"], job["most_calls"]

    def lane(_: int) -> list[float]:
        times: list[float] = []
        start = time.perf_counter()
        while len(times) < least or (time.perf_counter() - start < limit and len(times) < most):
            before = time.perf_counter()
            runner.logits(tensors)
            times.append(1000 * (time.perf_counter() - before))
        return times

    def warm(_: int) -> None:
        for _ in range(WARM_CALLS):
            runner.logits(tensors)

    if lanes == 1:
        warm(0)
        start = time.perf_counter()
        return lane(0), time.perf_counter() - start
    with ThreadPoolExecutor(lanes) as pool:
        list(pool.map(warm, range(lanes)))
        start = time.perf_counter()
        times = [one for some in pool.map(lane, range(lanes)) for one in some]
        return times, time.perf_counter() - start


def _answers(job: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict on the golden samples, and with photos the logits over them, in a file."""
    runner = _open(job)
    result: dict[str, Any] = {}
    if job.get("bundle") is not None:
        from samesight.bundle import open_bundle
        from samesight.verify import TOLERANCES, verify
        from samesight.verify.golden import read_golden

        bundle = open_bundle(job["bundle"])
        golden = read_golden(bundle)
        if golden.samples and all(copy.precision in TOLERANCES for copy in bundle.copies):
            found = verify(bundle, golden, [runner])
            first = found.first_difference
            result["proof"] = {
                "ok": found.ok,
                "max_abs_difference": found.runners[0].max_abs_difference,
                "allowed": found.runners[0].allowed,
                "tolerance": found.runners[0].tolerance.name,
                "first_difference": None if first is None else first["stage"],
            }
    if job["photos"]:
        from samesight.evaluate import photo_logits
        from samesight.preprocess import Preprocess

        spec = Preprocess.from_json(job["preprocess"])
        start = time.perf_counter()
        seen = photo_logits([runner], [Path(path) for path in job["photos"]], spec, batch=job["batch"])
        result["total_seconds"] = time.perf_counter() - start
        np.savez(job["out"], logits=seen.logits[runner.copy], read=seen.read)
        result["unread"] = len(seen.errors)
    return result


if __name__ == "__main__":
    main()
