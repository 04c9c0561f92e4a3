"""The Rust crate, built for tests; they are skipped where there is no cargo."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CRATE = Path(__file__).resolve().parent.parent / "rust"
NEEDED = (1, 92)  # of the crates that it is built from


def cargo(*words: str) -> subprocess.CompletedProcess[str]:
    """Run cargo in the crate, one test process at a time. Skips where there is none, or an older one."""
    if shutil.which("cargo") is None:
        pytest.skip("the Rust runtime is built by cargo, which is not here")
    said = subprocess.run(["cargo", "--version"], capture_output=True, text=True, check=False)
    version = re.match(r"cargo (\d+)\.(\d+)", said.stdout)
    if version is None or tuple(map(int, version.groups())) < NEEDED:
        pytest.skip(
            f"the Rust runtime needs cargo {'.'.join(map(str, NEEDED))}: {said.stdout or said.stderr}"
        )
    with (CRATE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return subprocess.run(
            ["cargo", *words],
            cwd=CRATE,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"CARGO_TERM_COLOR": "never"},
        )


def build_program(*features: str) -> Path:
    """The path of samesight-rs, built without optimising it, from the sources as they are.

    With `features`, in a folder of its own, so that the usual one need not be built again, and in the least
    time, as the crates that they need are large.
    """
    target = Path(os.environ.get("CARGO_TARGET_DIR", CRATE / "target"))
    words = ["build", "--quiet"]
    if features:
        target /= "-".join(features)
        words += ["--features", ",".join(features), "--target-dir", str(target)]
        words += ["--config", "profile.dev.opt-level=0"]
    done = cargo(*words)
    if done.returncode != 0:
        pytest.fail(f"`cargo {' '.join(words)}` fails:\n{done.stderr}", pytrace=False)
    return target / "debug" / "samesight-rs"
