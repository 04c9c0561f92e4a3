"""Photos a second and latencies of `samesight serve` beside its peers, JPEG in and label out, on loopback.

`python benchmarks/server.py --bundle BUNDLE --photos FOLDER [--peers PYTHON] [--seconds 8] [--rounds 3]`

Everything runs on the same CPUs, the load generator (benchmarks/load.py) too; the servers that are not being
asked are stopped meanwhile. Rounds alternate between them, so that a busy machine is busy for all, and only
the ratios within a run mean anything. CPU milliseconds a photo (server and generator apart) hold on a busy
machine also. Where the system allows, those measured go before other programs; what these took all the same,
and how the machine itself paused, is told (benchmarks/pauses.py). PYTHON is that of an environment of the
peers' own, with what benchmarks/peers/server.txt lists. Writes benchmarks/server.json. Four minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import psutil
from pauses import ahead, watched

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "server.json"
PEERS = ("fastapi", "litserve", "bentoml")
PACKAGES = {"fastapi": "fastapi", "litserve": "litserve", "bentoml": "bentoml"}
CONNECTIONS = 8
ARRIVALS: dict[str, tuple[str, ...]] = {"even": (), "poisson": ("--poisson",)}
IN_PROCESS = """
import json, sys, time
import samesight
classifier = samesight.load(sys.argv[1])
photos, seconds = sys.argv[3:], float(sys.argv[2])
list(classifier.classify_many(photos[:32]))
start, cpu, done = time.perf_counter(), time.process_time(), 0
while time.perf_counter() - start < seconds:
    done += len(list(classifier.classify_many(photos)))
wall = time.perf_counter() - start
print(json.dumps({"per_second": done / wall, "cpu_ms_photo": 1000 * (time.process_time() - cpu) / done}))
"""


class Running:
    """A server in processes of its own, stopped (not ended) while others are asked."""

    def __init__(
        self, name: str, command: Sequence[str], port: int, path: str, form: str, **more: str
    ) -> None:
        self.name, self.form = name, form
        self.url = f"http://127.0.0.1:{port}{path}"
        self.log = tempfile.NamedTemporaryFile("w+", suffix=f"-{name}.log")  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
            cwd=HERE / "peers",
            env={**os.environ, "PORT": str(port), **more},
        )
        ahead(self.process.pid)

    def family(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def cpu_s(self) -> float:
        total = 0.0
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                total += sum(process.cpu_times()[:2])
        return total

    def mib(self) -> float:
        """Memory of all its processes; what they share counts once (proportional set size)."""
        total = 0
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
        return total / 1024**2

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def wait(self, photo: Path) -> None:
        """Until it has answered a photo."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            if load(self.url, [photo], "--seconds", 0.2, "--connections", 1, "--form", self.form)["answered"]:
                return
            time.sleep(0.5)
        self.log.seek(0)
        raise SystemExit(f"{self.name} does not answer:\n{self.log.read()[-3000:]}")

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
            self.signal(signal.SIGKILL)


def load(url: str, photos: Sequence[Path], *words: object) -> dict:
    """What the load generator prints; nothing answered where it cannot connect."""
    done = run_ahead([sys.executable, str(HERE / "load.py"), url, *map(str, photos), *map(str, words)])
    return json.loads(done.stdout) if done.returncode == 0 else {"answered": 0, "trouble": done.stderr[-500:]}


def in_process(bundle: Path, photos: Sequence[Path], seconds: float) -> dict:
    """The rate of `predict` without a server."""
    done = run_ahead([sys.executable, "-c", IN_PROCESS, str(bundle), str(seconds), *map(str, photos)])
    done.check_returncode()
    return json.loads(done.stdout)


def run_ahead(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """`command`, run before other programs to its end."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    ahead(process.pid)
    stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def busy_s() -> float:
    """CPU seconds that all programs, and the system for them, have taken since it was started."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice


def asked(server: Running, photos: Sequence[Path], *words: object) -> dict:
    """One measurement of a server, with its CPU time and memory, and what else there was on the machine."""
    before, busy = server.cpu_s(), busy_s()
    start = time.monotonic()
    with watched() as pauses:
        found = load(server.url, photos, *words, "--form", server.form)
    found["pauses"] = pauses
    if found["answered"]:
        server_s = server.cpu_s() - before
        others_s = busy_s() - busy - server_s - found["generator_cpus"] * found["seconds"]
        found["other_cpus"] = others_s / (time.monotonic() - start)
        found["server_cpu_ms_photo"] = 1000 * server_s / found["answered"]
        found["generator_cpu_ms_photo"] = (
            1000 * found["generator_cpus"] * found["seconds"] / found["answered"]
        )
    found["server_mib"] = server.mib()
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(args: argparse.Namespace, names: Sequence[str], work: Path) -> Iterator[dict[str, Running]]:
    """Every server, started and answering, all stopped but ready to go on."""
    labels = json.loads((args.bundle / "bundle.json").read_text())["labels"]
    (work / "labels.txt").write_text("\n".join(labels))
    model = {"MODEL": str(args.bundle / "model.onnx"), "LABELS": str(work / "labels.txt")}
    servers: dict[str, Running] = {}
    try:
        for name in names:
            port = free_port()
            if name == "samesight":
                words = (str(args.bundle), "--port", str(port), "--log", "json")
                command = [sys.executable, "-m", "samesight", "serve", *words]
                servers[name] = Running(name, command, port, "/classify", "raw")
            elif name == "bentoml":
                words = ("serve", "server_bentoml:Photos", "--port", str(port), "--host", "127.0.0.1")
                command = [str(Path(args.peers).with_name("bentoml")), *words]
                home = {"BENTOML_HOME": str(work / "bentoml"), "BENTOML_DO_NOT_TRACK": "1"}
                servers[name] = Running(name, command, port, "/predict", "photo", **model, **home)
            else:
                command = [str(args.peers), f"server_{name}.py"]
                servers[name] = Running(name, command, port, "/predict", "photo", **model)
            servers[name].wait(args.photos[0])
            servers[name].signal(signal.SIGSTOP)
        yield servers
    finally:
        for server in servers.values():
            server.end()


@contextlib.contextmanager
def awake(server: Running) -> Iterator[None]:
    """The server runs while the block does."""
    server.signal(signal.SIGCONT)
    try:
        yield
    finally:
        server.signal(signal.SIGSTOP)


def measure(args: argparse.Namespace, names: Sequence[str], work: Path) -> dict:
    """Rounds of all; samesight's latencies in each, and at last its answers to ten times its rate."""
    rates: dict[str, list[dict]] = {name: [] for name in ("in process", *names)}
    latencies: dict[str, list[dict]] = {name: [] for name in ARRIVALS}
    with running(args, names, work) as servers:
        for turn in range(args.rounds):
            print(f"round {turn + 1} of {args.rounds}", file=sys.stderr, flush=True)
            rates["in process"].append(in_process(args.bundle, args.photos, args.seconds))
            for name, server in servers.items():
                with awake(server):
                    words = ("--seconds", args.seconds, "--connections", CONNECTIONS)
                    rates[name].append(asked(server, args.photos, *words))
                    if name == "samesight":
                        rate = rates[name][-1]["per_second"]
                        for arrivals, found in at_times(args, server, 0.8 * rate).items():
                            latencies[arrivals].append(found)
        print("ten times the load", file=sys.stderr, flush=True)
        with awake(servers["samesight"]):
            flood = at_rate(args, servers["samesight"], 10 * rate)
        batch = served_batch(servers["samesight"])
    return {
        "rates": rates,
        "summary": summary(rates),
        "batch": batch,
        **{f"load 80 % {name}": middle(rounds) for name, rounds in latencies.items()},
        "load 1000 %": flood,
    }


def served_batch(server: Running) -> int:
    """How many photos samesight runs together at most, which it measured at its start, as its log tells."""
    events = map(json.loads, Path(server.log.name).read_text().splitlines()[1:])  # the first is its address
    return next(event["batch"] for event in events if event["event"] == "bundle loaded")


def at_times(args: argparse.Namespace, server: Running, rate: float) -> dict[str, dict]:
    """Latencies where `rate` photos a second come at even times, and at random ones."""
    found = {name: at_rate(args, server, rate, *words) for name, words in ARRIVALS.items()}
    for one in found.values():
        one["p99_by_p50"] = one["p99_ms"] / one["p50_ms"]
    return found


def at_rate(args: argparse.Namespace, server: Running, rate: float, *words: object) -> dict:
    """One measurement where photos come whether or not the server keeps up."""
    spread = ("--seconds", args.seconds, "--connections", 500)
    return asked(server, args.photos, "--rate", rate, *spread, *words)


def middle(rounds: Sequence[dict]) -> dict:
    """Medians of latencies over the rounds, the range of p99 / p50, and the rounds themselves."""
    keys = ("p50_ms", "p95_ms", "p99_ms", "p99_by_p50", "late_p99_ms", "other_cpus")
    ratios = [one["p99_by_p50"] for one in rounds]
    return {
        **{key: statistics.median(one[key] for one in rounds) for key in keys},
        "p99_by_p50_range": [min(ratios), max(ratios)],
        "rounds": list(rounds),
    }


def summary(rates: dict[str, list[dict]]) -> dict:
    """Medians over the rounds, and the ratio to in-process `predict`, round by round."""
    rows = {}
    for name, rounds in rates.items():
        ratios = [
            one["per_second"] / base["per_second"]
            for one, base in zip(rounds, rates["in process"], strict=True)
            if one.get("per_second")
        ]
        rows[name] = {
            "per_second": statistics.median(one.get("per_second", 0.0) for one in rounds),
            "ratio_to_in_process": statistics.median(ratios) if ratios else None,
            "ratio_range": [min(ratios), max(ratios)] if ratios else None,
        }
        for key in (
            "cpu_ms_photo",
            "server_cpu_ms_photo",
            "generator_cpu_ms_photo",
            "p50_ms",
            "p99_ms",
            "server_mib",
        ):
            values = [one[key] for one in rounds if one.get(key) is not None]
            if values:
                rows[name][key] = statistics.median(values)
    return rows


def versions(peers: str | None) -> dict[str, str]:
    """Of all that was measured."""
    names = ("samesight", "onnxruntime", "starlette", "uvicorn", "pillow", "simplejpeg")
    found = {name: version(name) for name in names}
    if peers:
        code = (
            "import json, sys; from importlib.metadata import version;"
            "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
        )
        names = (*PACKAGES.values(), "onnxruntime", "pillow")
        done = subprocess.run([peers, "-c", code, *names], capture_output=True, text=True, check=True)
        found |= {f"peers: {name}": word for name, word in json.loads(done.stdout).items()}
    return found


def main() -> None:
    """Measure, write, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=lambda word: Path(word).resolve(), required=True)
    parser.add_argument("--photos", type=Path, required=True, help="a folder of JPEGs; 160 of them are sent")
    parser.add_argument("--peers", help="the Python of the peers' environment (default: no peers)")
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement (default: 8)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=("samesight", *PEERS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    found = sorted(
        path.resolve() for path in args.photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg")
    )
    args.photos = found[:160]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no server is left
    names = ["samesight", *(name for name in PEERS if args.peers and (not args.only or name in args.only))]
    if args.peers:
        args.peers = os.path.abspath(args.peers)
    start, before = time.monotonic(), os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(args, names, Path(folder))
    result["machine"] = {
        "cpu": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average_before": before,
        "load_average_after": os.getloadavg(),
        "python": platform.python_version(),
        "packages": versions(args.peers),
        "date": time.strftime("%Y-%m-%d"),
        "photos": len(args.photos),
        "mean_photo_bytes": statistics.mean(path.stat().st_size for path in args.photos),
        "connections": CONNECTIONS,
        "seconds_each": args.seconds,
        "seconds": time.monotonic() - start,
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    for name, row in result["summary"].items():
        print(f"{name:<12} {row['per_second']:8.1f}/s   {row['ratio_to_in_process'] or 0:5.2f} × in process")
    for name in ARRIVALS:
        one = result[f"load 80 % {name}"]
        pauses = [found["pauses"]["max_ms"] for found in one["rounds"]]
        low, high = one["p99_by_p50_range"]
        print(
            f"load 80 % {name}: p50 {one['p50_ms']:.1f} ms, p99 {one['p99_ms']:.1f} ms, "
            f"p99 / p50 {one['p99_by_p50']:.2f} ({low:.2f} to {high:.2f}); "
            f"longest pause of a core {max(pauses):.0f} ms"
        )
    print(f"load 1000 %: {result['load 1000 %']['statuses']}")


if __name__ == "__main__":
    main()
