"""A recipe carried out: each network built on one split, and every artefact under the recipe's name for it.

OUT/photos holds the checked and split photos, OUT/<file> each network's run with its bundle and report, and
OUT itself the artefacts. What is complete is not done again, so that a stopped recipe goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from samesight import rehearsal
from samesight.artefacts import write_artefacts
from samesight.build import Built, Converted, build, convert
from samesight.data.photos import PhotoOptions
from samesight.data.prepare import SplitOptions, prepare
from samesight.encrypted import encrypt
from samesight.errors import InputError, SamesightError
from samesight.export import CheckpointSource, ExportOptions
from samesight.files import write_file
from samesight.pictureoptions import PictureOptions
from samesight.progress import say
from samesight.recipes import Network, Recipe, Study, Training
from samesight.rust import find_program, prove_in_rust
from samesight.subsetstudy import study_subset
from samesight.training import AugmentOptions, TrainConfig, color_jitter

__all__ = ["RecipeOptions", "RecipeResult", "run_recipe"]


@dataclass(frozen=True)
class RecipeOptions:
    """What the command line adds to a recipe."""

    photos: str | None = None
    subset: str | None = None  # of ImageNet, for the recipe's study
    out: Path | None = None  # None: runs/<the recipe's name>
    photo_options: PhotoOptions = PhotoOptions()  # noqa: RUF009  # frozen
    weights: Mapping[str, str] | None = None  # by model
    only: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None  # of checkpoints, in the place of the recipe's
    epochs: int | None = None
    head_epochs: int | None = None
    offline: bool = False
    rehearsal: bool = False  # see samesight.rehearsal
    secure: bool = True  # what the recipe does under encryption


@dataclass(frozen=True)
class RecipeResult:
    """What a recipe made: a chain for each network, and the artefacts in the output folder."""

    out: Path
    built: Mapping[str, Built | Converted]  # by the network's file name
    artefacts: tuple[Path, ...]
    missed: tuple[str, ...]  # networks that missed their target, in words
    failed: Mapping[str, str]  # what could not be done, by file name, and why
    rehearsal: bool = False  # its accuracies mean nothing
    left_out: tuple[str, ...] = ()  # in words

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
            "left_out": list(self.left_out),
        }


def run_recipe(recipe: Recipe, options: RecipeOptions) -> RecipeResult:
    """Carry out `recipe`; a network that cannot be built does not keep the others from being built.

    Raises InputError and PhotosError where the recipe has no photos, or none that can be used.
    """
    called = f"{recipe.name}-rehearsal" if options.rehearsal else recipe.name
    out = options.out or Path("runs") / called
    networks = _chosen(recipe, options)
    source = options.photos or recipe.photos
    has_study = recipe.study != Study()
    if options.subset is not None and not has_study:
        raise InputError("the recipe has no [study]", found=options.subset, fix="leave --subset out")
    if source is None and options.subset is None:
        more = " or --subset IMAGENET_SUBSET" if has_study else ""
        fix = f"samesight run {recipe.name} --photos PHOTOS{more}"
        raise InputError("the recipe names no photos", fix=fix)
    built: dict[str, Built | Converted] = {}
    failed: dict[str, str] = {}
    artefacts: list[Path] = []
    if source is not None:
        say(recipe.title)
        built = _build(recipe, networks, options, source, out, failed)
        done = [network for network in networks if network.file in built]
        artefacts += write_artefacts(recipe, done, built, out) if done else ()
    if options.subset is not None:
        artefacts += _study(recipe, options, options.subset, out, failed)
    elif has_study:
        say("The recipe's study of pretrained networks is left out: --subset IMAGENET_SUBSET asks for it")
    done = [network for network in networks if network.file in built]
    missed = [] if options.rehearsal else list(_missed(done, built))
    in_rust, differing, left_out = _prove_in_rust(recipe, done, built, out)
    artefacts += in_rust
    failed |= differing
    if options.secure:
        trained = {name: one for name, one in built.items() if isinstance(one, Built)}
        found = encrypt(recipe, done, trained, out, few=options.rehearsal)
        artefacts += found.artefacts
        missed += [] if options.rehearsal else found.missed
        left_out += found.left_out
        failed |= found.failed
    return RecipeResult(
        out, built, tuple(artefacts), tuple(missed), failed, options.rehearsal, tuple(left_out)
    )


def _build(
    recipe: Recipe,
    networks: Sequence[Network],
    options: RecipeOptions,
    source: str,
    out: Path,
    failed: dict[str, str],
) -> dict[str, Built | Converted]:
    """The chain of each network, by its file's name; why one could not be built goes into `failed`."""
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
    if recipe.checkpoints is None:
        prepare(source, photo_options, split, out / "photos")
    built: dict[str, Built | Converted] = {}
    for network in networks:
        say(f"== {network.model}")
        try:
            config, export = _config(recipe, network, options, out), _export(recipe, out / network.file)
            if recipe.checkpoints is not None:
                checkpoint = _checkpoint_source(recipe, network, options, config, source, photo_options)
                built[network.file] = convert(checkpoint, out / network.file, export)
                continue
            if options.rehearsal:
                config = rehearsal.shortened(config, out / f"{network.file}-untrained.pth", source)
            built[network.file] = build(config, export)
        except SamesightError as error:
            say(f"error: {error}")
            failed[network.file] = str(error)
    return built


def _study(
    recipe: Recipe, options: RecipeOptions, subset: str, out: Path, failed: dict[str, str]
) -> list[Path]:
    """What the study wrote; why it could not be made goes into `failed`."""
    written: list[Path] = []
    try:
        written.extend(
            study_subset(
                recipe.study,
                recipe.artefacts,
                subset,
                options.photo_options if options.photos is None else PhotoOptions(),
                out,
                weights=options.weights or {},
                download=not options.offline,
                rehearsal=options.rehearsal,
            )
        )
    except SamesightError as error:
        say(f"error: {error}")
        failed["study"] = str(error)
    return written


def _chosen(recipe: Recipe, options: RecipeOptions) -> list[Network]:
    models = [network.model for network in recipe.networks]
    studied = {*recipe.study.zoo, recipe.study.quantize} - {None}
    for name in (*options.only, *(options.weights or {})):
        if name not in models and (name in options.only or name not in studied):
            raise InputError("the recipe has no such network", expected=", ".join(models), found=name)
    return [network for network in recipe.networks if not options.only or network.model in options.only]


def _checkpoint_source(
    recipe: Recipe,
    network: Network,
    options: RecipeOptions,
    config: TrainConfig,
    source: str,
    photo_options: PhotoOptions,
) -> CheckpointSource:
    """The network's checkpoint; in a rehearsal without one, a stand-in that knows the photos."""
    assert recipe.checkpoints is not None
    labels = options.labels or recipe.checkpoints.labels
    checkpoint = (options.weights or {}).get(network.model)
    if checkpoint is None and options.rehearsal:
        say(f"a stand-in for the checkpoint of {network.model} is made, from random weights")
        file = (config.out or Path()) / "stand-in.pth"
        labels = rehearsal.write_stand_in(network.model, config.pictures, source, file, recipe.split.seed)
        checkpoint = str(file)
    if checkpoint is None:
        raise InputError(
            f"the recipe converts a checkpoint of {network.model}, and none is named",
            fix=f"samesight run {recipe.name} --weights {network.model}=FILE.pth",
        )
    return CheckpointSource(
        model=network.model,
        checkpoint=Path(checkpoint),
        labels=labels,
        samples=source,
        preprocess=config.pictures,
        photos=photo_options,
    )


def _config(recipe: Recipe, network: Network, options: RecipeOptions, out: Path) -> TrainConfig:
    return TrainConfig(
        photos=str(out / "photos"),
        model=network.model,
        out=out / network.file,
        weights=(options.weights or {}).get(network.model, network.weights),
        pictures=PictureOptions(
            resize=network.resize, crop=network.crop, interpolation=network.interpolation
        ),
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


def _missed(networks: Sequence[Network], built: Mapping[str, Built | Converted]) -> Iterator[str]:
    for network in networks:
        one = built[network.file]
        if isinstance(one, Converted) or network.target is None:
            continue
        reached = one.training.test_accuracy
        if reached < network.target:
            yield f"{network.model}: {reached:.1%} of the held-out photos right, {network.target:.1%} wanted"


def _prove_in_rust(
    recipe: Recipe, networks: Sequence[Network], built: Mapping[str, Built | Converted], out: Path
) -> tuple[list[Path], dict[str, str], list[str]]:
    """What samesight-rs says of each bundle, as files; in words where it differs, and what is left out."""
    written: list[Path] = []
    failed: dict[str, str] = {}
    if recipe.artefacts.rust is None or not networks:
        return written, failed, []
    if find_program() is None:
        return written, failed, ["the proof in Rust: there is no samesight-rs here (make rust)"]
    for network in networks:
        path = out / recipe.artefacts.rust.format(file=network.file)
        found = prove_in_rust(built[network.file].bundle.folder)
        write_file(path, found)
        written.append(path)
        if not json.loads(found)["ok"]:
            failed[network.file] = f"samesight-rs finds a difference: {path}"
    return written, failed, []
