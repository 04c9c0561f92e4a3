"""Write the tables in README.md and docs/ from benchmarks/*.json; `--check` fails where they differ."""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def difference(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}"


def fine_tuned(results: dict) -> list[str]:
    """The rows of what was fine-tuned."""
    rows = [
        "| photos | network | PyTorch | FP32 | FP16 | labels FP16 = FP32 | CPU min | wall min |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in results.items():
        if "built" not in one:
            continue
        built = one["built"]
        runners = {runner["copy"]: runner for runner in built["verification"]["runners"]}
        fp32, fp16 = runners["fp32"]["accuracy"], runners["fp16"]["accuracy"]
        pack, model = name.split("-", 1)
        cells = (
            f"{pack} ({built['test_photos']} held out)",
            model,
            share(built["test_accuracy"]),
            share(fp32["measured"]),
            share(fp16["measured"]),
            share(fp16["raw_label_agreement"]),
            f"{one['cpu_seconds'] / 60:.1f}",
            f"{one['wall_seconds'] / 60:.1f}",
        )
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def converted(results: dict) -> list[str]:
    """The rows of what was trained elsewhere."""
    rows = [
        "| checkpoint, photos | copy | top-1 | largest difference to PyTorch | labels as FP32 |",
        "|---|---|---|---|---|",
    ]
    for name, one in results.items():
        if "exported" not in one:
            continue
        for copy, figures in one["copies"].items():
            accuracy = figures["accuracy"]
            photos = accuracy["photos"]
            recorded = next(c["recorded"] for c in one["exported"]["copies"] if c["name"] == copy)
            cells = (
                f"{name} ({photos})",
                copy,
                share(accuracy["measured"]),
                difference(recorded["max_abs_difference"]),
                share(accuracy["raw_label_agreement"]) if copy != "fp32" else "",
            )
            rows.append("| " + " | ".join(cells) + " |")
    return rows


def tables() -> str:
    """What was trained, and what became of it."""
    results = load("real_photos")
    machine = next(iter(results.values()))["machine"]
    packages = ", ".join(f"{name} {machine['packages'][name]}" for name in ("torch", "onnxruntime", "pillow"))
    return "\n".join(
        [
            "Fine-tuned with the defaults, from ImageNet weights; every accuracy is of the held-out 20 %:",
            "",
            *fine_tuned(results),
            "",
            "Trained elsewhere, turned into a bundle, every photo through the bundle's own preprocessing:",
            "",
            *converted(results),
            "",
            f"{machine['cores']} CPU cores, no GPU; Python {machine['python']}, {packages}. One run each;",
            "load, dates and every other figure are in `benchmarks/real_photos.json`, made by",
            "`benchmarks/real_photos.py`.",
        ]
    )


def raced(rows: list[dict]) -> list[str]:
    """The rows of who trained what, how well and for how much."""
    lines = [
        "| photos | trained by | held-out accuracy (95 %) | CPU s | × samesight's | wall s | memory, GB |",
        "|---|---|---|---|---|---|---|",
    ]
    own = {row["photos"]: row["cpu_seconds"] for row in rows if row["contender"] == "samesight"}
    for row in rows:
        low, high = row["test_interval_95"]
        cells = (
            f"{row['photos']} ({row['test_photos']} held out)",
            row["title"],
            f"{share(row['test_accuracy'])} ({100 * low:.1f}–{100 * high:.1f})",
            f"{row['cpu_seconds']:.0f}",
            f"{row['cpu_seconds'] / own[row['photos']]:.1f}" if row["photos"] in own else "–",
            f"{row['wall_seconds']:.0f}",
            f"{row['peak_memory_bytes'] / 1e9:.1f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def race() -> str:
    """Training beside what else there is."""
    rows = load("training_race")["rows"]
    packages = {name: number for row in rows for name, number in row["packages"].items()}
    named = [name for name in ("torch", "fastai", "ultralytics") if name in packages]
    versions = ", ".join(f"{name} {packages[name]}" for name in named)
    loads = [row["load_average_after"][1] for row in rows]
    machine = rows[0]["machine"]
    return "\n".join(
        [
            f"The same photos, split, `{rows[0]['model']}` weights and {machine['cores']} cores for all:",
            "",
            *raced(rows),
            "",
            "One run each. CPU seconds are those of all processes, from start to answer; the machine was",
            f"shared (load average {min(loads):.1f} to {max(loads):.1f}), so wall seconds say little.",
            f"Python {machine['python']}, {versions}. Curves, loads and dates are in",
            "`benchmarks/training_race.json`, made by `benchmarks/training_race.py`.",
        ]
    )


def speed() -> str:
    """One photo, a folder and a server, beside what else there is."""
    one, folder, server = (load(name) for name in ("one_photo", "throughput", "server"))
    rows = ["| what | by | figure |", "|---|---|---|"]
    what = f"one photo, one process, `{one['network']}`"
    for name, found in one["contenders"].items():
        rows.append(
            f"| {what} | {name} | {found['wall']['median']:.3f} s, {found['cpu']['median']:.3f} CPU s |"
        )
    what = f"a folder of {folder['photos']} photos, `{folder['network']}`"
    for name, rate in folder["photos_per_second"].items():
        rows.append(f"| {what} | {name} | {rate:.0f} a second |")
    what = "over HTTP, JPEG in, label out, `mobilenet_v2`"
    for name, found in server["summary"].items():
        share_ = f"{found['ratio_to_in_process']:.2f} of in-process"
        rows.append(f"| {what} | {name} | {found['per_second']:.0f} a second, {share_} |")
    return "\n".join(
        [
            "Programs in turns on the same cores, start and loading of the first two included; medians:",
            "",
            *rows,
            "",
            "Machines, versions, loads, n and spread are in `benchmarks/one_photo.json`, `throughput.json`",
            "and `server.json`, made by the scripts of the same names.",
        ]
    )


def rounded() -> str:
    """int8 copies beside those of other tools."""
    head = (
        "network",
        "int8 by",
        "engine",
        "drop, points (95 %)",
        "labels changed",
        "× FP32, batch 1",
        "batch 8",
    )
    rows = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    results = load("int8")
    for network, found in results.items():
        for row in found["rows"]:
            drop = changed = "–"
            if row.get("drop") is not None and row["int8_by"] != "fp32":
                drop = f"{100 * row['drop']:.1f} ({100 * row['low']:.1f} to {100 * row['high']:.1f})"
                changed = f"{row['flips']} of {row['photos']}"
            times = [f"{row[f'batch_{batch}']['times_fp32']:.2f}" for batch in (1, 8)]
            rows.append(
                "| " + " | ".join((network, row["int8_by"], row["engine"], drop, changed, *times)) + " |"
            )
    before = [found["machine"]["load_average_before"][0] for found in results.values()]
    processors = ", ".join(sorted({found["machine"]["processor"] for found in results.values()}))
    return "\n".join(
        [
            *rows,
            "",
            "Times as quick as FP32 in ONNX Runtime: medians of three rounds in turns, each in a process",
            f"of its own, 2 cores ({processors}), load average {min(before):.1f} to {max(before):.1f}.",
            "A network without a drop is untrained: only timed. `benchmarks/int8.json`, made by",
            "`benchmarks/int8.py`.",
        ]
    )


def load(name: str) -> dict:
    """The figures in NAME.json."""
    return json.loads((HERE / f"{name}.json").read_text())


# What is written where, between <!-- NAME: … --> and <!-- /NAME -->.
BLOCKS = {
    "figures": ("README.md", tables),
    "race": ("README.md", race),
    "speed": ("README.md", speed),
    "int8": ("docs/quantize.md", rounded),
}


def main() -> int:
    stale = False
    for name, (page, make) in BLOCKS.items():
        start, end = f"<!-- {name}: written by benchmarks/tables.py -->", f"<!-- /{name} -->"
        text = (ROOT / page).read_text()
        if start not in text or end not in text:
            print(f"{page} lacks the marks {start} and {end}")
            return 1
        before, _, rest = text.partition(start)
        new = f"{before}{start}\n{make()}\n{end}{rest.partition(end)[2]}"
        if "--check" not in sys.argv:
            (ROOT / page).write_text(new)
        elif new != text:
            print(f"{page}: the table '{name}' is not what the figures say; run: python benchmarks/tables.py")
            stale = True
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
