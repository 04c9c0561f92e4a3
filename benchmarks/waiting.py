"""How long photos must wait at a given load, whatever the server: the floor under the latencies of server.py.

`python benchmarks/waiting.py --bundle BUNDLE --photos FOLDER [--rounds 3 --seconds 20]`

Each photo is taken through all stages in one thread, three times; the least CPU time counts, which other
programs on the machine change little. Then so many cores are simulated that take photos in their order, each
for its own time, at 80 % of what they can do: photos that come at even times, and at random ones. Nothing is
lost to HTTP, threads or other programs: a server that keeps the order cannot have a lower p99 / p50. Other
orders are simulated too, for two cores and photos at random times.

With --rounds, a real server is asked at 80 % of what it can do just then, in turns with as many threads of
one process that do the photos' stages and nothing else: what those have too is the machine's doing, not the
server's. Writes benchmarks/waiting.json.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import queue
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from server import Running, free_port, load

from samesight.bundle import open_bundle
from samesight.machine import machine, versions
from samesight.preprocess import preprocess
from samesight.runner import Settings, cpus
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


def orders(service: Sequence[float], load: float) -> dict[str, dict[str, float]]:
    """Two cores, photos at random times, taken otherwise than as they come."""
    return {
        "shortest first": row(_ranked(service, load, lambda _, photo: photo)),
        "latest first": row(_ranked(service, load, lambda number, _: -number)),
        "all at a time": row(_shared(service, load)),
        "both cores for one": row(latencies([one / 2 for one in service], 1, load, poisson=True)),
    }


def _coming(service: Sequence[float], load: float) -> list[tuple[float, float]]:
    """When each photo comes, and how long it takes."""
    draw = random.Random(1)
    gap, now, found = statistics.fmean(service) / 2 / load, 0.0, []
    for number in range(PHOTOS):
        now += draw.expovariate(1 / gap)
        found.append((now, service[number % len(service)]))
    return found


def _ranked(service: Sequence[float], load: float, rank: Callable[[int, float], float]) -> list[float]:
    """Of those that wait, the one of the lowest rank is begun next; what is begun is finished."""
    coming = _coming(service, load)
    waiting: list[tuple[float, int]] = []
    running: list[tuple[float, int]] = []
    found, number = [], 0
    while number < PHOTOS or running:
        if number < PHOTOS and (not running or coming[number][0] <= running[0][0]):
            now = coming[number][0]
            heapq.heappush(waiting, (rank(number, coming[number][1]), number))
            number += 1
        else:
            now, done = heapq.heappop(running)
            found.append(now - coming[done][0])
        while waiting and len(running) < 2:
            _, begun = heapq.heappop(waiting)
            heapq.heappush(running, (now + coming[begun][1], begun))
    return sorted(found)


def _shared(service: Sequence[float], load: float) -> list[float]:
    """A thread for each photo that is there: all of them share the cores equally."""
    coming = _coming(service, load)
    running: list[tuple[float, int]] = []  # by how much each will have had when it is done
    found, number, now, had = [], 0, 0.0, 0.0
    while number < PHOTOS or running:
        pace = min(1.0, 2 / len(running)) if running else 0.0
        ends = now + (running[0][0] - had) / pace if running else math.inf
        comes = coming[number][0] if number < PHOTOS else math.inf
        had += (min(ends, comes) - now) * pace
        now = min(ends, comes)
        if comes <= ends:
            heapq.heappush(running, (had + coming[number][1], number))
            number += 1
        else:
            _, done = heapq.heappop(running)
            found.append(now - coming[done][0])
    return sorted(found)


class Threads:
    """As many threads as a server has, that take photos in their order and do their stages alone."""

    def __init__(self, bundle: Path, photos: Sequence[Path]) -> None:
        opened = open_bundle(bundle)
        runner = open_runner(opened, "fp32", settings=Settings(threads=1))
        self._stages = lambda data: runner.logits(preprocess(data, opened.preprocess)[None])
        self._data = [photo.read_bytes() for photo in photos]

    def ask(self, rate: float, seconds: float) -> list[float]:
        """Sorted milliseconds from when a photo is due, at even times, to its answer."""
        waiting: queue.SimpleQueue[tuple[float, bytes] | None] = queue.SimpleQueue()
        found: list[float] = []

        def work() -> None:
            while (job := waiting.get()) is not None:
                self._stages(job[1])
                found.append(1000 * (time.perf_counter() - job[0]))

        threads = [threading.Thread(target=work) for _ in range(cpus())]
        for thread in threads:
            thread.start()
        start = time.perf_counter()
        for number in range(int(rate * seconds)):
            due = start + number / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            waiting.put((due, self._data[number % len(self._data)]))
        for _ in threads:
            waiting.put(None)
        for thread in threads:
            thread.join()
        return sorted(found)


def live(bundle: Path, photos: Sequence[Path], rounds: int, seconds: float) -> list[dict]:
    """The server and the threads in turns, at 80 % of what the server can do at the start of each round."""
    port = free_port()
    words = (str(bundle), "--port", str(port), "--log", "off", "--batch", "1")
    server = Running(
        "samesight", [sys.executable, "-m", "samesight", "serve", *words], port, "/classify", "raw"
    )
    alone = Threads(bundle, photos)
    found = []
    try:
        server.wait(photos[0])
        for turn in range(rounds):
            closed = load(server.url, photos, "--seconds", seconds / 2, "--connections", 8)
            rate = 0.8 * closed["per_second"]
            asked: dict[str, dict] = {}
            for name in ("server", "threads") if turn % 2 == 0 else ("threads", "server"):
                if name == "server":
                    one = load(server.url, photos, "--rate", rate, "--seconds", seconds, "--connections", 500)
                    asked[name] = {**one, "p99_by_p50": one["p99_ms"] / one["p50_ms"]}
                else:
                    asked[name] = row(alone.ask(rate, seconds))
            found.append({"rate": rate, "load_average": os.getloadavg()[0], **asked})
    finally:
        server.end()
    return found


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
    parser.add_argument("--rounds", type=int, default=0, help="with a real server (default: none)")
    parser.add_argument("--seconds", type=float, default=20)
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
    result["orders"] = orders(service, 0.8)
    result["live"] = live(args.bundle, found, args.rounds, args.seconds) if args.rounds else []
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(f"one photo: p50 {result['service']['p50_ms']:.1f} ms, p99 {result['service']['p99_ms']:.1f} ms")
    for one in result["live"]:
        words = ", ".join(f"{name} {one[name]['p99_by_p50']:.2f}" for name in ("server", "threads"))
        print(
            f"at {one['rate']:.0f} photos a second, load average {one['load_average']:.0f}: p99 / p50 {words}"
        )
    for cores, kinds in result["cores"].items():
        words = ", ".join(f"{name} {one['p99_by_p50']:.2f}" for name, one in kinds.items())
        print(f"{cores:>3} cores at 80 %: p99 / p50 {words}")
    for name, one in result["orders"].items():
        print(f"  2 cores at 80 %, poisson, {name}: p99 / p50 {one['p99_by_p50']:.2f}")


if __name__ == "__main__":
    main()
