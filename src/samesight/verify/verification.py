"""What a verification found: a row a stage, a row a runner, and the first difference."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from samesight import __version__
from samesight.verify.photos import PhotoCheck
from samesight.verify.stages import Fault
from samesight.verify.tolerances import Tolerance

__all__ = ["STAGES", "OwnStages", "RunnerResult", "StageResult", "Verification"]

STAGES = ("record", "decode", "resize", "normalise", "network", "labels")


@dataclass(frozen=True)
class StageResult:
    """One stage over the golden samples that it could be judged on."""

    stage: str
    samples: int
    different: int
    max_abs_difference: float | None  # null where a sample differs and by how much is not known
    first: Fault | None

    def to_json(self) -> dict[str, Any]:
        """The row of verify's JSON."""
        return {**vars(self), "first": None if self.first is None else self.first.to_json()}


@dataclass
class RunnerResult:
    """One runner's logits over the golden samples that the network could be judged on."""

    runner: str
    copy: str
    precision: str
    tolerance: Tolerance
    photos: PhotoCheck
    reference: str = "pytorch"  # whose recorded logits it must give: PyTorch's, or an int8 copy's own
    samples: int = 0
    different: int = 0
    max_abs_difference: float | None = None  # from these logits; null where one is not finite
    mean_abs_difference: float | None = None
    allowed: float | None = None  # where the difference is largest; if any is beyond, where one is furthest
    recorded_max_abs_difference: float | None = None  # from the same copy's logits at export
    pytorch_max_abs_difference: float | None = None
    label_agreement: float | None = None
    first: Fault | None = None
    layer: Mapping[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool | None:
        """Whether it passed; None where there was nothing to judge it by."""
        if self.different or not self.photos.ok:
            return False
        return True if self.samples else None

    def to_json(self) -> dict[str, Any]:
        """The row of verify's JSON."""
        row = {name: _plain(value) for name, value in vars(self).items() if name not in ("photos", "first")}
        row["tolerance"] = {name: getattr(self.tolerance, name) for name in ("name", "abs", "rel", "reason")}
        first = None if self.first is None else self.first.to_json()
        return {"ok": self.ok, **row, "accuracy": self.photos.to_json(), "first": first}


@dataclass(frozen=True)
class OwnStages:
    """What a runtime that decodes, resizes and normalises by code of its own says of its stages."""

    runner: str
    stages: tuple[Mapping[str, Any], ...]  # rows of verify's JSON
    first_difference: Mapping[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """The row of verify's JSON."""
        return {"runner": self.runner, "stages": [dict(row) for row in self.stages]}


@dataclass(frozen=True)
class Verification:
    """All that was found of one bundle."""

    bundle: str  # id
    name: str
    version: str
    samples: int
    stages: tuple[StageResult, ...]
    runners: tuple[RunnerResult, ...]
    labels_without_sample: tuple[str, ...]
    seconds: float
    own_stages: tuple[OwnStages, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything could be judged, and is as recorded."""
        judged = self.samples > 0 and bool(self.runners)
        return judged and self.first_difference is None and all(runner.ok for runner in self.runners)

    @property
    def first_difference(self) -> dict[str, Any] | None:
        """The first stage that differs, and there the first sample; None where none does."""
        for stage in self.stages:
            if stage.different and stage.first is not None:
                for runner in self.runners:
                    if runner.first is stage.first:
                        return _of_runner(runner, stage.first.to_json())
                return {**stage.first.to_json(), "runner": None, "copy": None, "layer": None}
        for runner in self.runners:
            if not runner.photos.ok:
                what = "; ".join(runner.photos.problems)
                return _of_runner(runner, {"stage": "photos", "sample": None, "what": what})
        for own in self.own_stages:
            if own.first_difference is not None:
                return {**own.first_difference, "runner": own.runner}
        return None

    def to_json(self) -> dict[str, Any]:
        """The object that `verify --json` prints."""
        return {
            "ok": self.ok,
            "bundle": self.bundle,
            "name": self.name,
            "version": self.version,
            "samples": self.samples,
            "labels_without_sample": list(self.labels_without_sample),
            "stages": [stage.to_json() for stage in self.stages],
            **({"own_stages": [own.to_json() for own in self.own_stages]} if self.own_stages else {}),
            "runners": [runner.to_json() for runner in self.runners],
            "first_difference": self.first_difference,
            "seconds": round(self.seconds, 3),
            "versions": _versions(),
            "machine": {
                "system": platform.system(),
                "machine": platform.machine(),
                "cpus": os.cpu_count(),
            },
        }


def _of_runner(runner: RunnerResult, fault: dict[str, Any]) -> dict[str, Any]:
    return {**fault, "runner": runner.runner, "copy": runner.copy, "layer": runner.layer}


def _versions() -> dict[str, str]:
    """The versions of what an answer depends on, of those that are installed."""
    versions = {"samesight": __version__, "python": platform.python_version()}
    for name in ("numpy", "pillow", "simplejpeg", "onnxruntime"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _plain(value: Any) -> Any:
    """`value` for JSON, which has no word for infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
