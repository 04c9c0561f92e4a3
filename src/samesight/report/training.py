"""The sections on the photos and on the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from samesight.data.checks import DataReport
from samesight.errors import InputError
from samesight.report.charts import Line, Phase, columns_chart, legend, line_chart, share_bar
from samesight.report.figures import mebibytes, number, percent
from samesight.report.markup import Markup, details, figure, join, notice, section, short, table, tag
from samesight.report.sources import Sources, pick, split_counts

BARS = 40  # classes; above, they are drawn as columns and listed on request
ROWS = 1000
PARTS = (("train", "training"), ("val", "inner validation"), ("test", "held out"))
FINDINGS = 8  # names that are listed of one finding


def data_section(sources: Sources) -> Markup | None:
    """Class distribution, split and findings, or None where neither split.json nor data.json is there."""
    run = sources.run
    if run is None or not (run.data or run.split):
        return None
    counts = split_counts(run.split) or _report_counts(run.data)
    parts: list[object] = [summary(counts, run.split)]
    if counts:
        parts += [tag("h3", "Photos in each class"), distribution(counts)]
    parts += [tag("h3", "What the checks found"), _findings(run.data)]
    return section("data", "The photos", *parts)


def _report_counts(data: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Counts of each class as data.json has them: a number, or numbers by part."""
    found: dict[str, dict[str, int]] = {}
    counts = pick(data, "classes", "counts", "per_class")
    for label, count in counts.items() if isinstance(counts, Mapping) else ():
        if isinstance(count, Mapping):
            found[str(label)] = {
                str(key): int(value) for key, value in count.items() if isinstance(value, int)
            }
        elif isinstance(count, int):
            found[str(label)] = {"train": count}
    return found


def summary(counts: Mapping[str, Mapping[str, int]], split: Mapping[str, Any]) -> Markup:
    """How many photos there are, in how many classes and on which side; `split` is split.json's object."""
    totals = {label: sum(parts.values()) for label, parts in counts.items()}
    photos = sum(totals.values())
    if not photos:
        return tag("p", "How many photos there are in each class is not recorded.")
    words = f"{photos} photos of {len(totals)} classes"
    sides = [(name, sum(parts.get(part, 0) for parts in counts.values())) for part, name in PARTS]
    listed = ", ".join(f"{count} {name}" for name, count in sides if count)
    words += f": {listed}." if split else "."
    small, large = min(totals, key=lambda label: totals[label]), max(totals, key=lambda label: totals[label])
    if totals[large] > totals[small]:
        words += f" The largest class, {short(large)}, has {totals[large]};"
        words += f" the smallest, {short(small)}, {totals[small]}"
        words += f" ({totals[large] / totals[small]:.1f} to 1)." if totals[small] else "."
    else:
        words += f" Each class has {totals[large]}."
    seed = split.get("seed")
    return tag("p", words, f" The split’s seed is {short(seed)}." if seed is not None else None)


def distribution(counts: Mapping[str, Mapping[str, int]]) -> Markup:
    """A table of the photos of each class and part with bars; of many classes a chart, and it on request."""
    totals = {label: sum(parts.values()) for label, parts in counts.items()}
    order = sorted(counts, key=lambda label: (-totals[label], label))
    used = [(part, name) for part, name in PARTS if any(parts.get(part) for parts in counts.values())]
    largest = max(totals.values(), default=0)
    rows = [
        (
            short(label, 60),
            (_bar(counts[label], used, largest), totals[label]),
            *((str(counts[label].get(part, 0)), counts[label].get(part, 0)) for part, _ in used),
            (str(totals[label]), totals[label]),
        )
        for label in order[:ROWS]
    ]
    heads = [
        "Class",
        ("Photos", "number"),
        *((name.capitalize(), "number") for _, name in used),
        ("All", "number"),
    ]
    key = legend(*((part, name) for part, name in used))
    listed = table(heads, rows, caption="Select a heading to sort", sortable=True)
    if len(order) <= BARS:
        return join([key, listed])
    values = [(label, totals[label]) for label in order[:ROWS]]
    chart = columns_chart(f"Photos in each of {len(order)} classes, the largest first", values)
    more = f" {len(order) - ROWS} smaller classes are not shown." if len(order) > ROWS else ""
    caption = f"Photos in each class, the largest first; hold the pointer over a column to read it.{more}"
    drawn = figure(caption, tag("div", chart, class_="scroll", tabindex="0"))
    return join([drawn, details(f"Show all {len(order)} classes", key, listed)])


def _bar(parts: Mapping[str, int], used: Sequence[tuple[str, str]], largest: int) -> Markup:
    label = ", ".join(f"{parts.get(part, 0)} {name}" for part, name in used)
    return share_bar([(parts.get(part, 0), part) for part, _ in used], largest, label, 260)


def _findings(data: Mapping[str, Any]) -> Markup:
    if not data:
        return tag("p", "No checks are recorded: there is no data.json.", class_="note")
    try:
        report = DataReport.from_json(data)
    except InputError:
        return notice(
            "open", "data.json is not as this version of Samesight writes it, so its findings are not shown."
        )
    words = f"{report.photos} photos ({mebibytes(report.size_bytes)}), {report.readable} of them readable."
    findings = report.findings()
    if not findings:
        good = " No unreadable photo, no duplicates, none under two labels or on two sides of the split."
        return join(
            [notice("good", tag("strong", "✓ Nothing to mend."), good), tag("p", words, class_="note")]
        )
    return join([tag("p", words), *(_finding(name, cases) for name, cases in findings)])


def _finding(name: str, cases: Sequence[str]) -> Markup:
    items = [tag("li", short(case, 200), class_="mono") for case in cases[:FINDINGS]]
    more = tag("p", f"and {len(cases) - FINDINGS} more", class_="note") if len(cases) > FINDINGS else None
    return details(tag("strong", f"{len(cases)} × {name}"), tag("ul", *items), more)


def training_section(sources: Sources) -> Markup | None:
    """Loss, accuracy, learning rate and time of each epoch, or None where there is no run."""
    run = sources.run
    if run is None:
        return None
    rows = [(epoch, row) for row in run.history if (epoch := number(row.get("epoch"))) is not None]
    if not rows:
        return section(
            "training", "Training", tag("p", "No history is recorded: history.csv is missing or empty.")
        )
    phases = _phases(rows)
    best = _best(rows, number(pick(run.about, "results.best_epoch")))
    loss, accuracy = _lines(rows, "loss"), _lines(rows, "accuracy")
    mark = (best[0], f"best {percent(best[1])}") if best else None
    charts = []
    if loss:
        drawn = line_chart(
            "Loss of each epoch",
            loss,
            phases,
            lambda value: f"{value:.3g}",
            mark=None if best is None else (best[0], ""),
        )
        charts.append(tag("div", tag("h3", "Loss"), drawn))
    if accuracy:
        drawn = line_chart(
            "Accuracy of each epoch", accuracy, phases, lambda v: f"{100 * v:.4g} %", top=1.0, mark=mark
        )
        charts.append(tag("div", tag("h3", "Accuracy"), drawn))
    caption = (
        "Training photos are altered at random, and the network still learns while they are counted, "
        "so their accuracy may lie below."
    )
    smoothing = number(pick(run.about, "derived.label_smoothing"))
    if smoothing:
        caption += f" Their loss is counted with label smoothing of {smoothing:g}, so it cannot fall to 0."
    if pick(run.about, "derived.average") is True:
        caption += " After the head’s epochs, the moving average of the weights (EMA) is what is validated."
    key = [("train", "training photos"), ("held", "inner validation part, on which the best epoch is chosen")]
    return section(
        "training",
        "Training",
        tag("p", _story(rows, phases, best)),
        figure(caption, legend(*key), tag("div", *charts, class_="pair")),
        _pace(rows, phases),
        details(f"Show the figures of all {len(rows)} epochs", _history(rows)),
    )


def _pace(rows: Sequence[tuple[float, Mapping[str, str]]], phases: Sequence[Phase]) -> Markup | None:
    """Learning rate and time of each epoch, side by side, as far as they are recorded."""
    charts = []
    for key, words, unit in (("lr", "Learning rate", ""), ("seconds", "Time", " s")):
        points = [(at, value) for at, row in rows if (value := number(row.get(key))) is not None]
        if points:
            line = Line(words, tuple(points), "plain")
            drawn = line_chart(
                f"{words} of each epoch",
                [line],
                phases,
                lambda value, unit=unit: f"{value:.3g}{unit}".replace("e-0", "e-"),  # type: ignore[misc]  # bound in the loop
                bottom=0.0,
            )
            charts.append(tag("div", tag("h3", words), drawn))
    if not charts:
        return None
    speeds = [value for _, row in rows if (value := number(row.get("images_per_second"))) is not None]
    speed = f" {_range(min(speeds), max(speeds))} photos a second." if speeds else ""
    caption = f"The learning rate is that of the epoch’s last step; the time is of learning alone.{speed}"
    return figure(caption, tag("div", *charts, class_="pair"))


def _range(low: float, high: float) -> str:
    return f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} to {high:.0f}"


def _phases(rows: Sequence[tuple[float, Mapping[str, str]]]) -> list[Phase]:
    phases: list[Phase] = []
    for epoch, row in rows:
        name = row.get("phase") or "all layers"
        if phases and phases[-1].name == name:
            phases[-1] = Phase(name, phases[-1].first, epoch)
        else:
            phases.append(Phase(name, epoch, epoch))
    return phases


def _lines(rows: Sequence[tuple[float, Mapping[str, str]]], what: str) -> list[Line]:
    lines = []
    for key, name, style in (("train", "training", "train"), ("val", "inner validation", "held")):
        points = [(at, value) for at, row in rows if (value := number(row.get(f"{key}_{what}"))) is not None]
        if points:
            lines.append(Line(f"{name} {what}", tuple(points), style))
    return lines


def _best(
    rows: Sequence[tuple[float, Mapping[str, str]]], chosen: float | None
) -> tuple[float, float] | None:
    """The epoch whose weights were kept, as the run says or else the most accurate, and its accuracy."""
    known = {at: value for at, row in rows if (value := number(row.get("val_accuracy"))) is not None}
    if chosen in known:
        return chosen, known[chosen]
    return max(known.items(), key=lambda one: (one[1], -one[0])) if known else None


def _story(
    rows: Sequence[tuple[float, Mapping[str, str]]], phases: Sequence[Phase], best: tuple[float, float] | None
) -> str:
    seconds = [value for _, row in rows if (value := number(row.get("seconds"))) is not None]
    words = f"{len(rows)} epoch{'s' * (len(rows) != 1)}"
    words += f" in {duration(sum(seconds))}" if seconds else ""
    if len(phases) > 1:
        counted = (
            f"{sum(one.first <= at <= one.last for at, _ in rows)} of phase “{short(one.name)}”"
            for one in phases
        )
        words += ": " + ", then ".join(counted)
    words += "."
    if best is not None:
        words += f" The weights of epoch {best[0]:g} are the best: {percent(best[1])} of the inner validation"
        words += " part right."
    return words


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    if seconds < 5400:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"


def _history(rows: Sequence[tuple[float, Mapping[str, str]]]) -> Markup:
    wanted = [
        *("epoch", "phase", "lr", "train_loss", "val_loss", "train_accuracy", "val_accuracy", "seconds"),
        "images_per_second",
    ]
    heads = [key for key in wanted if any(row.get(key) for _, row in rows)]
    body = [[_history_cell(key, row.get(key, "")) for key in heads] for _, row in rows[:ROWS]]
    words = {"lr": "Learning rate", "seconds": "Seconds", "images_per_second": "Photos a second"}
    named = [
        (
            words.get(key) or key.replace("_", " ").replace("val", "validation").capitalize(),
            _kind(key),
        )
        for key in heads
    ]
    return table(named, body, caption="history.csv", sortable=False)


def _kind(key: str) -> str | None:
    return None if key == "phase" else "number"


def _history_cell(key: str, value: str) -> str:
    found = number(value)
    if found is None or key == "epoch":
        return short(value)
    if key.endswith("accuracy"):
        return percent(found, 2)
    return f"{found:.1f}" if key in ("seconds", "images_per_second") else f"{found:.4g}"
