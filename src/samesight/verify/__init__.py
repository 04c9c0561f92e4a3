"""The proof: every copy of a network, on this machine, against what PyTorch answered at export.

Real photos go through the stages decode, resize, normalise and network. Each is judged on the right input,
so that the first stage that differs is the one that is named. Runners are taken as they come: anything that
turns tensors into logits. No runtime is imported here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from samesight.bundle import Bundle, Copy, strictjson
from samesight.data.labels import labels_mapping
from samesight.evaluate import agreement
from samesight.progress import track
from samesight.runner import Runner
from samesight.verify.golden import MARGIN_FACTOR, REFERENCE, Golden, margin
from samesight.verify.photos import by_own_record, check_photos, recorded_only
from samesight.verify.stages import Fault, compare, judge
from samesight.verify.tolerances import TOLERANCES, Tolerance, tolerance_for
from samesight.verify.verification import STAGES, RunnerResult, StageResult, Verification

__all__ = ["STAGES", "TOLERANCES", "Explain", "Tolerance", "Verification", "verify"]

_SAME_MARGIN = 1e-5  # relative: the margin in golden.json was computed from the very same float32 logits
Faults = dict[str, dict[str, Fault | None]]  # by stage, then by sample; None where it is as recorded


# Names the layer at which one copy begins to differ, by comparing it with one that does not: given the
# copy's name, those of the copies that agree and a tensor (3, height, width), the layer as a JSON object, or
# None, and words about it.
Explain: TypeAlias = Callable[[str, Sequence[str], NDArray[np.float32]], tuple[Mapping[str, Any] | None, str]]


def verify(
    bundle: Bundle,
    golden: Golden,
    runners: Sequence[Runner],
    *,
    photos: tuple[Sequence[Path], Sequence[int | None]] | None = None,
    explain: Explain | None = None,
) -> Verification:
    """Every stage of every golden sample, by every runner; and with `photos`, accuracy and agreement.

    `photos` are paths and the indices of their true classes. Raises InputError where a copy has no tolerance.
    """
    start = time.monotonic()
    faults: Faults = {stage: {} for stage in STAGES}
    results = [_blank(bundle, runner) for runner in runners]
    _judge_record(bundle, golden, faults)
    _judge_labels_file(bundle, faults)
    suspects: dict[str, NDArray[np.float32]] = {}
    answers = np.full((len(runners), len(golden.samples), len(bundle.labels)), np.nan, np.float32)
    for index, sample in enumerate(track(golden.samples, "Golden samples", len(golden.samples))):
        judged = judge(bundle, golden, sample)
        for stage, fault in judged.faults.items():
            faults[stage][sample.id] = fault
        if judged.tensor is None or faults["record"][sample.id] is not None:
            continue  # there is nothing to judge the network by
        for number, runner in enumerate(runners):
            answers[number, index], fault = _answer(golden, index, runner, judged.tensor, results[number])
            if results[number].first is fault and fault is not None:
                suspects[sample.id] = judged.tensor
            faults["network"][sample.id] = faults["network"].get(sample.id) or fault
    for result, logits in zip(results, answers, strict=True):
        _summarise(golden, result, logits, faults)
    _note_common_difference(results, answers)
    _explain(results, suspects, explain)
    if photos is not None:
        for result, check in zip(results, check_photos(bundle, runners, *photos), strict=True):
            result.photos = check
    return Verification(
        bundle=bundle.id,
        name=bundle.name,
        version=bundle.version,
        samples=len(golden.samples),
        stages=tuple(_stage_result(stage, faults[stage], results) for stage in STAGES),
        runners=tuple(results),
        labels_without_sample=tuple(bundle.golden["labels_without_sample"]),
        seconds=time.monotonic() - start,
    )


def _blank(bundle: Bundle, runner: Runner) -> RunnerResult:
    copy = bundle.copy(runner.copy)
    tolerance = tolerance_for(copy.precision, runner.name)
    reference = copy.name if by_own_record(copy) else REFERENCE
    photos = recorded_only(bundle, copy.name)
    return RunnerResult(runner.name, copy.name, copy.precision, tolerance, photos, reference)


def _judge_record(bundle: Bundle, golden: Golden, faults: Faults) -> None:
    """Whether the golden samples agree with themselves and with bundle.json, before anything is run."""
    tolerances = [tolerance_for(copy.precision) for copy in bundle.copies if not by_own_record(copy)]
    clear = 0
    for sample, logits in zip(golden.samples, golden.logits[REFERENCE], strict=True):
        found = margin(logits)
        if abs(found - sample.margin) > _SAME_MARGIN * max(1.0, abs(sample.margin)):
            faults["record"][sample.id] = Fault(
                "record",
                sample.id,
                f"golden/logits/{REFERENCE}.f32 and golden.json contradict each other: a margin of "
                f"{found:.6g} where {sample.margin:.6g} is recorded",
            )
            continue
        faults["record"][sample.id] = None
        name = bundle.labels[int(logits.argmax())]
        fault = None
        if name != sample.predicted:
            words = f"bundle.json names PyTorch's answer '{name}', where '{sample.predicted}' is recorded"
            fault = Fault("labels", sample.id, words)
        faults["labels"][sample.id] = fault
        scale = float(np.abs(logits).max())
        clear += all(found > MARGIN_FACTOR * tolerance.absolute(scale) for tolerance in tolerances)
    if golden.samples and not clear and not any(faults["record"].values()):
        first = golden.samples[0].id
        words = "no golden sample's margin is more than twice the copies' tolerances: they prove nothing"
        faults["record"][first] = Fault("record", first, words)
    for copy in filter(by_own_record, bundle.copies):
        _judge_own_record(copy, golden, faults)


def _judge_own_record(copy: Copy, golden: Golden, faults: Faults) -> None:
    """Whether an int8 copy's record is as near to PyTorch as bundle.json says, and proves anything."""
    if not golden.samples:
        return
    first, file = golden.samples[0].id, f"golden/logits/{copy.name}.f32"
    bound, own = copy.recorded.get("max_abs_difference"), golden.logits.get(copy.name)
    if own is None or bound is None:
        words = f"the {copy.name} copy is judged by its own logits, and bundle.json or {file} lacks them"
        faults["record"][first] = faults["record"][first] or Fault("record", first, words)
        return
    distance = np.abs(own.astype(np.float64) - golden.logits[REFERENCE]).max(axis=1)
    for sample, far in zip(golden.samples, distance, strict=True):
        if far > bound * (1 + _SAME_MARGIN) and faults["record"][sample.id] is None:
            words = f"{file} is {far:.4g} from PyTorch's logits, where bundle.json says {bound:.4g} at most"
            faults["record"][sample.id] = Fault("record", sample.id, words)
    tolerance = tolerance_for(copy.precision)
    if not any(margin(row) > MARGIN_FACTOR * tolerance.absolute(float(np.abs(row).max())) for row in own):
        words = f"no golden sample has a margin in {file} that proves anything"
        faults["record"][first] = faults["record"][first] or Fault("record", first, words)


def _judge_labels_file(bundle: Bundle, faults: Faults) -> None:
    """Whether labels_mapping.json, which other programs read, names the labels as bundle.json does."""
    name = "labels_mapping.json"
    if any(file.path == name for file in bundle.files):
        found = strictjson.parse(bundle.read(name), name)
        if found != labels_mapping(bundle.labels):
            words = f"{name} does not name the labels as bundle.json does"
            faults["labels"][name] = Fault("labels", name, words)


def _answer(
    golden: Golden, index: int, runner: Runner, tensor: NDArray[np.float32], result: RunnerResult
) -> tuple[NDArray[np.float32], Fault | None]:
    """One runner's logits (classes,) for one sample, and their fault; `result` keeps count of it."""
    reference = _reference(golden, result)[index]
    sample = golden.samples[index].id
    who = f"{runner.name} with the {runner.copy} copy"
    whose = "PyTorch" if result.reference == REFERENCE else "were recorded of it"
    rows = runner.logits(tensor[None])
    logits = np.full_like(reference, np.nan)
    comparison = None
    if rows.shape != (1, reference.size):
        problem = f"{who} gives logits of shape {rows.shape}, not (1, {reference.size})"
    else:
        logits = rows[0].astype(np.float32)
        allowed = result.tolerance.absolute(float(np.abs(reference).max()))
        comparison = compare(logits, reference, ("class",), allowed)
        if not np.isfinite(logits).all():
            problem = f"{who} gives {np.count_nonzero(~np.isfinite(logits))} logits that are not finite"
        elif comparison is not None:
            problem = (
                f"{who} gives other logits than {whose} by more than {allowed:.4g}: {comparison.words()}"
            )
        elif logits.argmax() != reference.argmax() and margin(reference) > MARGIN_FACTOR * allowed:
            problem = f"{who} gives another label than {whose.replace('were', 'was')}"
        else:
            problem = ""
    result.samples += 1
    if not problem:
        return logits, None
    fault = Fault("network", sample, problem, comparison)
    result.different += 1
    result.first = result.first or fault
    return logits, fault


def _reference(golden: Golden, result: RunnerResult) -> NDArray[np.float32]:
    """The logits (samples, classes) that a copy must give: PyTorch's, or an int8 copy's own."""
    return golden.logits.get(result.reference, golden.logits[REFERENCE])


def _summarise(golden: Golden, result: RunnerResult, answers: NDArray[np.float32], faults: Faults) -> None:
    """Fill in `result`'s figures from its logits (samples, classes), and judge what was recorded of them."""
    judged = [index for index, sample in enumerate(golden.samples) if sample.id in faults["network"]]
    if not judged:
        return
    reference, found = _reference(golden, result)[judged], answers[judged]
    pytorch = golden.logits[REFERENCE][judged]
    distance = np.abs(found.astype(np.float64) - reference)
    here = distance.max(axis=1)
    allowed = np.array([result.tolerance.absolute(float(scale)) for scale in np.abs(reference).max(axis=1)])
    result.max_abs_difference = float(here.max())
    result.mean_abs_difference = float(distance.mean())
    shown = here if (here <= allowed).all() else np.nan_to_num(here / allowed, nan=np.inf)
    result.allowed = float(allowed[int(shown.argmax())])
    result.pytorch_max_abs_difference = float(np.abs(found.astype(np.float64) - pytorch).max())
    result.label_agreement = agreement(found, pytorch)
    if result.copy not in golden.logits:
        result.notes.append("no logits of this copy were recorded at export")
        return
    recorded = golden.logits[result.copy][judged].astype(np.float64)
    result.recorded_max_abs_difference = float(np.abs(found - recorded).max())
    if result.reference != REFERENCE:
        return
    there = np.abs(recorded - reference).max(axis=1)
    for row, index in enumerate(judged):
        sample = golden.samples[index].id
        if here[row] <= allowed[row] < there[row]:
            words = (
                f"golden/logits/{result.copy}.f32 is {there[row]:.4g} from PyTorch's logits, more than "
                f"{allowed[row]:.4g}, while the {result.copy} copy itself is not"
            )
            faults["record"][sample] = faults["record"][sample] or Fault("record", sample, words)
    if result.different:
        result.notes.append(
            "its logits differed from PyTorch's when it was exported, too"
            if (there > allowed).any()
            else "its logits agreed with PyTorch's when it was exported: file, runtime or machine is another"
        )


def _note_common_difference(results: Sequence[RunnerResult], answers: NDArray[np.float32]) -> None:
    """Say so where every copy differs from PyTorch, but none from the others."""
    if len(results) < 2 or not all(result.different for result in results):
        return
    allowed = max(result.allowed or 0.0 for result in results)
    if any(result.reference != REFERENCE for result in results):
        return
    known = answers[:, np.isfinite(answers).all(axis=(0, 2))]
    if known.size and float(np.ptp(known, axis=0).max()) <= allowed:
        for result in results:
            result.notes.append(
                "all copies agree with one another: either the whole export is wrong, or PyTorch's record is"
            )


def _explain(
    results: Sequence[RunnerResult], suspects: Mapping[str, NDArray[np.float32]], explain: Explain | None
) -> None:
    """Have the first differing layer named for each runner that differs."""
    for result in results:
        if result.first is not None and explain is not None:
            agreeing = [one.copy for one in results if one.samples and not one.different]
            result.layer, words = explain(result.copy, agreeing, suspects[result.first.sample])
            result.notes.append(words)


def _stage_result(
    stage: str, faults: Mapping[str, Fault | None], results: Sequence[RunnerResult]
) -> StageResult:
    found = [faults[sample] for sample in sorted(faults)]
    wrong = [fault for fault in found if fault is not None]
    if stage == "network":
        sizes = [result.max_abs_difference for result in results]
    else:
        sizes = [None if one.comparison is None else one.comparison.max_abs_difference for one in wrong]
    known = [size for size in sizes if size is not None and np.isfinite(size)]
    largest = max(known, default=0.0) if len(known) == len(sizes) else None
    return StageResult(stage, len(found), len(wrong), largest, wrong[0] if wrong else None)
