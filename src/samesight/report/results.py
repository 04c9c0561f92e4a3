"""The section on how good the network is: every figure from the answers on the held-out part."""

from __future__ import annotations

from collections.abc import Sequence

from samesight.report.charts import share_bar
from samesight.report.figures import (
    Answer,
    Confusion,
    class_results,
    confused_pairs,
    confusion,
    mean,
    percent,
    reliability,
    wilson,
    worst_mistakes,
)
from samesight.report.markup import Markup, details, figure, join, section, short, table, tag
from samesight.report.matrix import dots_chart, matrix_chart, reliability_chart
from samesight.report.sources import Sources

SMALL_MATRIX = 8  # classes; so small a matrix leaves room for something beside it
WHOLE_MATRIX = 30  # classes; above, the confusion matrix is told by its largest cells
DOTS_MATRIX = 160  # classes; above, a picture of it shows nothing
PAIRS = 20
MISTAKES = 12
ROWS_OPEN = 40  # rows of a table that is not folded away
ROWS = 1000


def results_section(sources: Sources) -> Markup | None:
    """Results on the held-out part, or None where there is no test_predictions.csv."""
    answers = sources.run.answers if sources.run is not None else ()
    if not answers:
        return None
    matrix = confusion(answers, sources.labels)
    return section(
        "results",
        "Results on photos it had never seen",
        _summary(matrix),
        *_charts(matrix, answers),
        tag(
            "div",
            tag("div", tag("h3", "Class by class"), _classes(matrix)),
            tag("div", tag("h3", "The surest mistakes"), _mistakes(answers)),
            class_="pair" if len(matrix.labels) <= SMALL_MATRIX else None,
        ),
    )


def _charts(matrix: Confusion, answers: Sequence[Answer]) -> list[Markup]:
    """The confusion matrix and the reliability diagram, side by side where there is room."""
    head = tag("h3", "What was taken for what")
    sure = tag("div", tag("h3", "Can its confidence be believed?"), _confidence(answers))
    count = len(matrix.labels)
    if count <= WHOLE_MATRIX:
        left = tag("div", head, _whole_matrix(matrix))
        return [tag("div", left, sure, class_="pair")] if count <= SMALL_MATRIX else [left, sure]
    if count > DOTS_MATRIX:
        return [head, _pairs(matrix), sure]
    words = (
        f"All {count} classes: rows are true classes from top to bottom, columns what they were taken for. "
        "Blue is right, orange wrong; hold the pointer over a square to read it."
    )
    whole = tag("div", tag("h3", "All confusions at once"), figure(words, dots_chart(matrix)))
    return [head, _pairs(matrix), tag("div", whole, sure, class_="pair")]


def _summary(matrix: Confusion) -> Markup:
    found = class_results(matrix)
    interval = wilson(matrix.right, matrix.photos)
    largest = max(found, key=lambda one: one.support)
    seen = [one for one in found if one.support]
    unseen = len(found) - len(seen)
    recall, f1 = mean([one.recall for one in seen]), mean([one.f1 for one in seen])
    return tag(
        "p",
        tag("strong", f"{matrix.right} of {matrix.photos} photos right ({percent(matrix.accuracy)})"),
        f". With so many photos, the true rate lies between {percent(interval.low)} and "
        f"{percent(interval.high)} (95 % Wilson interval). Averaged over classes, recall is "
        f"{percent(recall)} "
        f"and F1 {percent(f1)}. Always answering “{short(largest.label)}” would be right on "
        f"{percent(largest.support / matrix.photos)}.",
        f" {unseen} of {len(found)} classes have no photo in this part." if unseen else None,
    )


def _whole_matrix(matrix: Confusion) -> Markup:
    words = (
        "A row is what a photo shows, a column what it was taken for; the number is photos, the shade their "
        "share of the row. The diagonal is right."
    )
    return figure(words, tag("div", matrix_chart(matrix), class_="scroll", tabindex="0"))


def _pairs(matrix: Confusion) -> Markup:
    pairs = confused_pairs(matrix)
    if not pairs:
        return tag("p", "Nothing was confused.")
    caption = (
        f"The {min(PAIRS, len(pairs))} most frequent of {len(pairs)} confusions"
        if len(pairs) > PAIRS
        else f"All {len(pairs)} confusions"
    )
    rows = [
        (
            short(pair.label),
            short(pair.predicted),
            f"{pair.count} of {pair.support}",
            share_bar(
                [(pair.count, "wrong"), (pair.support - pair.count, "rest")],
                pair.support,
                f"{percent(pair.count / pair.support)} of this class",
                120,
            ),
        )
        for pair in pairs[:PAIRS]
    ]
    heads = ["True class", "Taken for", ("Photos", "number"), "Share of the class"]
    return table(heads, rows, caption=caption)


def _classes(matrix: Confusion) -> Markup:
    found = class_results(matrix)
    rows = [
        (
            short(one.label, 60),
            (str(one.support), one.support),
            *(
                (percent(value), -1.0 if value is None else value)
                for value in (one.precision, one.recall, one.f1)
            ),
            (_found(one.recall), -1.0 if one.recall is None else one.recall),
        )
        for one in found[:ROWS]
    ]
    heads = ["Class", *((name, "number") for name in ("Photos", "Precision", "Recall", "F1", "Share found"))]
    caption = (
        "Precision: of the photos given this class, the share that is it. Recall: of the photos of "
        "this class, "
        "the share that was found. F1: their harmonic mean. Select a heading to sort."
    )
    shown = table(heads, rows, caption=caption, sortable=True)
    if len(found) > ROWS:
        shown = join([shown, tag("p", f"{len(found) - ROWS} more classes are not shown.", class_="note")])
    if len(rows) <= ROWS_OPEN:
        return shown
    ranked = sorted(
        (one for one in found if one.recall is not None), key=lambda one: (one.f1 or 0.0, one.label)
    )
    weakest = ", ".join(
        f"{short(one.label)} ({percent(one.f1, 0)}, {one.support} photos)" for one in ranked[:8]
    )
    return join([tag("p", f"Weakest by F1: {weakest}."), details(f"Show all {len(found)} classes", shown)])


def _found(recall: float | None) -> Markup | str:
    if recall is None:
        return "no photos"
    return share_bar([(recall, "train"), (1 - recall, "rest")], 1.0, f"recall {percent(recall)}", 80)


def _confidence(answers: Sequence[Answer]) -> Markup:
    found = reliability(answers)
    if found is None:
        return tag("p", "The predictions hold no confidence, so this cannot be said.", class_="note")
    sure = sum(one.confidence * one.photos for one in found.bins) / found.photos
    right = sum(one.accuracy * one.photos for one in found.bins) / found.photos
    lean = "surer than it should be" if sure > right else "less sure than it could be"
    words = "about as sure as it should be" if abs(sure - right) <= 0.01 else lean
    caption = (
        f"How often it was right, by how sure it was; on the dashed line both are equal. The numbers are "
        f"photos, {found.photos} in all; bars of few photos say little. On average it is "
        f"{percent(sure)} sure and "
        f"{percent(right)} right: {words}. Expected calibration error: {percent(found.error)}."
    )
    return figure(caption, reliability_chart(found))


def _mistakes(answers: Sequence[Answer]) -> Markup:
    wrong = sum(answer.label != answer.predicted for answer in answers)
    if not wrong:
        return tag("p", f"There were none in {len(answers)} photos.")
    shown = worst_mistakes(answers, MISTAKES)
    rows = [
        (
            tag("span", short(one.name, 90), class_="mono"),
            short(one.label),
            short(one.predicted),
            percent(one.confidence),
        )
        for one in shown
    ]
    caption = (
        f"{len(shown)} of {wrong} mistakes, the surest first: often a wrong label, or two things in one photo"
    )
    return table(["Photo", "True class", "Taken for", ("Confidence", "number")], rows, caption=caption)
