"""dataset_preparation_notes.md: what the photos are, how they were split, what training does with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from samesight.data.checks import DataReport
from samesight.data.split import Split

if TYPE_CHECKING:
    from samesight.preprocess import Preprocess

__all__ = ["preparation_notes"]

SHOWN_CASES = 20


def preparation_notes(
    report: DataReport,
    split: Split,
    *,
    augmentation: Sequence[str],
    imbalance: str,
    preprocess: Preprocess | None,
) -> str:
    """The notes as Markdown. `augmentation`, `imbalance` and `preprocess` are empty before training."""
    sections = [
        ["# Dataset preparation notes"],
        _source(report),
        _distribution(report),
        _split(report, split),
        _augmentation(augmentation),
        [
            "## Class imbalance",
            "",
            _ratio(report),
            imbalance or "How training treats it is noted by `samesight train`.",
        ],
        _transforms(preprocess),
        _findings(report),
    ]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _source(report: DataReport) -> list[str]:
    rows = [
        f"- Source: `{report.source}`",
        f"- Form: {report.form}",
        f"- Photos: {report.photos:,} of {report.size_bytes / 2**20:,.1f} MiB ({report.readable:,} readable)",
        f"- Classes: {len(report.labels)}",
    ]
    if report.sizes:
        told = ", ".join(f"{which} {width} × {height}" for which, (width, height) in report.sizes.items())
        rows.append(f"- Width × height: {told}")
    return ["## Photos", "", *rows]


def _distribution(report: DataReport) -> list[str]:
    rows = [
        "## Initial class distribution",
        "",
        "| class | photos | share | training | validation | held out |",
    ]
    rows.append("|---|---:|---:|---:|---:|---:|")
    for label, row in report.counts.items():
        total = sum(row.values())
        cells = " | ".join(str(row.get(part, 0)) for part in ("train", "val", "test"))
        rows.append(f"| {_cell(label)} | {total} | {total / max(report.photos, 1):.1%} | {cells} |")
    return rows


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _split(report: DataReport, split: Split) -> list[str]:
    sizes = {part: len(split.names(part)) for part in ("train", "val", "test")}
    rows = [
        "## Train/test split",
        "",
        f"- {sizes['train']:,} training, {sizes['val']:,} validation and {sizes['test']:,} held-out photos.",
    ]
    if split.parts_given:
        rows.append("- The held-out part is the one that the photos' own folders or tables give.")
    else:
        rows.append(
            f"- Stratified: {split.test_fraction:.0%} of each class is held out, by largest remainder."
        )
    rows += [
        f"- The inner validation part is {split.val_fraction:.0%} of the training side. Every choice (best "
        "epoch, early stop) is made on it; the held-out part is read once, at the end.",
        "- Photos with the same bytes, and photos of one group, are never on two sides.",
        f"- Seed {split.seed}. Each photo's part and SHA-256 are in `split.json`, whose own SHA-256 is "
        f"`{split.sha256}`.",
    ]
    groups = {item.group for item in split.items if item.group is not None}
    if groups:
        rows.append(f"- {len(groups):,} groups, each on one side.")
    return rows


def _augmentation(augmentation: Sequence[str]) -> list[str]:
    if not augmentation:
        return [
            "## Augmentation",
            "",
            "Chosen by `samesight train`; validation and held-out photos never have any.",
        ]
    return [
        "## Augmentation",
        "",
        "Of training photos only; validation and held-out photos are never augmented.",
        "",
        *(f"- {step}" for step in augmentation),
    ]


def _ratio(report: DataReport) -> str:
    totals = {label: sum(row.values()) for label, row in report.counts.items()}
    if not totals:
        return "There are no labels.\n"
    most, least = max(totals, key=lambda k: totals[k]), min(totals, key=lambda k: totals[k])
    ratio = totals[most] / max(totals[least], 1)
    return (
        f"The largest class ({most}, {totals[most]}) has {ratio:.1f} times the photos of the smallest "
        f"({least}, {totals[least]}).\n"
    )


def _transforms(preprocess: Preprocess | None) -> list[str]:
    rows = ["## Transforms", ""]
    if preprocess is None:
        return [*rows, "Chosen by `samesight train` with the network."]
    size = preprocess.resize
    resize = f"shortest edge to {size}" if isinstance(size, int) else f"to exactly {size[0]} × {size[1]}"
    rows.append("The same for training (after augmentation), validation, export and inference:")
    rows += ["", "- upright by EXIF, RGB", f"- resized, {resize}, {preprocess.interpolation}, antialiased"]
    if preprocess.crop is not None:
        rows.append(f"- centre crop {preprocess.crop[0]} × {preprocess.crop[1]}")
    rows.append(f"- scaled to 0…1, less mean {list(preprocess.mean)}, divided by {list(preprocess.std)}")
    return rows


def _findings(report: DataReport) -> list[str]:
    rows = ["## Findings"]
    for what, cases in report.findings():
        rows += ["", f"{len(cases)} × {what}:", "", *(f"- {_cell(case)}" for case in cases[:SHOWN_CASES])]
        if len(cases) > SHOWN_CASES:
            rows.append(f"- … and {len(cases) - SHOWN_CASES} more (all are in `data.json`)")
    if report.notes:
        rows += ["", "Notes:", "", *(f"- {_cell(note)}" for note in report.notes)]
    return rows if len(rows) > 1 else [*rows, "", "None."]
