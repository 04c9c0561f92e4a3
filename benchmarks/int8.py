"""Samesight's int8 copies beside those of ONNX Runtime's own tool and of NNCF, on the same photos.

    uv venv ../nncf && uv pip install --python ../nncf/bin/python nncf onnx onnxruntime
    python benchmarks/int8.py BUNDLE=PHOTOS … --nncf-python ../nncf/bin/python
    python benchmarks/int8.py --untrained resnet50=PHOTOS --nncf-python …

Of each bundle its int8 copy is taken, or made with the defaults of `samesight quantize` where it has none.
The others are given the same FP32 file and the same calibration photos: `quantize_static` after
`quant_pre_process`, with its defaults (QDQ, MinMax) and with per_channel and reduce_range, which its
documentation advises; `nncf.quantize` with its defaults. All are judged on the photos that samesight judged
on, which none has seen, in ONNX Runtime and, the best two, in OpenVINO, and timed at batch 1 and 8, each in a
process of its own, in turns, every core for one call and no spinning. An untrained network is only timed.
Every figure is written to benchmarks/int8.json, each network's as soon as it is there; about five minutes a
network on two quiet cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median

import numpy as np

from samesight.bench.contenders import settings_of
from samesight.bench.processes import run_job, run_module
from samesight.bundle import open_bundle
from samesight.evaluate import photo_logits
from samesight.files import sha256_bytes
from samesight.machine import machine, versions
from samesight.preprocess import Preprocess
from samesight.quantize import QuantizeOptions, quantize
from samesight.quantize.graph import open_graph
from samesight.quantize.observe import observe
from samesight.quantize.parts import open_parts
from samesight.quantize.plan import make_plan
from samesight.quantize.qdq import Rounding, write_qdq
from samesight.quantize.ranges import ranges
from samesight.quantize.verdict import judge
from samesight.runners import installed, open_model

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "int8.json"
BATCHES, ROUNDS, SECONDS = (1, 8), 3, 1.0
FEW = 16  # calibration photos of an untrained network
OPENVINO = ("fp32", "samesight", "nncf, defaults")  # files that are also run there


def onnxruntime_tool(model: Path, tensors: np.ndarray, out: Path, **options: bool) -> None:
    """`quantize_static` as its documentation says, over the calibration photos."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = iter(tensors)

        def get_next(self) -> dict | None:
            row = next(self.rows, None)
            return None if row is None else {"input": row[None]}

    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(str(model), str(prepared))
    quantize_static(str(prepared), str(out), Reader(), **options)


def nncf_tool(python: Path, model: Path, tensors: Path, out: Path) -> str:
    """NNCF's version, after it has quantised `model` into `out`."""
    script = HERE / "peers" / "nncf_int8.py"
    words = [str(python), str(script), str(model), str(tensors), str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"NNCF failed: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip().splitlines()[-1].split()[0]


def peers(whole: Path, calibration: np.ndarray, nncf_python: Path | None, work: Path) -> tuple[dict, dict]:
    """The files of the others by name, and notes about each."""
    np.save(work / "calibration.npy", calibration)
    files: dict[str, Path] = {}
    notes: dict[str, dict] = {}
    for name, options in (
        ("onnxruntime, defaults", {}),
        ("onnxruntime, per_channel, reduce_range", {"per_channel": True, "reduce_range": True}),
    ):
        start = time.monotonic()
        files[name] = work / f"onnxruntime-{len(files)}.onnx"
        onnxruntime_tool(whole, calibration, files[name], **options)
        notes[name] = {"seconds_to_make": round(time.monotonic() - start, 1)}
    if nncf_python is not None:
        name, start = "nncf, defaults", time.monotonic()
        files[name] = work / "nncf.onnx"
        used = nncf_tool(nncf_python, whole, work / "calibration.npy", files[name])
        notes[name] = {"version": used, "seconds_to_make": round(time.monotonic() - start, 1)}
    return files, notes


def contenders(files: dict[str, Path]) -> dict[tuple[str, str], Path]:
    """The file of each (name, engine)."""
    found = {(name, "onnxruntime"): file for name, file in files.items()}
    if installed("openvino"):
        found |= {(name, "openvino"): files[name] for name in OPENVINO if name in files}
    return found


def times(chosen: dict[tuple[str, str], Path], tensors: Path) -> dict[tuple[str, str], list[dict]]:
    """What a worker says of each contender, round by round; they take turns."""
    found: dict[tuple[str, str], list[dict]] = {key: [] for key in chosen}
    for _ in range(ROUNDS):
        for (name, engine), file in chosen.items():
            about = {"bundle": None, "model": str(file), "engine": engine, "copy": name}
            about |= {"settings": asdict(settings_of("shared"))}
            limits = {"batches": list(BATCHES), "seconds": SECONDS, "least_calls": 5, "most_calls": 1000}
            result = run_job({"kind": "time", "inputs": str(tensors), **limits, **about})
            if "error" in result:
                raise SystemExit(f"{name} in {engine}: {result['error']}: {result.get('found')}")
            found[name, engine].append(result)
    return found


def time_figures(timed: dict[tuple[str, str], list[dict]]) -> dict[tuple[str, str], dict]:
    """Of each contender: milliseconds a photo and how many times as quick as FP32 in ONNX Runtime."""
    figures: dict[tuple[str, str], dict] = {}
    for key, results in timed.items():
        figures[key] = {"peak_bytes": max(one["batches"][-1]["peak_bytes"] or 0 for one in results)}
        for at, batch in enumerate(BATCHES):
            mine = [median(one["batches"][at]["calls_ms"]) / batch for one in results]
            base = [median(one["batches"][at]["calls_ms"]) / batch for one in timed["fp32", "onnxruntime"]]
            ratios = [b / m for b, m in zip(base, mine, strict=True)]
            figures[key][f"batch_{batch}"] = {
                "ms_per_photo": median(mine),
                "times_fp32": median(ratios),
                "times_fp32_min": min(ratios),
                "times_fp32_max": max(ratios),
                "rounds": ROUNDS,
            }
    return figures


def compare(folder: Path, photos: str, nncf_python: Path | None, work: Path) -> dict:
    """All rows of one bundle."""
    bundle = open_bundle(folder)
    parts = open_parts(photos, bundle.labels)
    calibration = parts.calibration.tensors(bundle.preprocess)
    whole = work / "fp32.onnx"
    whole.write_bytes(bundle.read(bundle.copy("fp32").file))
    files = {"fp32": whole, "samesight": work / "samesight.onnx"}
    if any(copy.name == "int8" for copy in bundle.copies):
        files["samesight"].write_bytes(bundle.read(bundle.copy("int8").file))
        note = {
            key: json.loads(bundle.read("quantization.json"))[key] for key in ("layers", "layers_in_fp32")
        }
    else:  # whatever its verdict: the table tells it
        outcome = quantize(folder, photos, QuantizeOptions(), work / "quantized")
        files["samesight"].write_bytes(outcome.found.model)
        note = {"layers": len(outcome.found.graph.layers), "layers_in_fp32": outcome.kept}
        note["seconds_to_make"] = round(outcome.seconds, 1)
    others, notes = peers(whole, calibration, nncf_python, work)
    files |= others
    notes["samesight"] = note
    chosen = contenders(files)
    targets = parts.verdict.targets
    figures = time_figures(times(chosen, work / "calibration.npy"))
    rows, base = [], None
    for (name, engine), file in chosen.items():
        runner = open_model(engine, file.read_bytes(), "one")
        seen = photo_logits([runner], parts.verdict.paths, bundle.preprocess, what=f"Judging {name}")
        logits = seen.logits["one"]
        base = logits if base is None else base
        verdict = judge(base, logits, [targets[at] for at in seen.read], bundle.labels, 0.005).to_json()
        told = {key: value for key, value in verdict.items() if key not in ("worst", "needed")}
        rows.append({"int8_by": name, "engine": engine, **told, **figures[name, engine]})
        rows[-1] |= {"size_bytes": file.stat().st_size, **notes.get(name, {})}
    calibrated = sorted(parts.calibration.sha256)
    assert not set(calibrated) & set(parts.verdict.sha256)
    about = {
        "photos": parts.how,
        "calibration_photos": len(calibrated),
        "judged_photos": len(parts.verdict.paths),
        "calibration_sha256": sha256_bytes("\n".join(calibrated).encode()),
        "judged_sha256": sha256_bytes("\n".join(sorted(parts.verdict.sha256)).encode()),
    }
    return {**about, "rows": rows}


def only_timed(network: str, photos: str, nncf_python: Path | None, work: Path) -> dict:
    """The rows of an untrained network: its ranges are of real photos, its answers mean nothing."""
    from samesight.data.labels import imagenet_classes

    whole = work / "fp32.onnx"
    job = {"network": network, "weights": "none", "out": str(whole), "download": False}
    made = run_module("samesight.export.network", job)
    if "error" in made:
        raise SystemExit(f"{made['error']}: {made.get('found')}")
    spec = Preprocess.from_json(made["preprocess"])
    parts = open_parts(photos, [name for _, name in imagenet_classes()])
    calibration = parts.calibration.first(FEW).tensors(spec)
    graph = open_graph(whole.read_bytes())
    seen = observe(graph, make_plan(graph).tensors, calibration)
    files = {"fp32": whole, "samesight": work / "samesight.onnx"}
    files["samesight"].write_bytes(write_qdq(graph, Rounding(ranges(seen, "minmax"))))
    others, notes = peers(whole, calibration, nncf_python, work)
    chosen = contenders(files | others)
    figures = time_figures(times(chosen, work / "calibration.npy"))
    rows = [
        {
            "int8_by": name,
            "engine": engine,
            "int8_accuracy": None,
            **figures[name, engine],
            "size_bytes": file.stat().st_size,
            **notes.get(name, {}),
        }
        for (name, engine), file in chosen.items()
    ]
    return {"photos": "untrained: time only", "calibration_photos": FEW, "judged_photos": 0, "rows": rows}


def table(results: dict) -> str:
    """The results as a Markdown table."""
    head = ("network", "int8 by", "engine", "accuracy", "drop, points (95 %)", "labels changed")
    head += tuple(f"× FP32, batch {batch}" for batch in BATCHES)
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for network, found in results.items():
        for row in found["rows"]:
            cells = [network, row["int8_by"], row["engine"]]
            if row["int8_accuracy"] is None:
                cells += ["", "", ""]
            else:
                drop = f"{100 * row['drop']:.2f} ({100 * row['low']:.2f} to {100 * row['high']:.2f})"
                changed = f"{row['flips']} of {row['photos']}"
                cells += [f"{100 * row['int8_accuracy']:.2f} %"]
                cells += ["", ""] if row["int8_by"] == "fp32" else [drop, changed]
            cells += [f"{row[f'batch_{batch}']['times_fp32']:.2f}" for batch in BATCHES]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Compare each bundle, keep each result as it comes, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="*", metavar="BUNDLE=PHOTOS")
    parser.add_argument("--untrained", action="append", default=[], metavar="NETWORK=PHOTOS")
    parser.add_argument("--nncf-python", type=Path)
    args = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    works = [(pair, compare) for pair in args.pairs] + [(pair, only_timed) for pair in args.untrained]
    for pair, work_on in works:
        what, _, photos = pair.partition("=")
        before = machine()
        with tempfile.TemporaryDirectory() as work:
            if work_on is compare:
                name, found = (
                    open_bundle(Path(what)).name,
                    compare(Path(what), photos, args.nncf_python, Path(work)),
                )
            else:
                name, found = what, only_timed(what, photos, args.nncf_python, Path(work))
        loads = {"load_average_before": before["load_average"]}
        results[name] = {**found, "machine": machine() | loads, "versions": versions()}
        results[name]["date"] = time.strftime("%Y-%m-%d")
        RESULTS.write_text(json.dumps(results, indent=2, allow_nan=False) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
