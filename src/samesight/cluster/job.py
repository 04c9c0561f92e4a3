"""The folder of a job: a plan that is made once, answers that come shard by shard, and what is missing still.

OUT/job.json       what was asked for
OUT/plan/          which photos are in which shard
OUT/answers/       part-0000000.parquet …, one file a shard: what other programs read
OUT/trying/        the shards that workers are at, or died at
OUT/summary.json   what came out; there once nothing is missing
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from samesight import __version__
from samesight.cluster.rows import read_facts
from samesight.cluster.sources import Named
from samesight.errors import InputError
from samesight.files import new_folder, read_json, write_json

__all__ = ["Asked", "Job", "make_job", "open_job", "shard_photos"]

FORMAT = "samesight-job"
FORMAT_VERSION = 1
SHARDS_A_FILE = 128  # of the plan
SMALLEST, LARGEST = 64, 10_000  # photos in a shard
FIRST_SHARDS = 256  # which a job has at least, if it has so many photos: enough for as many workers
READERS = 16  # of footers at a time
PLAN = pyarrow.schema([("path", pyarrow.binary()), ("place", pyarrow.binary())])
_PART = re.compile(r"part-(\d{7})\.parquet")


@dataclass(frozen=True)
class Asked:
    """What decides a job's answers. A job goes on only with the same."""

    sources: tuple[str, ...]
    column: str | None
    bundle: str
    copy: str
    engine: str
    top: int
    samesight: str = __version__


@dataclass(frozen=True)
class Job:
    """A job whose plan is made."""

    folder: Path
    """From the root, since workers stand elsewhere."""
    asked: Asked
    photos: int
    shards: int

    def answers(self, shard: int) -> Path:
        """Where the answers of a shard are, or will be."""
        return self.folder / "answers" / f"part-{shard:07}.parquet"

    def trying(self, shard: int) -> Path:
        """What a worker that is at a shard leaves behind if it dies."""
        return self.folder / "trying" / f"part-{shard:07}"

    def planned(self, shard: int) -> list[Named]:
        """The photos of a shard, in their order."""
        with parquet.ParquetFile(_plan_file(self.folder, shard // SHARDS_A_FILE)) as file:
            columns = file.read_row_group(shard % SHARDS_A_FILE).to_pydict()
        return [Named(*pair) for pair in zip(columns["path"], columns["place"], strict=True)]

    def missing(self) -> list[int]:
        """The shards that have no answers."""
        done = {
            int(found[1]) for name in os.listdir(self.folder / "answers") if (found := _PART.fullmatch(name))
        }
        return [shard for shard in range(self.shards) if shard not in done]

    def totals(self) -> dict[str, int]:
        """`photos` and `errors` over all answers, from the files' footers.

        Raises InputError where a shard has not as many rows as photos: what is there was changed.
        """

        def look(shard: int) -> int:
            rows, facts = read_facts(self.answers(shard))
            if (rows, facts.get("bundle")) != (planned[shard], self.asked.bundle):
                raise InputError(
                    "a file of answers is not of this job",
                    where=self.answers(shard),
                    expected=f"{planned[shard]} rows by the bundle {self.asked.bundle[:12]}",
                    found=f"{rows} rows by the bundle {str(facts.get('bundle'))[:12]}",
                    fix="move it away, and --resume",
                )
            return int(facts["errors"])

        planned = self._rows()
        with ThreadPoolExecutor(READERS) as pool:
            errors = sum(pool.map(look, range(self.shards)))
        return {"photos": sum(planned), "errors": errors}

    def tidy(self) -> None:
        """Remove what workers that were killed have left beside the answers, once nothing is missing."""
        for left in (*(self.folder / "answers").glob(".*"), *(self.folder / "trying").iterdir()):
            left.unlink(missing_ok=True)

    def _rows(self) -> list[int]:
        """How many photos each shard has."""
        counts: list[int] = []
        for number in range(-(-self.shards // SHARDS_A_FILE)):
            found = parquet.read_metadata(_plan_file(self.folder, number))
            counts += [found.row_group(group).num_rows for group in range(found.num_row_groups)]
        return counts

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else works on the job meanwhile. Raises InputError where somebody does.

        Left aside where the system or the file system has no such locks.
        """
        try:
            import fcntl
        except ImportError:
            yield
            return
        with (self.folder / "job.json").open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError("another run is at this job now", where=self.folder) from error
            except OSError:
                pass
            yield


def shard_photos(listed: int) -> int:
    """How many photos the next shard takes after so many: few at first, so a small job has many shards."""
    return min(LARGEST, max(SMALLEST, listed // FIRST_SHARDS))


def make_job(folder: Path, asked: Asked, photos: Iterable[Named]) -> Job:
    """Write the plan of a new job; the folder appears whole, or not at all. Raises InputError."""
    listed = shards = 0
    with new_folder(folder) as aside:
        for name in ("plan", "answers", "trying"):
            (aside / name).mkdir()
        with contextlib.ExitStack() as opened:
            for some in _cut(photos):
                if shards % SHARDS_A_FILE == 0:
                    opened.close()
                    place = _plan_file(aside, shards // SHARDS_A_FILE)
                    file = opened.enter_context(parquet.ParquetWriter(place, PLAN, compression="zstd"))
                rows = {"path": [one.path for one in some], "place": [one.place for one in some]}
                file.write_table(pyarrow.table(rows, PLAN), row_group_size=len(some))
                listed, shards = listed + len(some), shards + 1
        job = Job(folder.absolute(), asked, listed, shards)
        write_json(aside / "job.json", _record(job))
    return job


def open_job(folder: Path, asked: Asked) -> Job:
    """The job in a folder, to be gone on with. Raises InputError where there is none, or it is another."""
    if not (folder / "job.json").is_file():
        raise InputError("there is no job to go on with", where=folder, fix="leave --resume out")
    record = read_json(folder / "job.json")
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError("this is no job's folder", where=folder / "job.json", fix="another --out")
    if record.get("format_version") != FORMAT_VERSION:
        raise InputError(
            "the job was begun by another version of Samesight",
            where=folder / "job.json",
            expected=f"format_version {FORMAT_VERSION}",
            found=record.get("format_version"),
            fix="another --out",
        )
    photos, shards = record.get("photos"), record.get("shards")
    if type(photos) is not int or type(shards) is not int:
        raise InputError("job.json is damaged", where=folder / "job.json", fix="another --out")
    job = Job(folder.absolute(), asked, photos, shards)
    for key, value in _record(job).items():
        if record.get(key) != value:
            raise InputError(
                f"the job in this folder was begun with another {key}",
                where=folder,
                expected=record.get(key),
                found=value,
                fix="the same options, or another --out",
            )
    return job


def _record(job: Job) -> dict[str, Any]:
    asked = {**asdict(job.asked), "sources": list(job.asked.sources)}
    counts = {"photos": job.photos, "shards": job.shards}
    return {"format": FORMAT, "format_version": FORMAT_VERSION, **asked, **counts}


def _cut(photos: Iterable[Named]) -> Iterator[list[Named]]:
    """The photos shard by shard."""
    rest, listed = iter(photos), 0
    while some := list(islice(rest, shard_photos(listed))):
        yield some
        listed += len(some)


def _plan_file(folder: Path, number: int) -> Path:
    return folder / "plan" / f"{number:05}.parquet"
