"""How long photos must wait at a given load, whatever the server: the floor under the latencies of server.py.

`python benchmarks/waiting.py --bundle BUNDLE --photos FOLDER`

Each photo is taken through all stages in one thread, three times; the least CPU time counts, which other
programs on the machine change little. Then so many cores are simulated that take photos in their order, each
for its own time, at 80 % of what they can do: photos that come at even times, and at random ones. Nothing is
lost to HTTP, threads or other programs: a server that keeps the order cannot have a lower p99 / p50. Writes
benchmarks/waiting.json.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from samesight.bundle import open_bundle
from samesight.machine import machine, versions
from samesight.preprocess import preprocess
from samesight.runner import Settings
from samesight.runtime import open_runner

RESULTS = Path(__file__).resolve().parent / "waiting.json"
PHOTOS = 200_000  # that come in a simulation
CORES = (2, 4, 16, 64)


def service_ms(bundle: Path, photos: Sequence[Path]) -> list[float]:
    """CPU milliseconds of each photo, from its bytes to its logits."""
    opened = open_bundle(bundle)
    runner = open_runner(opened, "fp32", settings=Settings(threads=1))
    found = []
    for photo in photos:
        data = photo.read_bytes()
        times = []
        for _ in range(3):
            start = time.thread_time()
            runner.logits(preprocess(data, opened.preprocess)[None])
            times.append(1000 * (time.thread_time() - start))
        found.append(min(times))
    return found


def latencies(service: Sequence[float], cores: int, load: float, poisson: bool) -> list[float]:
    """Sorted milliseconds from a photo's coming to its answer."""
    draw = random.Random(1)
    gap = statistics.fmean(service) / cores / load
    free = [0.0] * cores
    now, found = 0.0, []
    for number in range(PHOTOS):
        now += draw.expovariate(1 / gap) if poisson else gap
        end = max(now, heapq.heappop(free)) + service[number % len(service)]
        heapq.heappush(free, end)
        found.append(end - now)
    return sorted(found)


def row(ordered: Sequence[float]) -> dict[str, float]:
    """Percentiles, and how far the highest is from the middle."""
    p50, p95, p99 = (ordered[int(share * len(ordered))] for share in (0.5, 0.95, 0.99))
    return {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "p99_by_p50": p99 / p50}


def main() -> None:
    """Measure, simulate, write, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True, help="the folder that server.py was given")
    args = parser.parse_args()
    found = sorted(path for path in args.photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[:160]
    service = service_ms(args.bundle, found)
    result = {
        "machine": machine(),
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
        "photos": len(found),
        "service": {"mean_ms": statistics.fmean(service), **row(sorted(service)), "max_ms": max(service)},
        "load": 0.8,
        "cores": {
            str(cores): {
                name: row(latencies(service, cores, 0.8, poisson))
                for name, poisson in (("even", False), ("poisson", True))
            }
            for cores in CORES
        },
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(f"one photo: p50 {result['service']['p50_ms']:.1f} ms, p99 {result['service']['p99_ms']:.1f} ms")
    for cores, kinds in result["cores"].items():
        words = ", ".join(f"{name} {one['p99_by_p50']:.2f}" for name, one in kinds.items())
        print(f"{cores:>3} cores at 80 %: p99 / p50 {words}")


if __name__ == "__main__":
    main()
