"""Two machines in one: each with processes, a name, an address and an /etc/hosts of its own.

Linux namespaces, joined by a virtual cable that can be cut; the disk is shared, as by NFS. Needs root,
iproute2 and util-linux. A machine ends with the test, however that ends, and with it all that runs in it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

NAMES = ("one", "two")
SCRATCH = "/mnt"  # a machine's own, in memory
_START = f"""
set -e
hostname "$1"
mount --bind "$2" /etc/hosts
mount -t tmpfs none /dev/shm
mount -t tmpfs none {SCRATCH}
ip link set lo up
echo up
exec cat
"""


class Machine:
    """One of them."""

    def __init__(self, name: str, hosts: Path) -> None:
        self.name = name
        self.address = f"10.77.0.{NAMES.index(name) + 1}"
        apart = ("--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")
        command = ["unshare", *apart, "sh", "-c", _START, "sh", name, str(hosts)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self._holder = subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload]
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "up\n":
            raise OSError(self._holder.communicate()[1])
        self.pid = psutil.Process(self._holder.pid).children()[0].pid

    def within(self, *command: object) -> list[str]:
        """The words that run `command` in this machine."""
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "-u", "-i", "-p", *map(str, command)]

    def start(self, *command: object, log: Path, **more: str) -> subprocess.Popen[str]:
        """A process in this machine; what it says on stdout is in `log` too, with the suffix .out."""
        with log.with_suffix(".out").open("w") as out, log.open("w") as err:
            environment = {**os.environ, **more}
            return subprocess.Popen(self.within(*command), stdout=out, stderr=err, text=True, env=environment)

    def workers(self) -> list[psutil.Process]:
        """Its processes in which Ray has put a worker of ours."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                same = os.readlink(f"/proc/{process.pid}/ns/net") == os.readlink(f"/proc/{self.pid}/ns/net")
                if same and "MapWorker" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def cut(self) -> None:
        """Pull its end of the cable."""
        subprocess.run(self.within("ip", "link", "set", "eth0", "down"), check=True)

    def end(self) -> None:
        """Switch it off."""
        self._holder.kill()
        self._holder.communicate()


def missing() -> str | None:
    """Why there can be no such machines here; None where there can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "only root can make machines of namespaces"
    for program in ("unshare", "nsenter", "ip"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    cable = ("ip", "link", "add", "eth8", "type", "veth", "peer", "name", "eth9")
    done = subprocess.run(["unshare", "--net", *cable], capture_output=True, text=True, check=False)
    return f"namespaces or virtual cables cannot be had: {done.stderr.strip()}" if done.returncode else None


@contextlib.contextmanager
def two_machines(folder: Path) -> Iterator[tuple[Machine, Machine]]:
    """Two, joined."""
    hosts = folder / "hosts"
    rows = [f"10.77.0.{place} {name}" for place, name in enumerate(NAMES, 1)]
    hosts.write_text("\n".join(["127.0.0.1 localhost", *rows, ""]))
    with contextlib.ExitStack() as stack:
        found = []
        for name in NAMES:
            found.append(Machine(name, hosts))
            stack.callback(found[-1].end)
        one, two = found
        cable = ("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", str(two.pid))
        subprocess.run(["nsenter", "-t", str(one.pid), "-n", *cable], check=True)
        for machine in found:
            for words in (
                ("addr", "add", f"{machine.address}/24", "dev", "eth0"),
                ("link", "set", "eth0", "up"),
            ):
                subprocess.run(machine.within("ip", *words), check=True)
        yield one, two
