"""The files that other secure engines read, one module each, written and read back.

A module has `write(parts, folder)`, which gives the names of what it wrote, and `read(parts, folder)`, the
weights that a program finds in these files: by them the network is rebuilt and proved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from samesight.errors import InputError
from samesight.secure.graph import Weights
from samesight.secure.reading import Network

__all__ = ["Format", "Parts", "numbers_in", "text_of"]

MAX_TEXT_BYTES = 4 << 30


@dataclass(frozen=True)
class Parts:
    """What an export writes: the rewritten network and the images, preprocessed, (3, h, w) float32."""

    network: Network
    images: Sequence[NDArray[np.float32]]
    name: str
    scale: int = 12
    """Fraction bits of fixed point, where the format has integers."""


class Format(Protocol):
    """One engine's files."""

    def write(self, parts: Parts, folder: Path) -> None:
        """Write everything into `folder`."""
        ...

    def read(self, parts: Parts, folder: Path) -> Weights:
        """The weights as the files hold them. Raises InputError where they do not fit."""
        ...


def text_of(values: NDArray[np.float32], form: str, between: str) -> str:
    """The numbers in C order, each by the printf-like `form`."""
    numbers = values.reshape(-1).tolist()
    return between.join([form] * len(numbers)) % tuple(numbers)


def numbers_in(path: Path, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The numbers of a text file, separated by white space, as an array of `shape`. Raises InputError."""
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise InputError("a file of numbers is too large", where=path)
    try:
        found = np.array(path.read_text(encoding="ascii").split(), np.float64)
    except ValueError as error:
        raise InputError("a file of numbers has something else in it", where=path, found=error) from error
    if found.size != int(np.prod(shape)):
        raise InputError(
            "a file has another number of numbers", where=path, expected=int(np.prod(shape)), found=found.size
        )
    return found.reshape(shape)
