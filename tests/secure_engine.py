"""The secure engine for the tests of real secure runs, in an environment of its own.

`python tests/secure_engine.py`, as `make test` runs it, installs what `samesight secure setup` does into
.venv/secure-engine, once. Where that cannot be, those tests are skipped and say why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from samesight.errors import InputError
from samesight.secure.environment import PACKAGES, VARIABLE, find_python

FOLDER = Path(sys.prefix) / "secure-engine"
PYTHON = FOLDER / "bin" / "python"
MADE = FOLDER / "packages.txt"  # written last: what the environment was made of


def find() -> Path:
    """The engine's Python, by the variable or as `main` made it. Raises InputError where there is none."""
    if os.environ.get(VARIABLE):
        return find_python()
    if not MADE.is_file():
        raise InputError(
            "the secure engine is not installed",
            found=None if sys.version_info[:2] == (3, 11) else f"Python {sys.version.split()[0]}, not 3.11",
            fix="python tests/secure_engine.py",
        )
    return find_python(PYTHON)


def main() -> int:
    """Install it where it is not there yet; always 0, since without it tests are skipped."""
    wanted = "\n".join(PACKAGES)
    if os.environ.get(VARIABLE) or (MADE.is_file() and MADE.read_text() == wanted):
        return 0
    base = _python_3_11()
    if base is None:
        print("no Python 3.11 is here: tests of secure runs will be skipped", file=sys.stderr)
        return 0
    print(f"installing the secure engine into {FOLDER}", file=sys.stderr)
    shutil.rmtree(FOLDER, ignore_errors=True)
    beside = Path(sys.executable).parent  # uv
    environment = {**os.environ, "PATH": f"{beside}{os.pathsep}{os.environ['PATH']}"}
    words = [sys.executable, "-m", "samesight", "secure", "setup", "--at", str(FOLDER), "--base", base]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(FOLDER, ignore_errors=True)
        print(done.stderr, file=sys.stderr)
        print("without the secure engine its tests will be skipped", file=sys.stderr)
        return 0
    MADE.write_text(wanted)
    return 0


def _python_3_11() -> str | None:
    """This Python, or another on the path, where it is a 3.11 that starts."""
    ask = "import sys; sys.exit(sys.version_info[:2] != (3, 11))"
    for name in (sys.executable, shutil.which("python3.11")):
        if name and subprocess.run([name, "-c", ask], capture_output=True, check=False).returncode == 0:
            return name
    return None


if __name__ == "__main__":
    sys.exit(main())
