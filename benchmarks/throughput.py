"""Photos a second over a folder: `samesight predict` against its peers, same network, photos and cores.

    python benchmarks/throughput.py --peers-python ../peers/bin/python [--bundle BUNDLE] [--rounds 2]

Peers (torch, torchvision, transformers, ultralytics) live in an environment of their own and are only run as
programs. Seconds are of whole processes, start and loading included, and so is every peer's; rounds are
interleaved. Decoding alone and the network alone are timed as well. --bundle takes a MobileNetV2 with further
copies; by default one is exported. Results go to benchmarks/throughput.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tarfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "throughput.json"
NETWORK, WEIGHTS = "mobilenet_v2", "mobilenet_v2-6421cc59.pth"
BATCH = "16"


def seconds(command: list[str]) -> float:
    """How long a program runs that must succeed, or have answered all photos but broken ones."""
    # What pip installs is compiled; so is what has been imported before, unless this is set.
    environment = {name: word for name, word in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.monotonic()
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False, env=environment
    )
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr.strip()[-300:]}")
    return time.monotonic() - start


def alone(bundle: Path, photos: list[Path]) -> dict[str, float]:
    """Seconds of decoding alone, in as many threads as there are CPUs, and of the network alone in lanes."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    from samesight.bundle import open_bundle
    from samesight.evaluate import tensors
    from samesight.preprocess import preprocess, read_photo
    from samesight.runner import Settings, cpus
    from samesight.runners import open_runners

    opened = open_bundle(bundle)
    start = time.monotonic()
    for _ in tensors(photos, lambda path: preprocess(read_photo(path), opened.preprocess)):
        pass
    decoding = time.monotonic() - start
    (runner,) = open_runners(opened, ["onnxruntime"], ["fp32"], Settings(1, lanes=cpus()))
    width, height = opened.preprocess.size
    some = np.random.default_rng(0).standard_normal((8, 3, height, width), np.float32)
    runner.logits(some)
    start = time.monotonic()
    with ThreadPoolExecutor(cpus()) as pool:
        list(pool.map(lambda _: runner.logits(some), range(len(photos) // 8)))
    return {"decoding": decoding, "network": time.monotonic() - start}


def prepared(args: argparse.Namespace) -> tuple[Path, Path, Path]:
    """The bundle, the weights and the folder of photos, in `args.work`."""
    for pack, inside in (("imagenet520.tar", "imagenet520"), ("weights_dev.tar.xz", "weights")):
        if not (args.work / inside).exists():
            with tarfile.open(args.data / pack) as archive:
                archive.extractall(args.work)  # the packs are our own; Python 3.11.2 knows no filter
    weights, photos = args.work / "weights" / WEIGHTS, args.work / "imagenet520"
    bundle = args.bundle or args.work / "bundle"
    if not bundle.exists():
        words = ["--model", NETWORK, "--checkpoint", weights, "--labels", "imagenet", "--samples", photos]
        command = [sys.executable, "-m", "samesight", "export", *map(str, words), "--out", str(bundle)]
        subprocess.run(command, check=True)
    return bundle, weights, photos / "images"


def contenders(
    bundle: Path, weights: Path, photos: Path, peers: str | None, work: Path
) -> dict[str, list[str]]:
    """Name → command line."""
    own = [sys.executable, "-m", "samesight", "predict", str(bundle), str(photos), "--json"]
    found = {"samesight fp32": own, "samesight auto": [*own, "--engine", "auto"]}
    if peers is None:
        return found
    given = [NETWORK, str(weights), str(photos), BATCH]
    found["torchvision loop"] = [
        *(peers, str(HERE / "peers" / "throughput_torchvision.py"), *given, str(os.cpu_count()))
    ]
    found["transformers pipeline"] = [peers, str(HERE / "peers" / "throughput_pipeline.py"), *given]
    yolo = Path(peers).parent / "yolo"
    model = work / "ultralytics" / "best.pt"
    if yolo.exists() and model.exists():
        words = ["classify", "predict", f"model={model}", f"source={photos}", "imgsz=224", "device=cpu"]
        found["ultralytics predict"] = [
            *(str(yolo), *words, f"batch={BATCH}", "save=False", "verbose=False", f"project={work}")
        ]
    return found


def main() -> None:
    """Race them, and write the results."""
    from samesight.machine import machine, versions

    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("SAMESIGHT_TEST_DATA", HERE.parent.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--work", type=Path, default=HERE.parent / "runs" / "throughput")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--peers-python")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    bundle, weights, photos = prepared(args)
    words = ["--batch", "1,8", "--rounds", "2", "--mode", "shared,lanes", "--out", str(args.work / "bench")]
    told = [sys.executable, "-m", "samesight", "bench", str(bundle), "--photos", str(photos.parent)]
    subprocess.run(
        [*told, *words], check=False
    )  # what `--engine auto` chooses from; 1 where a copy cannot win
    race = contenders(bundle, weights, photos, args.peers_python, args.work)
    times: dict[str, list[float]] = {name: [] for name in race}
    failed: dict[str, str] = {}
    parts: list[dict[str, float]] = []
    paths = sorted(photos.iterdir())
    for _ in range(args.rounds):
        parts.append(alone(bundle, paths))
        for name, command in race.items():
            if name in failed:
                continue
            try:
                times[name].append(seconds(command))
            except RuntimeError as error:
                failed[name] = str(error)
    own = statistics.median(times["samesight fp32"])
    slower = statistics.median(max(part.values()) for part in parts)
    both = statistics.median(sum(part.values()) for part in parts)
    result = {
        "network": NETWORK,
        "photos": len(paths),
        "machine": machine(),
        "versions": versions(),
        "seconds": times,
        "failed": failed,
        "alone": parts,
        "share_of_the_slower_part": slower / own,
        "share_of_both_parts_in_turn": both / own,
        "photos_per_second": {
            name: len(paths) / statistics.median(some) for name, some in times.items() if some
        },
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: result[key] for key in list(result)[6:]}, indent=2))


if __name__ == "__main__":
    main()
