"""spec/bundle.schema.json and our own reader accept and refuse the same documents.

The reader has rules that bind several fields, which a schema cannot say; they stand in `_check_together` and
in Preprocess, and are left out of the comparison here. tests/test_bundle.py shows them.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from bare_bundle import document_of, put, tiny_bundle
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from samesight.bundle.reading import read_document, read_fields
from samesight.bundle.strictjson import parse
from samesight.errors import BundleError, BundleNewer

pytestmark = pytest.mark.row("V3")

SCHEMA = json.loads((Path(__file__).parent.parent / "spec" / "bundle.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)
# Preprocess holds several fields against each other under these words.
TOGETHER = (
    "the crop is larger",
    "a shortest edge alone",
    "mean and std give numbers beyond",
    "mean must be finite",
)

PLAIN = """
    a A fp32 batch input float16 é nul.txt CON model.onnx a/b a//b /a ../a a. a./b bundle.json a/bundle.json
    1.0.0 01.0.0 1.0.0-rc.1+b 2026-02-31T00:00:00Z 2026-13-01T00:00:00Z 2026-01-01T00:00:00 samesight-bundle
    lanczos shortest_edge
"""
ODD = [
    "",
    "x\n",
    "\n",
    "a\tb",
    "\ud800",
    " ",
    "x" * 513,
    "0" * 64,
    "0" * 63 + "\n",
    "G" * 64,
    "\x7f",
    "\x9f",
    "\xa0",
]
WORDS = st.sampled_from([*PLAIN.split(), *ODD])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 300)
    | st.sampled_from(
        [2**31 - 1, 2**31, 2**53, 2**53 - 1, 10**400, -1, 8192, 8193, 20_001, 1.0, 3.0, 0.5, 1e400]
    )
    | st.floats(allow_nan=False)
    | WORDS
    | st.text(max_size=5)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return document_of(tiny_bundle(tmp_path_factory.mktemp("schema") / "bundle"))


def places(value: Any, way: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The way to every value inside `value`."""
    found = [way] if way else []
    if isinstance(value, dict):
        return found + [place for key, inner in value.items() for place in places(inner, (*way, key))]
    if isinstance(value, list):
        return found + [place for at, inner in enumerate(value) for place in places(inner, (*way, at))]
    return found


def reads(document: Any) -> bool | None:
    """Whether our reader takes the fields, each by itself; None where only their combination is refused."""
    text = json.dumps(document, ensure_ascii=True).replace("Infinity", "1e999")
    try:
        read_fields(parse(text.encode(), "bundle.json"))
    except BundleError as error:
        return None if error.what.startswith(TOGETHER) else False
    return True


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_both_take_what_is_written(valid: dict[str, Any]) -> None:
    VALIDATOR.validate(valid)
    read_document(parse(json.dumps(valid).encode(), "bundle.json"))


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_both_judge_one_changed_value_alike(valid: dict[str, Any], data: st.DataObject) -> None:
    document = copy.deepcopy(valid)
    place = data.draw(st.sampled_from(places(document)))
    put(document, place, data.draw(VALUES))
    told = reads(document)
    assume(told is not None)
    assert told == VALIDATOR.is_valid(document), place


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_both_judge_a_key_more_or_less_alike(valid: dict[str, Any], data: st.DataObject) -> None:
    document = copy.deepcopy(valid)
    inner = [document, *(_at(document, place) for place in places(document))]
    table = data.draw(st.sampled_from([one for one in inner if isinstance(one, dict)]))
    if data.draw(st.booleans()):
        table.pop(data.draw(st.sampled_from(sorted(table))))
    else:
        table[data.draw(WORDS | st.sampled_from(["loss", "steps_per_epoch"]))] = data.draw(VALUES)
    told = reads(document)
    assume(told is not None)
    assert told == VALIDATOR.is_valid(document)


@settings(max_examples=150, deadline=None)
@example(path="a" * 200)
@example(path="a" * 201)
@example(path="a/a/a/a/a/a/a/a")
@example(path="a/a/a/a/a/a/a/a/a")
@given(path=WORDS | st.from_regex(r"\A[a-zA-Z0-9_.\-/\\: ]{0,12}\Z") | st.text(max_size=8))
def test_both_judge_paths_alike(valid: dict[str, Any], path: str) -> None:
    document = copy.deepcopy(valid)
    document["files"][0]["path"] = path
    assert reads(document) == VALIDATOR.is_valid(document)


@pytest.mark.parametrize("name", ["con", "PRN", "aux.txt", "Nul", "com0", "LPT9.a.b", "conx", "com", "com10"])
def test_both_know_the_devices_of_windows(valid: dict[str, Any], name: str) -> None:
    for path in (name, f"golden/{name}", f"{name}/x"):
        document = copy.deepcopy(valid)
        document["files"][0]["path"] = path
        assert reads(document) == VALIDATOR.is_valid(document), path


def test_a_newer_version_is_outside_the_schema(valid: dict[str, Any]) -> None:
    newer = {**valid, "format_version": 2}
    assert not VALIDATOR.is_valid(newer)
    with pytest.raises(BundleNewer):
        read_document(newer)


def _at(value: Any, place: tuple[str | int, ...]) -> Any:
    for step in place:
        value = value[step]
    return value
