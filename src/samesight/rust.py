"""The Rust runtime as a runner: a bundle's copies in `samesight-rs` on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from samesight.bundle import Bundle
from samesight.errors import BundleInvalid, InputError
from samesight.ortlibrary import find_libraries
from samesight.verify.verification import OwnStages

__all__ = [
    "RustRunner",
    "find_program",
    "onnxruntime_library",
    "open_rust_runners",
    "prove_in_rust",
    "stages_in_rust",
]

PROGRAM = "samesight-rs"
CHECKOUT = Path(__file__).resolve().parents[2] / "rust" / "target" / "release"  # where `make rust` leaves it
LIBRARY = "ORT_DYLIB_PATH"  # read by the program


class RustRunner:
    """One copy of a bundle in a process of its own, which is ended with this object. For one thread only."""

    def __init__(self, program: str, bundle: Bundle, copy: str, engine: str = "onnxruntime") -> None:
        """Start the program. Raises InputError where it cannot be started."""
        self.name = _runner(engine)
        self.copy = copy
        self._classes = len(bundle.labels)
        self._trouble = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the program has ended
        command = [program, "logits", str(bundle.folder), "--copy", copy, "--engine", engine]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._trouble,
                env=os.environ | onnxruntime_library(),
            )
        except OSError as error:
            raise InputError(f"{PROGRAM} cannot be started", where=program, found=error.strerror) from error
        weakref.finalize(self, _end, self._process, self._trouble)

    def logits(self, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits (n, classes) of `tensors` (n, 3, height, width), one by one. Raises BundleInvalid."""
        rows = [self._row(np.ascontiguousarray(tensor, "<f4").tobytes()) for tensor in tensors]
        return np.stack([np.frombuffer(row, "<f4") for row in rows]).astype(np.float32)

    def _row(self, tensor: bytes) -> bytes:
        size = 4 * self._classes
        given, answered = _pipes(self._process)
        try:
            given.write(tensor)
            given.flush()
            row = answered.read(size)
        except BrokenPipeError:
            row = b""
        if len(row) != size:
            self._process.wait()
            self._trouble.seek(0)
            words = self._trouble.read().decode("utf-8", "replace").strip().removeprefix("error: ")
            raise BundleInvalid(
                f"{PROGRAM} does not run a copy", where=f"the {self.copy} copy", found=words or "no answer"
            )
        return row


def _runner(engine: str) -> str:
    """The name of the program with that engine, as its own proof has it."""
    return "rust" if engine == "onnxruntime" else f"rust-{engine}"


def open_rust_runners(bundle: Bundle, copies: Sequence[str], engine: str = "onnxruntime") -> list[RustRunner]:
    """A runner for each of `copies`. Raises InputError where the program is not found, or lacks a copy."""
    program = _program()
    return [RustRunner(program, bundle, bundle.copy(copy).name, engine) for copy in copies]


def prove_in_rust(folder: Path, *options: str) -> str:
    """What `samesight-rs verify --json` prints of the bundle in `folder`: an object, its `ok` true or false.

    Here decoding, resizing and normalising are Rust's, too. Raises InputError where it could not be checked.
    """
    command = [_program(), "verify", str(folder), "--json", *options]
    environment = os.environ | onnxruntime_library()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode not in (0, 1):
        raise InputError(f"{PROGRAM} cannot check a bundle", where=folder, found=done.stderr.strip())
    return done.stdout


def stages_in_rust(
    bundle: Bundle, copies: Sequence[str], samples: int | None, engine: str = "onnxruntime"
) -> OwnStages:
    """What the program says of every stage of `copies`, from the photo's bytes on. Raises InputError."""
    words = [word for copy in copies for word in ("--copy", copy)]
    words += [] if samples is None else ["--samples", str(samples)]
    found = json.loads(prove_in_rust(bundle.folder, *words, "--engine", engine))
    return OwnStages(_runner(engine), tuple(found["stages"]), found["first_difference"])


def _program() -> str:
    """The path of the program. Raises InputError where there is none."""
    program = find_program()
    if program is None:
        raise InputError(
            f"there is no {PROGRAM} on this machine",
            expected=f"it on the PATH, or SAMESIGHT_RUST, or in {CHECKOUT}",
            fix="make rust",
        )
    return program


def find_program() -> str | None:
    """The path of `samesight-rs`: `SAMESIGHT_RUST`, else on the PATH, else where `make rust` leaves it."""
    if named := os.environ.get("SAMESIGHT_RUST"):
        return shutil.which(named)
    return shutil.which(PROGRAM) or shutil.which(str(CHECKOUT / PROGRAM))


def onnxruntime_library() -> dict[str, str]:
    """The variable that names ONNX Runtime's library in this Python's wheel; empty where the user has set it.

    So both run the same version, and their logits can be the same bits.
    """
    if os.environ.get(LIBRARY) or not (found := find_libraries()):
        return {}
    return {LIBRARY: str(found[-1])}


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def _end(process: subprocess.Popen[bytes], trouble: IO[bytes]) -> None:
    """Close the pipes, which ends the program; it is given a moment."""
    for pipe in _pipes(process):
        try:
            pipe.close()
        except BrokenPipeError:
            continue
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    trouble.close()
