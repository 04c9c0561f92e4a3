"""What a worker does: it proves the bundle where it is, then takes shard after shard from photos to answers.

One thread takes a photo through all its stages; others read the files of the next ones meanwhile. A worker
that dies is started anew and its shard is given out again. If that happens it may be a photo's doing: so the
next worker at that shard notes each photo before it begins it, and a photo at which two of them died is given
an error instead.
"""

from __future__ import annotations

import platform
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samesight import __version__
from samesight.bundle import Bundle, open_bundle
from samesight.cluster.job import Job
from samesight.cluster.photos import read_place
from samesight.cluster.rows import Row, row_of, write_rows
from samesight.errors import BundleUnproved, InputError, SamesightError
from samesight.evaluate import tensors as ahead
from samesight.runner import Runner, Settings
from samesight.runners import open_runners
from samesight.runtime import Classifier
from samesight.verify import verify
from samesight.verify.golden import read_golden

__all__ = ["Shards", "bundle_files"]

READERS = 4  # threads that wait for disks or stores, each at most four photos ahead
DEADLY = 2  # workers that died at one photo, from which it is left out
BEGUN = "begun"


def bundle_files(bundle: Bundle) -> dict[str, bytes]:
    """All files of a bundle, to be sent to where it is not."""
    own = {name: (bundle.folder / name).read_bytes() for name in ("bundle.json", "bundle.sha256")}
    return own | {file.path: bundle.read(file.path) for file in bundle.files}


class Shards:
    """A bundle that answers the shards of a job. Knows nothing of Ray."""

    def __init__(self, job: Job, files: Mapping[str, bytes]) -> None:
        """Open and prove the bundle. Raises a BundleError; BundleUnproved where its answers differ here."""
        _check_version(job)
        self._job = job
        with tempfile.TemporaryDirectory(prefix="samesight-bundle-") as name:
            bundle = _unpacked(Path(name), files)
            if bundle.id != job.asked.bundle:
                raise InputError(
                    "a worker was given another bundle", expected=job.asked.bundle, found=bundle.id
                )
            (runner,) = open_runners(bundle, [job.asked.engine], [job.asked.copy], Settings(threads=1))
            _prove(bundle, runner)
        self._classifier = Classifier(bundle, bundle.copy(job.asked.copy), runner, threads=1)

    def work(self, shard: int) -> dict[str, Any]:
        """Answer every photo of a shard and write the answers; what there was. Raises InputError."""
        start, cpu = time.perf_counter(), time.process_time()
        photos = self._job.planned(shard)
        attempt = _Attempt(self._job.trying(shard))
        read = ahead((photo.place for photo in photos), _read, threads=READERS)
        rows: list[Row] = []
        for place, (photo, data) in enumerate(zip(photos, read, strict=True)):
            answer = self._answer(data) if attempt.begins(place) else _deadly()
            rows.append(row_of(photo.path, answer))
        asked = self._job.asked
        facts = {
            "bundle": asked.bundle,
            "copy": asked.copy,
            "engine": asked.engine,
            "samesight": __version__,
            "errors": sum(row["error"] is not None for row in rows),
        }
        write_rows(self._job.answers(shard), rows, facts)
        attempt.ends()
        return {
            "shard": shard,
            "photos": len(rows),
            "errors": facts["errors"],
            "seconds": time.perf_counter() - start,
            "cpu_seconds": time.process_time() - cpu,
        }

    def _answer(self, data: bytes | InputError) -> Any:
        if isinstance(data, InputError):
            return data
        try:
            return self._classifier.classify(data, top=self._job.asked.top)
        except SamesightError as error:
            return error
        except Exception as error:  # a fault of ours at one photo in a thousand million must not end the job
            return f"a fault: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


class _Attempt:
    """A worker's attempt at a shard, noted in a file that is there as long as the attempt lasts."""

    def __init__(self, path: Path) -> None:
        """Begin it. Raises InputError where nothing can be written."""
        self._path = path
        try:
            past = path.read_text().split() if path.exists() else []
            self._stream = path.open("a")
            self._note(BEGUN)
        except OSError as error:
            raise InputError("a worker cannot write", where=path, found=error.strerror) from error
        self._careful = bool(past)
        # Where an attempt's notes end, its worker died.
        ends = [one for one, next_one in zip(past, [*past, BEGUN][1:], strict=True) if next_one == BEGUN]
        self._deaths = Counter(int(one) for one in ends if one.isdigit())

    def begins(self, place: int) -> bool:
        """Note that the photo at `place` is begun; false where it has to be left out."""
        if self._deaths[place] >= DEADLY:
            return False
        if self._careful:
            self._note(str(place))
        return True

    def ends(self) -> None:
        """The shard is done."""
        self._stream.close()
        self._path.unlink(missing_ok=True)

    def _note(self, word: str) -> None:
        self._stream.write(f"{word}\n")
        self._stream.flush()


def _read(place: bytes) -> Any:
    try:
        return read_place(place)
    except InputError:
        raise
    except Exception as error:  # of a store's client, which may raise anything
        raise InputError("a photo cannot be read", found=f"{type(error).__name__}: {error}") from error


def _deadly() -> str:
    return f"left out: {DEADLY} workers died while they were at this photo"


def _unpacked(folder: Path, files: Mapping[str, bytes]) -> Bundle:
    """The bundle whose files these are, written into `folder` and opened there, after every check."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return open_bundle(folder)


def _prove(bundle: Bundle, runner: Runner) -> None:
    """Raise BundleUnproved where a golden sample has another answer here than the recorded one."""
    if not any(file.path == "golden/golden.json" for file in bundle.files):
        return
    found = verify(bundle, read_golden(bundle), [runner])
    if not found.ok:
        first = found.first_difference
        raise BundleUnproved(
            "the bundle does not give its recorded answers on a worker, so its answers are not taken",
            where=platform.node(),
            found=None if first is None else f"{first['stage']}: {first['what']}",
            fix="samesight verify BUNDLE, on that machine",
        )


def _check_version(job: Job) -> None:
    if job.asked.samesight != __version__:
        raise InputError(
            "a worker has another version of Samesight",
            where=platform.node(),
            expected=job.asked.samesight,
            found=__version__,
            fix=f"pip install samesight=={job.asked.samesight}",
        )
