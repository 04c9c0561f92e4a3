"""Any page of a report: its style and script, and the policy that allows nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from importlib import resources

from samesight import __version__
from samesight.report.markup import Markup, short, tag

__all__ = ["document"]


def document(name: str, head: Markup, sections: Iterable[tuple[str, str, Markup]], footer: object) -> str:
    """A whole page called `name` as HTML text: a head, sections as (anchor, words, markup), a footer."""
    style, script = _part("style.css"), _part("page.js")
    there = list(sections)
    links = (tag("li", tag("a", words, href=f"#{anchor}")) for anchor, words, _ in there)
    body = tag(
        "body",
        tag("a", "Skip to the content", href="#content", class_="skip"),
        tag(
            "div",
            head,
            tag("nav", tag("ul", *links), aria_label="Contents"),
            tag("main", *(found for _, _, found in there), id="content"),
            tag("footer", footer),
            class_="page",
        ),
        tag("script", script),
    )
    return f"<!doctype html>\n{tag('html', _head(name, style, script), body, lang='en')}\n"


def _head(name: str, style: Markup, script: Markup) -> Markup:
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="generator", content=f"samesight {__version__}"),
        tag("title", f"{short(name, 80)} · Samesight report"),
        tag("style", style),
    )


def _part(name: str) -> Markup:
    words = resources.files("samesight.report").joinpath(name).read_text("utf-8")
    assert "</" not in words, "it would end its element"
    return Markup(words)


def _hash(words: str) -> Markup:
    return Markup("sha256-" + base64.b64encode(hashlib.sha256(words.encode()).digest()).decode())
