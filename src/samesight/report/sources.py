"""What the page is made from: the files of a run and of a bundle, read as far as they are there."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from samesight.errors import InputError
from samesight.files import read_json
from samesight.report.calibration import Scores, score
from samesight.report.figures import Answer, number
from samesight.report.predictions import FILE, Predictions, read_predictions

if TYPE_CHECKING:
    from samesight.bundle import Bundle

CSV_LIMIT_BYTES = 256 << 20


@dataclass(frozen=True)
class Sample:
    """A golden sample: the path of its picture as the network sees it, and the logits of each copy."""

    id: str
    label: str | None
    predicted: str
    margin: float | None
    resized: str
    logits: Mapping[str, NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class Verification:
    """What `samesight verify` said. Where there is nothing, `report` is empty and `remark` says why."""

    report: Mapping[str, Any]
    remark: str

    @property
    def ok(self) -> bool | None:
        """True or False as it was found, None where nothing was."""
        found = self.report.get("ok")
        return found if isinstance(found, bool) else None


@dataclass(frozen=True)
class RunFiles:
    """A run folder as it was read. Parts that are not there are empty."""

    folder: Path
    about: Mapping[str, Any]  # run.json
    history: tuple[Mapping[str, str], ...]
    data: Mapping[str, Any]
    split: Mapping[str, Any]
    labels: tuple[str, ...]
    answers: tuple[Answer, ...]  # on the held-out part
    predictions: Predictions | None = None  # of these very answers
    scores: Scores | None = None  # a row for each answer
    remark: str = ""  # why there are no predictions though a file is there

    @property
    def groups(self) -> tuple[str | None, ...]:
        """The group of each answer's photo, where it has one."""
        items = self.split.get("items")
        rows = [row for row in items if isinstance(row, Mapping)] if isinstance(items, Sequence) else []
        named = {str(row.get("name")): str(row["group"]) for row in rows if row.get("group") is not None}
        return tuple(named.get(one.name) for one in self.answers)


@dataclass(frozen=True)
class Sources:
    """All that a page can be made from."""

    run: RunFiles | None
    bundle: Bundle | None
    samples: tuple[Sample, ...]
    verification: Verification
    bench: Mapping[str, Any] = field(default_factory=dict)  # what bench.json says of this bundle
    bench_about: Mapping[str, Any] = field(default_factory=dict)  # where and when that was measured
    checkpoint_bytes: int | None = None
    pictures: bool = True  # whether the page may show photos

    @property
    def name(self) -> str:
        """What the page is about, in a word."""
        if self.bundle is not None:
            return self.bundle.name
        assert self.run is not None
        return self.run.folder.resolve().name

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the network's order where it is known."""
        if self.bundle is not None:
            return self.bundle.labels
        return self.run.labels if self.run is not None else ()


def read_sources(run: Path | None, bundle: Path | None, out: Path, *, pictures: bool = True) -> Sources:
    """The files of `run` and `bundle`; `pictures` says whether a page from them may show photos.

    Raises InputError where neither is given, a folder is missing or a file is broken, and BundleError where
    the bundle must not be used.
    """
    if run is None and bundle is None:
        raise InputError("a report needs a run folder, a bundle, or both")
    if run is not None and not run.is_dir():
        raise InputError("there is no run folder", where=run)
    from samesight.bundle import open_bundle

    opened = open_bundle(bundle) if bundle is not None else None
    given = [run, bundle.parent if bundle is not None else None, out.parent]
    places = [place for place in given if place is not None]
    bench, about = _bench(places, opened)
    weights = run / "checkpoints" / "best.pth" if run is not None else None
    return Sources(
        run=read_run(run) if run is not None else None,
        bundle=opened,
        samples=_samples(opened) if opened is not None else (),
        verification=_verification(places, opened),
        bench=bench,
        bench_about=about,
        checkpoint_bytes=weights.stat().st_size if weights is not None and weights.is_file() else None,
        pictures=pictures,
    )


def read_run(folder: Path) -> RunFiles:
    """The files of a run folder. Raises InputError where one is broken."""
    about, split = _object(folder / "run.json"), _object(folder / "split.json")
    answers = tuple(_answers(_rows(folder / "test_predictions.csv")))
    labels = about.get("labels")
    if not _strings(labels):
        mapping = _object(folder / "labels_mapping.json").get("int_to_class")
        labels = list(mapping.values()) if isinstance(mapping, Mapping) else None
    if not _strings(labels):
        labels = sorted({label for answer in answers for label in (answer.label, answer.predicted)})
    predictions = read_predictions(folder / FILE)
    belongs = predictions is not None and _belongs(predictions, answers)
    test = predictions.parts["test"] if predictions is not None and belongs else None
    return RunFiles(
        folder=folder,
        about=about,
        history=tuple(_rows(folder / "history.csv")),
        data=_object(folder / "data.json"),
        split=split,
        labels=tuple(map(str, labels or ())),
        answers=answers,
        predictions=predictions if belongs else None,
        scores=None if test is None else score(test.logits, test.targets),
        remark="" if predictions is None or belongs else f"{FILE} is of other answers, so it is not used.",
    )


def _belongs(predictions: Predictions, answers: Sequence[Answer]) -> bool:
    """Whether the held-out part of `predictions` holds these very answers in this order."""
    test = predictions.parts.get("test")
    if test is None:
        return False
    labels = predictions.labels
    said = test.logits.argmax(axis=1)
    rows = zip(test.names, test.targets.tolist(), said.tolist(), strict=True)
    held = [(name, labels[target], labels[guess]) for name, target, guess in rows]
    return held == [(one.name, one.label, one.predicted) for one in answers]


def pick(tree: object, *paths: str) -> Any:
    """The first of the dotted `paths` that leads to something other than None in nested objects, or None."""
    for path in paths:
        found: Any = tree
        for key in path.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        if found is not None:
            return found
    return None


def split_counts(split: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Photos of each class in each part, by the items of split.json."""
    counts: dict[str, dict[str, int]] = {}
    items = split.get("items")
    for item in items if isinstance(items, Sequence) else ():
        if isinstance(item, Mapping) and item.get("label") is not None and item.get("part"):
            parts = counts.setdefault(str(item["label"]), {})
            parts[str(item["part"])] = parts.get(str(item["part"]), 0) + 1
    return counts


def _strings(value: object) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(one, str) for one in value)


def _object(path: Path) -> Mapping[str, Any]:
    """The JSON object in `path`; empty where there is no such file."""
    if not path.is_file():
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError("a file holds no JSON object", where=path, found=type(value).__name__)
    return value


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header; none where there is no such file."""
    if not path.is_file():
        return []
    if path.stat().st_size > CSV_LIMIT_BYTES:
        raise InputError("a table is too large", where=path, expected=f"at most {CSV_LIMIT_BYTES} bytes")
    words = path.read_bytes().decode("utf-8-sig", "replace")
    try:
        found = list(csv.DictReader(io.StringIO(words, newline="")))
    except csv.Error as error:
        raise InputError("a table cannot be read", where=path, found=error) from error
    return [{key: value or "" for key, value in row.items() if isinstance(key, str)} for row in found]


def _answers(rows: Sequence[Mapping[str, str]]) -> list[Answer]:
    """The rows of test_predictions.csv; those without a true or a predicted label are left out."""
    found = []
    for row in rows:
        label, predicted = row.get("label", ""), row.get("predicted", "")
        if label and predicted:
            sure = number(row.get("confidence"))
            known = sure if sure is not None and 0 <= sure <= 1 + 1e-6 else None
            found.append(
                Answer(row.get("name", ""), label, predicted, None if known is None else min(1.0, known))
            )
    return found


def _verification(places: Sequence[Path], bundle: Bundle | None) -> Verification:
    """The first verify.json that is about this bundle."""
    others = []
    for place in places:
        found = _object(place / "verify.json")
        if found and (bundle is None or found.get("bundle") == bundle.id):
            return Verification(found, "")
        if found:
            others.append(str(found.get("bundle", ""))[:12])
    if others:
        return Verification({}, f"The verify.json that was found is about another bundle ({others[0]}…).")
    return Verification({}, "This bundle has not been verified yet: there is no verify.json.")


def _bench(places: Sequence[Path], bundle: Bundle | None) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What the first bench.json that is about this bundle says of it, and all that it says; else nothing."""
    for place in places:
        for file in (place / "bench.json", place / "bench" / "bench.json"):
            found = _object(file)
            bundles = found.get("bundles")
            for one in bundles if isinstance(bundles, Sequence) and bundle is not None else ():
                if bundle is not None and pick(one, "bundle") == bundle.id:
                    return one, found
    return {}, {}


def _samples(bundle: Bundle) -> tuple[Sample, ...]:
    """The golden samples of `bundle`; none where it has none."""
    if not any(file.path == "golden/golden.json" for file in bundle.files):
        return ()
    from samesight.verify.golden import read_golden

    golden = read_golden(bundle)
    return tuple(
        Sample(
            id=one.id,
            label=one.label,
            predicted=one.predicted,
            margin=number(one.margin),
            resized=one.resized,
            logits={copy: logits[at] for copy, logits in golden.logits.items()},
        )
        for at, one in enumerate(golden.samples)
    )
