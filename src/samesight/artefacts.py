"""A recipe carried out: each network built on one split, and every artefact under the recipe's name for it.

OUT/photos holds the checked and split photos, OUT/<file> each network's run with its bundle and report, and
OUT itself the artefacts. What is complete is not done again, so that a stopped recipe goes on.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from samesight import comparison, rehearsal
from samesight.build import Built, build
from samesight.bundle import open_bundle
from samesight.data.photos import PhotoOptions
from samesight.data.prepare import SplitOptions, prepare
from samesight.errors import InputError, SamesightError
from samesight.export import ExportOptions
from samesight.export.samplelog import LoggedNetwork, write_sample_log
from samesight.files import write_file
from samesight.pictureoptions import PictureOptions
from samesight.progress import say
from samesight.recipes import Network, Recipe, Training
from samesight.rust import find_program, prove_in_rust
from samesight.training import AugmentOptions, TrainConfig, color_jitter, open_run

__all__ = ["RecipeOptions", "RecipeResult", "run_recipe"]


@dataclass(frozen=True)
class RecipeOptions:
    """What the command line adds to a recipe."""

    photos: str | None = None
    out: Path | None = None  # None: runs/<the recipe's name>
    photo_options: PhotoOptions = PhotoOptions()  # noqa: RUF009  # frozen
    weights: Mapping[str, str] | None = None  # by model
    only: tuple[str, ...] = ()
    epochs: int | None = None
    head_epochs: int | None = None
    offline: bool = False
    rehearsal: bool = False  # see samesight.rehearsal


@dataclass(frozen=True)
class RecipeResult:
    """What a recipe made: a chain for each network, and the artefacts in the output folder."""

    out: Path
    built: Mapping[str, Built]  # by the network's file name
    artefacts: tuple[Path, ...]
    missed: tuple[str, ...]  # networks that missed their target, in words
    failed: Mapping[str, str]  # networks that could not be built, by file name, and why
    rehearsal: bool = False  # its accuracies mean nothing

    @property
    def ok(self) -> bool:
        """Whether every bundle is proved and every target met."""
        return not self.missed and not self.failed and all(one.verification.ok for one in self.built.values())

    def to_json(self) -> dict[str, Any]:
        """The object that `samesight run --json` prints."""
        return {
            "ok": self.ok,
            "rehearsal": self.rehearsal,
            "out": str(self.out),
            "networks": {name: one.to_json() for name, one in self.built.items()},
            "artefacts": [str(path) for path in self.artefacts],
            "missed": list(self.missed),
            "failed": dict(self.failed),
        }


def run_recipe(recipe: Recipe, options: RecipeOptions) -> RecipeResult:
    """Carry out `recipe`; a network that cannot be built does not keep the others from being built.

    Raises InputError and PhotosError where the recipe has no photos, or none that can be used.
    """
    called = f"{recipe.name}-rehearsal" if options.rehearsal else recipe.name
    out = options.out or Path("runs") / called
    networks = _chosen(recipe, options)
    source = options.photos or recipe.photos
    if source is None:
        raise InputError("the recipe names no photos", fix=f"samesight run {recipe.name} --photos PHOTOS")
    say(recipe.title)
    given = options.photo_options
    photo_options = replace(
        given,
        group=given.group or recipe.split.group,
        label_column=given.label_column or recipe.reading.label_column,
        label_style=recipe.reading.label_style if given.label_style == "as-is" else given.label_style,
    )
    split = SplitOptions(recipe.split.seed, recipe.split.test, recipe.split.val)
    if options.rehearsal:
        say(rehearsal.WORDS)
        source, photo_options = rehearsal.few_photos(source, photo_options, out / "few"), PhotoOptions()
    prepare(source, photo_options, split, out / "photos")
    built: dict[str, Built] = {}
    failed: dict[str, str] = {}
    for network in networks:
        say(f"== {network.model}")
        try:
            config, export = _config(recipe, network, options, out), _export(recipe, out / network.file)
            if options.rehearsal:
                config = rehearsal.shortened(config, out / f"{network.file}-untrained.pth")
            built[network.file] = build(config, export)
        except SamesightError as error:
            say(f"error: {error}")
            failed[network.file] = str(error)
    done = [network for network in networks if network.file in built]
    artefacts = tuple(_write_artefacts(recipe, done, built, out)) if done else ()
    if recipe.artefacts.rust:
        for network in done:
            path = out / recipe.artefacts.rust.format(file=network.file)
            if words := _prove_in_rust(built[network.file], path):
                failed[network.file] = words
            artefacts += (path,) if path.exists() else ()
    missed = () if options.rehearsal else tuple(_missed(done, built))
    return RecipeResult(out, built, artefacts, missed, failed, options.rehearsal)


def _chosen(recipe: Recipe, options: RecipeOptions) -> list[Network]:
    models = [network.model for network in recipe.networks]
    for name in (*options.only, *(options.weights or {})):
        if name not in models:
            raise InputError("the recipe has no such network", expected=", ".join(models), found=name)
    return [network for network in recipe.networks if not options.only or network.model in options.only]


def _config(recipe: Recipe, network: Network, options: RecipeOptions, out: Path) -> TrainConfig:
    return TrainConfig(
        photos=str(out / "photos"),
        model=network.model,
        out=out / network.file,
        weights=(options.weights or {}).get(network.model, network.weights),
        pictures=PictureOptions(resize=network.resize, crop=network.crop),
        split=SplitOptions(recipe.split.seed, recipe.split.test, recipe.split.val),
        offline=options.offline,
        epochs=network.epochs if options.epochs is None else options.epochs,
        head_epochs=network.head_epochs if options.head_epochs is None else options.head_epochs,
        batch=network.batch,
        lr=network.lr,
        augment=_augment(recipe.training),
        train=recipe.training.train,
        optimizer=recipe.training.optimizer,
        schedule=recipe.training.schedule,
        step_every=recipe.training.step_every,
        weight_decay=recipe.training.weight_decay,
        label_smoothing=recipe.training.label_smoothing,
        sampler=recipe.training.sampler,
        class_weights=recipe.training.class_weights,
        average=recipe.training.average,
        patience=recipe.training.patience,
        seed=recipe.split.seed,
        target=network.target,
        resume=True,
    )


def _augment(training: Training) -> AugmentOptions:
    return AugmentOptions(
        crop=training.crop_mode,
        flip=training.flip,
        vertical_flip=training.vertical_flip,
        color_jitter=color_jitter(training.color_jitter),
        policy=training.auto_augment,
        erasing=training.random_erasing,
        mixup=training.mixup,
        cutmix=training.cutmix,
    )


def _export(recipe: Recipe, run: Path) -> ExportOptions:
    asked = recipe.export
    return ExportOptions(
        name=f"{recipe.name}-{run.name}",
        opset=asked.opset,
        batch=None if asked.batch == "dynamic" else int(asked.batch),
        copies=asked.copies,
        fp16_input=cast('Literal["float32", "float16"]', asked.fp16_input),
        replace=True,
    )


def _missed(networks: Sequence[Network], built: Mapping[str, Built]) -> Iterator[str]:
    for network in networks:
        reached = built[network.file].training.test_accuracy
        if network.target is not None and reached < network.target:
            yield f"{network.model}: {reached:.1%} of the held-out photos right, {network.target:.1%} wanted"


def _write_artefacts(
    recipe: Recipe, networks: Sequence[Network], built: Mapping[str, Built], out: Path
) -> Iterator[Path]:
    """Write every artefact that the recipe names; the path of each."""
    names = recipe.artefacts
    first = built[networks[0].file]
    if names.notes:
        yield _copy(first.training.run / "dataset_preparation_notes.md", out / names.notes)
    if names.labels:
        yield _copy(first.bundle.folder / "labels_mapping.json", out / names.labels)
    for network in networks:
        one = built[network.file]
        if names.checkpoint:
            name = _checkpoint(names.checkpoint, network, one)
            yield _copy(one.training.run / "checkpoints" / "best.pth", out / name)
        if names.onnx:
            for copy in one.bundle.copies:
                name = names.onnx.format(file=network.file, copy=copy.name)
                yield _copy(one.bundle.folder / copy.file, out / name)
    if names.table:
        write_file(out / names.table, _table(recipe, networks, built))
        yield out / names.table
    if names.costs:
        yield from _write_costs(networks, built, out / names.costs)
    if names.sample_log:
        logged = [
            LoggedNetwork(n.file, built[n.file].training.run, built[n.file].bundle.folder) for n in networks
        ]
        write_sample_log(logged, out / names.sample_log, names.samples_per_class, recipe.split.seed)
        yield from (out / names.sample_log, (out / names.sample_log).with_suffix(".json"))


def _prove_in_rust(built: Built, path: Path) -> str:
    """Have the bundle proved by samesight-rs and write what it says; what is wrong, in words, or nothing.

    A machine without the program has nothing wrong with its bundle: a line says what is left out.
    """
    if find_program() is None:
        say(f"note: {path.name} is left out, as there is no samesight-rs here: make rust")
        return ""
    found = prove_in_rust(built.bundle.folder)
    write_file(path, found)
    return "" if json.loads(found)["ok"] else f"samesight-rs finds a difference: {path}"


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


def _table(recipe: Recipe, networks: Sequence[Network], built: Mapping[str, Built]) -> str:
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
            if row["copy"] == "pytorch" and checkpoint:
                row["file"] = _checkpoint(checkpoint, network, built[network.file])
            elif row["copy"] != "pytorch" and onnx:
                row["file"] = onnx.format(file=network.file, copy=row["copy"])
            writer.writerow(row)
    return text.getvalue()
