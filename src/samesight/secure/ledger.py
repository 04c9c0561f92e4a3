"""How many images each image's owner has had answered: many answers let a network be copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from samesight.errors import InputError, PartyError
from samesight.files import read_json, write_json

__all__ = ["Ledger"]


class Ledger:
    """Counts by owner, in a file where one is given, for one bundle."""

    def __init__(self, bundle: str, limit: int | None = None, path: Path | None = None) -> None:
        """Read the counts. Raises InputError where the file is of something else."""
        self._bundle, self.limit, self._path = bundle, limit, path
        self.counts: dict[str, int] = {}
        if path is not None and path.exists():
            self.counts = self._read(read_json(path))

    def _read(self, value: Any) -> dict[str, int]:
        counts = value.get("images") if isinstance(value, dict) else None
        if not isinstance(counts, dict) or value.get("bundle") != self._bundle:
            raise InputError(
                "the ledger is not one of this bundle",
                where=self._path,
                expected=self._bundle,
                fix="another file",
            )
        if not all(type(count) is int and count >= 0 for count in counts.values()):
            raise InputError("the ledger has counts that are none", where=self._path)
        return dict(counts)

    def left(self, owner: str) -> int | None:
        """How many images the owner may still have answered; None for any number."""
        return None if self.limit is None else max(0, self.limit - self.counts.get(owner, 0))

    def count(self, owner: str, images: int) -> None:
        """Count `images`, on disk before any is answered. Raises PartyError where fewer are left."""
        left = self.left(owner)
        if left is not None and images > left:
            raise PartyError(
                "no more images are answered", expected=f"at most {self.limit} in all", found=f"{left} left"
            )
        self.counts[owner] = self.counts.get(owner, 0) + images
        if self._path is not None:
            write_json(self._path, {"bundle": self._bundle, "images": self.counts})
