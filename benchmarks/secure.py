"""Secure runs by protocol, as a user would type them: seconds, bytes, memory, labels and differences.

`python benchmarks/secure.py NAME=BUNDLE=PHOTOS …` runs `samesight secure run` on some photos of the folder
PHOTOS, with every protocol, and writes benchmarks/secure.json. The engine must be installed (`samesight
secure setup`, or SAMESIGHT_SECURE_PYTHON).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "secure.json"


def measure(bundle: Path, photos: list[Path], protocol: str) -> dict:
    """One session over the photos."""
    words = ["secure", "run", bundle, *photos, "--protocol", protocol, "--reveal", "logits", "--json"]
    load, start = os.getloadavg()[0], time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "samesight", *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 2:
        raise SystemExit(f"failed: {' '.join(command)}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads(done.stdout)
    rows = found["photos"]
    return {
        "photos": len(rows),
        "labels_as_plain": sum(row["label"] == row["plain_label"] for row in rows),
        "max_abs_difference": max(row["difference"] for row in rows),
        "fraction_bits": found["fraction_bits"],
        "setup_seconds": found["setup_seconds"],
        "first_seconds": found["seconds"][0],
        "median_seconds": statistics.median(found["seconds"]),
        "seconds": found["seconds"],
        "weight_bytes": found["weight_bytes"],
        "parties": found["parties"],
        "wall_seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "load_average_before": load,
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> None:
    """Run what was asked for, and keep each result as it comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="+", metavar="NAME=BUNDLE=PHOTOS")
    parser.add_argument("--protocols", default="aby3,cheetah")
    parser.add_argument("--count", type=int, default=5, help="photos, evenly over the folder")
    args = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"runs": {}}
    results["machine"] = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "samesight": version("samesight"),
    }
    for words in args.networks:
        name, bundle, folder = words.split("=")
        paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
        photos = [paths[number * len(paths) // args.count] for number in range(args.count)]
        for protocol in args.protocols.split(","):
            print(name, protocol, file=sys.stderr, flush=True)
            results["runs"].setdefault(name, {})[protocol] = measure(Path(bundle), photos, protocol)
            RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
