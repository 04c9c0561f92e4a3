"""JSON is read strictly: nothing is guessed, nothing dropped, and what is wrong is named."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samesight.bundle.strictjson import choice, each, number, parse, shown, table, text, whole
from samesight.errors import BundleInvalid

pytestmark = pytest.mark.row("V3")

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_what_json_writes_is_read(value: Any) -> None:
    assert parse(json.dumps(value).encode(), "x") == value


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_a_value_or_our_error(data: bytes) -> None:
    try:
        value = parse(data, "x")
    except BundleInvalid as error:
        str(error).encode("utf-8")
    else:
        assert value == json.loads(data)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1, "a": 1}',
        b'[{"b": {"a": 1, "a": 2}}]',
        b"NaN",
        b"-Infinity",
        b"\xef\xbb\xbf1",
        b"",
        b"1 2",
        b"[1,]",
    ],
)
def test_what_is_not_strict_is_refused(data: bytes) -> None:
    with pytest.raises(BundleInvalid):
        parse(data, "x")


def test_a_number_is_its_value() -> None:
    numbers = parse(b"[3, 3.0, 3e0, -0.0, 0.5, 9007199254740993.0]", "x")
    assert [type(one) for one in numbers] == [int, int, int, int, float, float]


@pytest.mark.parametrize("value", [True, 1.5, "1", None, -1, 11, [], math.inf])
def test_whole(value: object) -> None:
    assert whole(10, "x", 0, 10) == 10
    with pytest.raises(BundleInvalid):
        whole(value, "x", 0, 10)


@pytest.mark.parametrize("value", [True, "1", None, math.inf, -math.inf, math.nan, 10**400])
def test_number(value: object) -> None:
    assert number(-0.5, "x") == -0.5
    with pytest.raises(BundleInvalid):
        number(value, "x")


@pytest.mark.parametrize("value", ["", "abcd", "a\n", "\x00", "\x9f", "\ud800", "AB", 1, None])
def test_text(value: object) -> None:
    assert text("abc", "x", 3, pattern="[a-z]+") == "abc"
    assert text("", "x", 3, empty=True) == ""
    with pytest.raises(BundleInvalid):
        text(value, "x", 3, pattern="[a-z]+")


def test_choice_tells_true_from_one() -> None:
    assert choice(1, "x", [1, 2]) == 1
    for value in (True, 1.0, "1", None, [1]):
        with pytest.raises(BundleInvalid):
            choice(value, "x", [1, 2])


def test_table_and_each_name_the_place() -> None:
    with pytest.raises(BundleInvalid) as caught:
        each([0, 1, -1], "sizes", lambda value, where: whole(value, where, 0), high=3)
    assert caught.value.where == "sizes[2]"
    for value in ({}, {"a": 1, "c": 2}, [], None):
        with pytest.raises(BundleInvalid):
            table(value, "x", ("a",), ("b",))
    for items in ([], [1, 2], {}, "a"):
        with pytest.raises(BundleInvalid):
            each(items, "x", lambda value, where: value, low=1, high=1)


@given(JSON)
def test_what_was_found_is_shown_short_and_in_ascii(value: object) -> None:
    words = shown(value)
    assert words.isascii()
    assert len(words) <= 100
