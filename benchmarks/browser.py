"""A bundle in the browser: how long until the first label, and how many pictures a second.

`python benchmarks/browser.py BUNDLE [--out FILE]` writes the site of BUNDLE, serves it on loopback and opens
it in the Chromium of this machine, one profile a run. Needs `make web` and the extra "browser".

first label   from the navigation's start to the first label of a golden photo, by an empty page that loads
              the engine: cold (nothing is kept) and cached (second visit of the same profile)
a second      640 × 480 pictures, as a camera gives them, each from its pixels to its label, one after another
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

from samesight.bundle import open_bundle
from samesight.files import write_json
from samesight.progress import say
from samesight.verify.golden import read_golden
from samesight.web import chromium
from samesight.web.server import open_server
from samesight.web.site import write_site

RESULTS = Path(__file__).resolve().parent / "browser.json"
FIRST_LABEL = """async ([photo, threads, copy]) => {
    const { LocalInferenceEngine } = await import("/runtime/index.js");
    const engine = await LocalInferenceEngine.load("bundle/", { threads, copy });
    const ready = performance.now();
    const { label } = await engine.classify(new URL(photo, location));
    globalThis.engine = engine;
    return { label, ready_ms: ready, first_label_ms: performance.now() };
}"""
RATE = """async (count) => {
    const image = new ImageData(640, 480);
    for (let at = 0, x = 1; at < image.data.length; at += 1) {
        x = (Math.imul(1664525, x) + 1013904223) >>> 0;
        image.data[at] = x >>> 24;
    }
    const times = [];
    for (let turn = 0; turn < count; turn += 1) {
        const start = performance.now();
        const { timing } = await engine.classify(image, { live: true });
        times.push({ ms: performance.now() - start, ...timing });
    }
    return times;
}"""


def visit(context: Any, url: str, photo: str, threads: int, copy: str) -> tuple[Any, dict[str, Any]]:
    """A page that has classified its first photo, and how long that took from the navigation's start."""
    page = context.new_page()
    page.goto(f"{url}empty.html")
    return page, page.evaluate(FIRST_LABEL, [photo, threads, copy])


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def measure(browser: Any, url: str, photo: str, threads: int, copy: str, runs: int, count: int) -> dict:
    """One number of threads and one copy."""
    cold, cached, rate, network = [], [], [], []
    for _ in range(runs):
        with browser.new_context() as context:
            page, first = visit(context, url, photo, threads, copy)
            page.close()
            page, second = visit(context, url, photo, threads, copy)
            cold.append(first["first_label_ms"])
            cached.append(second["first_label_ms"])
            times = page.evaluate(RATE, count)[count // 5 :]  # the first ones warm up
            rate.append(1000 / statistics.median(one["ms"] for one in times))
            network.append(statistics.median(one["network_ms"] for one in times))
    return {
        "copy": copy,
        "threads": threads,
        "first_label_cold_ms": spread(cold),
        "first_label_cached_ms": spread(cached),
        "pictures_a_second": spread(rate),
        "network_ms": spread(network),
    }


def main() -> int:
    """Measure, and write the results; 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--runs", type=int, default=5, help="visits of each kind (default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=60, help="a run (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    bundle = open_bundle(args.bundle)
    photo = f"bundle/{read_golden(bundle).samples[0].photo}"
    load_before = os.getloadavg()
    results = []
    with tempfile.TemporaryDirectory() as work:
        site = write_site(bundle, Path(work) / "site").folder
        (site / "empty.html").write_text(
            '<!doctype html><title>empty</title><link rel="icon" href="icon.svg">'
        )
        driver = chromium.playwright()
        try:
            with open_server(site) as server, chromium.launch(driver) as browser:
                threading.Thread(target=server.serve_forever, daemon=True).start()
                url = f"http://localhost:{server.server_port}/"
                for copy in (one.name for one in bundle.copies):
                    for threads in (1, 2):
                        say(f"{copy}, {threads} threads")
                        found = measure(browser, url, photo, threads, copy, args.runs, args.pictures)
                        results.append(found)
                server.shutdown()
                browser_version = browser.version
        finally:
            driver.stop()
    record = {
        "bundle": {"id": bundle.id, "name": bundle.name, "model": bundle.made["model"]},
        "runs": args.runs,
        "pictures_a_run": args.pictures,
        "results": results,
        "load_average": {"before": load_before[0], "after": os.getloadavg()[0]},
        "machine": {"system": platform.system(), "machine": platform.machine(), "cpus": os.cpu_count()},
        "versions": {
            "chromium": browser_version,
            "playwright": version("playwright"),
            "samesight": version("samesight"),
            "python": platform.python_version(),
        },
    }
    write_json(args.out, record)
    print(json.dumps(record, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
