"""The part of the page on whether confidence can be believed: reliability diagram, figures, a temperature."""

from __future__ import annotations

from collections.abc import Iterator

from samesight.report.calibration import Binned, Calibration, Confidence
from samesight.report.charts import LEFT, RIGHT, TOP, WIDTH, Scale, legend, svg
from samesight.report.figures import Bin, percent, wilson
from samesight.report.markup import Markup, figure, join, table, tag

BASE = 264  # pixels from the top to where accuracy is 0
STRIP = (282, 322)  # top and base of the columns that tell how many photos there are
HEIGHT = 360
FEW = 0.01  # a lean of confidence that nobody would notice


def confidence_part(found: Confidence | None, remark: str) -> Markup:
    """What is known of the confidence of the held-out answers; `remark` says why not more."""
    note = tag("p", remark, class_="note") if remark else None
    if found is None:
        return join(
            [tag("p", "The predictions hold no confidence, so this cannot be said.", class_="note"), note]
        )
    seen = found.seen
    caption = (
        "How often it was right, by how sure it was; on the dashed line both are equal. Columns: bins of "
        "equal width. Dots: bins of about as many photos each, with the 95 % interval of the share that is "
        "right. Below: how many photos lie where."
    )
    key = legend(("train", "bins of equal width"), ("held", "bins of as many photos"))
    return join(
        [
            tag("p", _verdict(seen)),
            figure(caption, key, reliability_chart(seen)),
            _figures(found),
            tag("p", _temperature(found)),
            note,
        ]
    )


def _verdict(seen: Calibration) -> str:
    words = f"On average it is {percent(seen.confidence)} sure and {percent(seen.accuracy)} right"
    lean = seen.confidence - seen.accuracy
    if seen.equal_width.error <= seen.equal_width.chance:
        return (
            f"{words}. So far as {seen.photos} photos can tell, its confidence can be taken at its word: "
            "the error is no larger than chance alone would make it."
        )
    if abs(lean) <= FEW:
        return f"{words}: right on average, but too sure of some photos and too unsure of others."
    return f"{words}: it is {'surer than it should be' if lean > 0 else 'less sure than it could be'}."


def _figures(found: Confidence) -> Markup:
    """Calibration errors, NLL and Brier, before and after the temperature where there is one."""
    heads: list[tuple[str, str]] = [("As trained", "number")]
    columns = [found.seen]
    if found.mended is not None and found.temperature is not None:
        heads.append((f"Temperature {found.temperature.value:.2f}", "number"))
        columns.append(found.mended)
    rows: list[list[object]] = [
        ["ECE, equal width", *(_error(one.equal_width) for one in columns)],
        ["ECE, equal mass", *(_error(one.equal_mass) for one in columns)],
    ]
    if found.seen.nll is not None:
        rows.append(["Log loss (NLL)", *(f"{one.nll:.4f}" for one in columns)])
        rows.append(["Brier score", *(f"{one.brier:.4f}" for one in columns)])
    chance = f"{percent(found.seen.equal_width.chance)} and {percent(found.seen.equal_mass.chance)}"
    caption = (
        f"Less is better. ECE: expected calibration error in 15 bins, with its 95 % interval; as sure and on "
        f"as many photos, a perfectly calibrated network stays below {chance} in 95 of 100 cases."
    )
    return table(["Measure", *heads], rows, caption=caption)


def _error(found: Binned) -> Markup:
    low, high = percent(found.interval.low).removesuffix("\u00a0%"), percent(found.interval.high)
    return join([percent(found.error), tag("span", f"{low} to {high}", class_="under")])


def _temperature(found: Confidence) -> str:
    temperature = found.temperature
    if temperature is None:
        return (
            "Log loss, Brier score and a temperature need every class’s logit, which this run does not hold."
            if found.seen.nll is None
            else "A temperature needs an inner validation part, which this run does not have."
        )
    counted = f"{temperature.photos} photo{'s' * (temperature.photos != 1)}"
    if temperature.value is None or found.mended is None:
        return (
            f"No temperature can be told from the {counted} of the inner validation part, "
            "as where all of them are right: then the surer the better."
        )
    before, after = found.seen.nll, found.mended.nll
    assert before is not None
    assert after is not None
    helps = "Here that helps" if after < before else "Here that does not help"
    return (
        f"Dividing the logits by {temperature.value:.2f} changes no answer, only how sure it sounds. The "
        f"number was fitted on the {counted} of the inner validation part; the figures are "
        f"of the held-out part. {helps}; the logits of run and bundle are unchanged."
    )


def reliability_chart(found: Calibration) -> Markup:
    """Accuracy over confidence in both kinds of bins; below, how many photos lie in those of equal width."""
    x, y = Scale(0, 1, LEFT, WIDTH - RIGHT), Scale(0, 1, BASE, TOP)
    parts: list[object] = []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(value), y2=y(value), class_="grid"))
        parts.append(tag("text", f"{100 * value:g} %", x=LEFT - 6, y=y(value) + 4, class_="tick end"))
        parts.append(tag("text", f"{100 * value:g} %", x=x(value), y=STRIP[1] + 17, class_="tick middle"))
    columns = tag("g", *_columns(found.equal_width, x, y), class_="series train")
    ideal = tag("line", x1=x(0), x2=x(1), y1=y(0), y2=y(1), class_="ideal")
    dots = tag("g", *(_dot(one, x, y) for one in found.equal_mass.bins), class_="series held")
    words = (
        tag("text", "confidence", x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 5, class_="axis middle"),
        tag("text", "right", x=LEFT - 6, y=12, class_="axis end"),
        tag("text", "photos", x=LEFT - 6, y=STRIP[1], class_="axis end"),
    )
    label = (
        f"Accuracy by confidence of {found.photos} photos; expected calibration error "
        f"{percent(found.equal_width.error)} in bins of equal width"
    )
    return svg(WIDTH, HEIGHT, label, *parts, columns, ideal, dots, *words)


def _columns(found: Binned, x: Scale, y: Scale) -> Iterator[Markup]:
    most = max(one.photos for one in found.bins)
    count = Scale(0, most, STRIP[1], STRIP[0])
    for one in found.bins:
        left, width = x(one.low) + 1, x(one.high) - x(one.low) - 2
        high = max(1.0, y(0) - y(one.accuracy))
        bar = tag("rect", x=left, y=BASE - high, width=width, height=high, rx=2, class_="bar pale")
        tall = max(1.0, STRIP[1] - count(one.photos))
        column = tag("rect", x=left, y=STRIP[1] - tall, width=width, height=tall, class_="bar")
        yield tag("g", tag("title", _bin_words(one)), bar, column)


def _dot(one: Bin, x: Scale, y: Scale) -> Markup:
    interval = wilson(round(one.accuracy * one.photos), one.photos)
    at = x(one.confidence)
    whisker = tag("line", x1=at, x2=at, y1=y(interval.low), y2=y(interval.high), class_="whisker")
    dot = tag("circle", cx=at, cy=y(one.accuracy), r=3.4, class_="dot")
    return tag("g", tag("title", _bin_words(one)), whisker, dot)


def _bin_words(one: Bin) -> str:
    photos = f"{one.photos} photo{'s' * (one.photos != 1)}"
    return (
        f"confidence {percent(one.low)} to {percent(one.high)}: {photos}, "
        f"{percent(one.accuracy)} right, {percent(one.confidence)} sure on average"
    )
