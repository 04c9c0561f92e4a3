"""The engine's process, as its party sees it: orders in, answers out, and what it printed if it failed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import samesight
from samesight.errors import PartyError
from samesight.secure.engine import read_frame, write_frame
from samesight.secure.wire import Message

__all__ = ["EngineProcess"]

END_SECONDS = 10.0
_PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "OMP_THREAD_LIMIT", "XLA_FLAGS")


class EngineProcess:
    """`python -m samesight.secure.engine` in the engine's environment. It ends with its party."""

    name = "engine"

    def __init__(self, python: Path, threads: int) -> None:
        """Start it, each product of matrices in `threads` threads. Raises PartyError where it does not."""
        self._folder = Path(tempfile.mkdtemp(prefix="samesight-engine-"))
        # The engine sees this package and nothing else of this environment, whose numpy is another one.
        (self._folder / "samesight").symlink_to(Path(samesight.__file__).parent, target_is_directory=True)
        self.log = self._folder / "log"
        orders_in, orders_out = os.pipe()
        answers_in, answers_out = os.pipe()
        environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
        # The engine would take four threads for each product, whatever the machine has, and those that wait
        # spin: three parties on two cores then need 2.7 times the CPU time.
        environment.setdefault("OMP_THREAD_LIMIT", str(threads))
        environment |= {"PYTHONPATH": str(self._folder), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [
            str(python),
            "-m",
            "samesight.secure.engine",
            str(orders_in),
            str(answers_out),
            str(self.log),
        ]
        try:
            self._process = subprocess.Popen(
                command,
                pass_fds=(orders_in, answers_out),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.log.open("ab"),
                start_new_session=True,  # Ctrl-C goes to the party, which ends its engine
            )
        except OSError as error:
            raise PartyError("the secure engine cannot be started", where=python, found=error) from error
        finally:
            os.close(orders_in)
            os.close(answers_out)
        self._orders = os.fdopen(orders_out, "wb")
        self._answers = os.fdopen(answers_in, "rb")

    def order(self, kind: str, values: NDArray[Any] | None = None, **fields: Any) -> None:
        """Send an order. Raises PartyError where the engine is gone."""
        try:
            write_frame(self._orders, {"kind": kind, **fields}, values)
        except (OSError, ValueError) as error:
            raise PartyError("the secure engine stopped", found=self._last_words()) from error

    def receive(self) -> Message | None:
        """The next answer, with "values" where it has an array; None when the engine is gone.

        Raises PartyError where it failed.
        """
        try:
            frame = read_frame(self._answers)
        except (OSError, ValueError) as error:
            raise PartyError("the secure engine said what cannot be read", found=error) from error
        if frame is None:
            raise PartyError("the secure engine stopped", found=self._last_words())
        message, values = frame
        if message["kind"] == "failed":
            raise PartyError("the secure engine failed", found=message["why"])
        if values is not None:
            message["values"] = np.array(values)
        return message

    def close(self) -> None:
        """End it, by force where it does not end by itself."""
        with suppress(OSError):
            self._orders.close()
        try:
            self._process.wait(END_SECONDS if self._ended_well else 0.2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with suppress(OSError):  # only now: whoever still reads from a living engine would be waited for
            self._answers.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    _ended_well = False

    def end(self) -> None:
        """Say that no further order comes."""
        self._ended_well = True

    def _last_words(self) -> str:
        words = ""
        with suppress(OSError):  # the folder is gone where it was closed meanwhile
            words = self.log.read_text("utf-8", "replace")
        lines = [line for line in words.splitlines() if line.strip()]
        return lines[-1][:300] if lines else "no word"
