"""JSON from a bundle, read strictly: what the format does not allow is refused, with the place named.

Nothing is guessed and nothing is dropped: a key twice, a key too many, NaN, a number out of range are errors.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, NoReturn

from samesight.errors import BundleInvalid

__all__ = ["choice", "each", "number", "parse", "shown", "table", "text", "whole"]

MAX_WHOLE = 2**53 - 1  # every language's double holds it exactly
MAX_NUMBER = 1e308
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, and halves of characters


def parse(data: bytes, where: str) -> Any:
    """The JSON value in `data`, which is UTF-8 without a byte order mark. 3.0 and 3e0 are the integer 3.

    Raises BundleInvalid where it is not JSON, or has a key twice in one object, or NaN or Infinity.
    """
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_once,
            parse_constant=_no_constant,
            parse_float=_number,
        )
    except (ValueError, RecursionError) as error:
        raise BundleInvalid("a file of the bundle is not strict JSON", where=where, found=error) from error


def table(
    value: object, where: str, required: Collection[str], optional: Collection[str] = ()
) -> dict[str, Any]:
    """`value` as an object that has every key of `required`, and beside them only those of `optional`."""
    if not isinstance(value, dict):
        raise _refused("an object is needed here", where, "an object", value)
    for key in required:
        if key not in value:
            raise BundleInvalid("a key is missing", where=where, expected=f"'{key}'")
    for key in value:
        if key not in required and key not in optional:
            known = ", ".join([*required, *optional])
            raise BundleInvalid("an unknown key", where=where, expected=f"only {known}", found=shown(key))
    return value


def text(value: object, where: str, limit: int, *, pattern: str | None = None, empty: bool = False) -> str:
    """`value` as a string of at most `limit` characters (code points), none of them a control character."""
    if not isinstance(value, str):
        raise _refused("a string is needed here", where, "a string", value)
    if len(value) > limit or (not value and not empty):
        raise _refused("a string is too long or empty", where, f"1 to {limit} characters", value)
    if _CONTROL.search(value):
        raise _refused("a string has a control character", where, "printable characters", value)
    if pattern is not None and not re.fullmatch(pattern, value):
        raise _refused("a string has the wrong form", where, pattern, value)
    return value


def choice(value: object, where: str, allowed: Sequence[object]) -> Any:
    """`value`, which is one of `allowed`; true is not 1."""
    for one in allowed:
        if type(one) is type(value) and one == value:
            return value
    raise _refused(
        "not one of the values that the format knows", where, " or ".join(map(repr, allowed)), value
    )


def whole(value: object, where: str, low: int, high: int = MAX_WHOLE) -> int:
    """`value` as an integer from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _refused("a whole number is needed here", where, f"a whole number from {low} to {high}", value)
    return value


def number(value: object, where: str, low: float = -MAX_NUMBER, high: float = MAX_NUMBER) -> float | int:
    """`value` as a finite number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _refused("a number is needed here", where, f"a finite number from {low:g} to {high:g}", value)
    return value


def each(
    value: object, where: str, read: Callable[[object, str], Any], *, low: int = 0, high: int
) -> tuple[Any, ...]:
    """The items of the list `value`, each as `read(item, where)` gives it."""
    if not isinstance(value, list):
        raise _refused("a list is needed here", where, "a list", value)
    if not low <= len(value) <= high:
        raise BundleInvalid(
            "a list is too short or too long",
            where=where,
            expected=f"{low} to {high} items",
            found=len(value),
        )
    return tuple(read(item, f"{where}[{index}]") for index, item in enumerate(value))


def shown(value: object) -> str:
    """`value` for a message: ASCII, and short."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    words = ascii(value) if isinstance(value, str) else json.dumps(value, default=repr)
    return words if len(words) <= 100 else f"{words[:97]}..."


def _refused(what: str, where: str, expected: str, found: object) -> BundleInvalid:
    return BundleInvalid(what, where=where, expected=expected, found=shown(found))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!a} stands twice in one object")
        result[key] = value
    return result


def _number(digits: str) -> float | int:
    """The number; where it is whole an int, since most languages cannot tell 3.0 from 3."""
    value = float(digits)
    return int(value) if value.is_integer() and abs(value) <= MAX_WHOLE else value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
