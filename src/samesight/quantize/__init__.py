"""A bundle's int8 copy: made within a budget of accuracy, or told what stood in the way.

Photos → three parts that share none → search (calibrated on the first, chosen by the second) → verdict on the
third, read once → a new version of the bundle, or the bundle as it was.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from samesight.bundle import Bundle, open_bundle
from samesight.data.photos import PhotoOptions
from samesight.errors import InputError
from samesight.evaluate import photo_logits, photos_sha256
from samesight.progress import say
from samesight.quantize.graph import Graph, open_graph
from samesight.quantize.newbundle import COPY, Int8Copy, write_new_bundle
from samesight.quantize.parts import Part, Parts, open_parts, training_part
from samesight.quantize.search import Judge, Search, Step, layers_in_words, search
from samesight.quantize.verdict import Verdict, finite, judge
from samesight.runtime import OnnxRunner
from samesight.verify.golden import MARGIN_FACTOR, Golden, margin, read_golden
from samesight.verify.stages import judge as judge_sample
from samesight.verify.tolerances import tolerance_for

__all__ = ["Outcome", "QuantizeOptions", "quantize"]

AIM = 0.5  # the search stops at this part of the budget: what is chosen by some photos is flattered by them
BLAMED = 5


@dataclass(frozen=True)
class QuantizeOptions:
    """What is asked of the int8 copy."""

    max_drop: float = 0.005  # a share of the photos
    seed: int = 42
    photos: PhotoOptions = PhotoOptions()  # noqa: RUF009  # frozen
    qat: Path | None = None  # the run on whose training part weights learn with the rounding in place

    def __post_init__(self) -> None:
        """Raise InputError for a budget that is none."""
        if not 0 <= self.max_drop <= 1:
            raise InputError("--max-drop is in points, from 0 to 100", found=100 * self.max_drop)


@dataclass(frozen=True)
class Outcome:
    """What came of it; `bundle` is the new one, or None where the old one is as it was."""

    found: Search
    verdict: Verdict
    parts: Parts
    training: Part | None  # what weights learnt from, where they did
    bundle: Bundle | None
    reasons: tuple[str, ...]  # what stood in the way; empty where nothing did
    seconds: float

    @property
    def kept(self) -> list[str]:
        """The layers that stay float32, as the network names them."""
        graph = self.found.graph
        rounded = self.found.rounding.kept
        return [
            f"{layer.op_type} {graph.nodes[layer.at].name or layer.name}"
            for layer in graph.layers
            if layer.name in rounded
        ]

    def to_json(self) -> dict[str, Any]:
        """The object that `quantize --json` prints."""
        return {
            "ok": self.bundle is not None,
            "bundle": None if self.bundle is None else self.bundle.id,
            "version": None if self.bundle is None else self.bundle.version,
            "reasons": list(self.reasons),
            "verdict": self.verdict.to_json(),
            **_how(self.found, self.parts, self.training, self.kept),
            "seconds": round(self.seconds, 1),
        }


def quantize(
    folder: Path,
    source: str | Path,
    options: QuantizeOptions = QuantizeOptions(),
    out: Path | None = None,
) -> Outcome:
    """The bundle in `folder` with an int8 copy, in its own place or at `out`; or why there is none.

    `source` are photos in any form, or what `data` or `train` left. Raises BundleError, InputError and
    PhotosError where it cannot be tried, ExportError where the result does not verify.
    """
    start = time.monotonic()
    if out is not None and out.exists():
        raise InputError("there is something at the output path already", where=out, fix="another --out")
    bundle = open_bundle(folder)
    golden = read_golden(bundle)
    model = _float_model(bundle)
    graph = open_graph(model)
    parts = open_parts(source, bundle.labels, options.photos, seed=options.seed)
    _say_parts(parts)
    training = None
    if options.qat is not None:
        training = training_part(options.qat, bundle.labels, parts, seed=options.seed)
        say(f"{len(training.paths)} photos to learn from")
    aim = AIM * options.max_drop
    chooser = Judge(model, parts.choice.tensors(bundle.preprocess))
    learnt = None if training is None else _tensors_to_learn(graph, training, chooser, bundle)
    found = search(graph, parts.calibration.tensors(bundle.preprocess), chooser, aim, learnt)
    verdict = _verdict(bundle, model, found.model, parts.verdict, options.max_drop)
    own, distance = _golden_logits(bundle, golden, found.model)
    reasons = _reasons(found, verdict, golden, own)
    new = None
    if not reasons:
        copy = Int8Copy(
            model=found.model,
            opset=max(one.version for one in onnx.load_from_string(found.model).opset_import),
            recorded=_recorded(verdict, distance),
            golden=own,
            made={
                "int8_test_photos_sha256": _labelled_sha256(parts.verdict),
                "int8_calibration_photos": list(parts.calibration.sha256),
                **({"int8_training_photos": list(training.sha256)} if training is not None else {}),
            },
            document={
                "format": "samesight-quantization",
                "format_version": 1,
                "max_drop": options.max_drop,
                "seed": options.seed,
                "verdict": verdict.to_json(),
                **_how(found, parts, training, Outcome(found, verdict, parts, training, None, (), 0.0).kept),
            },
        )
        place = folder if out is None else out
        write_new_bundle(bundle, place, copy, replace_old=out is None)
        new = open_bundle(place)
    return Outcome(found, verdict, parts, training, new, reasons, time.monotonic() - start)


def _float_model(bundle: Bundle) -> bytes:
    for copy in bundle.copies:
        if copy.precision == "fp32":
            return bundle.read(copy.file)
    raise InputError(
        "the bundle has no fp32 copy, from which an int8 one could be made",
        where=bundle.folder,
        found=", ".join(copy.name for copy in bundle.copies),
        fix="samesight export … --copies fp32",
    )


def _tensors_to_learn(graph: Graph, part: Part, chooser: Judge, bundle: Bundle) -> NDArray[np.float32]:
    """The training photos as the network sees them. Raises InputError where it cannot learn."""
    from samesight.quantize.aware import check_trainable

    check_trainable(graph, chooser.tensors, chooser.logits)
    return part.tensors(bundle.preprocess)


def _say_parts(parts: Parts) -> None:
    counts = [len(one.paths) for one in (parts.calibration, parts.choice, parts.verdict)]
    words = f"{counts[0]} photos to calibrate with, {counts[1]} to choose by, {counts[2]} to judge on"
    say(f"{words}; {parts.how}")


def _verdict(bundle: Bundle, model: bytes, int8: bytes, part: Part, max_drop: float) -> Verdict:
    """Both copies over the part that nothing was chosen by."""
    runners = (OnnxRunner(model, copy="fp32"), OnnxRunner(int8, copy=COPY))
    found = photo_logits(runners, part.paths, bundle.preprocess, what="Judging the int8 copy")
    if found.errors:
        say(f"{len(found.errors)} photos could not be read and were left out")
    targets = [part.targets[at] for at in found.read]
    return judge(found.logits["fp32"], found.logits[COPY], targets, bundle.labels, max_drop)


def _golden_logits(bundle: Bundle, golden: Golden, model: bytes) -> tuple[NDArray[np.float32], float]:
    """The int8 copy's logits on the golden samples, each alone, and how far from PyTorch's they are."""
    runner = OnnxRunner(model, copy=COPY)
    rows = []
    for sample in golden.samples:
        tensor = judge_sample(bundle, golden, sample).tensor
        if tensor is None:
            raise InputError(
                "a golden sample of the bundle is not as it says",
                where=f"sample {sample.id}",
                fix=f"samesight verify {bundle.folder}",
            )
        rows.append(runner.logits(tensor[None])[0])
    if not rows:
        raise InputError(
            "the bundle has no golden samples, so no copy of it can be proved",
            where=bundle.folder,
            fix="export it again, with --samples PHOTOS",
        )
    logits = np.stack(rows)
    return logits, float(np.abs(logits.astype(np.float64) - golden.logits["pytorch"]).max())


def _reasons(found: Search, verdict: Verdict, golden: Golden, own: NDArray[np.float32]) -> tuple[str, ...]:
    """What speaks against the copy."""
    reasons = []
    if not verdict.ok:
        reasons.append(f"the measured {verdict.words()}: more than the budget of {100 * verdict.max_drop:g}")
    if not np.isfinite(own).all():
        reasons.append("the int8 copy gives logits that are not finite on a golden sample")
    else:
        tolerance = tolerance_for("int8")
        clear = [margin(row) > MARGIN_FACTOR * tolerance.absolute(float(np.abs(row).max())) for row in own]
        if not any(clear):
            reasons.append("no golden sample has a margin that an int8 copy could be proved by")
    if reasons and found.blames:
        reasons.append(f"the layers that cost most: {layers_in_words(found.blames[:BLAMED])}")
    return tuple(reasons)


def _recorded(verdict: Verdict, golden_distance: float) -> dict[str, float | int | None]:
    return {
        "test_accuracy": verdict.int8_accuracy,
        "test_photos": verdict.labelled,
        "train_accuracy": None,
        "train_photos": None,
        "label_agreement": verdict.agreement,
        "max_abs_difference": max(verdict.max_abs_difference, golden_distance),
        "mean_abs_difference": verdict.mean_abs_difference,
        "compared_photos": verdict.photos,
        "fp32_accuracy": verdict.fp32_accuracy,
        "drop": verdict.drop,
        "drop_low": verdict.low,
        "drop_high": verdict.high,
        "max_drop": verdict.max_drop,
    }


def _labelled_sha256(part: Part) -> str:
    """One hash for the photos that the recorded accuracy is of."""
    return photos_sha256(
        path for path, target in zip(part.paths, part.targets, strict=True) if target is not None
    )


def _how(found: Search, parts: Parts, training: Part | None, kept: list[str]) -> dict[str, Any]:
    """How the copy was made, for JSON."""
    rounding = found.rounding
    return {
        "photos": {
            "how": parts.how,
            **{name: len(part.paths) for name, part in _parts(parts).items()},
            "training": 0 if training is None else len(training.paths),
        },
        "calibration_photos": list(parts.calibration.sha256),
        "layers": len(found.graph.layers),
        "layers_in_fp32": kept,
        "symmetric": rounding.symmetric,
        "weights_cut": rounding.shrink,
        "biases_corrected": bool(rounding.corrections),
        "expected": finite(asdict(found.distance)),
        "steps": [_step(step) for step in found.steps],
        "blames": [asdict(blame) for blame in found.blames],
        "ranges": {name: list(limits) for name, limits in rounding.ranges.items()},
    }


def _parts(parts: Parts) -> dict[str, Part]:
    return {"calibration": parts.calibration, "choice": parts.choice, "verdict": parts.verdict}


def _step(step: Step) -> dict[str, Any]:
    return {"step": step.step, **finite(asdict(step.distance)), "taken": step.taken, "seconds": step.seconds}
