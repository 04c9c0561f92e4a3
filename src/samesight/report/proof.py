"""The sections on the copies of the network and the proof that they agree."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from samesight.bundle import Bundle, Copy
from samesight.report.charts import Difference, difference_chart
from samesight.report.figures import mebibytes, number, percent, scientific
from samesight.report.markup import Markup, figure, join, notice, section, short, table, tag, text
from samesight.report.places import places_part
from samesight.report.sources import Sources, pick
from samesight.verify.tolerances import tolerance_for

VERDICTS = {"True": ("good", "✓ same"), "False": ("bad", "✗ differs")}
SIZES = "accuracy_and_model_size.csv"
OTHERS = {
    "record": ("What the bundle records agrees with itself", "What the bundle records contradicts itself"),
    "labels": (
        "The answers carry the names that they had at export",
        "The answers carry other names than at export",
    ),
}
STAGES = {
    "decode": ("Decode", "photo to pixels"),
    "resize": ("Resize", "and crop"),
    "normalise": ("Normalise", "pixels to numbers"),
    "network": ("Network", "numbers to answer"),
}


def copies_section(sources: Sources) -> Markup | None:
    """Each copy's size, type and recorded figures, PyTorch's first; None without a bundle."""
    bundle = sources.bundle
    if bundle is None:
        return None
    sizes = copy_sizes(bundle)
    reference = pick(bundle.reference, "recorded")
    rows = [
        (
            "PyTorch",
            mebibytes(_checkpoint_bytes(sources, bundle)),
            "—",
            short(bundle.reference.get("framework", "—")),
            *_recorded(reference, agreement=False),
        )
    ]
    rows += [
        (
            tag("span", copy.name, title=copy.file),
            mebibytes(sizes.get(copy.name)),
            str(copy.opset),
            f"{copy.precision}, input {copy.input_dtype}",
            *_recorded(copy.recorded, agreement=True),
        )
        for copy in bundle.copies
    ]
    heads = ["Copy", ("Size", "number"), ("Opset", "number"), "Kind"]
    heads_right = ["Accuracy", "On training photos", "Labels as PyTorch"]
    photos = number(pick(reference, "test_photos")) or next(
        (found for copy in bundle.copies if (found := number(copy.recorded.get("test_photos")))), None
    )
    count = f" on {photos:.0f} photos" if photos else ""
    caption = f"Sizes of the files; accuracy as recorded at export{count}. 1 MiB is 1,048,576 bytes."
    return section(
        "copies",
        "The copies",
        tag(
            "p",
            "The same network in several files: a copy is for a runtime or a size, and ships only because it "
            "gives the answers that PyTorch gives.",
        ),
        table([*heads, *((head, "number") for head in heads_right)], rows, caption=caption),
        _differences(sources, bundle),
        places_part(bundle),
    )


def copy_sizes(bundle: Bundle) -> dict[str, int]:
    """Bytes of each copy's file, by the copy's name."""
    files = {file.path: file.size_bytes for file in bundle.files}
    return {copy.name: files[copy.file] for copy in bundle.copies if copy.file in files}


def _checkpoint_bytes(sources: Sources, bundle: Bundle) -> float | None:
    """The size of the PyTorch weights, from the run or else from the bundle's own table."""
    if sources.checkpoint_bytes is not None or not any(file.path == SIZES for file in bundle.files):
        return sources.checkpoint_bytes
    for row in csv.DictReader(io.StringIO(bundle.read(SIZES).decode("utf-8", "replace"))):
        size = number(row.get("size_mib"))
        if row.get("copy") == "pytorch" and size is not None:
            return size * 2**20
    return None


def _recorded(figures: Mapping[str, Any] | None, *, agreement: bool) -> list[str]:
    test, train = number(pick(figures, "test_accuracy")), number(pick(figures, "train_accuracy"))
    labels = number(pick(figures, "label_agreement"))
    return [percent(test), percent(train), percent(labels, 2) if agreement else "—"]


def _differences(sources: Sources, bundle: Bundle) -> Markup:
    """How far each copy's recorded logits are from PyTorch's, sample by sample against its tolerance."""
    rows = [row for copy in bundle.copies if (row := difference(sources, copy)) is not None]
    head = tag("h3", "How far each copy is from PyTorch")
    if not rows:
        return join([head, tag("p", "The bundle records no logits to tell.", class_="note")])
    caption = (
        f"Absolute differences of logits on the {len(sources.samples)} golden samples, as recorded at "
        "export, on "
        "a logarithmic scale. What is allowed grows with a sample’s logits: the bar is the difference on the "
        "sample that comes nearest to its limit, the dark mark that limit, the light mark the mean "
        "over all samples. An int8 copy’s limit is what was measured and recorded when it was made."
    )
    heads = [
        "Copy",
        ("Largest", "number"),
        ("Mean", "number"),
        ("Closest call", "number"),
        ("Allowed there", "number"),
    ]
    return join(
        [
            head,
            figure(caption, tag("div", difference_chart(rows), class_="scroll", tabindex="0")),
            table([*heads, "Verdict"], map(_difference_cells, rows), caption="The same in figures"),
        ]
    )


def difference(sources: Sources, copy: Copy) -> Difference | None:
    """The difference of one copy over the golden samples, or None where no logits are recorded.

    An int8 copy may be as far from PyTorch as bundle.json says it is: its own tolerance is between engines.
    """
    pairs = [
        (one.logits["pytorch"].astype(np.float64), one.logits[copy.name].astype(np.float64))
        for one in sources.samples
        if "pytorch" in one.logits and copy.name in one.logits
    ]
    if not pairs:
        return None
    largest = [float(np.abs(found - expected).max()) for expected, found in pairs]
    average = float(np.mean([np.abs(found - expected).mean() for expected, found in pairs]))
    if copy.precision == "int8":
        bound = number(copy.recorded.get("max_abs_difference"))
        return Difference(copy.name, max(largest), average, max(largest), bound)
    try:
        tolerance = tolerance_for(copy.precision)
    except KeyError:
        return Difference(copy.name, max(largest), average, max(largest), None)
    allowed = [tolerance.absolute(float(np.abs(expected).max())) for expected, _ in pairs]
    at = max(range(len(pairs)), key=lambda one: largest[one] / allowed[one])
    return Difference(copy.name, max(largest), average, largest[at], allowed[at])


def _difference_cells(row: Difference) -> list[object]:
    if row.allowed is None:
        verdict = tag("span", "no tolerance known", class_="open")
    elif row.within:
        verdict = tag("span", "✓ within", class_="good")
    else:
        verdict = tag("span", "✗ over", class_="bad")
    return [row.name, *map(scientific, (row.largest, row.average, row.closest, row.allowed)), verdict]


def verification_section(sources: Sources) -> Markup | None:
    """What `samesight verify` found, stage by stage and runner by runner; None where there is only a run."""
    found = sources.verification
    if not found.report:
        if sources.bundle is None:
            return None
        return section(
            "verification", "Verification", notice("open", found.remark, " Type ", verify_line(sources), ".")
        )
    stages = {str(one.get("stage")): one for one in _objects(found.report.get("stages"))}
    runners = _objects(found.report.get("runners"))
    if found.ok is None:
        head = notice("open", "The verification does not say how it ended.")
    elif found.ok:
        head = notice(
            "good", tag("strong", "✓ Verified."), " Every stage and every runner gave what it must."
        )
    else:
        head = notice("bad", tag("strong", "✗ Not the same."), f" {first_difference(found.report)}")
    lead = "A photo becomes an answer in four stages. Each was run again and compared with the record."
    boxes = [_stage(name, stages.get(name, {})) for name in STAGES if name != "network"]
    return section(
        "verification",
        "Verification, stage by stage",
        head,
        tag("p", difference_words(found.report), class_="note") if found.ok is False else None,
        tag("p", lead),
        tag("ol", *boxes, _network(runners), class_="stages"),
        *(_other(name, one) for name, one in stages.items() if name not in STAGES),
        _runners(runners) if runners else tag("p", "No runner was tried.", class_="note"),
        *(_remarks(one) for one in runners),
    )


def _other(name: str, one: Mapping[str, Any]) -> Markup:
    """A check that is no stage of its own: the bundle's own record, and the names of the answers."""
    good, bad = OTHERS.get(name, (f"{short(name)}: as recorded", f"{short(name)}: not as recorded"))
    different = number(one.get("different"))
    if not number(one.get("samples")) or different is None:
        return tag("p", tag("span", "– Not checked: ", class_="open"), f"{short(name)}.", class_="check")
    if different:
        what = pick(one, "first.what")
        return tag(
            "p",
            tag("span", f"✗ {bad}", class_="bad"),
            f": {text(what, 300)}" if what else ".",
            class_="check",
        )
    return tag("p", tag("span", "✓ ", class_="good"), f"{good}.", class_="check")


def _remarks(one: Mapping[str, Any]) -> Markup | None:
    """What verify noted of a runner."""
    found = [one.get("notes"), pick(one, "accuracy.problems")]
    words = [text(line, 300) for lines in found if isinstance(lines, list) for line in lines[:10]]
    if not words:
        return None
    return notice(
        "plain",
        tag("strong", f"{short(one.get('runner', '?'))}, {short(one.get('copy', '?'))}: "),
        "; ".join(words),
    )


def verify_line(sources: Sources) -> Markup:
    """The command that verifies this bundle."""
    name = sources.bundle.folder.name if sources.bundle is not None else "BUNDLE"
    return tag("code", f"samesight verify {shell_word(name)}")


def shell_word(word: str) -> str:
    """`word` as it can be typed in a shell."""
    return word if re.fullmatch(r"[A-Za-z0-9_./:=+-]+", word) else "'" + word.replace("'", "'\\''") + "'"


def first_difference(report: Mapping[str, Any]) -> str:
    """Where a difference begins, in words."""
    first = report.get("first_difference")
    if not isinstance(first, Mapping):
        return "Where the difference begins is not recorded."
    words = f"The difference begins at the {short(first.get('stage', 'unknown'))} stage"
    for key, before in (
        ("runner", "in"),
        ("copy", "with copy"),
        ("sample", "on sample"),
        ("layer", "at layer"),
    ):
        value = first.get(key)
        if value is not None:
            value = (
                pick(value, "name", "tensor", "layer") or "unknown" if isinstance(value, Mapping) else value
            )
            words += f", {before} {short(value, 80)}"
    return words + "."


def difference_words(report: Mapping[str, Any]) -> str | None:
    """What verify says of the first difference."""
    what = pick(report, "first_difference.what")
    return None if what is None else text(what, 400)


def _stage(stage: str, one: Mapping[str, Any]) -> Markup:
    samples, different = number(one.get("samples")), number(one.get("different"))
    if not samples or different is None:
        return _stage_box("open", "– not checked", stage, "no sample was checked")
    if not different:
        return _stage_box("good", "✓ same", stage, f"identical on all {samples:.0f} samples")
    largest = number(one.get("max_abs_difference"))
    words = f"{different:.0f} of {samples:.0f} samples differ"
    words += f", by up to {scientific(largest)}" if largest is not None else ""
    return _stage_box("bad", "✗ differs", stage, words)


def _network(runners: Sequence[Mapping[str, Any]]) -> Markup:
    if not runners:
        return _stage_box("open", "– not checked", "network", "no runner was tried")
    bad = sum(one.get("ok") is False for one in runners)
    good = sum(one.get("ok") is True for one in runners)
    if bad:
        return _stage_box("bad", "✗ differs", "network", f"{bad} of {len(runners)} runners differ")
    if good < len(runners):
        return _stage_box(
            "open", "– not checked", "network", f"{len(runners) - good} runners could not be judged"
        )
    return _stage_box(
        "good", "✓ same", "network", f"within tolerance in {'both' if good == 2 else good} runners"
    )


def _stage_box(kind: str, state: str, stage: str, words: str) -> Markup:
    name, gloss = STAGES[stage]
    head = tag("span", tag("b", name), f" {gloss}", class_="name")
    return tag("li", head, tag("b", state), tag("span", words), class_=kind)


def _runners(runners: Sequence[Mapping[str, Any]]) -> Markup:
    rows = [_runner(one) for one in runners]
    heads = [
        "Runner",
        "Copy",
        "Verdict",
        ("Largest difference", "number"),
        ("Mean", "number"),
        ("Allowed at the closest call", "number"),
        ("Labels agree", "number"),
        ("Accuracy", "number"),
    ]
    return table(
        heads, rows, caption="The network stage of each runner beside PyTorch; differences of logits"
    )


def _runner(one: Mapping[str, Any]) -> list[object]:
    kind, words = VERDICTS.get(str(one.get("ok")), ("open", "– not judged"))
    allowed = number(one.get("allowed"))
    if allowed is None:
        allowed = number(
            pick(one, "tolerance.abs") if isinstance(one.get("tolerance"), Mapping) else one.get("tolerance")
        )
    measured, recorded = number(pick(one, "accuracy.measured")), number(pick(one, "accuracy.recorded"))
    photos = number(pick(one, "accuracy.photos"))
    if measured is not None:
        accuracy = f"{percent(measured)}{f' of {photos:.0f}' if photos else ''} measured"
    else:
        accuracy = f"{percent(recorded)} recorded" if recorded is not None else "—"
    return [
        short(one.get("runner", "?")),
        short(one.get("copy", "?")),
        tag("span", words, class_=kind),
        scientific(number(one.get("max_abs_difference"))),
        scientific(number(one.get("mean_abs_difference"))),
        scientific(allowed),
        percent(number(one.get("label_agreement"))),
        accuracy,
    ]


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, Sequence) else []
