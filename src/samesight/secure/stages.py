"""A function of JAX in parts: between them the signs of numbers are found, by another way than the engine's.

`not_negative(x)` is x >= 0. In a function that is compiled whole it is just that; `split` cuts a function
wherever it stands, into programs and signs in turn.

Imports jax, so it is imported in the engine's own environment alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.core
from jax.interpreters import mlir

__all__ = ["Program", "Signs", "not_negative", "split"]

_PRIMITIVE = jax.core.Primitive("not_negative")
_PRIMITIVE.def_impl(lambda value: value >= 0)
_PRIMITIVE.def_abstract_eval(lambda value: jax.core.ShapedArray(value.shape, bool))
mlir.register_lowering(_PRIMITIVE, mlir.lower_fun(lambda value: value >= 0, multiple_results=False))


def not_negative(value: Any) -> Any:
    """Whether each number is zero or more."""
    return _PRIMITIVE.bind(value)


@dataclass(frozen=True, eq=False)
class Program:
    """A part that the engine runs: `function` of the values `inputs` gives the values `outputs`."""

    function: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_types: tuple[Any, ...]
    """Shape and dtype of each input."""
    done_with: tuple[str, ...]
    """Values that nothing behind it takes."""


@dataclass(frozen=True)
class Signs:
    """Whether each number of `value` is zero or more, as `output`."""

    value: str
    output: str
    shape: tuple[int, ...]
    done_with: tuple[str, ...]


def split(
    function: Callable[..., Any], inputs: Sequence[Any], names: Sequence[str], output: str
) -> list[Program | Signs]:
    """`function` in parts, in order; it gives one array, which is called `output`.

    `inputs` are arrays of the right shapes and types, `names` what they are called; these are kept.
    """
    closed = jax.make_jaxpr(function)(*inputs)
    jaxpr = closed.jaxpr
    called = dict(zip(jaxpr.invars, names, strict=True))
    kept = set(called)
    groups: list[list[Any]] = [[]]
    for step in jaxpr.eqns:
        if step.primitive is _PRIMITIVE:
            groups += [[step], []]
        else:
            groups[-1].append(step)
    groups = [group for group in groups if group]
    last_use = {var: place for place, group in enumerate(groups) for var in _taken(group)}
    last_use[jaxpr.outvars[0]] = len(groups)
    parts: list[Program | Signs] = []
    for place, group in enumerate(groups):
        made = [var for step in group for var in step.outvars if last_use.get(var, -1) > place]
        for var in made:
            called[var] = output if var is jaxpr.outvars[0] else f"v{len(called)}"
        taken = [var for var in dict.fromkeys(_taken(group)) if var in called and var not in made]
        done = tuple(called[var] for var in taken if var not in kept and last_use[var] == place)
        if group[0].primitive is _PRIMITIVE:
            parts.append(Signs(called[taken[0]], called[made[0]], taken[0].aval.shape, done))
            continue
        code = jax.core.Jaxpr(jaxpr.constvars, taken, made, group)
        types = tuple(jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in taken)
        inner = (tuple(called[var] for var in taken), tuple(called[var] for var in made))
        parts.append(Program(_evaluated(code, closed.consts), *inner, types, done))
    return parts


def _taken(steps: Sequence[Any]) -> list[Any]:
    return [var for step in steps for var in step.invars if not isinstance(var, jax.core.Literal)]


def _evaluated(code: Any, constants: Sequence[Any]) -> Callable[..., Any]:
    def part(*values: Any) -> Any:
        return jax.core.eval_jaxpr(code, constants, *values)

    return part
