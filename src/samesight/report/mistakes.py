"""The part of the page that shows photos: the surest mistakes, and the right answers that were least sure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from samesight.report.figures import least_sure, percent, worst_mistakes
from samesight.report.markup import Markup, join, notice, short, table, tag
from samesight.report.photos import Seen, see
from samesight.report.samples import as_address
from samesight.report.sources import RunFiles, Sources

__all__ = ["FIRST_SHOWN", "MISTAKES", "likely_classes", "mistakes_part"]

MISTAKES = 12
UNSURE = 8
FIRST_SHOWN = 3


def mistakes_part(sources: Sources) -> Markup:
    """The surest mistakes and the least sure right answers, with their photos where these may be shown."""
    run = sources.run
    assert run is not None
    answers = run.answers
    wrong = sum(one.label != one.predicted for one in answers)
    worst, unsure = worst_mistakes(answers, MISTAKES), least_sure(answers, UNSURE)
    shown = see(run, [answers[at].name for at in (*worst, *unsure)]) if sources.pictures else Seen({}, "")
    parts: list[object] = [tag("h3", "The surest mistakes")]
    if wrong:
        lead = f"{len(worst)} of {wrong} mistakes" if len(worst) < wrong else f"All {wrong} mistakes"
        lead += ", the surest first: often a wrong label, or two things in one photo."
        parts += [tag("p", lead), _cards(run, worst, shown)]
    else:
        parts.append(tag("p", f"There were none in {len(answers)} photos."))
    if unsure:
        lead = "What was right, but only just: more photos like these would help most."
        parts += [tag("h3", "The least sure right answers"), tag("p", lead), _cards(run, unsure, shown)]
    if shown.remark:
        parts.append(tag("p", shown.remark, class_="note"))
    if shown.pixels:
        words = "These are photos of the held-out part, as the network sees them: keep this page where they "
        parts.append(
            notice("plain", words, "may be seen, or write it without them: ", tag("code", "--no-photos"), ".")
        )
    return join(parts)


def _cards(run: RunFiles, places: Sequence[int], shown: Seen) -> Markup:
    """A card for each answer, or a table of them where none of their photos can be shown."""
    if not any(run.answers[at].name in shown.pixels for at in places):
        return _listed(run, places)
    return tag("ul", *(_card(run, at, shown) for at in places), class_="photos")


def _card(run: RunFiles, at: int, shown: Seen) -> Markup:
    one = run.answers[at]
    pixels = shown.pixels.get(one.name)
    if pixels is None:
        image = tag("p", "no picture", class_="missing")
    else:
        address, tiny = as_address(Image.fromarray(pixels))
        words = f"Held-out photo of {short(one.label, 80)}"
        image = tag("img", src=address, alt=words, loading="lazy", class_=tiny)
    sure = "" if one.confidence is None else f", {percent(one.confidence)} sure"
    if one.label == one.predicted:
        state = tag("p", tag("span", "✓ recognised", class_="good"), sure)
    else:
        state = tag("p", tag("span", f"✗ taken for {short(one.predicted)}", class_="bad"), sure)
    name = tag("p", tag("span", short(one.name, 60), class_="mono", title=one.name))
    return tag("li", image, tag("h3", short(one.label, 60)), state, _classes(run, at), name)


def _classes(run: RunFiles, at: int) -> Markup | None:
    """The most likely classes of one photo as a small table, the true one in bold; None without logits."""
    true = run.answers[at].label
    rows = [
        tag(
            "tr",
            tag("th", one.words(30), scope="row"),
            tag("td", percent(one.share), class_="number"),
            class_="true" if one.label == true else None,
        )
        for one in likely_classes(run, at)
    ]
    return tag("div", tag("table", tag("tbody", *rows)), class_="logits") if rows else None


@dataclass(frozen=True)
class Likely:
    """A class, its probability and its place among all classes of one photo."""

    label: str
    share: float
    rank: int

    def words(self, limit: int) -> str:
        """The class, with its place where that is not among the first ones."""
        words = short(self.label, limit)
        return words if self.rank <= FIRST_SHOWN else f"{words} (no. {self.rank})"


def likely_classes(run: RunFiles, at: int) -> list[Likely]:
    """The first three classes of answer `at`, and the true one where it is none; empty without logits."""
    if run.scores is None or run.predictions is None:
        return []
    scores, labels = run.scores, run.predictions.labels
    pairs = zip(scores.first[at].tolist(), scores.likely[at].tolist(), strict=True)
    found = [Likely(labels[index], share, rank) for rank, (index, share) in enumerate(pairs, 1)][:FIRST_SHOWN]
    if run.answers[at].label not in [one.label for one in found]:
        found.append(Likely(run.answers[at].label, float(scores.true[at]), int(scores.rank[at])))
    return found


def _listed(run: RunFiles, places: Sequence[int]) -> Markup:
    rows = [_listed_row(run, at) for at in places]
    heads = ["Photo", "True class", "Taken for", ("Confidence", "number")]
    if run.scores is not None:
        heads.append("Next most likely")
    return table(heads, rows, caption="By name, since none of their photos is shown")


def _listed_row(run: RunFiles, at: int) -> Iterator[object]:
    one = run.answers[at]
    yield tag("span", short(one.name, 90), class_="mono")
    yield from (short(one.label), short(one.predicted), percent(one.confidence))
    if run.scores is not None:
        yield ", ".join(f"{one.words(30)} {percent(one.share)}" for one in likely_classes(run, at)[1:])
