"""Secure runs by network, protocol, link and batch: seconds, bytes, waits, memory, labels and differences.

`python benchmarks/secure.py NAME=BUNDLE=PHOTOS …` starts every party as `samesight secure party` does, lets
the image's party ask for photos of the folder PHOTOS, and writes benchmarks/secure.json. `--links
loopback,lan,wan` and `--batches 1,16` say what is measured, `--count` how many runs; only what is named is
measured anew. The engine must be installed (`samesight secure setup`, or SAMESIGHT_SECURE_PYTHON).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from slow_link import LINKS, LOOPBACK, Network

from samesight.bundle import open_bundle
from samesight.preprocess import preprocess, read_photo
from samesight.runtime import open_runner
from samesight.secure.protocols import PROTOCOLS

RESULTS = Path(__file__).resolve().parent / "secure.json"


def ports(roles: tuple[str, ...]) -> dict[str, int]:
    """A free port a role, with the next one free too."""
    with ExitStack() as stack:
        found = {}
        for role in roles:
            while role not in found:
                port = stack.enter_context(socket.create_server((LOOPBACK, 0))).getsockname()[1]
                try:
                    stack.enter_context(socket.create_server((LOOPBACK, port + 1)))
                    found[role] = port
                except (OSError, OverflowError):
                    continue
        return found


def session(bundle: Path, photos: list[Path], protocol: str, link: str, batch: int) -> dict[str, Any]:
    """What the image's party prints of one session."""
    roles = PROTOCOLS[protocol].roles
    real = ports(roles)
    network = None if link == "loopback" else Network(LINKS[link], roles)
    started = []
    for role in roles:
        at = {
            other: port if other == role or network is None else network.way(role, other, port)
            for other, port in real.items()
        }
        peers = ",".join(f"{other}={LOOPBACK}:{port}" for other, port in at.items())
        words = ["--role", role, "--peers", peers, "--protocol", protocol, "--json"]
        if role == "image":
            words += [*map(str, photos), "--batch", str(batch), "--reveal", "logits"]
        else:
            words += ["--sessions", "1"]
        if role == "model":
            words += ["--bundle", str(bundle), "--reveal", "logits"]
        command = [sys.executable, "-m", "samesight", "secure", "party", *words]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    image = started[roles.index("image")]
    said = image.communicate()[0]
    for process in started:
        if process is not image:
            if image.returncode:
                process.terminate()
            process.communicate()
    if network is not None:
        network.close()
    if image.returncode:
        raise SystemExit(f"failed: {bundle} {protocol} {link}")
    found: dict[str, Any] = json.loads(said)
    return found


def measure(bundle: Path, photos: list[Path], protocol: str, link: str, batch: int) -> dict[str, Any]:
    """One session over the photos, beside the plain answers."""
    opened = open_bundle(bundle)
    tensors = [preprocess(read_photo(path), opened.preprocess) for path in photos]
    plain = open_runner(opened, "fp32").logits(np.stack(tensors))
    load, before = os.getloadavg()[0], resource.getrusage(resource.RUSAGE_CHILDREN)
    found = session(bundle, photos, protocol, link, batch)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    logits = np.array([row["logits"] for row in found["photos"]])
    seconds = found["seconds"]
    return {
        "photos": len(photos),
        "labels_as_plain": int((logits.argmax(axis=1) == plain.argmax(axis=1)).sum()),
        "max_abs_difference": float(np.abs(logits - plain).max()),
        "fraction_bits": found["fraction_bits"],
        "setup_seconds": found["setup_seconds"],
        "first_seconds": seconds[0],
        "median_seconds": statistics.median(seconds),
        "seconds": seconds,
        "weight_bytes": found["weight_bytes"],
        "parties": found["parties"],
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "load_average_before": round(load, 2),
        "load_average_after": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> None:
    """Run what was asked for, and keep each result as it comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="+", metavar="NAME=BUNDLE=PHOTOS")
    parser.add_argument("--protocols", default="aby3,cheetah")
    parser.add_argument("--links", default="loopback")
    parser.add_argument("--batches", default="1")
    parser.add_argument("--count", type=int, default=5, help="runs; photos are evenly over the folder")
    args = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results["machine"] = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "samesight": version("samesight"),
    }
    results["links"] = {name: vars(link) for name, link in LINKS.items()}
    for words in args.networks:
        name, bundle, folder = words.split("=")
        paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
        for protocol in args.protocols.split(","):
            for link in args.links.split(","):
                for batch in map(int, args.batches.split(",")):
                    count = args.count * batch
                    photos = [paths[number * len(paths) // count] for number in range(count)]
                    print(name, protocol, link, batch, file=sys.stderr, flush=True)
                    place = results.setdefault("measured", {}).setdefault(name, {}).setdefault(protocol, {})
                    row = measure(Path(bundle), photos, protocol, link, batch)
                    place.setdefault(link, {})[str(batch)] = row
                    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
