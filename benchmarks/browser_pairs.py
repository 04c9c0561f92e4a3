"""What is quicker in a browser: in pairs, turn by turn in one page, so that a busy machine is fair to both.

`python benchmarks/browser_pairs.py BUNDLE [--out FILE]` opens BUNDLE, whose first copy is compared with its
others, in the Chromium of this machine. Needs `make web` and the extra "browser". Only ratios mean anything.

copies   the network's time for one picture by each copy, as a part of the first copy's in the same turn
camera   time a frame of a 640 × 480 camera where the next is sent while one is in the network, as a part
         of the time where each waits for the one before
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

from browser import spread

from samesight.bundle import open_bundle
from samesight.files import write_json
from samesight.web import chromium
from samesight.web.server import open_server
from samesight.web.site import write_site

RESULTS = Path(__file__).resolve().parent / "browser_pairs.json"
COPIES = """async ([copies, turns]) => {
    const { LocalInferenceEngine } = await import("/runtime/index.js");
    const load = (copy) => LocalInferenceEngine.load("bundle/", { copy, threads: 1, canary: false });
    const engines = await Promise.all(copies.map(load));
    const image = new ImageData(640, 480);
    image.data.forEach((_, at) => { image.data[at] = (at * 7919) >> 3; });
    const times = [];
    for (let turn = 0; turn < turns + 2; turn += 1) {
        const row = [];
        for (const engine of engines) row.push((await engine.classify(image)).timing.network_ms);
        if (turn > 1) times.push(row);
    }
    for (const engine of engines) await engine.dispose();
    return times;
}"""
CAMERA = """async ([turns, frames]) => {
    const { LocalInferenceEngine } = await import("/runtime/index.js");
    const engine = await LocalInferenceEngine.load("bundle/", { threads: 1, canary: false });
    const video = Object.assign(document.createElement("video"), { muted: true });
    document.body.append(video);
    const size = { width: 640, height: 480 };
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: size });
    await video.play();
    const film = async (ahead) => {
        const start = performance.now();
        let last = null;
        for (let frame = 0; frame < frames; frame += 1) {
            await new Promise((next) => video.requestVideoFrameCallback(next));
            const now = engine.classify(video, { live: true });
            await (ahead ? last : now);
            last = now;
        }
        await last;
        return (performance.now() - start) / frames;
    };
    await film(false);
    const pairs = [];
    for (let turn = 0; turn < turns; turn += 1) {
        const order = turn % 2 ? [false, true] : [true, false];
        const found = {};
        for (const ahead of order) found[ahead] = await film(ahead);
        pairs.push([found[false], found[true]]);
    }
    return pairs;
}"""


def ratios(rows: list[list[float]], place: int) -> dict[str, float]:
    """The spread of one column beside the first of its row."""
    return spread([row[place] / row[0] for row in rows])


def main() -> int:
    """Measure, and write the results; 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--turns", type=int, default=20, help="of the copies (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=8, help="of the camera (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=12, help="in each (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    bundle = open_bundle(args.bundle)
    names = [copy.name for copy in bundle.copies]
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as work:
        site = write_site(bundle, Path(work) / "site").folder
        (site / "empty.html").write_text("<!doctype html><title>empty</title>")
        driver = chromium.playwright()
        camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
        try:
            with open_server(site) as server, chromium.launch(driver, *camera) as browser:
                threading.Thread(target=server.serve_forever, daemon=True).start()
                page = browser.new_context(permissions=["camera"]).new_page()
                page.set_default_timeout(0)
                page.goto(f"http://localhost:{server.server_port}/empty.html")
                copies = page.evaluate(COPIES, [names, args.turns])
                frames = page.evaluate(CAMERA, [args.pairs, args.frames])
                server.shutdown()
                browser_version = browser.version
        finally:
            driver.stop()
    record: dict[str, Any] = {
        "bundle": {"id": bundle.id, "name": bundle.name, "model": bundle.made["model"]},
        "copies": {
            "turns": len(copies),
            "first_ms": statistics.median(row[0] for row in copies),
            "ratios": {name: ratios(copies, place) for place, name in enumerate(names) if place},
        },
        "camera": {
            "pairs": len(frames),
            "frames_each": args.frames,
            "waiting_ms_a_frame": statistics.median(row[0] for row in frames),
            "ratio_ahead": ratios(frames, 1),
        },
        "load_average": {"before": load_before, "after": os.getloadavg()[0]},
        "machine": {"system": platform.system(), "machine": platform.machine(), "cpus": os.cpu_count()},
        "versions": {
            "chromium": browser_version,
            "samesight": version("samesight"),
            "python": platform.python_version(),
        },
    }
    write_json(args.out, record)
    print(json.dumps(record, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
