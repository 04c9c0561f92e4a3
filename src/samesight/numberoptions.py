"""Numbers in the words of the command line, read the same way by every command.

Imports only the standard library, so that a command's `--help` stays quick.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

__all__ = ["seconds", "whole", "wholes"]

_DIGITS = 18  # more are refused before Python is asked to read them


def whole(low: int = 1, high: int = 10**_DIGITS) -> Callable[[str], int]:
    """A reader of plain decimal digits from `low` to `high`, for argparse."""
    limits = f"from {low}" if high == 10**_DIGITS else f"from {low} to {high}"

    def read(word: str) -> int:
        is_number = word.isascii() and word.isdigit() and len(word) <= _DIGITS
        if not is_number or not low <= int(word) <= high:
            raise argparse.ArgumentTypeError(f"{word!a} is not a whole number {limits}")
        return int(word)

    return read


def wholes(low: int, high: int) -> Callable[[str], tuple[int, ...]]:
    """A reader of such numbers between commas, sorted and each once, for argparse."""
    one = whole(low, high)

    def read(words: str) -> tuple[int, ...]:
        return tuple(sorted({one(word.strip()) for word in words.split(",")}))

    return read


def seconds(most: float) -> Callable[[str], float]:
    """A reader of seconds above 0, `most` at most, for argparse."""

    def read(word: str) -> float:
        try:
            value = float(word)
        except ValueError:
            value = 0.0
        if not 0 < value <= most:
            raise argparse.ArgumentTypeError(f"{word!a} is not a number of seconds above 0, {most:g} at most")
        return value

    return read
