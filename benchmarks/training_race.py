"""`samesight train` against what people would train with instead: accuracy, CPU and wall seconds, memory.

Everyone gets the same photos in the same split (the one `samesight data` draws: choices are made on its inner
validation part, the held-out part is read once), the same pretrained weights and the same cores. `samesight
train PHOTOS --model MODEL --weights FILE` is given nothing else, and once more `--train head`. CPU seconds
are those of the whole process tree from its start to the answer, and are what counts: wall seconds grow with
whatever else the machine does.
OMP_WAIT_POLICY=PASSIVE is set for all, so that nobody's threads burn time while they wait for each other.

    uv venv ../peers && uv pip install --python ../peers/bin/python fastai ultralytics torch torchvision
    python benchmarks/training_race.py --peers-python ../peers/bin/python

--photos and --contenders run a part of it; each row of benchmarks/training_race.json is replaced when it is
run again. benchmarks/training_race.png and the README's table (benchmarks/tables.py) are made from that file;
--picture draws without running. Needs Linux's /proc. DIR holds the packs, as for real_photos.py.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "training_race.json"
PACKS = {
    "signdigits4": "signdigits4.zip",
    "trashnet": "trashnet_imbalanced.zip",
    "grocery81": "grocery81_csv.tar",
}
MODEL, WEIGHTS = "mobilenet_v2", "mobilenet_v2-6421cc59.pth"
SEED = 42
POLL_SECONDS = 0.5
MEMORY_SECONDS = 5  # adding up a process's pages stops it for a moment
TICKS = os.sysconf("SC_CLK_TCK")
PACKAGES = ("samesight", "torch", "torchvision", "pillow")


@dataclass(frozen=True)
class Contender:
    """Who runs: a script under peers/, or samesight itself where there is none."""

    title: str
    colour: str
    script: str | None = None
    epochs: int | None = None  # None: its own choice
    options: tuple[str, ...] = ()  # of samesight


CONTENDERS = {
    "samesight": Contender("samesight train", "#c0392b"),
    "samesight-head": Contender("samesight train --train head", "#e59866", options=("--train", "head")),
    "plain-loop": Contender("plain loop, Adam, 10 epochs", "#4d4d4d", "plain_loop.py", 10),
    "fastai": Contender("fastai, fine_tune(4)", "#2471a3", "fastai_fine_tune.py", 4),
    "fastai-10": Contender("fastai, fine_tune(10)", "#7fb3d5", "fastai_fine_tune.py", 10),
    "ultralytics": Contender("Ultralytics classify, 10 epochs", "#b7950b", "ultralytics_classify.py", 10),
}


def wilson(right: int, photos: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    share, middle = right / photos, 1 + z * z / photos
    centre = (share + z * z / (2 * photos)) / middle
    half = z * math.sqrt(share * (1 - share) / photos + z * z / (4 * photos * photos)) / middle
    return round(max(0.0, centre - half), 4), round(min(1.0, centre + half), 4)


def unpack(pack: Path, folder: Path) -> Path:
    """The folder with the pack's photos; a lone folder at its top is that folder."""
    if not folder.is_dir():
        aside = folder.with_suffix(".part")
        shutil.rmtree(aside, ignore_errors=True)
        with zipfile.ZipFile(pack) if pack.suffix == ".zip" else tarfile.open(pack) as archive:
            archive.extractall(aside)  # the packs are our own; Python 3.11.2 knows no filter
        aside.rename(folder)
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def split_of(photos: Path, folder: Path) -> dict:
    """The split that samesight draws by default, as split.json says it."""
    if not (folder / "split.json").is_file():
        command = [sys.executable, "-m", "samesight", "data", str(photos), "--out", str(folder), "--offline"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "split.json").read_text())


def copy_parts(photos: Path, split: dict, folder: Path) -> None:
    """Copy the photos into train, val and test, a folder per class. No two files have the same name."""
    for item in split["items"]:
        target = folder / item["part"] / item["label"] / item["name"].replace("/", "_")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photos / item["name"], target)


def command(contender: Contender, photos: Path, weights: Path, out: Path, python: Path, cores: int) -> list:
    """The command line; samesight's is what a user types."""
    if contender.script is None:
        words = ["train", photos, "--model", MODEL, "--weights", weights, *contender.options]
        return [sys.executable, "-m", "samesight", *words]
    given = {"model": MODEL, "weights": weights, "epochs": contender.epochs, "threads": cores, "seed": SEED}
    options = [word for name, value in given.items() for word in (f"--{name}", value)]
    script = HERE / "peers" / contender.script
    return [python, script, "--photos", out / "photos", "--out", out, *options]


class Tree:
    """A process and all its descendants, as /proc shows them."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def cpu_seconds(self) -> float:
        """CPU seconds so far, those of ended children that were waited for included."""
        return sum(self._seconds().values())

    def memory_bytes(self) -> int:
        """Memory now; a page that several processes share counts once (proportional set size)."""
        return sum(map(_memory, self._seconds()))

    def _seconds(self) -> dict[int, float]:
        """The CPU seconds of each process in the tree."""
        parents, seconds = {}, {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            pid = int(stat.parent.name)
            parents[pid] = int(fields[1])
            seconds[pid] = sum(map(int, fields[11:15])) / TICKS
        inside = {self.pid} & seconds.keys()
        while more := {pid for pid, parent in parents.items() if parent in inside} - inside:
            inside |= more
        return {pid: seconds[pid] for pid in inside}


def _memory(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def rows_of(file: Path) -> list[dict[str, str]]:
    """The complete rows of a CSV that is being written."""
    if not file.is_file():
        return []
    text = file.read_text()
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))


def race(words: list, cwd: Path, epochs: Path) -> dict:
    """Run the command; its CPU and wall seconds, memory, and when each epoch's row came into `epochs`."""
    print(*words, file=sys.stderr, flush=True)
    environment = {
        **os.environ,
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": str(len(_cores())),
        "XDG_CACHE_HOME": str(cwd / "cache"),  # nobody finds what an earlier run left
    }
    load = os.getloadavg()
    curve: list[dict] = []
    most, looked = 0, 0.0
    with (cwd / "output.txt").open("w") as output:
        start = time.monotonic()
        process = subprocess.Popen(
            list(map(str, words)), cwd=cwd, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        tree = Tree(process.pid)
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            wall = time.monotonic() - start
            rows = rows_of(epochs)[len(curve) :]
            if rows or ended:
                cpu = usage.ru_utime + usage.ru_stime if ended else tree.cpu_seconds()
            for row in rows:
                curve.append(
                    {
                        "epoch": int(row["epoch"]),
                        "cpu_seconds": round(cpu, 2),
                        "wall_seconds": round(wall, 2),
                        "val_accuracy": float(row["val_accuracy"]),
                    }
                )
            if ended:
                break
            if wall >= looked + MEMORY_SECONDS:
                looked, most = wall, max(most, tree.memory_bytes())
            time.sleep(POLL_SECONDS)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}; see {cwd / 'output.txt'}")
    return {
        "cpu_seconds": round(cpu, 2),
        "wall_seconds": round(wall, 2),
        "peak_memory_bytes": most,
        "peak_rss_bytes_of_largest_process": usage.ru_maxrss * 1024,
        "load_average_before": [round(value, 2) for value in load],
        "load_average_after": [round(value, 2) for value in os.getloadavg()],
        "curve": curve,
    }


def _cores() -> set[int]:
    return os.sched_getaffinity(0)


def samesight_answer(run: Path, split: dict) -> dict:
    """What a run folder says, in the words of answer.json."""
    if json.loads((run / "split.json").read_text())["sha256"] != split["sha256"]:
        raise SystemExit(f"{run}: samesight train drew another split than samesight data did")
    value = json.loads((run / "run.json").read_text())
    results = value["results"]
    photos = results["test_photos"]
    return {
        "test_right": round(results["test_accuracy"] * photos),
        "test_photos": photos,
        "best_epoch": results["best_epoch"],
        "val_accuracy": results["val_accuracy"],
        "packages": {name: version(name) for name in PACKAGES},
        "derived": value["derived"],
    }


def row(name: str, which: str, args: argparse.Namespace) -> dict:
    """One contender on one set of photos, from nothing to the answer."""
    contender, base = CONTENDERS[which], args.work / name
    base.mkdir(parents=True, exist_ok=True)
    photos = unpack(args.data / PACKS[name], base / "pack")
    split = split_of(photos, base / "split")
    out = base / which
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    run = out / "runs" / f"{photos.name}-{MODEL}"
    if contender.script is not None:
        copy_parts(photos, split, out / "photos")
    words = command(contender, photos, args.weights, out, args.peers_python, len(_cores()))
    epochs = out / "epochs.csv" if contender.script else run / "history.csv"
    figures = race(words, out, epochs)
    if contender.script is None:
        answer = samesight_answer(run, split)
    else:
        answer = json.loads((out / "answer.json").read_text())
        shutil.rmtree(out / "photos")
    right, count = answer["test_right"], answer["test_photos"]
    parts = [item["part"] for item in split["items"]]
    if count != parts.count("test"):
        raise SystemExit(f"{which} read {count} held-out photos of {parts.count('test')}")
    return {
        "photos": name,
        "contender": which,
        "title": contender.title,
        "model": MODEL,
        "epochs": len(figures["curve"]),
        "seed": SEED,
        "train_photos": parts.count("train"),
        "val_photos": parts.count("val"),
        **answer,
        "test_accuracy": round(right / count, 6),
        "test_interval_95": wilson(right, count),
        **figures,
        "split_sha256": split["sha256"],
        "weights": args.weights.name,
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": len(_cores()),
            "system": platform.platform(terse=True),
            "python": platform.python_version(),
        },
        "runs": 1,
        "date": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()),
    }


def keep(results: Path, new: dict) -> None:
    """Put the row in its place among the others."""
    rows = json.loads(results.read_text())["rows"] if results.is_file() else []
    kept = {(one["photos"], one["contender"]): one for one in [*rows, new]}
    order = [(name, which) for name in PACKS for which in CONTENDERS]
    ordered = [kept[key] for key in order if key in kept]
    aside = results.with_suffix(".part")
    aside.write_text(json.dumps({"rows": ordered}, indent=1) + "\n")
    aside.rename(results)


def draw(results: Path, picture: Path) -> None:
    """Accuracy against CPU seconds: a line by validation accuracy, a dot by the held-out photos."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter

    rows = json.loads(results.read_text())["rows"]
    names = [name for name in PACKS if any(row["photos"] == name for row in rows)]
    figure, panels = pyplot.subplots(1, len(names), figsize=(4.6 * len(names), 4.2), squeeze=False)
    shown = {}
    for panel, name in zip(panels[0], names, strict=True):
        here = [row for row in rows if row["photos"] == name]
        for row in here:
            colour, curve = CONTENDERS[row["contender"]].colour, row["curve"]
            panel.plot(
                [at["cpu_seconds"] for at in curve],
                [100 * at["val_accuracy"] for at in curve],
                color=colour, linewidth=1.2, alpha=0.7, marker=".", markersize=4,
            )  # fmt: skip
            test, (low, high) = row["test_accuracy"], row["test_interval_95"]
            shown[row["contender"]] = panel.errorbar(
                row["cpu_seconds"], 100 * test, [[100 * (test - low)], [100 * (high - test)]],
                fmt="o", color=colour, markersize=8, markeredgecolor="white", capsize=3, elinewidth=1,
            )  # fmt: skip
        panel.set_xscale("log")
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        trained, held_out = here[0]["train_photos"], here[0]["test_photos"]
        panel.set_title(f"{name}: {trained} photos to train on, {held_out} held out", fontsize=10)
        panel.set_xlabel("CPU seconds, from start to answer")
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("accuracy, %")
    handles = {which: shown[which] for which in CONTENDERS if which in shown}
    figure.legend(
        handles.values(), [CONTENDERS[which].title for which in handles],
        loc="lower center", ncols=len(handles), frameon=False, fontsize=9,
    )  # fmt: skip
    figure.suptitle("dot: held-out photos, 95 % interval; line: inner validation after each epoch", size=9)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(picture, dpi=120, metadata={"Software": None})
    pyplot.close(figure)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    data = Path(os.environ.get("SAMESIGHT_TEST_DATA", HERE.parent.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data, metavar="DIR")
    parser.add_argument("--work", type=Path, default=HERE.parent / "runs" / "training-race", metavar="DIR")
    parser.add_argument("--peers-python", type=Path, metavar="PATH", help="needed for all but samesight")
    parser.add_argument("--photos", nargs="*", choices=PACKS, default=list(PACKS))
    parser.add_argument("--contenders", nargs="*", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--cores", type=int, default=2, help="how many may be used (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument("--picture", action="store_true", help="draw what --results holds; run nothing")
    args = parser.parse_args()
    if args.picture:
        draw(args.results, args.results.with_suffix(".png"))
        return
    if args.peers_python is None and any(CONTENDERS[which].script for which in args.contenders):
        parser.error("the peers need an environment of their own: --peers-python PATH, see --help")
    os.sched_setaffinity(0, sorted(_cores())[: args.cores])
    args.work = args.work.absolute()
    args.peers_python = args.peers_python and args.peers_python.absolute()  # links are kept: they tell which
    args.work.mkdir(parents=True, exist_ok=True)
    with tarfile.open(args.data / "weights_dev.tar.xz") as archive:
        archive.extractall(args.work)
    args.weights = args.work / "weights" / WEIGHTS
    for name in args.photos:
        for which in args.contenders:
            keep(args.results, row(name, which, args))
    draw(args.results, args.results.with_suffix(".png"))


if __name__ == "__main__":
    main()
