"""What a recipe leaves: every artefact under the recipe's name for it."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from samesight import comparison
from samesight.build import Built, Converted
from samesight.bundle import open_bundle
from samesight.export.samplelog import LoggedNetwork, write_sample_log
from samesight.files import json_text, sha256_file, write_file
from samesight.recipes import Network, Recipe
from samesight.training import open_run
from samesight.web.site import write_site

__all__ = ["write_artefacts"]


def write_artefacts(
    recipe: Recipe, networks: Sequence[Network], built: Mapping[str, Built | Converted], out: Path
) -> Iterator[Path]:
    """Write every artefact that the recipe names; the path of each."""
    names = recipe.artefacts
    bundle = built[networks[0].file].bundle
    if names.labels:
        yield _copy(bundle.folder / "labels_mapping.json", out / names.labels)
    if names.onnx:
        for network in networks:
            one = built[network.file].bundle
            for copy in one.copies:
                name = names.onnx.format(file=network.file, copy=copy.name)
                yield _copy(one.folder / copy.file, out / name)
    if names.table:
        write_file(out / names.table, _table(recipe, networks, built))
        yield out / names.table
    trained = {name: one for name, one in built.items() if isinstance(one, Built)}
    if trained:
        yield from _write_of_training(recipe, networks, trained, out)
    yield from _write_documents(recipe, networks, built, out)
    if names.site:
        yield write_site(bundle, out / names.site, replace=True).folder


def _write_of_training(
    recipe: Recipe, networks: Sequence[Network], built: Mapping[str, Built], out: Path
) -> Iterator[Path]:
    """The artefacts that only a training leaves."""
    names = recipe.artefacts
    if names.notes:
        first = built[networks[0].file].training.run
        yield _copy(first / "dataset_preparation_notes.md", out / names.notes)
    if names.checkpoint:
        for network in networks:
            one = built[network.file]
            name = _checkpoint(names.checkpoint, network, one)
            yield _copy(one.training.run / "checkpoints" / "best.pth", out / name)
    if names.costs:
        yield from _write_costs(networks, built, out / names.costs)
    if names.sample_log:
        logged = [
            LoggedNetwork(n.file, built[n.file].training.run, built[n.file].bundle.folder) for n in networks
        ]
        write_sample_log(logged, out / names.sample_log, names.samples_per_class, recipe.split.seed)
        yield from (out / names.sample_log, (out / names.sample_log).with_suffix(".json"))


def _write_documents(
    recipe: Recipe, networks: Sequence[Network], built: Mapping[str, Built | Converted], out: Path
) -> Iterator[Path]:
    """The bundles' documents as one each, every ONNX file by its artefact's name."""
    names = recipe.artefacts
    info: dict[str, Any] = {}
    checksums: dict[str, str] = {}
    summaries: list[str] = []
    for network in networks:
        bundle = built[network.file].bundle
        said = json.loads(bundle.read("model_info.json"))
        models = said.pop("models")
        summary = bundle.read("CONVERSION_SUMMARY.md").decode()
        for copy in bundle.copies:
            name = Path((names.onnx or "{file}_{copy}.onnx").format(file=network.file, copy=copy.name)).name
            info[name] = {**said, **models[copy.name], "file": name}
            checksums[name] = sha256_file(bundle.folder / copy.file)
            summary = summary.replace(copy.file, name)
        summaries.append(summary.replace("# ONNX model", f"# {network.file}: ONNX model", 1))
    texts = (
        (names.info, json_text({"models": info})),
        (names.checksums, json_text(checksums)),
        (names.summary, "\n---\n\n".join(summaries)),
    )
    for place, text in texts:
        if place:
            write_file(out / place, text)
            yield out / place


def _checkpoint(pattern: str, network: Network, built: Built) -> str:
    """The name of a network's checkpoint."""
    return pattern.format(file=network.file, accuracy=f"{round(1e4 * built.training.test_accuracy):04d}")


def _copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, aside)
    aside.replace(target)
    return target


def _write_costs(networks: Sequence[Network], built: Mapping[str, Built], path: Path) -> Iterator[Path]:
    """Write what each network costs and how right it is, as CSV and in Markdown; the paths."""
    rows: list[comparison.Row] = []
    for network in networks:
        one = built[network.file]
        run = open_run(one.training.run)
        size, classes = run.preprocess.size, len(run.labels)
        if network.published:
            rows.append(comparison.published_row(network.model))
        accuracy, photos = one.training.test_accuracy, one.training.test_photos
        rows.append(comparison.trained_row(network.model, size, classes, accuracy, photos))
    for place, text in ((path, comparison.as_csv), (path.with_suffix(".md"), comparison.as_markdown)):
        write_file(place, text(rows))
        yield place


def _table(recipe: Recipe, networks: Sequence[Network], built: Mapping[str, Built | Converted]) -> str:
    """The bundles' tables of accuracy and size as one, each file under its artefact's name."""
    text = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for network in networks:
        bundle = open_bundle(built[network.file].bundle.folder)
        rows = csv.DictReader(io.StringIO(bundle.read("accuracy_and_model_size.csv").decode()))
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(text, list(row), lineterminator="\n")
                writer.writeheader()
            checkpoint, onnx = recipe.artefacts.checkpoint, recipe.artefacts.onnx
            one = built[network.file]
            if row["copy"] == "pytorch" and checkpoint and isinstance(one, Built):
                row["file"] = _checkpoint(checkpoint, network, one)
            elif row["copy"] != "pytorch" and onnx:
                row["file"] = onnx.format(file=network.file, copy=row["copy"])
            writer.writerow(row)
    return text.getvalue()
