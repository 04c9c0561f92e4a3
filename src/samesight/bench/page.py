"""bench.html: the figures as one page that loads nothing, in the report's style."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from samesight import __version__
from samesight.bench.contenders import MODES
from samesight.bench.tables import by_contender, heads, text_row, winner_words
from samesight.report import document as pages
from samesight.report.markup import Markup, escape, figure, join, notice, section, short, table, tag

__all__ = ["page"]


def page(document: Mapping[str, Any], pictures: Mapping[str, Path]) -> str:
    """The page of bench.json's value; `pictures` by the bundle's id, or "zoo"."""
    sections = []
    for bundle in document.get("bundles", ()):
        name = f"b{bundle['bundle'][:12]}"
        drawn = _bundle(name, bundle, pictures.get(bundle["bundle"]))
        sections.append((name, short(bundle["name"]), drawn))
    if document.get("zoo"):
        sections.append(("zoo", "Networks", _zoo(document["zoo"], pictures.get("zoo"))))
    sections.append(("how", "How it was measured", _how(document)))
    top = tag(
        "header",
        tag("h1", "How quick, how large, how right"),
        tag("p", f"{document['machine']['processor']}, {document['machine']['cpus']} CPUs"),
    )
    footer = escape(
        f"Written by Samesight {__version__}. Timings are of this machine in that hour: only ratios within "
        "one run mean anything."
    )
    return pages.document("Bench", top, sections, footer)


def _bundle(name: str, bundle: Mapping[str, Any], picture: Path | None) -> Markup:
    groups = by_contender(bundle["rows"])
    won = [
        tag("li", tag("b", goal), ": ", winner_words(goal, one)) for goal, one in bundle["winners"].items()
    ]
    wrong = {f"{g[0]['engine']} {g[0]['copy']}: {words}" for g in groups for words in g[0]["problems"]}
    first = heads(groups[0][0]["batch"])
    batches = [
        [
            *(f"{row['engine']} {row['copy']} {row['mode']}", row["batch"]),
            *((f"{row['latency_ms'][key]:.2f}", row["latency_ms"][key]) for key in LATENCIES),
            *(f"{row['photos_per_second']:.1f}", f"{100 * row['photo_ms']['spread']:.0f} %"),
            *(row["latency_ms"]["calls"], _mebibytes(row["peak_bytes"])),
        ]
        for row in bundle["rows"]
    ]
    return section(
        name,
        f"{short(bundle['name'])} {bundle['version']}",
        tag("p", "Bundle ", tag("span", bundle["bundle"][:16], class_="mono")),
        tag("ul", *won),
        *(notice("bad", f"Cannot win: {words}") for words in sorted(wrong)),
        *(
            notice("plain", f"Left out: {one['engine']} {one['copy']} {one.get('mode', '')}: {one['reason']}")
            for one in bundle["left_out"]
        ),
        _picture(picture, "Latency, throughput by batch, and memory."),
        table(
            [*first[:3], *((head, "number") for head in first[3:])],
            map(text_row, groups),
            caption="Each copy, engine and mode",
            sortable=True,
        ),
        table(
            ["contender", *((head, "number") for head in BATCH_HEADS)],
            batches,
            caption="Every batch; the spread is between rounds",
            sortable=True,
        ),
    )


LATENCIES = ("average", "minimum", "maximum", "median", "p95")
BATCH_HEADS = ("batch", *(f"{key} ms" for key in LATENCIES), "photos/s", "spread", "calls", "memory MiB")


def _mebibytes(size: int | None) -> object:
    return "-" if size is None else (f"{size / 2**20:.0f}", size)


def _zoo(rows: Sequence[Mapping[str, Any]], picture: Path | None) -> Markup:
    from samesight.bench.zoo import HEADS, text_rows

    untrained = sorted({row["network"] for row in rows if row["weights"] is None})
    return section(
        "zoo",
        "Networks",
        notice("open", f"Untrained, so time only: {', '.join(untrained)}") if untrained else None,
        _picture(picture, "Accuracy against time, and time by batch."),
        table(
            [HEADS[0], *((head, "number") for head in HEADS[1:])],
            text_rows(rows),
            caption="Pretrained networks",
            sortable=True,
        ),
    )


def _how(document: Mapping[str, Any]) -> Markup:
    options, machine = document["options"], document["machine"]
    facts = [
        ("When", document["created"]),
        ("Machine", f"{machine['processor']}, {machine['cpus']} CPUs, {', '.join(machine['abilities'])}"),
        ("Load when it ended", machine["load_average"]),
        ("Versions", ", ".join(f"{name} {value}" for name, value in document["versions"].items())),
        ("Rounds", f"{options['rounds']}, each of {options['seconds']} s of calls at every batch"),
        ("Photos", document.get("photos") or "none: no accuracy was measured"),
    ]
    modes = [tag("li", tag("b", name), ": ", words) for name, words in MODES.items()]
    return section(
        "how",
        "How it was measured",
        tag(
            "dl",
            *(part for name, value in facts for part in (tag("dt", name), tag("dd", value))),
            class_="facts",
        ),
        tag(
            "p", "Each engine runs in a process of its own, in rounds that begin with another one each time."
        ),
        tag("ul", *modes),
    )


def _picture(path: Path | None, words: str) -> Markup | None:
    if path is None:
        return None
    data = base64.b64encode(path.read_bytes()).decode()
    return figure(words, tag("img", src=join([f"data:image/png;base64,{data}"]), alt=words))
