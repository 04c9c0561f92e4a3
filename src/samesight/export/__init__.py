"""From a trained network to a bundle that is whole, proved, or not there.

Network → copies in a folder aside → each copy beside PyTorch on real photos → golden samples → documents →
sealed → opened and verified as any user would → renamed to its place. Nothing is proved on random numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from samesight import __version__
from samesight.bundle import BundleInfo, Copy, open_bundle, seal, write_bundle
from samesight.bundle.format import NAME, VERSION
from samesight.data.photos import PhotoOptions
from samesight.errors import ExportError, InputError
from samesight.evaluate import photo_logits, photos_sha256
from samesight.export.copies import COPIES, REFERENCE, Comparison, WrittenCopy, compare, write_copies
from samesight.export.documents import Weights, write_documents
from samesight.export.onnxfile import DEFAULT_OPSET, FileForm
from samesight.export.source import (
    CheckpointSource,
    Source,
    open_samples,
    source_of_checkpoint,
    source_of_run,
)
from samesight.progress import say
from samesight.runners import open_runners
from samesight.verify import verify
from samesight.verify.golden import (
    LIMIT,
    Candidate,
    Golden,
    choose,
    read_golden,
    samples_per_class,
    write_golden,
)

__all__ = [
    "CheckpointSource",
    "ExportOptions",
    "export_checkpoint",
    "export_run",
]


@dataclass(frozen=True)
class ExportOptions:
    """How a bundle is written; the defaults suit every network."""

    name: str | None = None  # of the bundle; None: of the run, or of the model
    version: str = "1.0.0"
    opset: int = DEFAULT_OPSET
    batch: int | None = None  # None: any number of photos at a time
    copies: tuple[str, ...] = ("fp32", "fp16")
    fp16_input: Literal["float32", "float16"] = "float32"
    golden: Path | None = None  # photos to carry; None: of those that the copies are compared on
    publishable: bool | None = None  # None: yes where `golden` names the photos, else no
    golden_per_class: int | None = None
    license: str | None = None  # of the weights
    seed: int = 42
    replace: bool = False

    def __post_init__(self) -> None:
        """Raise InputError for what no bundle can be, before any work is done."""
        unknown = [name for name in self.copies if name not in COPIES]
        if unknown or not self.copies or len(set(self.copies)) < len(self.copies):
            raise InputError(
                "there are no such copies", expected=", ".join(COPIES), found=", ".join(self.copies) or "none"
            )
        if self.copies[0] != "fp32":
            raise InputError(
                "the fp32 copy comes first: the others are made from it, and judged beside it",
                found=", ".join(self.copies),
                fix="--copies fp32,fp16",
            )
        for what, pattern, value in (("name", NAME, self.name), ("version", VERSION, self.version)):
            if value is not None and not re.fullmatch(pattern, value):
                example = "1.0.0" if what == "version" else "letters, digits, '.', '_', '-'"
                raise InputError(f"a bundle cannot have this {what}", expected=example, found=value)
        if self.fp16_input not in ("float32", "float16"):
            raise InputError(
                "the fp16 copy cannot take this", expected="float32 or float16", found=self.fp16_input
            )
        if self.golden_per_class is not None and self.golden_per_class < 1:
            raise InputError("golden samples are at least one a class", found=self.golden_per_class)


def export_run(run: Path, out: Path, options: ExportOptions = ExportOptions()) -> Path:
    """`out`, a bundle of the best network of the run folder `run`.

    Raises CopyError where a copy does not give PyTorch's answer; ExportError, InputError and others where the
    bundle cannot be made. Then nothing is at `out` that was not there before.
    """
    _check_out(out, options)
    return _export(source_of_run(Path(run)), Path(out), options)


def export_checkpoint(
    checkpoint: CheckpointSource,
    out: Path,
    options: ExportOptions = ExportOptions(),
) -> Path:
    """`out`, a bundle of a checkpoint that was trained elsewhere. Raises as `export_run` does."""
    _check_out(out, options)
    return _export(source_of_checkpoint(checkpoint), Path(out), options)


def _check_out(out: Path, options: ExportOptions) -> None:
    """Refuse before the work what `write_bundle` would refuse after it."""
    if Path(out).exists() and not options.replace:
        raise InputError(
            "there is something at the output path already", where=out, fix="--replace, or another --out"
        )


def _export(source: Source, out: Path, options: ExportOptions) -> Path:
    form = FileForm(source.preprocess.size, options.opset, options.batch)
    with write_bundle(out, replace=options.replace) as folder:
        say(f"Writing {', '.join(options.copies)} at opset {options.opset}")
        copies = write_copies(folder, source, form, options.copies, options.fp16_input)
        comparison = compare(source, copies)
        golden, record = _write_golden(folder, source, copies, comparison, options)
        info = _info(source, copies, comparison, record, options)
        write_documents(folder, info, Weights(source.checkpoint.name, source.checkpoint.stat().st_size))
        seal(folder, info)
        say(f"Verifying the bundle on its {len(golden.samples)} golden samples")
        _prove(folder)
    return out


def _write_golden(
    folder: Path,
    source: Source,
    copies: Sequence[WrittenCopy],
    comparison: Comparison,
    options: ExportOptions,
) -> tuple[Golden, dict[str, Any]]:
    """The golden samples, after they were written, and what bundle.json says of them.

    Raises ExportError where no photo has an answer clear enough to prove anything.
    """
    samples, rows = comparison.samples, comparison.test.logits
    read: NDArray[np.int64] = comparison.test.read
    if options.golden is not None:
        samples, _ = open_samples(options.golden, PhotoOptions(), source.labels, "--golden")
        found = photo_logits(comparison.runners, samples.paths, source.preprocess, what="Golden photos")
        rows, read = found.logits, found.read
    candidates = [
        Candidate(
            path=samples.paths[at],
            label=_label(source, samples.targets[at]),
            logits={name: logits[row] for name, logits in rows.items()},
        )
        for row, at in enumerate(read)
    ]
    tolerances = {copy.name: copy.tolerance for copy in copies}
    per_class = options.golden_per_class or samples_per_class(len(source.labels))
    chosen, without = choose(candidates, source.labels, tolerances, per_class, seed=options.seed)
    if not chosen:
        alone, _ = choose(candidates, source.labels, {"fp32": tolerances["fp32"]}, per_class)
        raise ExportError(
            "no photo has an answer clear enough to be a golden sample",
            where=samples.origin,
            expected="a margin of more than twice every copy's tolerance, and the same label in every copy",
            found=f"none of {len(candidates)} photos"
            + (f"; {len(alone)} for the fp32 copy alone" if alone else ""),
            fix="--copies fp32" if alone else "a trained network, and photos of its classes",
        )
    if without:
        some = ", ".join(without[:5]) + (" …" if len(without) > 5 else "")
        say(f"{len(without)} of {len(source.labels)} labels have no golden sample: {some}")
    golden = write_golden(
        folder, chosen, source.preprocess, source.labels, comparison.runners, per_class=per_class, limit=LIMIT
    )
    publishable = options.golden is not None if options.publishable is None else options.publishable
    return golden, {
        "publishable": publishable,
        "samples": len(golden.samples),
        "origin": samples.origin,
        "labels_without_sample": without,
    }


def _label(source: Source, target: int | None) -> str | None:
    return None if target is None else source.labels[target]


def _info(
    source: Source,
    copies: Sequence[WrittenCopy],
    comparison: Comparison,
    golden: Mapping[str, Any],
    options: ExportOptions,
) -> BundleInfo:
    """All that bundle.json says but its files."""
    batch: int | str = "batch" if options.batch is None else options.batch
    width, height = source.preprocess.size
    return BundleInfo(
        name=options.name or _bundle_name(source.name),
        version=options.version,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        labels=source.labels,
        preprocess=source.preprocess,
        input_shape=(batch, 3, height, width),
        output_shape=(batch, len(source.labels)),
        copies=tuple(
            Copy(
                name=copy.name,
                file=copy.file,
                precision=copy.name,
                opset=copy.opset,
                input_dtype=copy.edges,
                output_dtype=copy.edges,
                recorded=comparison.recorded[copy.name],
            )
            for copy in copies
        ),
        reference={
            "framework": f"pytorch {metadata.version('torch')}",
            "recorded": comparison.recorded[REFERENCE],
        },
        golden=golden,
        made={
            "by": f"samesight {__version__}",
            **source.made,
            "samples": source.test.origin,
            "test_photos_sha256": photos_sha256(_labelled_photos(comparison)),
            "golden_seed": options.seed,
            "opset": options.opset,
            "batch": batch,
            **{f"{copy.name}_layers_in_fp32": list(copy.wide) for copy in copies if copy.wide},
            "versions": _versions(),
        },
        license={"weights": options.license or source.license},
    )


def _labelled_photos(comparison: Comparison) -> list[Path]:
    """The photos that the recorded accuracies are of: those that could be read and have a true label."""
    samples = comparison.samples
    return [samples.paths[at] for at in comparison.test.read if samples.targets[at] is not None]


def _bundle_name(words: str) -> str:
    """`words` as a bundle's name: what is no letter, digit, '.', '_' or '-' becomes '-'."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", words).lstrip("._-")[:100] or "bundle"


def _versions() -> dict[str, str]:
    names = ("torch", "torchvision", "onnx", "onnxruntime", "numpy", "pillow")
    return {name: metadata.version(name) for name in names}


def _prove(folder: Path) -> None:
    """Open the bundle as any user would, and verify it. Raises ExportError where it is not as it says."""
    bundle = open_bundle(folder)
    runners = open_runners(bundle, ["onnxruntime"], [copy.name for copy in bundle.copies])
    found = verify(bundle, read_golden(bundle), runners)
    if not found.ok:
        raise ExportError(
            "the bundle that was written does not verify",
            found=found.first_difference or "not everything could be judged",
            fix="this should not be: please report it, with the command",
        )
