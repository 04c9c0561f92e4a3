"""Write docs/rows.md: each row of the features, what it means, and the tests that show it.

`python tests/rows.py` writes it, `--check` fails where the file is not what the tests say.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "rows.md"


class Collected:
    """A pytest plugin that remembers which test carries which row."""

    def __init__(self) -> None:
        self.tests: dict[str, dict[str, bool]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            place, _, name = item.nodeid.partition("::")
            test = f"{place.removeprefix('tests/')}::{name.partition('[')[0]}"
            for mark in item.iter_markers("row"):
                for row in mark.args:
                    self.tests.setdefault(row, {})[test] = item.get_closest_marker("slow") is not None


def page(tests: dict[str, dict[str, bool]]) -> str:
    """The Markdown of docs/rows.md. Raises KeyError where a test names a row that there is not."""
    rows: dict[str, str] = tomllib.loads((ROOT / "docs" / "rows.toml").read_text())
    if unknown := set(tests) - set(rows):
        raise KeyError(f"tests name rows that are not in docs/rows.toml: {sorted(unknown)}")
    lines = [
        "# What works, and the tests that show it",
        "",
        "Written by `make rows` from the tests' marks. *slow*: run by `make test-all`, on real photos or for",
        "minutes. A row with no test is not done.",
        "",
    ]
    for row, meaning in rows.items():
        lines += [f"## {row}", "", meaning, ""]
        shown = [f"- `{t}`{' (slow)' if slow else ''}" for t, slow in sorted(tests.get(row, {}).items())]
        lines += [*(shown or ["- **no test yet**"]), ""]
    return "\n".join(lines)


def main() -> int:
    """0 where the page is written or, with --check, current."""
    collected = Collected()
    arguments = [
        "--collect-only",
        "-qq",
        "-m",
        "",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        str(ROOT / "tests"),
    ]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = pytest.main(["--no-header", "--no-summary", *arguments], plugins=[collected])
    if code != 0:
        print(said.getvalue(), file=sys.stderr)
        return 2
    text = page(collected.tests)
    if "--check" in sys.argv:
        if not PAGE.is_file() or PAGE.read_text() != text:
            print("docs/rows.md is not what the tests say; run: make rows", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
