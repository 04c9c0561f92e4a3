"""The runtimes that a bundle's copies can be run in, by name; imported only when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from samesight.errors import InputError

if TYPE_CHECKING:
    from samesight.bundle import Bundle
    from samesight.runner import Runner

__all__ = ["RUNNERS", "open_runners"]


def _onnxruntime(bundle: Bundle, copies: Sequence[str]) -> list[Runner]:
    from samesight.runtime import open_runner

    return [open_runner(bundle, name) for name in copies]


def _web(bundle: Bundle, copies: Sequence[str]) -> list[Runner]:
    from samesight.web.runner import open_browser_runners

    return list(open_browser_runners(bundle, copies))


RUNNERS: dict[str, Callable[[Bundle, Sequence[str]], list[Runner]]] = {
    "onnxruntime": _onnxruntime,
    "web": _web,
}


def open_runners(bundle: Bundle, names: Sequence[str], copies: Sequence[str]) -> list[Runner]:
    """A runner for each of `copies` in each runtime of `names`. Raises InputError for a name it lacks."""
    for name in names:
        if name == "pytorch":
            raise InputError(
                "PyTorch's answers are recorded in the bundle; every runner is compared with them",
                expected=", ".join(RUNNERS),
                found=name,
            )
        if name not in RUNNERS:
            raise InputError("there is no such runner", expected=", ".join(RUNNERS), found=name)
    return [runner for name in names for runner in RUNNERS[name](bundle, copies)]
