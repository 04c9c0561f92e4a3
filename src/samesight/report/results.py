"""The section on how good the network is: every figure from the answers on the held-out part."""

from __future__ import annotations

import numpy as np

from samesight.report.calibration import Scores, bootstrap_accuracy, judge
from samesight.report.charts import share_bar
from samesight.report.confidence import confidence_part
from samesight.report.figures import (
    Confusion,
    class_results,
    confused_pairs,
    confusion,
    mean,
    percent,
    wilson,
)
from samesight.report.markup import Markup, details, figure, join, section, short, table, tag
from samesight.report.matrix import dots_chart, matrix_chart, matrix_width
from samesight.report.mistakes import mistakes_part
from samesight.report.sources import RunFiles, Sources

COLUMN = 508  # pixels; a matrix no wider leaves room for something beside it
SHORT_TABLE = 12  # classes whose table fits under the matrix
WHOLE_MATRIX = 30  # classes; above, the confusion matrix is told by its largest cells
DOTS_MATRIX = 160  # classes; above, a picture of it shows nothing
PAIRS = 20
TOP = 5  # answers among which the true class is looked for
ROWS_OPEN = 40  # rows of a table that is not folded away
ROWS = 1000


def results_section(sources: Sources) -> Markup | None:
    """Results on the held-out part, or None where there is no test_predictions.csv."""
    run = sources.run
    if run is None or not run.answers:
        return None
    matrix = confusion(run.answers, sources.labels)
    confidence = judge(run.answers, run.scores, run.predictions)
    sure = tag("div", tag("h3", "Can its confidence be believed?"), confidence_part(confidence, run.remark))
    return section(
        "results",
        "Results on photos it had never seen",
        _summary(matrix, run),
        *_charts(matrix, sure),
        mistakes_part(sources),
    )


def _charts(matrix: Confusion, sure: Markup) -> list[Markup]:
    """Confusions, each class and what is known of confidence, side by side where there is room."""
    head = tag("h3", "What was taken for what")
    classes = join([tag("h3", "Class by class"), _classes(matrix)])
    count = len(matrix.labels)
    if count <= WHOLE_MATRIX:
        whole = join([head, _whole_matrix(matrix)])
        if matrix_width(matrix) > COLUMN:
            return [whole, sure, classes]
        if count <= SHORT_TABLE:
            return [tag("div", tag("div", whole, classes), sure, class_="pair")]
        return [tag("div", tag("div", whole), sure, class_="pair"), classes]
    if count > DOTS_MATRIX:
        return [head, _pairs(matrix), sure, classes]
    words = (
        f"All {count} classes: rows are true classes from top to bottom, columns what they were taken for. "
        "Blue is right, orange wrong; hold the pointer over a square to read it."
    )
    whole = tag("div", tag("h3", "All confusions at once"), figure(words, dots_chart(matrix)))
    return [head, _pairs(matrix), tag("div", whole, sure, class_="pair"), classes]


def _summary(matrix: Confusion, run: RunFiles) -> Markup:
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
        _tops(run.scores, len(matrix.labels)),
        _grouped(run),
    )


def _tops(scores: Scores | None, classes: int) -> str | None:
    """How often the true class is among the first few, where there are many more to choose from."""
    if scores is None or classes <= TOP:
        return None
    return f" The true class is among the first {TOP} on {percent(float((scores.rank <= TOP).mean()))}."


def _grouped(run: RunFiles) -> str | None:
    """How sure accuracy is when photos of one group count as alike; None without groups."""
    groups = run.groups
    named = {group for group in groups if group is not None}
    if not named:
        return None
    right = np.array([one.label == one.predicted for one in run.answers], np.bool_)
    interval = bootstrap_accuracy(right, groups)
    return (
        f" Photos of one group are alike and tell less: drawing the {len(named)} groups anew, the rate lies "
        f"between {percent(interval.low)} and {percent(interval.high)}."
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
