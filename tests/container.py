"""The Dockerfile's image without Docker: built by buildah, run by runc as an engine would run it.

Both are Debian's and need root, no daemon. For python:3.12-slim stands a tar of a root file system that has a
`python`, as tests/setup_container.sh makes one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
BASE = Path(os.environ.get("SAMESIGHT_TEST_IMAGE", "/var/cache/samesight/base.tar"))
BASE_NAME = "docker.io/library/python:3.12-slim"
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["samesight"]


def missing() -> str | None:
    """Why no image can be built here; None where one can."""
    if os.geteuid() != 0:
        return "only root may build and run an image without an engine"
    for program in ("buildah", "runc"):
        if shutil.which(program) is None:
            return f"{program} is not installed: sh tests/setup_container.sh"
    return None if BASE.is_file() else f"there is no {BASE} to start from: sh tests/setup_container.sh"


class Image:
    """The image that the Dockerfile describes, mounted below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        base = self._buildah("from", "scratch")
        self._buildah("add", "--quiet", base, str(BASE), "/")
        self._buildah("commit", "--quiet", "--rm", base, BASE_NAME)
        options = ("--isolation", "chroot", "--network", "host", "--pull=never", "--format", "docker")
        self._buildah("build", "--quiet", *options, "--tag", "samesight", str(ROOT))
        self.container = self._buildah("from", "--pull=never", "localhost/samesight")
        self.root = Path(self._buildah("mount", self.container))
        found = json.loads(self._buildah("inspect", "--type", "image", "localhost/samesight"))
        self.config: dict[str, Any] = found["Docker"]["config"]

    def _buildah(self, *words: str) -> str:
        places = ("--root", f"{self._folder}/store", "--runroot", f"{self._folder}/run")
        done = subprocess.run(["buildah", *places, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.strip().rpartition("\n")[2] if words[0] != "inspect" else done.stdout

    def bytes(self, place: str) -> int:
        """What the files below a folder of the image take."""
        return sum(path.lstat().st_size for path in (self.root / place).rglob("*"))

    def remove(self) -> None:
        """Everything that was made."""
        self._buildah("unmount", self.container)
        self._buildah("rm", "--all")
        self._buildah("rmi", "--all", "--force")


class Container:
    """A container as compose.yaml describes it, in a network of its own."""

    def __init__(self, image: Image, folder: Path, words: Sequence[str], mounts: Mapping[str, Path]) -> None:
        self.name = f"samesight-{os.getpid()}-{folder.name}"
        self.config = image.config
        self._folder = folder
        self._log = folder / "log"
        folder.mkdir()
        subprocess.run(["runc", "spec"], cwd=folder, check=True)
        spec = json.loads((folder / "config.json").read_text())
        user, _, group = image.config["User"].partition(":")
        spec["process"] |= {
            "terminal": False,
            "user": {"uid": int(user), "gid": int(group)},
            "args": [*image.config["Entrypoint"], *words],
            "env": image.config["Env"],
            "capabilities": {} if COMPOSE["cap_drop"] == ["ALL"] else spec["process"]["capabilities"],
            "noNewPrivileges": "no-new-privileges:true" in COMPOSE["security_opt"],
        }
        spec["root"] = {"path": str(image.root), "readonly": COMPOSE["read_only"]}
        spec["mounts"] += [_mount(to, "tmpfs", "tmpfs", "mode=1777") for to in COMPOSE["tmpfs"]]
        spec["mounts"] += [_mount(to, "bind", str(place), "rbind", "ro") for to, place in mounts.items()]
        spec["linux"]["resources"] = {
            "memory": {"limit": int(COMPOSE["mem_limit"].removesuffix("g")) << 30},
            "cpu": {"period": 100_000, "quota": 100_000 * COMPOSE["cpus"]},
            "pids": {"limit": COMPOSE["pids_limit"]},
        }
        (folder / "config.json").write_text(json.dumps(spec))
        with self._log.open("w") as log:
            command = [*self._runc(), "run", self.name]
            self.process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)

    def _runc(self) -> list[str]:
        return ["runc", "--root", str(self._folder / "state")]

    @property
    def log(self) -> str:
        """All that it has printed."""
        return self._log.read_text()

    def begin(self, *command: str) -> subprocess.Popen[str]:
        """A command within, as the image's own user."""
        words = [*self._runc(), "exec", "--user", self.config["User"], self.name, *command]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *command: str) -> tuple[int, str]:
        """Exit code and output of a command within."""
        process = self.begin(*command)
        out, err = process.communicate(timeout=60)
        return process.returncode, out + err

    def healthy(self) -> bool:
        """What the HEALTHCHECK of the Dockerfile says."""
        kind, *command = self.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self.process.poll() is None and self.run(*command)[0] == 0

    def stop(self) -> int:
        """Send the image's stop signal; the exit code."""
        subprocess.run([*self._runc(), "kill", self.name, self.config["StopSignal"]], check=True)
        return self.process.wait(60)

    def end(self) -> None:
        """Kill it where it still runs."""
        subprocess.run([*self._runc(), "delete", "--force", self.name], capture_output=True, check=False)
        self.process.wait(60)


def _mount(to: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": to, "type": kind, "source": source, "options": [*options, "nosuid", "nodev"]}
