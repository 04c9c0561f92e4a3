"""Photos without number: a plan, a file of answers a shard, and what a kill leaves behind."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from tiny_bundle import tampered
from tiny_photos import write_classes

from samesight.bundle import Bundle
from samesight.cli import main
from samesight.cluster import job as jobs
from samesight.cluster import photos as places
from samesight.cluster.job import Asked, Job, make_job, open_job, shard_photos
from samesight.cluster.photos import read_place
from samesight.cluster.rows import read_facts
from samesight.cluster.shards import Shards, bundle_files
from samesight.cluster.sources import Named, photos_of
from samesight.errors import BundleUnproved, InputError, PhotoError, PhotosError
from samesight.runtime import load

pytestmark = pytest.mark.row("R1")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """150 photos in three folders, so three shards; one of them is damaged."""
    folder = write_classes(tmp_path / "photos", {"a": 50, "b": 50, "c": 50}, ".jpg")
    (folder / "b" / "7.jpg").write_bytes((folder / "b" / "7.jpg").read_bytes()[:100])
    return folder


def asked(bundle: Bundle, *sources: object, **more: object) -> Asked:
    words = {"column": None, "copy": "fp32", "engine": "onnxruntime", "top": 3} | more
    return Asked(tuple(map(str, sources)), bundle=bundle.id, **words)  # type: ignore[arg-type]


def planned(job: Job) -> list[str]:
    return [os.fsdecode(one.path) for shard in range(job.shards) for one in job.planned(shard)]


def paths(*sources: object, column: str | None = None) -> list[str]:
    return [os.fsdecode(one.path) for one in photos_of([str(one) for one in sources], column)]


# Which photos there are.


def test_a_folder_stands_for_the_photos_that_predict_finds_in_it(
    bundle: Bundle, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "a.JPEG").write_bytes((photos / "a" / "0.jpg").read_bytes())
    (photos / "notes.txt").write_text("no photo")
    (photos / ".hidden").mkdir()
    (photos / ".hidden" / "0.jpg").write_bytes(b"")
    (photos / "link").symlink_to(photos / "c")
    main(["predict", str(bundle.folder), str(photos), "--json"])
    told = [json.loads(line)["path"] for line in capsys.readouterr().out.splitlines()]
    assert paths(photos) == told
    assert len(told) == 151


def test_patterns_tables_and_single_photos(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths("photos/*/1*.jpg") == sorted(
        f"photos/{one}/{n}.jpg" for one in "abc" for n in (1, *range(10, 20))
    )
    assert len(paths("photos/**/*.jpg")) == 150
    rows = ["a/0.jpg", "c/1.jpg", "gone.jpg", "7"]
    (photos / "table.csv").write_text("label;filename\n" + "".join(f"x;{row}\n" for row in rows))
    parquet.write_table(pyarrow.table({"path": rows, "photo": rows[::-1]}), photos / "table.parquet")
    assert paths("photos/table.csv") == paths("photos/table.parquet") == rows
    assert paths("photos/table.parquet", column="photo") == rows[::-1]
    places = [
        os.fsdecode(one.place) for one in photos_of(["photos/table.csv", "one.jpg", "s3://bucket/x.jpg"])
    ]
    assert places == [*(str(photos / row) for row in rows), str(tmp_path / "one.jpg"), "s3://bucket/x.jpg"]


@pytest.mark.parametrize(
    ("content", "column", "word"),
    [
        ("label,name\nx,y\n", None, "no column of paths"),
        ("path\na.jpg\n", "photo", "no column of paths"),
        ("path,label\na.jpg,x\n,y\n", None, "row 2"),
        ("path,label\na.jpg,x\nb.jpg\n", None, "cannot be read"),
        ("path\n", None, "no photos found"),
        ("", None, "cannot be read"),
        ("path\n\xff.jpg\n", None, "cannot be read"),
    ],
)
def test_a_table_that_will_not_do_is_told(
    tmp_path: Path, content: str, column: str | None, word: str
) -> None:
    (tmp_path / "table.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError) as told:
        paths(tmp_path / "table.csv", column=column)
    assert word in f"{told.value}"
    (tmp_path / "table.parquet").write_bytes(content.encode("latin-1"))
    with pytest.raises(PhotosError, match="cannot be read"):
        paths(tmp_path / "table.parquet")


def test_a_source_that_names_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "empty", tmp_path / "*.jpg"):
        with pytest.raises(InputError, match="no photos found"):
            paths(source)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**31))
def test_shards_grow_with_the_job(listed: int) -> None:
    """Few photos make many shards, many photos large ones: never fewer than 64 nor more than 10,000."""
    assert 64 <= shard_photos(listed) <= shard_photos(listed + 1) <= 10_000
    assert shard_photos(listed) <= max(64, listed / 256)


# The plan.


def test_the_plan_holds_every_photo_once_and_in_order(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "SHARDS_A_FILE", 3)
    names = [b"%d/\xff\xfe\n,%d.jpg" % (one % 7, one) for one in range(1000)]
    job = make_job(tmp_path / "job", asked(bundle, "x"), (Named(name, b"/" + name) for name in names))
    assert job.shards == 16
    assert sorted(os.listdir(job.folder / "plan")) == [f"{one:05}.parquet" for one in range(6)]
    found = [one for shard in range(job.shards) for one in job.planned(shard)]
    assert found == [Named(name, b"/" + name) for name in names]
    assert open_job(job.folder, job.asked) == job
    assert job.missing() == list(range(16))


def test_a_job_goes_on_only_as_it_began(bundle: Bundle, photos: Path, tmp_path: Path) -> None:
    first = asked(bundle, photos)
    job = make_job(tmp_path / "job", first, photos_of([str(photos)]))
    for other, word in (
        (asked(bundle, photos, top=4), "another top"),
        (asked(bundle, photos / "a"), "another sources"),
        (asked(bundle, photos, copy="fp16"), "another copy"),
        (asked(bundle, photos, samesight="9.9"), "another samesight"),
    ):
        with pytest.raises(InputError, match=word):
            open_job(job.folder, other)
    with job.locked(), pytest.raises(InputError, match="another run"), open_job(job.folder, first).locked():
        pass
    with pytest.raises(InputError, match="no job"):
        open_job(tmp_path, first)
    (job.folder / "job.json").write_text("[]")
    with pytest.raises(InputError, match="no job's folder"):
        open_job(job.folder, first)


def test_a_plan_that_fails_leaves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no photos found"):
        make_job(tmp_path / "job", asked(bundle, "x"), photos_of([str(tmp_path)]))
    assert not list(tmp_path.iterdir())


# The answers, without Ray.


def answers(job: Job) -> list[dict[str, object]]:
    return [row for shard in range(job.shards) for row in parquet.read_table(job.answers(shard)).to_pylist()]


def test_a_row_a_photo_with_the_answer_of_predict_or_the_error(
    bundle: Bundle, photos: Path, tmp_path: Path
) -> None:
    odd = os.fsencode(photos) + b"/a/\xff.jpg"
    with open(odd, "wb") as stream:
        stream.write((photos / "a" / "0.jpg").read_bytes())
    os.mkfifo(photos / "c" / "pipe.jpg")
    job = make_job(tmp_path / "job", asked(bundle, photos), photos_of([str(photos)]))
    shards = Shards(job, bundle_files(bundle))
    told = [shards.work(shard) for shard in job.missing()]
    assert [one["photos"] for one in told] == [64, 64, 24]
    assert job.missing() == []
    assert job.totals() == {"photos": 152, "errors": 2}
    (job.folder / "answers" / ".part-0000001.parquet.cut").write_bytes(b"of a worker that was killed")
    job.tidy()
    assert len(list((job.folder / "answers").iterdir())) == job.shards
    assert not list((job.folder / "trying").iterdir())
    classifier = load(bundle)
    rows = answers(job)
    assert len(rows) == 152
    for row, path in zip(rows, planned(job), strict=True):
        if path.endswith(("b/7.jpg", "pipe.jpg")):
            assert row["error"]
            assert row["label"] is row["index"] is row["confidence"] is row["top"] is None
        else:
            record = classifier.classify(path, top=3).to_json(path)
            assert {name: row[name] for name in ("label", "index", "confidence", "top")} == {
                name: record[name] for name in ("label", "index", "confidence", "top")
            }
            assert row["error"] is None
    assert [row["path"] for row in rows if "\\udcff" in str(row["path"])] == [f"{photos}/a/\\udcff.jpg"]
    _, facts = read_facts(job.answers(0))
    assert facts["bundle"] == bundle.id


def test_answers_of_another_job_are_not_counted(bundle: Bundle, photos: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", asked(bundle, photos), photos_of([str(photos)]))
    shards = Shards(job, bundle_files(bundle))
    for shard in job.missing():
        shards.work(shard)
    job.answers(0).write_bytes(job.answers(2).read_bytes())
    with pytest.raises(InputError, match="not of this job"):
        job.totals()
    job.answers(0).write_bytes(b"PAR1")
    with pytest.raises(InputError, match="not one that a worker wrote"):
        job.totals()


def test_a_worker_proves_the_bundle_where_it_is(bundle: Bundle, photos: Path, tmp_path: Path) -> None:
    from tiny_bundle import reworded

    other = tampered(bundle, tmp_path / "other", reworded({"decoded_sha256": "0" * 64}))
    job = make_job(tmp_path / "job", asked(other, photos), photos_of([str(photos)]))
    with pytest.raises(BundleUnproved, match="on a worker"):
        Shards(job, bundle_files(other))
    with pytest.raises(InputError, match="another bundle"):
        Shards(job, bundle_files(bundle))
    job = make_job(tmp_path / "newer", asked(bundle, photos, samesight="9.9"), photos_of([str(photos)]))
    with pytest.raises(InputError, match="another version"):
        Shards(job, bundle_files(bundle))


DEADLY = """
import os, sys
from pathlib import Path
import samesight.runtime as runtime
from samesight.bundle import open_bundle
from samesight.cluster.job import Asked, open_job
from samesight.cluster.shards import Shards, bundle_files

decode = runtime.decode
def deadly(data):
    if data == b"deadly":
        os._exit(9)  # as a fault in a decoder's C code would
    return decode(data)
runtime.decode = deadly
bundle = open_bundle(sys.argv[1])
job = open_job(Path(sys.argv[2]), Asked((sys.argv[3],), None, bundle.id, "fp32", "onnxruntime", 3))
shards = Shards(job, bundle_files(bundle))
for shard in job.missing():
    shards.work(shard)
"""


def test_a_photo_that_kills_its_workers_is_left_out(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "photos", {"a": 12})
    (folder / "a" / "9.png").write_bytes(b"deadly")
    job = make_job(tmp_path / "job", asked(bundle, folder), photos_of([str(folder)]))
    command = [sys.executable, "-c", DEADLY, str(bundle.folder), str(job.folder), str(folder)]
    codes = []
    while job.missing():
        codes.append(subprocess.run(command, check=False, timeout=60).returncode)
        assert len(codes) < 9
    assert codes == [9, 9, 9, 0]  # the first to die notes nothing
    errors = {row["path"]: row["error"] for row in answers(job) if row["error"]}
    assert errors == {f"{folder}/a/9.png": "left out: 2 workers died while they were at this photo"}


def test_a_disk_that_is_in_trouble_for_a_moment_is_waited_for(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = photos / "a" / "0.jpg"
    trouble = [errno.ESTALE, errno.EIO]
    real = Path.open

    def opened(path: Path, *words: Any, **more: Any) -> Any:
        if trouble:
            raise OSError(trouble.pop(), "trouble")
        return real(path, *words, **more)

    monkeypatch.setattr(places, "PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(Path, "open", opened)
    assert read_place(os.fsencode(one)) == one.read_bytes()
    trouble += [errno.EIO] * 3
    with pytest.raises(PhotoError):
        read_place(os.fsencode(one))
    trouble[:] = [errno.ENOENT]  # which no other try is made of
    with pytest.raises(PhotoError):
        read_place(os.fsencode(one))


def test_a_photo_lies_in_a_file_or_in_a_store(photos: Path, tmp_path: Path) -> None:
    one = photos / "a" / "0.jpg"
    assert read_place(os.fsencode(one)) == one.read_bytes() == read_place(f"file://{one}".encode())
    os.mkfifo(tmp_path / "pipe.jpg")
    for place in (tmp_path / "gone.jpg", tmp_path, tmp_path / "pipe.jpg", f"file://{tmp_path}/gone.jpg"):
        with pytest.raises(PhotoError):
            read_place(os.fsencode(place))
    with pytest.raises(PhotoError):
        read_place(b"nothing://of/the/kind.jpg")


class Store(BaseHTTPRequestHandler):
    """Answers as S3 does to whoever reads objects; `trouble` has the statuses of the next answers."""

    objects: ClassVar[dict[str, bytes]] = {}
    trouble: ClassVar[list[int]] = []

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        found = self.objects.get(urlsplit(self.path).path)
        status = self.trouble.pop() if self.trouble else 404 if found is None else 200
        data = found or b""
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        if wanted and status == 200:
            first, last = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
            status, rows = 206, ("content-range", f"bytes {first}-{last}/{len(data)}")
            data = data[first : last + 1]
        self.send_response(status)
        if status == 206:
            self.send_header(*rows)
        self.send_header("content-length", str(len(data) if status < 300 else 0))
        self.end_headers()
        if with_body and status < 300:
            self.wfile.write(data)

    def log_message(self, *words: object) -> None:
        return


def test_a_photo_lies_in_a_store_that_speaks_as_s3(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "nobody")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    data = (photos / "a" / "0.jpg").read_bytes()
    monkeypatch.setattr(Store, "objects", {"/shelf/a%20b/0.jpg": data, "/shelf/empty.jpg": b""})
    server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = f"?scheme=http&region=x&endpoint_override=127.0.0.1:{server.server_port}"
    try:
        assert read_place(f"s3://shelf/a%20b/0.jpg{options}".encode()) == data
        monkeypatch.setattr(Store, "trouble", [503, 503])  # Slow Down
        assert read_place(f"s3://shelf/a%20b/0.jpg{options}".encode()) == data
        assert read_place(f"s3://shelf/empty.jpg{options}".encode()) == b""
        with pytest.raises(PhotoError, match="cannot be read"):
            read_place(f"s3://shelf/gone.jpg{options}".encode())
    finally:
        server.shutdown()
        server.server_close()
