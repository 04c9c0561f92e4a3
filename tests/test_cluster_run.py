"""`samesight predict --cluster ray` with a real Ray: workers, nodes and the command are killed on the way."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machines
import numpy as np
import psutil
import pytest
from machines import Machine
from PIL import Image
from pyarrow import parquet
from serving import until

from samesight.bundle import Bundle
from samesight.cli import main

pytestmark = pytest.mark.row("R1")

PHOTOS = 256  # four shards
START_S = 300  # of a Ray, at most, where other programs are busy
LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many names of one large photo, each of which takes a worker some time; one is damaged."""
    folder = tmp_path_factory.mktemp("many")
    stream = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 255, (750, 750, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "JPEG", quality=85)
    (folder / "0.jpg").write_bytes(stream.getvalue())
    for number in range(1, PHOTOS - 1):
        os.link(folder / "0.jpg", folder / f"{number}.jpg")
    (folder / "damaged.jpg").write_bytes(stream.getvalue()[:1000])
    return folder


class Predicting:
    """The command in a process of its own, and all that it starts."""

    def __init__(
        self,
        bundle: Bundle,
        photos: Path,
        out: Path,
        *words: object,
        machine: Machine | None = None,
        **more: str,
    ) -> None:
        command = [sys.executable, "-m", "samesight", "predict", bundle.folder, photos, "--cluster", "ray"]
        command = [*map(str, command), "--out", str(out), "--json", *map(str, words)]
        self.out = out
        self.log = out.with_suffix(".log")
        with self.log.open("w") as stream:
            self.process = subprocess.Popen(
                command if machine is None else machine.within(*command),
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                env={**os.environ, "HOME": str(out.parent), **more},
            )

    def family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def at_work(self) -> bool:
        """Whether a worker is at a shard, and none is done with all of them."""
        assert self.process.poll() is None, self.log.read_text()
        return (self.out / "trying").is_dir() and any((self.out / "trying").iterdir())

    def ended(self, code: int) -> dict[str, Any]:
        """What it told; it has ended with that code."""
        told, _ = self.process.communicate(timeout=START_S)
        assert self.process.returncode == code, self.log.read_text()
        assert "Traceback" not in self.log.read_text()
        return dict(json.loads(told))


@contextlib.contextmanager
def predicting(*words: Any, **more: Any) -> Iterator[Predicting]:
    running = Predicting(*words, **more)
    family: list[psutil.Process] = []
    try:
        yield running
        family = running.family()
    finally:
        for process in [*family, *running.family()]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        running.process.kill()
        running.process.communicate()


def check_answers(out: Path, photos: Path) -> None:
    """Every photo has one row; all but the damaged one have the same answer."""
    rows = parquet.read_table(out / "answers").to_pylist()
    assert Counter(row["path"] for row in rows) == Counter(str(path) for path in photos.iterdir())
    assert [row["path"] for row in rows if row["error"]] == [str(photos / "damaged.jpg")]
    assert len({(row["label"], row["confidence"]) for row in rows if not row["error"]}) == 1
    assert not list((out / "trying").iterdir())
    assert json.loads((out / "summary.json").read_text())["photos"] == PHOTOS


def listening(family: list[psutil.Process]) -> set[str]:
    """The addresses that these processes listen at."""
    found = set()
    for process in family:
        with contextlib.suppress(psutil.Error):
            found |= {one.laddr.ip for one in process.net_connections("tcp") if one.status == "LISTEN"}
    return found


def running_of(family: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in family if process.is_running()]


def workers(family: list[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in family:
        with contextlib.suppress(psutil.Error):
            if "MapWorker" in " ".join(process.cmdline()):
                found.append(process)
    return found


@pytest.mark.slow  # a Ray takes 10 CPU seconds to start, and minutes where others are busy
def test_a_worker_is_killed_on_the_way(bundle: Bundle, photos: Path, tmp_path: Path) -> None:
    with predicting(bundle, photos, tmp_path / "job", "--workers", 2, "--top", 2) as running:
        until(lambda: running.at_work() and len(workers(running.family())) == 2, START_S)
        family = running.family()
        workers(family)[0].kill()
        assert listening(family) <= LOOPBACK
        told = running.ended(2)
        assert (told["photos"], told["errors"], told["shards"]) == (PHOTOS, 1, 4)
        assert told["run"]["workers"] == 2
        until(lambda: not running_of(family), START_S)
    check_answers(tmp_path / "job", photos)
    assert not (tmp_path / ".ray").exists()


@pytest.mark.slow
def test_the_command_is_killed_and_goes_on(bundle: Bundle, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "job"
    with predicting(bundle, photos, out, "--workers", 1) as running:
        until(lambda: running.at_work() and any((out / "answers").iterdir()), START_S)
        family = running.family()
        running.process.send_signal(signal.SIGKILL)
        # Workers end at once, the last of Ray's own processes after a minute.
        until(lambda: not workers(running_of(family)), 60)
        until(lambda: not running_of(family), START_S)
    done = len(list((out / "answers").glob("part-*")))
    assert 0 < done < 4
    kept = {path: path.stat().st_mtime_ns for path in (out / "answers").glob("part-*")}
    with predicting(bundle, photos, out, "--workers", 2, "--resume") as running:
        told = running.ended(2)
        assert told["photos"] == PHOTOS
        assert told["run"]["shards"] == 4 - done
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    check_answers(out, photos)
    with predicting(bundle, photos, out, "--resume") as running:  # nothing is left to do, so no Ray is needed
        assert running.ended(2)["run"] == {
            "photos": 0,
            "shards": 0,
            "workers": 0,
            "seconds": pytest.approx(0, abs=30),
            "photos_per_worker_second": None,
            "cpu_ms_photo": None,
        }


TWO_NODES = """
import sys
import ray
from ray.cluster_utils import Cluster

def node(cluster, **more):
    for attempt in range(4):  # a node has 30 seconds to start, which may be too few
        try:
            return cluster.add_node(object_store_memory=100 << 20, **more)
        except Exception as error:
            print(error, file=sys.stderr)
    sys.exit(1)

cluster = Cluster()
node(cluster, num_cpus=2, include_dashboard=False)
other = node(cluster, num_cpus=1)
cluster.wait_for_nodes()
print(cluster.address, other.all_processes["raylet"][0].process.pid, flush=True)
sys.stdin.readline()
cluster.remove_node(other, allow_graceful=False)
print("removed", flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


@pytest.mark.slow
def test_a_machine_of_two_is_lost_on_the_way(bundle: Bundle, photos: Path, tmp_path: Path) -> None:
    """Two nodes of Ray, each with its own processes, stand for two machines."""
    words = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "5" * 40,
    }
    nodes = subprocess.Popen(
        [sys.executable, "-c", TWO_NODES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **words, "HOME": str(tmp_path)},
    )
    try:
        assert nodes.stdin is not None
        assert nodes.stdout is not None
        address, raylet = nodes.stdout.readline().split()
        out = tmp_path / "job"
        with predicting(bundle, photos, out, "--address", address, **words) as running:
            until(running.at_work, START_S)
            until(lambda: workers(psutil.Process(int(raylet)).children(recursive=True)), 60)
            nodes.stdin.write("\n")
            nodes.stdin.flush()
            assert nodes.stdout.readline() == "removed\n"
            assert not psutil.pid_exists(int(raylet))
            told = running.ended(2)
            assert (told["photos"], told["run"]["workers"]) == (PHOTOS, 2)
        check_answers(out, photos)
        assert nodes.poll() is None  # a Ray that was joined is left as it was
    finally:
        nodes.communicate("\n", timeout=60)


# The command `ray`, which waits for its first node longer than 30 seconds, as a busy machine needs.
RAY = """
from ray.scripts.scripts import main
from samesight.cluster.run import _patient

with _patient():
    main()
"""
# A machine that cannot be reached is given up within seconds, and one that starts slowly is not.
HEALTH = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_agent_register_timeout_ms": "180000",
}


@pytest.mark.slow
def test_a_machine_is_cut_off_on_the_way(bundle: Bundle, photos: Path, tmp_path: Path) -> None:
    """Two machines of namespaces, an address each. The one that is cut off works on for a while."""
    if (why := machines.missing()) is not None:
        pytest.skip(why)
    words = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "5" * 40, **HEALTH}
    start = (sys.executable, "-c", RAY, "start", "--block", "--num-cpus", 2)
    start = (*start, "--object-store-memory", 100 << 20)
    with machines.two_machines(tmp_path) as (one, two):
        head = ("--head", "--port", 6379, "--include-dashboard=false", "--temp-dir", machines.SCRATCH)
        address = f"{one.address}:6379"
        one.start(*start, *head, "--node-ip-address", one.address, log=tmp_path / "one.log", **words)
        until(lambda: "Ray runtime started" in (tmp_path / "one.out").read_text(), START_S)
        joining = ("--address", address, "--node-ip-address", two.address)
        two.start(*start, *joining, log=tmp_path / "two.log", **words)
        until(lambda: "Ray runtime started" in (tmp_path / "two.out").read_text(), START_S)
        out = tmp_path / "job"
        with predicting(bundle, photos, out, "--address", address, machine=one, **words) as running:
            until(lambda: running.at_work() and two.workers(), START_S)
            two.cut()
            cut_off = two.workers()
            told = running.ended(2)
            assert (told["photos"], told["run"]["workers"]) == (PHOTOS, 3)
            assert cut_off
        check_answers(out, photos)


def test_words_that_do_not_go_together(
    bundle: Bundle, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ["predict", str(bundle.folder), str(photos)]
    out = ["--out", str(tmp_path / "job")]
    for words, told in (
        (["--cluster", "ray"], "--out DIR"),
        (["--cluster", "ray", *out, "--csv"], "Parquet"),
        (["--cluster", "ray", *out, "--engine", "auto"], "--engine onnxruntime"),
        (["--cluster", "ray", *out, "--threads", "2"], "--workers N"),
        (["--cluster", "ray", *out, "--resume"], "no job to go on with"),
        (["--cluster", "ray", "--out", str(tmp_path)], "--resume, or another --out"),
        (["--cluster", "ray", *out, "--copy", "int4"], "int4"),
        (["--cluster", "ray", *out, "--address", "127.0.0.1:1"], "no Ray to work with"),
        (["--address", "127.0.0.1:1"], "--cluster ray"),
        (["--workers", "2"], "--cluster ray"),
    ):
        assert main([*start, *words]) == 2, words
        assert told in capsys.readouterr().err


def test_without_ray_the_extra_is_named(
    bundle: Bundle,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from samesight.commands import cluster

    monkeypatch.setattr(cluster, "find_spec", lambda name: None if name == "ray" else name)
    words = ["--cluster", "ray", "--out", str(tmp_path / "job")]
    assert main(["predict", str(bundle.folder), str(photos), *words]) == 2
    assert 'pip install "samesight[ray]"' in capsys.readouterr().err
