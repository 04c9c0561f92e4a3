"""The page of `samesight data`: what was found in photos before training, with pictures of every finding."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from PIL import Image

from samesight import __version__
from samesight.data.checks import DataReport
from samesight.data.findings import Case, Finding, find
from samesight.data.photos import Photo, Photos
from samesight.data.thresholds import THRESHOLDS
from samesight.errors import SamesightError
from samesight.files import write_file
from samesight.preprocess import decode, read_photo
from samesight.report.document import document
from samesight.report.figures import mebibytes
from samesight.report.markup import Markup, details, escape, join, notice, section, short, table, tag
from samesight.report.overview import tile
from samesight.report.samples import as_address
from samesight.report.training import distribution, summary
from samesight.runner import cpus

__all__ = ["PAGE", "write_data_page"]

PAGE = "data.html"
SINGLE, GROUPS, MEMBERS = 12, 6, 4  # pictures of a kind, or groups of it and pictures in each
LISTED = 20  # cases of a kind that are named in all
PICTURES = 160  # in the whole page, the gravest findings first: about 10 KB each

Address: TypeAlias = tuple[Markup, str | None]
"""A picture as a data: address, and the style of a tiny one."""


def write_data_page(report: DataReport, photos: Photos, out: Path, *, pictures: bool = True) -> Path:
    """`out`, written as one self-contained HTML page: at most 160 pictures, and 20 cases of a kind by name.

    It loads nothing. Without `pictures` it shows no photo.
    """
    findings = find(report)
    by_name = {photo.name: photo for photo in photos.items}
    seen = _see(_shown(findings), by_name) if pictures else {}
    problems = [one for one in findings if one.kind.problem]
    others = [one for one in findings if not one.kind.problem]
    sections = [("found", "What was found", _overview(findings, report))]
    if report.counts:
        sections.append(("classes", "Classes", _classes(report)))
    for anchor, title, some in (("problems", "Problems", problems), ("look", "Worth a look", others)):
        if some:
            parts = [_finding(one, by_name, seen) for one in some]
            sections.append((anchor, title, section(anchor, title, *parts)))
    if seen:
        where = notice("plain", "This page shows photos: keep it where they may be seen, or write it without "
                       "them: ", tag("code", "--no-photos"), ".")  # fmt: skip
        anchor, title, last = sections[-1]
        sections[-1] = (anchor, title, join([last, where]))
    sections.append(("checks", "The checks", _thresholds()))
    name = f"{short(_name(report.source), 60)}: photos"
    words = document(name, _head(report, problems, others), sections, _footer())
    write_file(out, words.encode("utf-8", "replace"))
    return out


def _name(source: str) -> str:
    return source.partition("#")[0].rstrip("/").rsplit("/", 1)[-1] or source


def _head(report: DataReport, problems: Sequence[Finding], others: Sequence[Finding]) -> Markup:
    wrong, odd = (sum(len(one.cases) for one in some) for some in (problems, others))
    if wrong:
        verdict = join(
            [tag("strong", f"{_count(wrong, 'problem')} to mend", class_="bad"), " before training"]
        )
    elif odd:
        verdict = join([tag("strong", "Nothing to mend", class_="good"), ", and something to look at"])
    else:
        verdict = tag("strong", "Nothing wrong was found", class_="good")
    dimensions = [f"{which} {width} × {height}" for which, (width, height) in report.sizes.items()]
    counts = [sum(row.values()) for row in report.counts.values()]
    among = f"{min(counts):,} to {max(counts):,} photos each" if counts else "photos without labels"
    readable = f"{report.readable:,} can be read"
    first = [f"{len(one.cases):,} {one.title}" for one in problems[:2]]
    middle = dimensions[1].removeprefix("median ") if dimensions else "not known"
    tiles = [
        tile("Photos", f"{report.photos:,}", readable, mebibytes(report.size_bytes)),
        tile("Classes", f"{len(report.labels):,}", among),
        tile("Problems", f"{wrong:,}", *first),
        tile("Middle photo", middle, *dimensions[::2], words=True),
    ]
    return tag(
        "header",
        tag("p", f"Samesight data · {report.form}", class_="kicker"),
        tag("h1", short(_name(report.source), 120)),
        tag("p", verdict, ".", class_="verdict"),
        tag("dl", *tiles, class_="tiles"),
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _overview(findings: Sequence[Finding], report: DataReport) -> Markup:
    rows = [
        (
            tag("a", one.title, href=f"#{one.kind.name}"),
            tag("span", "problem", class_="bad") if one.kind.problem else "worth a look",
            f"{len(one.cases):,}",
        )
        for one in findings
    ]
    parts: list[object] = []
    if rows:
        caption = (
            "A problem makes the result wrong, or the photos other than they say; the rest is yours to judge"
        )
        parts.append(table(["Finding", "Kind", ("Cases", "number")], rows, caption=caption))
    else:
        parts.append(
            notice("good", tag("strong", "✓ Nothing wrong was found."), " Every check is told below.")
        )
    if report.mislabelled is None and report.labels:
        how = tag("code", "samesight data PHOTOS --model RUN")
        parts.append(tag("p", "Labels were not judged: that needs a network. ", how, class_="note"))
    parts += [tag("p", short(note[:1].upper() + note[1:] + ".", 400), class_="note") for note in report.notes]
    return section("found", "What was found", *parts)


def _classes(report: DataReport) -> Markup:
    drawn = any("train" in row for row in report.counts.values())
    counts = {
        label: dict(row) if drawn else {"train": sum(row.values())} for label, row in report.counts.items()
    }
    return section(
        "classes",
        "Classes",
        tag("p", summary(counts, {"drawn": drawn} if drawn else {})),
        distribution(counts),
    )


def _finding(finding: Finding, photos: Mapping[str, Photo], seen: Mapping[str, Address]) -> Markup:
    """One kind: what it means, its first cases as pictures, and more of them by name."""
    kind = finding.kind
    parts: list[object] = [
        tag("h3", f"{len(finding.cases):,} × {finding.title}", id=kind.name),
        tag("p", _with_options(kind.why)),
    ]
    groups = [case for case in finding.cases if len(case.names) > 1]
    single = [case for case in finding.cases if len(case.names) == 1]
    pictured = [case for case in groups[:GROUPS] if any(name in seen for name in case.names)]
    if pictured:
        parts.append(tag("div", *(_group(case, photos, seen) for case in pictured), class_="groups"))
    cards = [case for case in single[:SINGLE] if case.names[0] in seen]
    if cards:
        pictured += cards
        shown = (_card(case.names[0], photos, seen, case.words) for case in cards)
        parts.append(tag("ul", *shown, class_="photos many"))
    rest = [case for case in finding.cases if case not in pictured]
    if rest:
        items = [tag("li", short(case.words, 300), class_="mono") for case in rest[:LISTED]]
        more = f"and {len(rest) - LISTED:,} more: all are in data.json"
        words = f"{len(rest):,} more by name" if pictured else f"{len(rest):,} by name"
        listed = join([tag("ul", *items), tag("p", more, class_="note") if len(rest) > LISTED else None])
        parts.append(details(words, listed) if pictured else listed)
    return join(parts)


def _with_options(words: str) -> Markup:
    """Words in which what is typed stands as such."""
    return join(
        tag("code", piece, class_="option") if at % 2 else piece
        for at, piece in enumerate(re.split(r"(--[a-z-]+(?: [a-z-]+(?= leaves| keeps))?)", words))
    )


def _group(case: Case, photos: Mapping[str, Photo], seen: Mapping[str, Address]) -> Markup:
    """Photos that belong together, side by side."""
    shown = [name for name in case.names if name in seen][:MEMBERS]
    cards = [_card(name, photos, seen, None) for name in shown]
    more = len(case.names) - len(shown)
    left = tag("p", f"and {more:,} more", class_="note") if more else None
    return tag("div", tag("ul", *cards, class_="photos"), left, class_="group")


def _card(name: str, photos: Mapping[str, Photo], seen: Mapping[str, Address], words: str | None) -> Markup:
    address, tiny = seen[name]
    label = photos[name].label
    told = None if words is None else words.removeprefix(f"{name}: ")
    return tag(
        "li",
        tag("img", src=address, alt=f"Photo {short(name, 80)}", loading="lazy", class_=tiny),
        tag("h3", short(label, 60)) if label is not None else None,
        tag("p", short(told, 120)) if told else None,
        tag("p", tag("span", short(name, 60), class_="mono", title=short(name, 300))),
    )


def _thresholds() -> Markup:
    rows = [(row.name, f"{row.value:g}", row.unit, row.reason) for row in THRESHOLDS.values()]
    lead = (
        "A check that cries wolf is worse than none, so each limit stands where real photos raise no false "
    )
    lead += "alarm, or next to none."
    heads = ["Limit", ("Value", "number"), "Unit", "Why there"]
    return section("checks", "The checks", tag("p", lead), table(heads, rows, caption="As in docs/data.md"))


def _footer() -> Markup:
    return escape(
        f"Written by Samesight {__version__}. Everything is in data.json, beside this page. This page asks "
        "nothing of the network. No photo was changed."
    )


def _shown(findings: Iterable[Finding]) -> Iterator[str]:
    """The photos that the page shows, the gravest findings first; some come twice."""
    for finding in findings:
        groups = single = 0
        for case in finding.cases:
            if len(case.names) > 1 and groups < GROUPS:
                groups += 1
                yield from case.names[:MEMBERS]
            elif len(case.names) == 1 and single < SINGLE:
                single += 1
                yield from case.names


def _see(names: Iterable[str], photos: Mapping[str, Photo]) -> dict[str, Address]:
    """The first of the photos that can be read, small, by name."""
    wanted = [name for name in dict.fromkeys(names) if name in photos][:PICTURES]
    with ThreadPoolExecutor(min(cpus(), 8)) as pool:
        addresses = pool.map(_address, (photos[name].path for name in wanted))
        return {name: found for name, found in zip(wanted, addresses, strict=True) if found is not None}


def _address(path: Path) -> Address | None:
    try:
        return as_address(Image.fromarray(decode(read_photo(path))))
    except SamesightError:
        return None
