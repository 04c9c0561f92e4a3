"""One photo in one process: Samesight in Python and in Rust against the programs that tutorials show.

    python benchmarks/one_photo.py [--runs 11] [--torch-runs 3] [--network regnet_x_400mf] [--data DIR]

Then many photos from a folder: images a second in Rust and in Python, whole processes, loading included.
Rust is left out where there is no cargo.

The network is untrained but for its head, which is fitted to photos, so that its bundle proves something.
Runs are interleaved; wall and CPU seconds are of each whole process, memory is its peak. Results go to
benchmarks/one_photo.json. Needs Linux's wait4 and the packs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "one_photo.json"
FITTED_PHOTOS = 300
PEERS = {"samesight": "onnxruntime, Pillow, numpy", "samesight-rs": "ort, image, ndarray"}  # the same steps


def fitted(network: str, photos: list[Path], classes: int, out: Path) -> None:
    """A state dict: random layers with their normalisation at these photos, the head fitted to `classes`."""
    import torch
    import torchvision

    from samesight.models import default_preprocess, head_layers
    from samesight.preprocess import preprocess, read_photo

    torch.manual_seed(0)
    model = torchvision.models.get_model(network, weights=None, num_classes=classes)
    spec = default_preprocess(network, None)
    tensors = torch.stack([torch.from_numpy(preprocess(read_photo(path), spec)) for path in photos])
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain average over the batches
    with torch.no_grad():
        model.train()
        for some in tensors.split(32):
            model(some)
        model.eval()
        seen: list[torch.Tensor] = []
        head = model.get_submodule(head_layers(model)[-1])
        hook = head.register_forward_hook(lambda _, given, __: seen.append(given[0]))
        for some in tensors.split(32):
            model(some)
        hook.remove()
        features = torch.cat(seen).double()
        features = torch.cat([features, torch.ones(len(features), 1)], 1)
        wanted = torch.full((len(photos), classes), -1.0, dtype=torch.float64)
        wanted[torch.arange(len(photos)), torch.arange(len(photos)) % classes] = 8.0
        square = features.T @ features  # a firm ridge: large weights would only magnify rounding
        ridge = 0.1 * square.diagonal().mean() * torch.eye(len(square), dtype=torch.float64)
        solved = torch.linalg.solve(square + ridge, features.T @ wanted)
        head.weight.copy_(solved[:-1].T)
        head.bias.copy_(solved[-1])
    torch.save(model.state_dict(), out)


def make_bundle(network: str, photos: list[Path], work: Path) -> tuple[Path, Path]:
    """The bundle and its state dict, made once and kept in `work`."""
    bundle, checkpoint = work / f"{network}-bundle", work / f"{network}.pth"
    if not bundle.exists():
        classes = 75
        if not checkpoint.exists():
            fitted(network, photos, classes, checkpoint)
        labels = work / "labels.txt"
        labels.write_text("".join(f"butterfly {number}\n" for number in range(classes)))
        folder = work / "samples"
        folder.mkdir(exist_ok=True)
        for number, path in enumerate(photos[: 2 * classes]):
            target = folder / f"{number:03}.jpg"
            if not target.exists():
                target.write_bytes(path.read_bytes())
        words = ["--model", network, "--checkpoint", checkpoint, "--labels", labels, "--samples", folder]
        command = [sys.executable, "-m", "samesight", "export", *map(str, words), "--copies", "fp32"]
        subprocess.run([*command, "--out", str(bundle)], check=True)
    return bundle, checkpoint


def build_rust() -> tuple[Path, Path] | None:
    """samesight-rs and the plain Rust program, both optimised; None without cargo."""
    if shutil.which("cargo") is None:
        return None
    peer = HERE / "peers" / "one_photo_rust"
    for folder in (HERE.parent / "rust", peer):
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=folder, check=True)
    return HERE.parent / "rust/target/release/samesight-rs", peer / "target/release/one_photo_rust"


def measure(command: list[str]) -> dict:
    """Wall and CPU seconds and peak memory of one process, which must succeed."""
    # What pip installs is compiled; so is what has been imported before, unless this is set.
    environment = {name: word for name, word in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    assert child.stdout is not None
    answer = child.stdout.read().decode()
    _, status, used = os.wait4(child.pid, 0)
    wall = time.monotonic() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"exit code {child.returncode}: {' '.join(command)}")
    cpu = used.ru_utime + used.ru_stime
    return {"wall": wall, "cpu": cpu, "memory_bytes": used.ru_maxrss * 1024, "answer": answer}


def figures(runs: list[dict]) -> dict:
    """Medians, and how far the quarter and three-quarter runs lie apart."""
    result: dict = {"runs": len(runs)}
    for key in ("wall", "cpu", "memory_bytes"):
        values = sorted(run[key] for run in runs)
        spread = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
        result[key] = {"median": statistics.median(values), "minimum": values[0], "quartiles": spread}
    return result


def alone(runs: dict[str, list[dict]]) -> dict[str, dict]:
    """Each contender's figures for one photo, and ours beside them; told as they are."""
    found = {name: figures(some) for name, some in runs.items()}
    for name, one in found.items():
        print(
            f"{name:<28} wall {one['wall']['median']:.3f} s  cpu {one['cpu']['median']:.3f} s  "
            f"memory {one['memory_bytes']['median'] / 2**20:.0f} MiB"
        )
    for own, peer in PEERS.items():
        for name in (own, f"{own} --cache"):
            for key in ("wall", "cpu") if name in found else ():
                ratio = found[name][key]["median"] / found[peer][key]["median"]
                found[name][f"{key}_of_peer"] = ratio
                print(f"{name} takes {ratio:.2f} of the {key} time of {peer}")
    return found


def of_a_folder(many: dict[str, list[dict]], photos: int) -> dict[str, dict]:
    """Photos a second of each, loading included; told as they are."""
    together = {}
    for name, some in many.items():
        one = together[name] = figures(some)
        one["photos_per_second"] = photos / one["wall"]["median"]
        one["photos_per_cpu_second"] = photos / one["cpu"]["median"]
        print(f"{name:<28} {photos} photos: {one['photos_per_second']:.0f} a second")
    return together


def main() -> None:
    """Race them, and write the results."""
    from samesight.machine import machine, versions
    from samesight.rust import onnxruntime_library

    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("SAMESIGHT_TEST_DATA", HERE.parent.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--work", type=Path, default=HERE.parent / "runs" / "one-photo")
    parser.add_argument("--network", default="regnet_x_400mf")
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--torch-runs", type=int, default=3)
    parser.add_argument("--folder-runs", type=int, default=3)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if not (args.work / "imagenet520").exists():
        with tarfile.open(args.data / "imagenet520.tar") as archive:
            archive.extractall(args.work)  # the pack is our own; Python 3.11.2 knows no filter
    photos = sorted((args.work / "imagenet520" / "images").iterdir())
    bundle, checkpoint = make_bundle(args.network, photos[:FITTED_PHOTOS], args.work)
    if "torch" in sys.modules:  # begin again: a child's ru_maxrss is at least its parent's size
        os.execv(sys.executable, [sys.executable, *sys.argv])
    photo, labels = str(photos[0]), str(bundle / "labels_mapping.json")
    peers = HERE / "peers"
    own = [sys.executable, "-m", "samesight", "predict", str(bundle), photo, "--json"]
    contenders = {
        "samesight": own,
        "samesight --cache": [*own, "--cache"],
        "onnxruntime, Pillow, numpy": [
            *(sys.executable, str(peers / "one_photo_onnx.py"), str(bundle / "model.onnx"), photo, labels)
        ],
        "torch, torchvision": [
            *(sys.executable, str(peers / "one_photo_torch.py"), args.network, str(checkpoint), photo, labels)
        ],
    }
    every = ["predict", str(bundle), str(photos[0].parent), "--json"]
    folder = {"samesight": [sys.executable, "-m", "samesight", *every]}
    if (built := build_rust()) is not None:
        program, peer = map(str, built)
        contenders["samesight-rs"] = [program, "predict", str(bundle), photo, "--json"]
        contenders["samesight-rs --cache"] = [program, "predict", str(bundle), photo, "--json", "--cache"]
        contenders["ort, image, ndarray"] = [peer, str(bundle / "model.onnx"), photo, labels]
        folder["samesight-rs"] = [program, *every]
        os.environ.update(onnxruntime_library())
    runs: dict[str, list[dict]] = {name: [] for name in contenders}
    many: dict[str, list[dict]] = {name: [] for name in folder}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SAMESIGHT_CACHE"] = cache
        for turn in range(-1, args.runs):
            for name, command in contenders.items():
                if name.startswith("torch") and turn >= args.torch_runs:
                    continue
                found = measure(command)
                if turn >= 0:  # the first run only warms the disk's cache
                    runs[name].append(found)
        for _ in range(args.folder_runs):
            for name, command in folder.items():
                many[name].append(measure(command))
    found, together = alone(runs), of_a_folder(many, len(photos))
    about = {"network": args.network, "machine": machine(), "versions": versions()}
    RESULTS.write_text(json.dumps({**about, "contenders": found, "folder": together}, indent=2) + "\n")


if __name__ == "__main__":
    main()
