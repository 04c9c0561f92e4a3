"""The page: its sections in order, its style and script, and the policy that allows nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from importlib import resources

from samesight import __version__
from samesight.report.making import making_section
from samesight.report.markup import Markup, escape, short, tag
from samesight.report.overview import head
from samesight.report.proof import copies_section, verification_section
from samesight.report.results import results_section
from samesight.report.samples import golden_section
from samesight.report.sources import Sources
from samesight.report.training import data_section, training_section

Section = Callable[[Sources], Markup | None]

SECTIONS: tuple[tuple[str, str, Section], ...] = (
    ("results", "Results", results_section),
    ("copies", "Copies", copies_section),
    ("verification", "Verification", verification_section),
    ("golden", "Golden samples", golden_section),
    ("training", "Training", training_section),
    ("data", "Photos", data_section),
    ("making", "How it was made", making_section),
)


def page(sources: Sources) -> str:
    """The whole page as HTML text, with a newline at its end."""
    drawn = [(name, words, one(sources)) for name, words, one in SECTIONS]
    there = [(name, words, found) for name, words, found in drawn if found is not None]
    return whole(f"{short(sources.name, 80)} · Samesight report", head(sources), there, _footer(sources))


def whole(title: str, top: Markup, sections: Sequence[tuple[str, str, Markup]], footer: Markup) -> str:
    """A page of `sections`, each its name, its title and itself, under `top`: it loads nothing."""
    style, script = _part("style.css"), _part("page.js")
    links = (tag("li", tag("a", words, href=f"#{name}")) for name, words, _ in sections)
    body = tag(
        "body",
        tag("a", "Skip to the content", href="#content", class_="skip"),
        tag(
            "div",
            top,
            tag("nav", tag("ul", *links), aria_label="Contents"),
            tag("main", *(found for _, _, found in sections), id="content"),
            tag("footer", footer),
            class_="page",
        ),
        tag("script", script),
    )
    return f"<!doctype html>\n{tag('html', _head(title, style, script), body, lang='en')}\n"


def _head(title: str, style: Markup, script: Markup) -> Markup:
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
        tag("title", title),
        tag("style", style),
    )


def _footer(sources: Sources) -> Markup:
    both = (("a run folder", sources.run), ("a bundle", sources.bundle))
    read = " and ".join(name for name, there in both if there is not None)
    return escape(
        f"Written by Samesight {__version__} from the files of {read}. Every figure here was read from "
        "them or counted from them. This page asks nothing of the network."
    )


def _part(name: str) -> Markup:
    words = resources.files("samesight.report").joinpath(name).read_text("utf-8")
    assert "</" not in words, "it would end its element"
    return Markup(words)


def _hash(words: str) -> Markup:
    return Markup("sha256-" + base64.b64encode(hashlib.sha256(words.encode()).digest()).decode())
