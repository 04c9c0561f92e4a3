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


def _server(
    bundle: Bundle, copies: Sequence[str], *, url: str | None = None, token: str | None = None
) -> list[Runner]:
    from samesight.serve.client import open_server_runners

    return open_server_runners(bundle, copies, url, token)


RUNNERS: dict[str, Callable[..., list[Runner]]] = {"onnxruntime": _onnxruntime, "server": _server}


def open_runners(
    bundle: Bundle, names: Sequence[str], copies: Sequence[str], **server: str | None
) -> list[Runner]:
    """A runner for each of `copies` in each runtime of `names`. Raises InputError for a name it lacks.

    `server` has the `url` and the `token` of the runner of that name.
    """
    for name in names:
        if name == "pytorch":
            raise InputError(
                "PyTorch's answers are recorded in the bundle; every runner is compared with them",
                expected=", ".join(RUNNERS),
                found=name,
            )
        if name not in RUNNERS:
            raise InputError("there is no such runner", expected=", ".join(RUNNERS), found=name)
    options = {"server": server}
    return [runner for name in names for runner in RUNNERS[name](bundle, copies, **options.get(name, {}))]
