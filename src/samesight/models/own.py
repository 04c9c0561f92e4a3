"""A network of the user's own: `path/to/file.py:Name`, a class or a function that returns a network."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from samesight.errors import InputError
from samesight.files import sha256_bytes

__all__ = ["create_own", "is_own"]

CLASS_COUNT_NAMES = ("num_classes", "n_classes", "classes")  # what authors call it; the first that fits


def is_own(model: str) -> bool:
    """Whether `model` names a Python file rather than a known network."""
    return model.endswith(".py") or ".py:" in model


def create_own(model: str, classes: int | None, options: Mapping[str, object]) -> nn.Module:
    """The network that `file.py:Name` makes, given the number of classes if it takes that; None: its own.

    The file's folder can be imported from while the file is read and the network is made.
    Raises InputError where the file, the name or the call fails, with the author's own error in one line.
    """
    file_name, _, name = model.rpartition(":")
    if not file_name:
        raise InputError("a network of your own needs a file and a name", found=model, fix=f"{model}:Name")
    file = Path(file_name).expanduser().resolve()
    if not file.is_file():
        raise InputError("there is no such file of a network", where=file, found=model)
    with _importable(file.parent):
        module = _load(file)
        maker = getattr(module, name, None)
        if not callable(maker):
            public = [key for key, value in vars(module).items() if _made_here(value, module)]
            raise InputError(
                f"the file has no class or function '{name}'",
                where=file,
                found=", ".join(public) or "none at all",
                fix=f"{file_name}:{public[0]}" if public else None,
            )
        network = _call(maker, classes, options, f"{file}:{name}")
    if not isinstance(network, nn.Module):
        raise InputError(
            f"'{name}' did not make a network",
            where=file,
            expected="a torch.nn.Module",
            found=type(network).__name__,
        )
    return network


def _made_here(value: object, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module.__name__


def _load(file: Path) -> ModuleType:
    name = f"own_network_{sha256_bytes(str(file).encode())[:12]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise InputError("this file cannot be read as Python", where=file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and the like look their own module up
    with _one_line_errors(file):
        spec.loader.exec_module(module)
    return module


def _call(maker: Callable[..., Any], classes: int | None, options: Mapping[str, object], where: str) -> Any:
    given: dict[str, object] = dict(options)
    with contextlib.suppress(TypeError, ValueError):  # a callable without a signature is simply called
        taken = inspect.signature(maker).parameters
        count_name = next((name for name in CLASS_COUNT_NAMES if name in taken), None)
        if count_name is not None and classes is not None:
            given.setdefault(count_name, classes)
        wrong = sorted(set(options) - set(taken))
        if wrong and not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
            raise InputError(
                f"the network takes no option '{wrong[0]}'", where=where, expected=", ".join(taken) or "none"
            )
    with _one_line_errors(where):
        return maker(**given)


@contextlib.contextmanager
def _one_line_errors(where: object) -> Iterator[None]:
    """Turn whatever the author's code raises into one InputError that names the line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = f"{Path(frames[-1].filename).name} line {frames[-1].lineno}" if frames else "?"
        if isinstance(error, SyntaxError):
            line = f"line {error.lineno}"
        said = " ".join(str(error).split())
        raise InputError(
            "the file of your own network raised an error",
            where=where,
            found=f"{type(error).__name__}: {said} ({line})",
        ) from error


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """`folder` on the import path; afterwards what was imported from it is forgotten.

    Two networks' folders may each have a `layers.py`; the second must not be given the first's.
    """
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(folder) and not name.startswith("own_network_"):
                del sys.modules[name]
