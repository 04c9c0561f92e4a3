"""The findings of a report in words: what each kind means, and its cases, the gravest first.

A problem is something that makes the result wrong or the photos other than they say; the rest is worth a
look, and a person decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from samesight.data.checks import DataReport, Duplicate, Near
from samesight.data.thresholds import limit

__all__ = ["KINDS", "Case", "Finding", "Kind", "find"]


@dataclass(frozen=True)
class Kind:
    """A kind of finding: its name in JSON and on the command line, its title, and what it does."""

    name: str
    title: str
    problem: bool
    why: str


@dataclass(frozen=True)
class Case:
    """One finding: the photos that it is about (none where it is about a class or a file), and words."""

    names: tuple[str, ...]
    words: str


@dataclass(frozen=True)
class Finding:
    """All cases of one kind."""

    kind: Kind
    cases: tuple[Case, ...]

    @property
    def title(self) -> str:
        """The kind in the words of the terminal and the notes."""
        return self.kind.title


_EVERY = (
    Kind(
        "unreadable",
        "photos that cannot be read (left out)",
        True,
        "Empty, cut short, or no picture at all. Training leaves them out.",
    ),
    Kind(
        "conflict",
        "the same photo under two labels",
        True,
        "One of the labels is wrong, and the network is taught both. --fix leaves all of them out.",
    ),
    Kind(
        "near-conflict",
        "near duplicates under two labels",
        True,
        "The same picture was saved again, or shot twice in a row, and got another label. Mirrored copies "
        "are not counted, since they may rightly have another. --fix leaves all of them out.",
    ),
    Kind(
        "leak",
        "the same photo on both sides",
        True,
        "What is measured on a photo that was learnt from is memory, not skill. Training leaves out the "
        "copy on the training side.",
    ),
    Kind(
        "near-leak",
        "near duplicates on both sides",
        True,
        "Almost as bad as the same photo: the held-out accuracy is flattered. --fix leaves out the copies on "
        "the training side.",
    ),
    Kind(
        "row-without-file",
        "table rows without a file",
        True,
        "The table promises photos that are not there.",
    ),
    Kind(
        "mislabelled",
        "labels that are likely wrong",
        False,
        "A classifier that never saw the photo takes it for another class, more surely than it is usually "
        "sure of that class. Look at each: some are wrong labels, some hard photos. --fix-also mislabelled "
        "leaves them out.",
    ),
    Kind(
        "left-out",
        "photos left out of the split",
        False,
        "By --fix, or because a held-out part has them and nothing may be measured on what was learnt from.",
    ),
    Kind(
        "duplicate",
        "exact duplicates",
        False,
        "The same bytes under several names. They count several times; the split keeps them on one side. "
        "--fix keeps one.",
    ),
    Kind(
        "near",
        "near duplicates",
        False,
        "The same picture saved again, cropped, brightened or mirrored, or shot twice in a row. The split "
        "keeps them on one side. --fix-also near keeps one.",
    ),
    Kind(
        "file-without-row",
        "files without a table row (left out)",
        False,
        "Photos that the table does not name are not used.",
    ),
    Kind(
        "small-class",
        f"classes with fewer than {limit('few photos'):g} photos",
        False,
        "Too few to learn from, and too few held out to measure anything on.",
    ),
    Kind(
        "dark",
        "dark photos",
        False,
        f"99 % of the pixels are darker than {limit('dark'):g} of 255.",
    ),
    Kind(
        "bright",
        "over-bright photos",
        False,
        f"99 % of the pixels are brighter than {limit('bright'):g} of 255.",
    ),
    Kind(
        "flat",
        "photos without contrast",
        False,
        f"From the darkest to the brightest there are fewer than {limit('flat'):g} grey levels of 255.",
    ),
    Kind(
        "blurred",
        "blurred photos",
        False,
        "Even the sharpest edges are ramps, seen at the size that a network sees.",
    ),
    Kind(
        "tiny",
        "tiny photos",
        False,
        f"The shorter side has fewer than {limit('tiny'):g} pixels, and the other photos are larger.",
    ),
    Kind(
        "odd-size",
        "photos of an odd size",
        False,
        f"More than {limit('odd size'):g} times smaller or larger than the middle photo: often a thumbnail, "
        "or a scan among snapshots.",
    ),
    Kind(
        "odd-shape",
        "photos of an odd shape",
        False,
        f"More than {limit('odd shape'):g} times longer than the middle photo: a centre crop loses most.",
    ),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in _EVERY}
LOOKS = {
    "dark": "99 % of it below grey level {:.0f}",
    "bright": "99 % of it above grey level {:.0f}",
    "flat": "{:.0f} grey levels",
    "blurred": "sharpness {:.2f}",
    "tiny": "shorter side {:.0f} pixels",
    "odd size": "{:.2g} times the middle photo's side",
    "odd shape": "{:.1f} times the middle photo's ratio of sides",
}


def find(report: DataReport) -> list[Finding]:
    """The findings of `report` in the order of `KINDS`; kinds without a case are left out."""
    cases: dict[str, Iterable[Case]] = {
        "unreadable": (Case((one.name,), f"{one.name}: {one.reason}") for one in report.troubles),
        "conflict": (Case(one.names, f"{_same(one)} ({', '.join(one.labels)})") for one in report.conflicts),
        "near-conflict": (
            Case(one.names, f"{_alike(one)} ({', '.join(one.labels)})") for one in report.near_conflicts
        ),
        "leak": (Case(one.names, f"{_same(one)} ({', '.join(one.parts)})") for one in report.leaks),
        "near-leak": (
            Case(one.names, f"{_alike(one)} ({', '.join(one.parts)})") for one in report.near_leaks
        ),
        "row-without-file": (Case((), row) for row in report.rows_without_file),
        "mislabelled": (
            Case((one.name,), f"{one.name}: {one.label}, likely {one.likely} ({one.likely_probability:.0%})")
            for one in report.mislabelled or ()
        ),
        "left-out": (Case((line.rsplit(": ", 1)[0],), line) for line in report.left_out),
        "duplicate": (Case(one.names, _same(one)) for one in report.duplicates),
        "near": (Case(one.names, _alike(one)) for one in report.near),
        "file-without-row": (Case((), name) for name in report.files_without_row),
        "small-class": (Case((), f"{label}: {count}") for label, count in report.small_classes.items()),
    }
    for kind, words in LOOKS.items():
        measured = sorted(report.looks.get(kind, {}).items(), key=lambda one: (one[1], one[0]))
        cases[kind.replace(" ", "-")] = [
            Case((name,), f"{name}: {words.format(value)}") for name, value in measured
        ]
    listed = {name: tuple(some) for name, some in cases.items()}
    return [Finding(kind, listed[name]) for name, kind in KINDS.items() if listed[name]]


def _same(one: Duplicate) -> str:
    return " = ".join(one.names)


def _alike(one: Near) -> str:
    shown = [f"{name} (mirrored)" if name in one.mirrored else name for name in one.names]
    return " ~ ".join(shown)
