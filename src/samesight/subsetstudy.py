"""A recipe's study of pretrained networks over an ImageNet subset: PyTorch's int8, and a dozen compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from samesight.bench import Options, Photos, document
from samesight.bench.plots import plot_zoo
from samesight.bench.zoo import bench_zoo
from samesight.bench.zoo import csv_text as zoo_text
from samesight.data.labels import bind, imagenet_classes
from samesight.data.photos import PhotoOptions, open_photos
from samesight.files import write_file, write_json
from samesight.progress import say
from samesight.quantize.study import StudyOptions, study, subject_of
from samesight.quantize.study.files import StudyNames, write_study
from samesight.recipes import Artefacts, Study

__all__ = ["study_subset"]

ENGINES, MODES = ("onnxruntime",), ("shared",)


def study_subset(
    asked: Study,
    names: Artefacts,
    source: str,
    photo_options: PhotoOptions,
    out: Path,
    *,
    weights: Mapping[str, str] = {},
    download: bool = False,
    rehearsal: bool = False,
) -> Iterator[Path]:
    """Write what the recipe's section [study] asks for into `out`; the path of each file, as it is written.

    `weights` are files by network; others are torchvision's own, from its cache, and only with `download`
    from the network. Raises InputError, CheckpointError, PhotosError.
    """
    if asked.quantize is not None:
        say(f"== {asked.quantize}, quantised by PyTorch")
        subject = subject_of(asked.quantize, weights.get(asked.quantize), download=download)
        options = StudyOptions(calibration_batches=asked.calibration_batches, photos=photo_options)
        if rehearsal:
            options = StudyOptions(batches=(1, 2), most_photos=10, rounds=1, seconds=0, photos=photo_options)
        usual = StudyNames()
        chosen = StudyNames(
            json=str(Path(names.quantization or usual.csv).with_suffix(".json")),
            csv=names.quantization or usual.csv,
            dynamic=names.dynamic_plot or usual.dynamic,
            static=names.static_plot or usual.static,
        )
        yield from write_study(study(subject, source, options), out, chosen)
    if asked.zoo:
        say("== pretrained networks")
        yield from _zoo(asked, names, source, photo_options, out, weights, download, rehearsal)


def _zoo(
    asked: Study,
    names: Artefacts,
    source: str,
    photo_options: PhotoOptions,
    out: Path,
    weights: Mapping[str, str],
    download: bool,
    rehearsal: bool,
) -> Iterator[Path]:
    photos = open_photos(source, photo_options)
    targets = bind(photos, [name for _, name in imagenet_classes()])
    paths = [photo.path for photo in photos.items]
    options = Options(engines=ENGINES, modes=MODES)
    if rehearsal:
        options = Options((1, 2), ENGINES, modes=MODES, rounds=1, seconds=0, least_calls=1)
        paths, targets = paths[:10], targets[:10]
    rows, left_out = bench_zoo(
        asked.zoo, options, photos=Photos(paths, targets), weights=weights, download=download
    )
    table = out / (names.zoo or "zoo.csv")
    words = f"{len(paths)} of {Path(source).name}"
    found = document(options, photos=words, bundles=[], zoo=rows, zoo_left_out=left_out)
    write_json(table.with_suffix(".json"), found)
    write_file(table, zoo_text(rows))
    yield from (table.with_suffix(".json"), table, plot_zoo(rows, table.with_suffix(".png")))
