"""The main job on real photos, as a user would type it: every figure of the README's tables.

`python benchmarks/real_photos.py [--data DIR] [--only NAME …]` runs `samesight` in processes of its own and
writes benchmarks/real_photos.json, job by job. DIR (else SAMESIGHT_TEST_DATA, else ../shared/data) holds the
packs and their README; without them nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tarfile
import time
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "real_photos.json"
WEIGHTS = {
    "mobilenet_v2": "weights/mobilenet_v2-6421cc59.pth",
    "squeezenet1_1": "weights/squeezenet1_1-8226b7d8.pth",
}


def samesight(*words: object, codes: tuple[int, ...] = (0,)) -> tuple[dict, float, float]:
    """The last JSON object that a command prints, with its wall and CPU seconds."""
    command = [sys.executable, "-m", "samesight", *map(str, words), "--json"]
    print("samesight", *words, file=sys.stderr, flush=True)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in codes:
        raise SystemExit(f"exit code {done.returncode}: {' '.join(command)}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    text = done.stdout.strip()
    return json.loads(text if text.startswith("{\n") else text.splitlines()[-1]), wall, cpu


def copies(verification: dict) -> dict:
    """For each copy: differences on the golden samples and figures over the photos."""
    keys = ("max_abs_difference", "mean_abs_difference", "label_agreement", "accuracy")
    return {runner["copy"]: {key: runner.get(key) for key in keys} for runner in verification["runners"]}


def fine_tune(pack: str, model: str, data: Path, work: Path) -> dict:
    """Photos to a verified bundle, then the proof once more on the whole held-out part."""
    out = work / f"{Path(pack).stem}-{model}"
    weights = work / WEIGHTS[model]
    built, wall, cpu = samesight("build", data / pack, "--model", model, "--weights", weights, "--out", out)
    return {"built": built, "wall_seconds": wall, "cpu_seconds": cpu}


def convert(model: str, checkpoint: Path, labels: str, samples: object, work: Path, *words: object) -> dict:
    """A checkpoint that was trained elsewhere to a bundle, then every copy over all its photos."""
    out = work / f"{Path(checkpoint).stem}-bundle"
    given = ("--model", model, "--checkpoint", checkpoint, "--labels", labels, "--samples", samples)
    exported, wall, cpu = samesight("export", *given, *words, "--out", out)
    proof, proof_wall, proof_cpu = samesight("verify", out, "--photos", samples)
    return {
        "exported": exported,
        "export_wall_seconds": wall,
        "export_cpu_seconds": cpu,
        "verify_wall_seconds": proof_wall,
        "verify_cpu_seconds": proof_cpu,
        "ok": proof["ok"],
        "copies": copies(proof),
    }


def jobs(data: Path, work: Path) -> dict:
    """Name → what to run."""
    cifar = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"
    own = f"{HERE / 'networks' / 'cifar_resnet.py'}:resnet20"
    resnet20 = work / "cifar10_resnets" / "resnet20-12fca82f.th"
    trash, grocery, imagenet = "trashnet_imbalanced.zip", "grocery81_csv.tar", data / "imagenet520.tar"
    return {
        "trashnet-squeezenet1_1": lambda: fine_tune(trash, "squeezenet1_1", data, work),
        "trashnet-mobilenet_v2": lambda: fine_tune(trash, "mobilenet_v2", data, work),
        "grocery81-mobilenet_v2": lambda: fine_tune(grocery, "mobilenet_v2", data, work),
        "imagenet520-squeezenet1_1": lambda: convert(
            "squeezenet1_1", work / WEIGHTS["squeezenet1_1"], "imagenet", imagenet, work
        ),
        "imagenet520-mobilenet_v2": lambda: convert(
            "mobilenet_v2", work / WEIGHTS["mobilenet_v2"], "imagenet", imagenet, work
        ),
        "cifar10-resnet20": lambda: convert(
            own, resnet20, cifar, work / "cifar10_jpeg" / "test", work, "--resize", "32x32"
        ),
    }


def machine() -> dict:
    """Where and with what the figures were made."""
    packages = ("samesight", "torch", "torchvision", "onnx", "onnxruntime", "numpy", "pillow", "simplejpeg")
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "date": time.strftime("%Y-%m-%d"),
    }


def without_folder(value: object, folder: str) -> object:
    """`value` with the paths in it told from `folder` on: where that was is nobody's concern."""
    if isinstance(value, dict):
        return {key: without_folder(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_folder(inner, folder) for inner in value]
    return value.removeprefix(f"{folder}/") if isinstance(value, str) else value


def main() -> None:
    """Run the jobs, one after another, and keep each result as it comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("SAMESIGHT_TEST_DATA", HERE.parent.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--work", type=Path, default=HERE.parent / "runs" / "real-photos")
    parser.add_argument("--only", nargs="*")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for pack in ("weights_dev.tar.xz", "small_extras.tar", "cifar10_jpeg.tar.xz"):
        with tarfile.open(args.data / pack) as archive:
            archive.extractall(args.work)  # the packs are our own; Python 3.11.2 knows no filter
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name, job in jobs(args.data, args.work).items():
        if not args.only or name in args.only:
            results[name] = without_folder({"machine": machine(), **job()}, str(args.work))
            RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
