"""The engine's own environment: spu needs Python 3.11, numpy below 2 and one version of jax.

So it is installed apart, by `samesight secure setup` or by hand, and found at `--python`, in the environment
variable SAMESIGHT_SECURE_PYTHON, in this very environment, or where `setup` puts it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from samesight.errors import InputError, SamesightError
from samesight.files import cache_folder

__all__ = ["PACKAGES", "VARIABLE", "engine_folder", "find_python", "install"]

VARIABLE = "SAMESIGHT_SECURE_PYTHON"
PACKAGES = ("spu==0.9.5", "jax==0.4.34", "jaxlib==0.4.34", "numpy>=1.26,<2")
_ASK = "import spu, jax, numpy; assert int(numpy.__version__.split('.')[0]) < 2; print(spu.__version__)"


def engine_folder() -> Path:
    """Where `setup` puts the environment."""
    return cache_folder() / "secure-engine"


def find_python(given: Path | None = None) -> Path:
    """The Python that has the engine. Raises InputError where there is none, or it cannot be used."""
    named = os.environ.get(VARIABLE)
    chosen = given or (Path(named) if named else None)
    if chosen is not None:
        _check(chosen)
        return chosen
    if importlib.util.find_spec("spu") is not None and importlib.util.find_spec("jax") is not None:
        return Path(sys.executable)
    installed = _python_in(engine_folder())
    if installed.exists():
        return installed
    raise InputError(
        "the secure engine is not installed",
        expected=f"at --python, in ${VARIABLE}, or in {engine_folder()}",
        fix="samesight secure setup    (0.85 GB, an environment of its own)",
    )


def _check(python: Path) -> None:
    try:
        done = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=False, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError("this Python cannot be started", where=python, found=error) from error
    if done.returncode:
        found = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise InputError(
            "this Python does not have the secure engine",
            where=python,
            expected=", ".join(PACKAGES),
            found=found,
            fix="samesight secure setup",
        )


def install(folder: Path, base: str | None = None) -> Path:
    """Make the environment in `folder` with uv, or with venv and pip; the Python in it.

    `base` is a Python 3.11. Raises InputError where there is none, SamesightError where the packages cannot
    be had.
    """
    if folder.exists():
        raise InputError("there is something already", where=folder, fix=f"rm -r {folder}, or another --at")
    uv = shutil.which("uv")
    found = base or ("3.11" if uv else _base_python())
    python = _python_in(folder)
    if uv:
        steps = [
            [uv, "venv", "--python", found, str(folder)],
            [uv, "pip", "install", "--python", str(python), *PACKAGES],
        ]
    else:
        steps = [[found, "-m", "venv", str(folder)], [str(python), "-m", "pip", "install", *PACKAGES]]
    for step in steps:
        done = subprocess.run(step, stdout=sys.stderr, check=False)
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            raise SamesightError(
                "the secure engine could not be installed", where=folder, found=f"{' '.join(step)} failed"
            )
    _check(python)
    return python


def _base_python() -> str:
    if sys.version_info[:2] == (3, 11):
        return sys.executable
    found = shutil.which("python3.11")
    if found is None:
        raise InputError(
            "the secure engine needs Python 3.11",
            found=f"Python {sys.version_info[0]}.{sys.version_info[1]}",
            fix="samesight secure setup --base /path/to/python3.11",
        )
    return found


def _python_in(folder: Path) -> Path:
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"
