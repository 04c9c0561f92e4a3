"""Words of others, such as file names and labels, as stdout can show them."""

from __future__ import annotations

import sys

__all__ = ["can_print", "printable", "steady"]


def printable(words: str) -> str:
    """`words` with an escape for what would steer a terminal, and for what stdout cannot encode."""
    if words.isprintable() and can_print(words):
        return words
    return "".join(c if c.isprintable() and can_print(c) else ascii(c)[1:-1] for c in words)


def steady(text: str) -> str:
    """`text` with an escape for what would steer a terminal; it keeps its lines."""
    return "\n".join(
        line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
        for line in text.split("\n")
    )


def can_print(words: str) -> bool:
    """Whether stdout can encode `words`."""
    try:
        words.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
