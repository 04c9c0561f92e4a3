"""HTML and SVG from plain values. What is not marked as markup is escaped, so nothing from a file is run."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

# What a label or a file name could use to hide or turn around the text beside it: control characters,
# line separators, marks of direction, and halves of surrogate pairs.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_VOID = frozenset({"meta", "img", "br", "line", "rect", "circle", "path", "polyline"})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def text(value: object, limit: int = 2000) -> str:
    """`value` as plain text of at most `limit` characters, unseen characters shown as U+FFFD."""
    plain = _UNSEEN.sub("\ufffd", str(value)[: limit + 1])
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def short(value: object, limit: int = 42) -> str:
    """`value` as plain text for a narrow place."""
    return text(value, limit)


def escape(value: object) -> Markup:
    """`value` as markup: unchanged where it is markup already, escaped where it is anything else."""
    return value if isinstance(value, Markup) else Markup(html.escape(text(value), quote=True))


def join(parts: Iterable[object], between: str = "") -> Markup:
    """The parts one after another; None is left out."""
    return Markup(escape(between).join(escape(part) for part in parts if part is not None))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """One element. `class_="x"` gives class="x", `aria_label` aria-label; None and False leave one out."""
    shown = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        assert _NAME.fullmatch(key), key
        shown.append(key if value is True else f'{key}="{_attribute(value)}"')
    start = f"<{' '.join(shown)}>"
    if name in _VOID and not children:
        return Markup(f"{start[:-1]}/>")
    return Markup(f"{start}{join(children)}</{name}>")


def _attribute(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return html.escape(str(value) if isinstance(value, Markup) else text(value, 8_000_000), quote=True)


def table(
    heads: Iterable[object], rows: Iterable[Iterable[object]], *, caption: str, sortable: bool = False
) -> Markup:
    """A table in a box of its own that scrolls sideways on a narrow screen.

    A head may be a pair of words and "number"; its column is then set to the right. A cell may be a pair of
    what is shown and the value that it is sorted by. The first cell of a row is its header.
    """
    pairs = [head if isinstance(head, tuple) else (head, None) for head in heads]
    kinds = [kind for _, kind in pairs]
    labels = [
        tag("th", tag("button", name, type="button") if sortable else name, scope="col", class_=kind)
        for name, kind in pairs
    ]
    body = [tag("tr", *(_cell(cell, kinds[at], at == 0) for at, cell in enumerate(row))) for row in rows]
    inside = tag(
        "table",
        tag("caption", tag("span", caption)),
        tag("thead", tag("tr", *labels)),
        tag("tbody", *body),
        data_sortable=sortable,
    )
    return tag("div", inside, class_="wide", tabindex="0", role="region", aria_label=caption)


def _cell(cell: object, kind: str | None, first: bool) -> Markup:
    shown, value = cell if isinstance(cell, tuple) else (cell, None)
    if first:
        return tag("th", shown, scope="row", data_value=_sort_key(value), class_=kind)
    return tag("td", shown, data_value=_sort_key(value), class_=kind)


def _sort_key(value: object) -> str | None:
    return None if value is None else repr(value) if isinstance(value, float) else str(value)


def notice(kind: str, *children: object) -> Markup:
    """A remark that must not be missed, of the `kind` "good", "bad", "open" or "plain"."""
    return tag("p", *children, class_=f"notice {kind}")


def details(summary: object, *children: object) -> Markup:
    """Something that is there for who wants it, folded away until then."""
    return tag("details", tag("summary", summary), *children)


def section(name: str, title: str, *children: object) -> Markup:
    """A part of the page with its heading, and a place that the contents can lead to."""
    return tag(
        "section", tag("h2", title, id=f"{name}-title"), *children, id=name, aria_labelledby=f"{name}-title"
    )


def figure(caption: object, *children: object) -> Markup:
    """A chart with what it shows in words under it."""
    return tag("figure", *children, tag("figcaption", caption))
