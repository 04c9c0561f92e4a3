"""A thousand million photos on a hundred machines: what can be measured here, and the rest simulated.

`python benchmarks/scale.py --bundle BUNDLE --photos FOLDER`

Measured: CPU time a photo of one worker (a job of real photos, without Ray); writing and reading a plan, its
bytes, and the memory that takes; bytes of answers; what a resume and the last check cost with many shards.
Simulated, shard by shard with the job's own shard sizes: 100 machines of 16 cores that differ in speed, some
of them slow, and that are lost and replaced at random. What a machine-hour, a request and a gigabyte cost is
not measured: PRICES are round numbers to be replaced by one's own. Writes benchmarks/scale.json.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from samesight.bundle import open_bundle
from samesight.cluster.job import LARGEST, Asked, Job, make_job, shard_photos
from samesight.cluster.rows import row_of, write_rows
from samesight.cluster.shards import Shards, bundle_files
from samesight.cluster.sources import Named, photos_of
from samesight.machine import machine, versions

RESULTS = Path(__file__).resolve().parent / "scale.json"
PHOTOS = 1_000_000_000
MACHINES, CORES = 100, 16
PLANNED = 1_000_000  # photos of the plan that is timed
FILES = 20_000  # of answers, in the folder that is resumed
START_S = 20.0  # of a worker: Ray's process, the bundle, its proof
REPLACED_S = 300.0  # until a lost machine has another in its place
SPREAD = 0.1  # standard deviation of machines' speeds
SLOW_SHARE, SLOW = 0.02, 0.5  # of the machines, and their speed
PRICES = {"core_hour": 0.04, "million_gets": 0.4, "thousand_lists": 0.005}  # US dollars


def one_worker(bundle: Path, photos: Path, work: Path) -> dict[str, float]:
    """CPU milliseconds and bytes of answers a photo, of a job without Ray; seconds until it can begin."""
    opened = open_bundle(bundle)
    asked = Asked((str(photos),), None, opened.id, "fp32", "onnxruntime", 5)
    job = make_job(work / "job", asked, photos_of(asked.sources))
    start = time.process_time()
    shards = Shards(job, bundle_files(opened))
    begun = time.process_time() - start
    done = [shards.work(shard) for shard in job.missing()]
    cpu = [1000 * one["cpu_seconds"] / one["photos"] for one in done]
    size = sum(job.answers(shard).stat().st_size for shard in range(job.shards))
    return {
        "photos": job.photos,
        "shards": job.shards,
        "cpu_ms_photo": statistics.median(cpu),
        "cpu_ms_photo_least": min(cpu),
        "cpu_ms_photo_most": max(cpu),
        "start_cpu_seconds": begun,
        "answer_bytes_photo": size / job.photos,
    }


def names(count: int) -> Iterator[Named]:
    """Paths as a store of photos has them."""
    for number in range(count):
        path = b"s3://photos/2026/%02d/%02d/%016x.jpg" % (
            number >> 20,
            number >> 14 & 63,
            number * 2654435761,
        )
        yield Named(path, path)


def plan(work: Path) -> dict[str, float]:
    """Time, bytes and memory of a plan."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    asked = Asked(("x",), None, "0" * 64, "fp32", "onnxruntime", 5)
    job = make_job(work / "plan", asked, names(PLANNED))
    written = time.process_time() - start
    start = time.process_time()
    assert sum(len(job.planned(shard)) for shard in range(0, job.shards, 10)) > 0
    read = (time.process_time() - start) / len(range(0, job.shards, 10))
    size = sum(path.stat().st_size for path in (job.folder / "plan").iterdir())
    return {
        "photos": job.photos,
        "shards": job.shards,
        "write_cpu_us_photo": 1e6 * written / job.photos,
        "read_cpu_ms_shard": 1000 * read,
        "bytes_photo": size / job.photos,
        "more_memory_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }


def resume(work: Path) -> dict[str, float]:
    """CPU time of the look at what is missing, and of the last check, with many files of answers."""
    asked = Asked(("x",), None, "0" * 64, "fp32", "onnxruntime", 5)
    job = make_job(work / "files", asked, names(20 * shard_photos(0)))
    facts = {"bundle": asked.bundle, "errors": 0}
    rows = [row_of(b"photo.jpg", "an error")] * shard_photos(0)
    write_rows(job.answers(0), rows, facts)
    data = job.answers(0).read_bytes()
    for number in range(1, FILES):
        job.answers(number).write_bytes(data)
    many = Job(job.folder, asked, job.photos, FILES)
    start = time.process_time()
    assert not many.missing()
    looked = time.process_time() - start
    start = time.process_time()
    assert job.totals()["photos"] == job.photos
    checked = (time.process_time() - start) / job.shards
    return {
        "files": FILES,
        "missing_cpu_us_shard": 1e6 * looked / FILES,
        "totals_cpu_us_shard": 1e6 * checked,
    }


def sizes(photos: int, largest: int | None) -> list[int]:
    """The job's shards; with `largest`, all of that size instead."""
    found, listed = [], 0
    while listed < photos:
        some = min(photos - listed, largest or shard_photos(listed))
        found.append(some)
        listed += some
    return found


def simulate(shards: Sequence[int], photo_s: float, lost_a_day: float, seed: int = 1) -> dict[str, float]:
    """One run: the largest shards first, each to the next worker that is free; a lost one is begun again."""
    draw = random.Random(seed)
    waiting = sorted(shards)
    speeds = [
        SLOW if draw.random() < SLOW_SHARE else max(0.5, draw.gauss(1, SPREAD)) for _ in range(MACHINES)
    ]
    rate = lost_a_day / 86400
    ends_of = [draw.expovariate(rate) if rate else float("inf") for _ in range(MACHINES)]
    free = [(START_S, place) for place in range(MACHINES * CORES)]
    heapq.heapify(free)
    busy = wasted = finished = 0.0
    lost = 0
    while waiting:
        now, place = heapq.heappop(free)
        box = place // CORES
        while ends_of[box] < now:  # lost while this worker was between two shards
            now = max(now, ends_of[box] + REPLACED_S + START_S)
            ends_of[box] += REPLACED_S + draw.expovariate(rate)
            lost += 1
        size = waiting.pop()
        end = now + size * photo_s / speeds[box]
        if end > ends_of[box]:
            wasted += ends_of[box] - now
            waiting.append(size)
            heapq.heappush(free, (ends_of[box] + 1e-9, place))
            continue
        busy += end - now
        finished = max(finished, end)
        heapq.heappush(free, (end, place))
    quickest = sum(shards) * photo_s / (CORES * sum(speeds))
    return {
        "shards": len(shards),
        "hours": finished / 3600,
        "hours_if_nothing_were_lost": quickest / 3600,
        "efficiency": quickest / finished,
        "machines_lost": lost,
        "work_lost_share": wasted / (busy + wasted),
    }


def cost(photo_s: float, kib: float) -> dict[str, float]:
    """Of 1000 million photos: core-hours, terabytes, requests, and dollars at PRICES."""
    hours = PHOTOS * photo_s / 3600
    rate = MACHINES * CORES / photo_s
    return {
        "core_hours": hours,
        "photos_per_second": rate,
        "read_terabytes": PHOTOS * kib * 1024 / 1e12,
        "read_mb_per_second_machine": rate * kib * 1024 / 1e6 / MACHINES,
        "dollars_cores": hours * PRICES["core_hour"],
        "dollars_gets": PHOTOS / 1e6 * PRICES["million_gets"],
        "dollars_lists": PHOTOS / 1e3 / 1e3 * PRICES["thousand_lists"],
    }


def main() -> None:
    """Measure, simulate, write, and print the main figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True, help="a folder of real photos")
    args = parser.parse_args()
    result: dict = {"machine": machine(), "versions": versions(), "date": time.strftime("%Y-%m-%d")}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        found = list(args.photos.rglob("*.*"))
        kib = statistics.fmean(path.stat().st_size for path in found) / 1024
        result["photo_kib"] = kib
        result["plan"] = plan(work)  # first, while the process is small
        result["resume"] = resume(work)
        result["worker"] = one_worker(args.bundle, args.photos, work)
    photo_s = result["worker"]["cpu_ms_photo"] / 1000
    given = {
        "photos": PHOTOS,
        "machines": MACHINES,
        "cores": CORES,
        "prices": PRICES,
        "largest_shard": LARGEST,
    }
    given |= {"slow_share": SLOW_SHARE, "slow_speed": SLOW, "spread": SPREAD, "start_s": START_S}
    result["given"] = given | {"replaced_s": REPLACED_S}
    result["cost"] = cost(photo_s, kib)
    result["simulated"] = {
        f"{words}, {lost} of 100 machines lost a day": simulate(sizes(PHOTOS, largest), photo_s, lost / 100)
        for words, largest in (
            ("the job's own shards", None),
            ("shards of 1,000", 1_000),
            ("shards of 100,000", 100_000),
        )
        for lost in (0, 10, 300)
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["worker"] | result["plan"] | result["resume"] | result["cost"], indent=2))
    for words, row in result["simulated"].items():
        print(
            f"{words}: {row['hours']:.2f} h, {row['efficiency']:.1%}, {row['work_lost_share']:.2%} done twice"
        )


if __name__ == "__main__":
    main()
