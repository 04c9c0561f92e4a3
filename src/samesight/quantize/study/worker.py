"""One way in a process of its own: `python -m samesight.quantize.study.worker`, job on stdin, JSON on stdout.

An engine is PyTorch's for the whole process, and one that ends it takes nothing else along. Every call is
followed by one of the float32 network in the same process, so that a machine that grows busy slows both.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samesight.errors import SamesightError
from samesight.threads import share_cores

__all__ = ["main"]


def main() -> None:
    """Do the job on stdin, and print its result as the last line of stdout."""
    job = json.load(sys.stdin)
    answer = sys.stdout
    sys.stdout = sys.stderr  # whatever PyTorch prints is no part of the result
    share_cores()
    try:
        result = _study(job)
    except SamesightError as error:
        result = {"error": error.what, "found": None if error.found is None else str(error.found)}
    print(json.dumps(result), file=answer, flush=True)


def _study(job: Mapping[str, Any]) -> dict[str, Any]:
    """Quantise, answer, be timed."""
    import torch

    from samesight.quantize.study.change import change
    from samesight.quantize.study.ways import way_of
    from samesight.runner import cpus

    torch.set_num_threads(cpus())
    way = way_of(job["way"])
    network = _network(job)
    tensors = torch.from_numpy(np.load(job["calibration"], allow_pickle=False))
    start = time.perf_counter()
    made = change(network, way, tensors.split(job["calibration_batch"]), max(job["batches"]))
    result: dict[str, Any] = {
        "seconds": time.perf_counter() - start,
        "layers": {kind: list(counts) for kind, counts in made.layers.items()},
        "size_bytes": made.size_bytes,
        "engine": made.engine,
        "threads": cpus(),
    }
    # Dynamic quantisation scales a batch by its own extremes, so a photo's answer depends on the others.
    by_batch = way.kind == "dynamic" and any(count for count, _ in made.layers.values())
    _answer(job, made.call, sorted(job["batches"]) if by_batch else [max(job["batches"])], made.fixed_batch)
    with torch.no_grad():
        result["batches"] = [
            _timed(job, made.call, None if way.kind == "float" else network, tensors, batch)
            for batch in sorted(job["batches"])
        ]
    return result


def _network(job: Mapping[str, Any]) -> Any:
    """The network, in evaluation mode."""
    from samesight.models import create_pretrained
    from samesight.training import open_run

    if job.get("run") is not None:
        return open_run(Path(job["run"])).network().eval()
    return create_pretrained(job["model"], job["weights"], offline=not job["download"]).network.eval()


class _Answers:
    """The network as a runner."""

    name, copy = "pytorch", "one"

    def __init__(self, call: Any, batch: int, fixed: bool) -> None:
        self._call, self._batch, self._fixed = call, batch, fixed

    def logits(self, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits; the last batch is filled up where every other size would be compiled anew."""
        import torch

        given = torch.from_numpy(tensors)
        missing = self._batch - len(given) if self._fixed else 0
        if missing > 0:
            given = torch.cat([given, given[-1:].expand(missing, -1, -1, -1)])
        with torch.no_grad():
            found: NDArray[np.float32] = self._call(given)[: len(tensors)].numpy()
        return found


def _answer(job: Mapping[str, Any], call: Any, batches: list[int], fixed: bool) -> None:
    """Write the logits over the photos to choose by and to judge on, at each of `batches`, into a file."""
    from samesight.evaluate import photo_logits
    from samesight.preprocess import Preprocess

    spec = Preprocess.from_json(job["preprocess"])
    found: dict[str, Any] = {}
    for batch in batches:
        for part in ("choice", "verdict"):
            paths = [Path(path) for path in job[part]]
            seen = photo_logits([_Answers(call, batch, fixed)], paths, spec, batch=batch)
            found[f"{part}_{batch}"] = seen.logits["one"]
            found[f"{part}_read"] = seen.read
    np.savez(job["out"], **found)


def _timed(job: Mapping[str, Any], call: Any, network: Any, tensors: Any, batch: int) -> dict[str, Any]:
    """The milliseconds of calls in rounds, turn by turn with the float32 network's."""
    given = tensors[[at % len(tensors) for at in range(batch)]]
    for one in (call, call, *((network, network) if network is not None else ())):
        one(given)
    rounds: list[list[float]] = []
    ratios: list[float] = []
    for _ in range(job["rounds"]):
        own: list[float] = []
        start = time.perf_counter()
        while len(own) < job["least_calls"] or time.perf_counter() - start < job["seconds"]:
            own.append(_call_ms(call, given))
            if network is not None:
                ratios.append(_call_ms(network, given) / own[-1])
        rounds.append(own)
    return {"batch": batch, "rounds": rounds, "speedup": statistics.median(ratios) if ratios else 1.0}


def _call_ms(call: Any, given: Any) -> float:
    start = time.perf_counter()
    call(given)
    return 1000 * (time.perf_counter() - start)


if __name__ == "__main__":
    main()
