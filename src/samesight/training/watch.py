"""Progress of training on stderr: a bar with photos a second and time left for a person, a line an epoch."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from samesight.progress import say

__all__ = ["Watch"]


class Watch:
    """A bar over `photos` photos while the block runs, where a person watches; lines always."""

    def __init__(self, what: str, photos: int, is_heard: bool = True) -> None:
        self.what, self.photos, self.is_heard = what, photos, is_heard
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Watch:
        if self.is_heard and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f} photos"),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self.what, total=self.photos, rate="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, photos: int) -> None:
        """Tell of `photos` more."""
        if self._bar is not None:
            speed = self._bar.tasks[0].speed
            self._bar.update(self._task, advance=photos, rate=f"{speed:.1f} photos/s" if speed else "")

    def line(self, text: str) -> None:
        """A line that stays."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        elif self.is_heard:
            say(text)
