"""The page of a run or a bundle: its sections in order."""

from __future__ import annotations

from collections.abc import Callable

from samesight import __version__
from samesight.report.document import document
from samesight.report.making import making_section
from samesight.report.markup import Markup, escape
from samesight.report.overview import head
from samesight.report.proof import copies_section, verification_section
from samesight.report.results import results_section
from samesight.report.samples import golden_section
from samesight.report.sources import Sources
from samesight.report.speed import speed_section
from samesight.report.training import data_section, training_section

Section = Callable[[Sources], Markup | None]

SECTIONS: tuple[tuple[str, str, Section], ...] = (
    ("results", "Results", results_section),
    ("copies", "Copies", copies_section),
    ("speed", "Speed", speed_section),
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
    return document(sources.name, head(sources), there, _footer(sources))


def _footer(sources: Sources) -> Markup:
    both = (("a run folder", sources.run), ("a bundle", sources.bundle))
    read = " and ".join(name for name, there in both if there is not None)
    return escape(
        f"Written by Samesight {__version__} from the files of {read}. Every figure here was read from "
        "them or counted from them. This page asks nothing of the network."
    )
