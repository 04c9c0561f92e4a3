"""A server under far too much load for long: only 200, 429 and 503, and memory that does not grow.

`python benchmarks/soak.py --bundle BUNDLE --photos FOLDER [--minutes 10] [--times 10]`

Measures what the server can do, then sends `--times` as much, slice by slice, and reads its memory after
each. Writes benchmarks/soak.json and prints it; exit code 1 where another status came, the server ended, or
the median memory of the last third is more than 5 % above that of the middle third.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

from server import Running, asked, free_port

from samesight.machine import machine, versions

RESULTS = Path(__file__).resolve().parent / "soak.json"
ALLOWED = {"200", "429", "503", "-1"}  # -1: not sent, since so many were under way already
GROWTH = 1.05
SLICE_S = 10


def main() -> int:
    """Load, watch, judge; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=lambda word: Path(word).resolve(), required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--times", type=float, default=10)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    photos = sorted(
        path.resolve() for path in args.photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg")
    )[:160]
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "samesight",
        "serve",
        str(args.bundle),
        "--port",
        str(port),
        "--log",
        "off",
    ]
    server = Running("samesight", command, port, "/classify", "raw")
    statuses: Counter[str] = Counter()
    memory: list[float] = []
    try:
        server.wait(photos[0])
        rate = asked(server, photos, "--seconds", SLICE_S)["per_second"]
        end = time.monotonic() + 60 * args.minutes
        while time.monotonic() < end and server.process.poll() is None:
            words = ("--seconds", SLICE_S, "--rate", args.times * rate, "--connections", 500)
            statuses.update(asked(server, photos, *words)["statuses"])
            memory.append(server.mib())
            print(f"{memory[-1]:.0f} MiB, {dict(statuses)}", file=sys.stderr, flush=True)
        alive = server.process.poll() is None
    finally:
        server.end()
    third = max(1, len(memory) // 3)
    growth = statistics.median(memory[-third:]) / statistics.median(memory[third : 2 * third] or memory)
    ok = alive and set(statuses) <= ALLOWED and growth <= GROWTH
    result = {
        "ok": ok,
        "alive": alive,
        "per_second_alone": rate,
        "times": args.times,
        "minutes": args.minutes,
        "statuses": dict(statuses),
        "memory_mib": memory,
        "growth": growth,
        "machine": machine(),
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
