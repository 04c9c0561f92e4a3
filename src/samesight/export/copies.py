"""The copies of a network: written, run beside PyTorch on real photos, and held to their tolerances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from samesight.errors import CopyError, ExportError, InputError, PhotoError
from samesight.evaluate import PhotoLogits, accuracy, agreement, photo_logits
from samesight.export.onnxcheck import check_batches, check_survives, too_large_for_half
from samesight.export.onnxfile import OUTPUT, FileForm, write_onnx
from samesight.export.onnxhalf import to_half
from samesight.export.source import Samples, Source
from samesight.models import TorchRunner
from samesight.preprocess import Preprocess, preprocess, read_photo
from samesight.progress import say
from samesight.runner import Runner
from samesight.runtime import OnnxRunner
from samesight.verify.golden import MARGIN_FACTOR, margin
from samesight.verify.layers import first_differing_layer
from samesight.verify.tolerances import TOLERANCES, Tolerance, tolerance_for

__all__ = ["COPIES", "REFERENCE", "Comparison", "WrittenCopy", "compare", "write_copies"]

COPIES = {"fp32": "model.onnx", "fp16": "model.fp16.onnx"}
REFERENCE = "pytorch"
BATCH_PHOTOS = 5
WIDE_SHOWN = 5


@dataclass(frozen=True)
class WrittenCopy:
    """One ONNX file of the network, in the folder that becomes the bundle."""

    name: str
    file: str
    data: bytes
    opset: int
    edges: str  # the type of its input and its output
    wide: tuple[str, ...] = ()  # layers of a float16 copy that stay float32, as their values are too large

    @property
    def tolerance(self) -> Tolerance:
        """How far its logits may be from PyTorch's."""
        return tolerance_for(self.name)


@dataclass(frozen=True)
class Comparison:
    """PyTorch and every copy on the same photos: their logits, and what is recorded of each."""

    runners: tuple[Runner, ...]  # PyTorch first
    test: PhotoLogits
    samples: Samples
    recorded: Mapping[str, dict[str, float | int | None]]


def write_copies(
    folder: Path,
    source: Source,
    form: FileForm,
    copies: Sequence[str],
    fp16_edges: Literal["float32", "float16"],
) -> list[WrittenCopy]:
    """The copies, written into `folder`, each run at the batches that it promises. Raises ExportError."""
    tensors = _some_tensors(source.test, source.preprocess)
    whole = write_onnx(source.network, form)
    written = []
    for name in copies:
        if name == "fp32":
            copy = WrittenCopy(name, COPIES[name], whole, form.opset, "float32")
        else:
            data, wide = _half(whole, fp16_edges, tensors)
            copy = WrittenCopy(name, COPIES[name], data, form.opset, fp16_edges, wide)
        (folder / copy.file).write_bytes(copy.data)
        check_survives(folder / copy.file)
        # A float16 copy is judged on all the photos, by `compare`; here, only whether it takes the batches.
        allowed = copy.tolerance.absolute if name == "fp32" else None
        check_batches(copy.data, source.network, tensors, form, allowed)
        written.append(copy)
    return written


def _half(
    whole: bytes, edges: Literal["float32", "float16"], tensors: NDArray[np.float32]
) -> tuple[bytes, tuple[str, ...]]:
    """The float16 file, and the layers that stay float32 in it since their values would overflow."""
    half = to_half(whole, edges)
    wide = too_large_for_half(whole, half, tensors)
    if not wide:
        return half, ()
    layers = tuple(wide.values())
    some = ", ".join(layers[:WIDE_SHOWN]) + (" …" if len(layers) > WIDE_SHOWN else "")
    say(f"{len(layers)} layers of the fp16 copy stay float32, as their values are too large for it: {some}")
    return to_half(whole, edges, tuple(wide)), layers


def _some_tensors(samples: Samples, spec: Preprocess) -> NDArray[np.float32]:
    """The first few photos that can be read, (n, 3, h, w)."""
    tensors = []
    for path in samples.paths:
        try:
            tensors.append(preprocess(read_photo(path), spec))
        except PhotoError:
            continue
        if len(tensors) == BATCH_PHOTOS:
            break
    if not tensors:
        raise InputError(
            "none of the photos can be read", where=samples.origin, found=f"{len(samples.paths)}"
        )
    return np.stack(tensors)


def compare(source: Source, copies: Sequence[WrittenCopy]) -> Comparison:
    """PyTorch and every copy over the test photos, and over the training photos for their accuracy.

    Raises CopyError for the first copy that is outside its tolerance on any photo, ExportError where the
    network's answers could not tell right from wrong.
    """
    runners: tuple[Runner, ...] = (
        TorchRunner(source.network),
        *(OnnxRunner(copy.data, copy=copy.name) for copy in copies),
    )
    test = photo_logits(
        runners, source.test.paths, source.preprocess, what="Comparing the copies with PyTorch"
    )
    if test.errors:
        first = next(iter(test.errors))
        say(
            f"{len(test.errors)} photos could not be read and were left out, first {source.test.paths[first]}"
        )
    _check_tells(test.logits[REFERENCE], copies)
    for copy in copies:
        _check_copy(copy, copies[0], source, test)
    train = None
    if source.train is not None:
        train = photo_logits(runners, source.train.paths, source.preprocess, what="Training photos")
    recorded = {}
    for runner in runners:
        figures: dict[str, float | int | None] = {}
        for part, found, samples in (("test", test, source.test), ("train", train, source.train)):
            share, count = (
                (None, 0) if found is None or samples is None else _accuracy(found, samples, runner.copy)
            )
            figures |= {f"{part}_accuracy": share, f"{part}_photos": count}
        if runner.copy != REFERENCE:
            figures |= _differences(test.logits[runner.copy], test.logits[REFERENCE])
        recorded[runner.copy] = figures
    return Comparison(runners, test, source.test, recorded)


def _accuracy(found: PhotoLogits, samples: Samples, copy: str) -> tuple[float | None, int]:
    """The accuracy over the photos that were read and whose label is known, and their number."""
    rows = [(row, samples.targets[at]) for row, at in enumerate(found.read)]
    known = [(row, target) for row, target in rows if target is not None]
    if not known:
        return None, 0
    logits = found.logits[copy][[row for row, _ in known]]
    return accuracy(logits, [target for _, target in known]), len(known)


def _differences(
    logits: NDArray[np.float32], reference: NDArray[np.float32]
) -> dict[str, float | int | None]:
    distance = np.abs(logits.astype(np.float64) - reference)
    return {
        "label_agreement": agreement(logits, reference),
        "max_abs_difference": float(distance.max()),
        "mean_abs_difference": float(distance.mean()),
        "compared_photos": len(logits),
    }


def _check_tells(reference: NDArray[np.float32], copies: Sequence[WrittenCopy]) -> None:
    """Raise ExportError where PyTorch's answers are such that any copy would agree with them."""
    if not np.isfinite(reference).all():
        raise ExportError("the network itself gives logits that are not finite, in PyTorch")
    scale = float(np.abs(reference).max())
    least = copies[0].tolerance.absolute(scale) * MARGIN_FACTOR
    margins = np.array([margin(row) for row in reference])
    if float(margins.max()) <= least:
        raise ExportError(
            "the network prefers no label on any photo, so agreement with it would prove nothing",
            expected=f"a margin of more than {least:.3g} between the first two labels on some photo",
            found=f"at most {margins.max():.3g} on {len(margins)} photos",
            fix="a trained network: this one is untrained, or broken",
        )
    if len(reference) > 1 and float(np.ptp(reference, axis=0).max()) <= least:
        raise ExportError(
            "the network gives every photo the same logits, so agreement with it would prove nothing",
            expected=f"logits that differ by more than {least:.3g} between photos",
            found=f"at most {np.ptp(reference, axis=0).max():.3g} on {len(reference)} photos",
            fix="photos of several classes, or a trained network",
        )


def _check_copy(copy: WrittenCopy, whole: WrittenCopy, source: Source, test: PhotoLogits) -> None:
    """Raise CopyError where the copy differs from PyTorch by more than its tolerance on any photo."""
    reference, logits = test.logits[REFERENCE], test.logits[copy.name]
    allowed = np.array([copy.tolerance.absolute(float(np.abs(row).max())) for row in reference])
    distance = np.abs(logits.astype(np.float64) - reference).max(axis=1)
    outside = ~(distance <= allowed)  # NaN is outside
    if not outside.any():
        share = agreement(logits, reference)
        if share < (TOLERANCES["label agreement"].least or 0.0):
            say(
                f"note: the {copy.name} copy is within its tolerance, but its label is not PyTorch's on "
                f"{1 - share:.2%} of {len(logits)} photos, which lie between two labels"
            )
        return
    worst = int(np.argmax(np.nan_to_num(distance / allowed, nan=np.inf)))
    photo = source.test.paths[int(test.read[worst])]
    lost = not np.isfinite(logits[worst]).all()
    raise CopyError(
        f"the {copy.name} copy gives inf or NaN in its output '{OUTPUT}'"
        if lost
        else f"the {copy.name} copy does not give PyTorch's logits",
        where=photo,
        expected=f"a difference of at most {allowed[worst]:.3g} ({copy.tolerance.text()})",
        found=f"{distance[worst]:.3g}, and {outside.sum()} of {len(outside)} photos outside"
        + _layer(copy, whole, photo, source.preprocess),
        fix=_without(copy.name),
    )


def _layer(copy: WrittenCopy, whole: WrittenCopy, photo: Path, spec: Preprocess) -> str:
    """Words about the layer at which a copy leaves the fp32 one, where there is one."""
    if copy.name == whole.name:
        return ""
    tensor = preprocess(read_photo(photo), spec)
    layer = first_differing_layer(whole.data, copy.data, tensor, TOLERANCES[f"layer {copy.name}"])
    return "" if layer is None else f"; {layer.words()}"


def _without(name: str) -> str:
    if name == "fp32":
        return "another --opset; the network may decide in Python what depends on the photo, which ONNX loses"
    return "--copies fp32, which leaves this copy out"
