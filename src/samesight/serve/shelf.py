"""The bundles that are served, by name and version: proved before they answer, replaced while serving.

A bundle is replaced on disk in one step (as `files.new_folder` does). The shelf looks at bundle.sha256 of
each folder now and then; where it has changed, the new bundle is opened, verified and measured while the old
one answers, and takes its place only then. What was begun with the old one is finished by it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samesight.bundle import Bundle, open_bundle
from samesight.errors import BundleUnproved, InputError, SamesightError
from samesight.files import sha256_bytes
from samesight.runner import Runner
from samesight.runner import Settings as RunSettings
from samesight.runtime import Classifier, open_runner
from samesight.serve.protocol import Shape
from samesight.serve.settings import Settings, Source
from samesight.verify import verify
from samesight.verify.golden import read_golden

__all__ = ["BATCHES", "Served", "Shelf", "open_served"]

BATCHES = (1, 2, 4, 8)
WORTH_IT = 0.8  # of a photo's time alone: what a larger batch must take at most to be used
MEASURE_S = 2.0


@dataclass(frozen=True)
class Served:
    """One bundle that answers. Frozen: a replaced bundle is another one."""

    name: str
    version: str
    source: Source
    bundle: Bundle
    classifier: Classifier
    runner: Runner
    batch: int
    """Photos that are run together at most."""
    samples: int
    """Golden samples that were given the recorded answer here."""
    shape: Shape


def open_served(source: Source, settings: Settings) -> Served:
    """The bundle of `source`, opened, its golden samples sent through every stage, its batch measured.

    Raises a BundleError; BundleUnproved where a golden sample has another answer, or there is none.
    """
    bundle = open_bundle(source.folder, trust=settings.trust)
    copy = bundle.copy(settings.copy)
    # One thread a run: the pool runs as many at a time as there are CPUs, which none of them waits for.
    runner = open_runner(bundle, copy.name, settings=RunSettings(threads=1))
    samples = _prove(bundle, runner, settings.unproved)
    width, height = bundle.preprocess.size
    return Served(
        name=source.name or bundle.name,
        version=bundle.version,
        source=source,
        bundle=bundle,
        classifier=Classifier(bundle, copy, runner, threads=1),
        runner=runner,
        batch=settings.batch or best_batch(runner, (height, width), bundle.input_shape[0]),
        samples=samples,
        shape=Shape(height, width, bundle.labels, settings.max_photos),
    )


def _prove(bundle: Bundle, runner: Runner, unproved: bool) -> int:
    """How many golden samples passed every stage. Raises BundleUnproved."""
    if any(file.path == "golden/golden.json" for file in bundle.files):
        golden = read_golden(bundle)
        if golden.samples:
            found = verify(bundle, golden, [runner])
            if not found.ok:
                first = found.first_difference
                raise BundleUnproved(
                    "the bundle does not give its recorded answers here, so it is not served",
                    where=bundle.folder,
                    found=None if first is None else f"{first['stage']}: {first['what']}",
                    fix=f"samesight verify {bundle.folder}",
                )
            return found.samples
    if not unproved:
        raise BundleUnproved(
            "the bundle has no golden samples, so nothing proves its answers",
            where=bundle.folder,
            fix="export it again with --samples PHOTOS, or serve it with --unproved",
        )
    return 0


def best_batch(runner: Runner, size: tuple[int, int], dimension: int | str) -> int:
    """How many photos a run pays for: the smallest of BATCHES near the least CPU time a photo, by measuring.

    One, unless more are clearly quicker: who waits for others' photos must gain by it. A network of a fixed
    batch takes that. CPU time, which a busy machine changes less than the clock's; a run has one thread.
    """
    if isinstance(dimension, int):
        return dimension
    random = np.random.default_rng(0)
    photos = random.standard_normal((BATCHES[-1], 3, *size)).astype(np.float32)
    best = dict.fromkeys(BATCHES, float("inf"))
    end = time.monotonic() + MEASURE_S
    for _ in range(10):
        for batch in BATCHES:
            start = time.thread_time()
            runner.logits(photos[:batch])
            best[batch] = min(best[batch], (time.thread_time() - start) / batch)
        if time.monotonic() > end:
            break
    least = min(best.values())
    if least > WORTH_IT * best[1]:
        return 1
    return next(batch for batch in BATCHES if best[batch] <= 1.03 * least)


Told = Callable[..., None]


class Shelf:
    """What is served now. Reading is safe in any thread; `load` and `refresh` belong to one."""

    def __init__(self, settings: Settings, tell: Told) -> None:
        """An empty shelf; `tell(event, **facts)` hears of every bundle that comes, goes or is refused."""
        self._settings = settings
        self._tell = tell
        self._served: dict[Source, Served] = {}
        self._stamps: dict[Source, str] = {}
        self._by_name: dict[str, dict[str, Served]] = {}
        self._ready = threading.Event()

    @property
    def ready(self) -> bool:
        """Whether every bundle has passed."""
        return self._ready.is_set()

    @property
    def names(self) -> dict[str, dict[str, Served]]:
        """Each name's versions, newest first. The first name is the default."""
        return self._by_name

    def get(self, name: str | None = None, version: str | None = None) -> Served | None:
        """The bundle of that name and version; the first name and the newest version where none is given."""
        names = self._by_name
        if name is None:
            name = next(iter(names), "")
        versions = names.get(name, {})
        return next(iter(versions.values()), None) if version is None else versions.get(version)

    def load(self) -> None:
        """Open every bundle; then the shelf is ready. Raises SamesightError for the first that fails."""
        for source in self._settings.sources:
            self._stamps[source] = _stamp(source.folder)
            served = open_served(source, self._settings)
            self._served[source] = served
            self._arrange()
            self._told("loaded", served)
        self._ready.set()

    def refresh(self) -> None:
        """Take in every bundle that was replaced since the last look; keep the old one where that fails."""
        for source in self._settings.sources:
            stamp = _stamp(source.folder)
            if stamp == self._stamps[source]:
                continue
            self._stamps[source] = stamp  # a bundle that failed is not tried again until it changes
            if not stamp:
                self._tell(
                    "missing", level="warning", name=self._served[source].name, folder=str(source.folder)
                )
                continue
            old = self._served[source]
            try:
                served = open_served(source, self._settings)
                self._served[source] = served
                try:
                    self._arrange()
                except InputError:
                    self._served[source] = old
                    raise
            except (SamesightError, OSError) as error:
                self._tell("refused", level="error", name=old.name, kept=old.bundle.id, error=str(error))
            else:
                self._told("replaced", served)

    def _arrange(self) -> None:
        """Sort what is served by name and version, in one step. Raises InputError where two are one."""
        names: dict[str, dict[str, Served]] = {}
        for source in self._settings.sources:
            if (served := self._served.get(source)) is None:
                continue
            versions = names.setdefault(served.name, {})
            if served.version in versions:
                other = versions[served.version].source.folder
                raise InputError(
                    "two bundles have one name and version",
                    where=source.folder,
                    found=f"{served.name} {served.version}, as {other} has",
                    fix=f"NAME={source.folder}",
                )
            versions[served.version] = served
        self._by_name = {
            name: dict(sorted(versions.items(), key=lambda one: precedence(one[0]), reverse=True))
            for name, versions in names.items()
        }

    def _told(self, event: str, served: Served) -> None:
        self._tell(
            event,
            name=served.name,
            version=served.version,
            bundle=served.bundle.id,
            golden_samples=served.samples,
            batch=served.batch,
        )


def precedence(version: str) -> tuple[object, ...]:
    """A key that orders semantic versions as semver.org 2.0.0, section 11 does."""
    core, _, before = version.partition("+")[0].partition("-")
    numbers = tuple(int(part) for part in core.split("."))
    parts = tuple(
        (0, int(part), "") if re.fullmatch(r"[0-9]+", part) else (1, 0, part) for part in before.split(".")
    )
    return (*numbers, not before, parts if before else ())


def _stamp(folder: Path) -> str:
    """What changes when a bundle is replaced: the hash of its bundle.sha256; "" where there is none."""
    try:
        with (folder / "bundle.sha256").open("rb") as stream:
            return sha256_bytes(stream.read(200))
    except OSError:
        return ""
