"""Settings at the start of a run: made absolute, checked against the run that is there, taken from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from samesight.data.photos import PhotoOptions
from samesight.data.prepare import SplitOptions, is_prepared
from samesight.errors import InputError
from samesight.models.own import is_own
from samesight.pictureoptions import PictureOptions
from samesight.training.augment import AugmentOptions
from samesight.training.config import TrainConfig
from samesight.training.run import open_run

__all__ = ["begin", "default_out"]

ARCHIVE_SUFFIXES = (".tar.gz", ".tar.xz", ".tar.bz2", ".zip", ".tgz", ".tar", ".csv")
PREPARED_FILES = (
    "data.json",
    "labels_mapping.json",
    "class_distribution.csv",
    "dataset_preparation_notes.md",
)
NEVER_RESUMED = (
    "out",
    "resume",
    "target",
    "offline",
    "device",
    "threads",
    "tensorboard",
)  # may differ each time


def default_out(config: TrainConfig) -> Path:
    """runs/<photos' name>-<model's name>."""
    if config.photos is None:
        raise InputError("there are no photos to train on", fix="samesight train PHOTOS")
    photos = Path(config.photos.rstrip("/").rpartition("#")[0] or config.photos).name
    for suffix in ARCHIVE_SUFFIXES:
        photos = photos.removesuffix(suffix)
    model = config.model.rpartition(":")[2] if is_own(config.model) else config.model.replace("/", "-")
    return Path("runs") / f"{photos or 'photos'}-{model}"


def begin(config: TrainConfig, out: Path) -> TrainConfig:
    """The settings to train with; with --resume and a run in `out`, that run's.

    Raises InputError where `out` is taken and not to be resumed, or was trained with other settings.
    """
    config = _absolute(config)
    if (out / "run.json").is_file():
        if config.resume:
            return _resumed(config, out)
        raise InputError(
            "there is a run in the folder already",
            where=out,
            fix="--resume to go on with it, or another --out",
        )
    if config.photos is None:
        fix = f"samesight train PHOTOS --out {out}"
        raise InputError("there are no photos to train on", where=out, fix=fix)
    if out.exists() and not is_prepared(out) and not (config.resume and _is_barely_begun(out)):
        raise InputError("there is something at the output path already", where=out, fix="another --out")
    return config


def _is_barely_begun(out: Path) -> bool:
    """Whether `out` holds no more than a run that was stopped while its photos were being prepared."""
    return out.is_dir() and all(f.name in PREPARED_FILES or f.name.startswith(".") for f in out.iterdir())


def _resumed(config: TrainConfig, out: Path) -> TrainConfig:
    """The recorded settings, with what may differ taken from `config`."""
    recorded = _from_json(open_run(out).value.get("settings"), out)
    given = set(config.given()) - set(NEVER_RESUMED)
    differs = [
        f"{name}: {getattr(recorded, name)} (asked for: {getattr(config, name)})"
        for name in sorted(given)
        if getattr(recorded, name) != getattr(config, name)
    ]
    if differs:
        raise InputError(
            "the run was begun with other settings",
            where=out,
            found="; ".join(differs),
            fix=f"samesight train --resume --out {out}",
        )
    return replace(
        recorded,
        out=config.out,
        resume=True,
        target=config.target,
        offline=config.offline,
        device=config.device if config.device != "auto" else recorded.device,
        threads=config.threads or recorded.threads,
        tensorboard=config.tensorboard or recorded.tensorboard,
    )


def _from_json(value: Any, out: Path) -> TrainConfig:
    try:
        fields = dict(value)
        fields["pictures"] = PictureOptions(**fields["pictures"])
        fields["photo_options"] = PhotoOptions.from_json(fields["photo_options"])
        fields["split"] = SplitOptions(**fields["split"])
        fields["augment"] = AugmentOptions.from_json(fields["augment"])
        return TrainConfig(**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("run.json is not as Samesight writes it", where=out, found=repr(error)) from error


def _absolute(config: TrainConfig) -> TrainConfig:
    """`config` with paths that are found from any folder."""
    photos, weights, model = config.photos, config.weights, config.model
    if photos is not None and "://" not in photos:
        photos = str(Path(photos).expanduser().absolute())
    if weights is not None and Path(weights).expanduser().is_file():
        weights = str(Path(weights).expanduser().absolute())
    if is_own(model) and ":" in model:
        file, _, name = model.rpartition(":")
        model = f"{Path(file).expanduser().absolute()}:{name}"
    return replace(config, photos=photos, weights=weights, model=model)
