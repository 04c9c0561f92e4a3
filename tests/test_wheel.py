"""The built wheel in an environment of its own, with nothing but what the core needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*words: object, codes: tuple[int, ...] = (0,)) -> str:
    """What a command prints, run outside the checkout and without its paths."""
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, check=False, cwd="/", env=surroundings
    )
    assert done.returncode in codes, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.row("R1")
def test_the_wheel_answers_and_proves_without_torch(digits: Path, tmp_path: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip("uv is not beside Python; `make setup` puts it there")
    samesight = Path(sys.executable).with_name("samesight")
    words = ("--model", "small", "--resize", "32x32", "--no-flip", "--epochs", "6")
    run(samesight, "build", digits, *words, "--out", tmp_path / "run")
    run(uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    python = tmp_path / "venv" / "bin" / "python"
    run(uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    run(uv, "pip", "install", "--quiet", "--python", python, wheel)
    installed = {
        one["name"] for one in json.loads(run(uv, "pip", "list", "--format=json", "--python", python))
    }
    assert not installed & {"torch", "torchvision", "onnx", "matplotlib", "scipy"}
    own = python.with_name("samesight")
    bundle = tmp_path / "run" / "bundle"
    photo = digits / "3" / "000.png"
    here, there = (json.loads(run(one, "predict", bundle, photo, "--json")) for one in (samesight, own))
    assert here == there
    found = json.loads(run(own, "verify", bundle, "--photos", digits, "--json"))
    assert found["ok"]
    assert [runner["copy"] for runner in found["runners"]] == ["fp32", "fp16"]
    assert run(own, "report", bundle, "--out", tmp_path / "page.html").strip() == str(tmp_path / "page.html")
    assert "samesight[train]" in run_error(own, "train", digits)
    with zipfile.ZipFile(wheel) as archive:
        assert {"samesight/recipes/pain.toml", "samesight/py.typed"} <= set(archive.namelist())


def run_error(*words: object) -> str:
    """What a command that cannot do its work says."""
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 2
    return done.stderr
