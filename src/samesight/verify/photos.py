"""How accurate each copy is over photos, and how often it says the same as the FP32 copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samesight.bundle import Bundle, Copy
from samesight.evaluate import accuracy, agreement, photo_logits, photos_sha256
from samesight.runner import Runner
from samesight.verify.golden import MARGIN_FACTOR
from samesight.verify.tolerances import TOLERANCES, Tolerance, tolerance_for

__all__ = ["PhotoCheck", "agreement_beyond_toss_ups", "by_own_record", "check_photos", "recorded_only"]


@dataclass(frozen=True)
class PhotoCheck:
    """One runner over photos; accuracy as a share, and what bundle.json recorded at export beside it."""

    measured: float | None  # accuracy; null where no photos, or no true labels, were given
    photos: int  # that were read and have a true label
    unread: int
    recorded: float | None
    recorded_photos: int | None
    same_photos: bool  # these are the very photos on which `recorded` was measured
    label_agreement: float | None  # with the fp32 copy; toss-ups do not count against it
    raw_label_agreement: float | None  # with the fp32 copy; every photo counts
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against the copy."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """The object `accuracy` of a runner in verify's JSON."""
        return {"ok": self.ok, **vars(self), "problems": list(self.problems)}


def recorded_only(bundle: Bundle, copy: str) -> PhotoCheck:
    """What was recorded at export, where no photos are given."""
    recorded = bundle.copy(copy).recorded
    return PhotoCheck(None, 0, 0, *_recorded(recorded), False, None, None)


def check_photos(
    bundle: Bundle, runners: Sequence[Runner], paths: Sequence[Path], targets: Sequence[int | None]
) -> list[PhotoCheck]:
    """A check a runner over the photos `paths`, whose true classes are `targets` where they are known."""
    checks: dict[tuple[str, str], PhotoCheck] = {}
    for name in dict.fromkeys(runner.name for runner in runners):
        group = [runner for runner in runners if runner.name == name]
        found = photo_logits(group, paths, bundle.preprocess, what=f"Checking photos with {name}")
        known = [(row, targets[at]) for row, at in enumerate(found.read) if targets[at] is not None]
        rows = np.array([row for row, _ in known], np.int64)
        truth = np.array([target for _, target in known], np.int64)
        reference = next(
            (found.logits[one.copy] for one in group if bundle.copy(one.copy).precision == "fp32"), None
        )
        labelled = [paths[at] for at in found.read if targets[at] is not None]
        for runner in group:
            logits = found.logits[runner.copy]
            same = _are_recorded(bundle, bundle.copy(runner.copy), labelled)
            check = _check(bundle, runner, logits, reference, (rows, truth), same)
            checks[name, runner.copy] = replace(check, unread=len(found.errors))
    return [checks[runner.name, runner.copy] for runner in runners]


def _check(
    bundle: Bundle,
    runner: Runner,
    logits: NDArray[np.float32],
    reference: NDArray[np.float32] | None,
    known: tuple[NDArray[np.int64], NDArray[np.int64]],
    same_photos: bool,
) -> PhotoCheck:
    rows, truth = known
    recorded, recorded_photos = _recorded(bundle.copy(runner.copy).recorded)
    measured = accuracy(logits[rows], truth) if len(rows) else None
    problems = []
    not_finite = int((~np.isfinite(logits)).any(axis=1).sum()) if len(logits) else 0
    if not_finite:
        problems.append(f"logits are not finite on {not_finite} of {len(logits)} photos")
    raw = counted = None
    if reference is not None and len(logits):
        raw = agreement(logits, reference)
        tolerance = _from_fp32(bundle.copy(runner.copy), runner.name)
        counted = agreement_beyond_toss_ups(logits, reference, tolerance)
        least = TOLERANCES["label agreement"].least or 0.0
        if counted < least:
            problems.append(
                f"labels agree with the fp32 copy on {counted:.2%} of {len(logits)} photos, "
                f"less than {least:.1%}"
            )
    if same_photos and measured is not None and recorded is not None:
        allowed = max(TOLERANCES["accuracy"].abs, 2 / len(rows))
        if abs(measured - recorded) > allowed + 1e-9:
            problems.append(
                f"accuracy is {measured:.2%} on the very {len(rows)} photos on which {recorded:.2%} was "
                "recorded at export"
            )
    return PhotoCheck(
        measured, len(rows), 0, recorded, recorded_photos, same_photos, counted, raw, tuple(problems)
    )


def by_own_record(copy: Copy) -> bool:
    """Whether a copy is judged by its own recorded logits: int8 is too coarse for PyTorch's."""
    return copy.precision == "int8"


def _from_fp32(copy: Copy, runner: str) -> Tolerance:
    """How far a copy's logits may be from the FP32 copy's: of an int8 copy, what was recorded of it."""
    tolerance = tolerance_for(copy.precision, runner)
    if not by_own_record(copy):
        return tolerance
    return replace(tolerance, abs=float(copy.recorded.get("max_abs_difference") or 0.0))


def _are_recorded(bundle: Bundle, copy: Copy, photos: Sequence[Path]) -> bool:
    """Whether `photos` are, byte for byte, those that the copy's recorded accuracy was measured on."""
    recorded = bundle.made.get(
        f"{copy.name}_test_photos_sha256" if by_own_record(copy) else "test_photos_sha256"
    )
    if recorded is None or len(photos) != copy.recorded.get("test_photos"):
        return False
    return bool(photos_sha256(photos) == recorded)


def agreement_beyond_toss_ups(
    logits: NDArray[np.float32], reference: NDArray[np.float32], tolerance: Tolerance
) -> float:
    """The share of rows whose label is the reference's, or on which the reference's margin is a toss-up."""
    finite = np.isfinite(logits).all(axis=1)
    same = logits.argmax(axis=1) == reference.argmax(axis=1)
    if reference.shape[1] > 1:
        second, first = np.partition(reference, -2, axis=1)[:, -2:].T
        allowed = np.maximum(tolerance.abs, tolerance.rel * np.abs(reference).max(axis=1))
        same |= first - second <= MARGIN_FACTOR * allowed
    return float((same & finite).mean())


def _recorded(recorded: Mapping[str, float | int | None]) -> tuple[float | None, int | None]:
    photos = recorded.get("test_photos")
    return recorded.get("test_accuracy"), None if photos is None else int(photos)
