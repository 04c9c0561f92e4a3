"""Write the README's tables from benchmarks/*.json; `--check` fails where they differ from it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
START, END = "<!-- figures: written by benchmarks/tables.py -->", "<!-- /figures -->"
RACE_START, RACE_END = "<!-- race: written by benchmarks/tables.py -->", "<!-- /race -->"


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
    """The Markdown between the two marks."""
    results = json.loads((HERE / "real_photos.json").read_text())
    machine = next(iter(results.values()))["machine"]
    packages = ", ".join(f"{name} {machine['packages'][name]}" for name in ("torch", "onnxruntime", "pillow"))
    return "\n".join(
        [
            START,
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
            END,
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
    """The Markdown between the two marks of the race."""
    rows = json.loads((HERE / "training_race.json").read_text())["rows"]
    packages = {name: number for row in rows for name, number in row["packages"].items()}
    named = [name for name in ("torch", "fastai", "ultralytics") if name in packages]
    versions = ", ".join(f"{name} {packages[name]}" for name in named)
    loads = [row["load_average_after"][1] for row in rows]
    machine = rows[0]["machine"]
    return "\n".join(
        [
            RACE_START,
            f"The same photos, split, `{rows[0]['model']}` weights and {machine['cores']} cores for all:",
            "",
            *raced(rows),
            "",
            "One run each. CPU seconds are those of all processes, from start to answer; the machine was",
            f"shared (load average {min(loads):.1f} to {max(loads):.1f}), so wall seconds say little.",
            f"Python {machine['python']}, {versions}. Curves, loads and dates are in",
            "`benchmarks/training_race.json`, made by `benchmarks/training_race.py`.",
            RACE_END,
        ]
    )


def main() -> int:
    text = new = README.read_text()
    for start, end, made in ((START, END, tables), (RACE_START, RACE_END, race)):
        if start not in text or end not in text:
            print(f"README.md lacks the marks {start} and {end}")
            return 1
        before, _, rest = new.partition(start)
        new = before + made() + rest.partition(end)[2]
    if "--check" in sys.argv:
        if new != text:
            print("README.md's tables are not what the figures say; run: python benchmarks/tables.py")
            return 1
        return 0
    README.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
