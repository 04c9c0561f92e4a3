"""Training in several processes, real ones: the result of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import machines
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")


def run(words: list[str], processes: int, cache: Path) -> subprocess.CompletedProcess[str]:
    launch = [sys.executable, "-m", "samesight"]
    if processes > 1:
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        launch += ["--nproc-per-node", str(processes), "-m", "samesight"]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "SAMESIGHT_CACHE": str(cache),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    return subprocess.run(
        [*launch, *words], capture_output=True, text=True, timeout=200, check=False, env=environment
    )


@pytest.mark.row("T1")
def test_two_processes_train_what_one_does(digits: Path, tmp_path: Path) -> None:
    """The same batches and views, gradients averaged: BatchNorm alone sees fewer photos at a time."""
    words = ["train", str(digits), "--model", "small", "--no-flip", "--epochs", "2", "--threads", "1"]
    words += ["--batch", "32", "--device", "cpu", "--json", "--sampler", "none"]
    states, results = [], []
    for processes in (1, 2):
        out = tmp_path / f"of{processes}"
        done = run([*words, "--out", str(out)], processes, tmp_path / "cache")
        assert done.returncode == 0, done.stderr[-3000:]
        printed = [line for line in done.stdout.splitlines() if line.startswith("{")]
        assert len(printed) == 1  # only the first process answers
        results.append(json.loads(printed[0]))
        states.append(torch.load(out / "checkpoints/best.pth", weights_only=True))
        assert json.loads((out / "run.json").read_text())["derived"]["processes"] == processes
    assert abs(results[0]["test_accuracy"] - results[1]["test_accuracy"]) <= 0.1
    assert results[0]["test_photos"] == results[1]["test_photos"]
    alone, shared = states
    assert alone.keys() == shared.keys()


@pytest.mark.row("T1")
def test_a_mistake_ends_every_process(tmp_path: Path) -> None:
    done = run(["train", str(tmp_path / "nothing"), "--model", "small"], 2, tmp_path / "cache")
    assert done.returncode != 0
    assert "nothing" in done.stderr


@pytest.mark.slow
@pytest.mark.row("T1")
def test_two_machines_train_as_the_page_says(digits: Path, tmp_path: Path) -> None:
    """The command of docs/scale.md on two machines of namespaces, which know each other by name."""
    if (why := machines.missing()) is not None:
        pytest.skip(why)
    words = [
        "train",
        digits,
        "--model",
        "small",
        "--no-flip",
        "--epochs",
        2,
        "--threads",
        1,
        "--device",
        "cpu",
    ]
    words += ["--batch", 32, "--out", tmp_path / "run", "--json"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes", 2, "--nproc-per-node", 1]
    launch += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "one:29500", "-m", "samesight"]
    more = {"OMP_NUM_THREADS": "1", "SAMESIGHT_CACHE": str(tmp_path / "cache")}
    with machines.two_machines(tmp_path) as both:
        running = [
            machine.start(*launch, *words, log=tmp_path / f"{machine.name}.log", **more) for machine in both
        ]
        for process in running:
            process.wait(600)
    for machine, process in zip(both, running, strict=True):
        assert process.returncode == 0, (tmp_path / f"{machine.name}.log").read_text()[-3000:]
    said = "".join((tmp_path / f"{machine.name}.out").read_text() for machine in both)
    (printed,) = [line for line in said.splitlines() if line.startswith("{")]
    assert json.loads(printed)["test_accuracy"] > 0.15  # two epochs; a guess has 0.1
    assert json.loads((tmp_path / "run" / "run.json").read_text())["derived"]["processes"] == 2
