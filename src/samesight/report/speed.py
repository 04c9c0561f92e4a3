"""The section on speed, memory and size: what `samesight bench` measured of this very bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from samesight.report.figures import mebibytes, number, percent
from samesight.report.markup import Markup, notice, section, short, table, tag
from samesight.report.sources import Sources, pick

ROWS = 200
LATENCIES = {"average": "Average", "minimum": "Min", "maximum": "Max", "median": "Median", "p95": "95 %"}
GOALS = ("latency", "throughput", "memory")


def speed_section(sources: Sources) -> Markup | None:
    """Each copy in each engine at its smallest batch, and the winners; None where nothing was measured."""
    rows = _first_batches(sources.bench.get("rows"))
    if not rows:
        return None
    batches = sorted({f"{number(row.get('batch')):.0f}" for row in rows})
    heads = ["Copy and engine", *((name, "number") for name in LATENCIES.values())]
    heads += [(name, "number") for name in ("Photos/s", "Peak memory", "File", "Accuracy")]
    return section(
        "speed",
        "Speed, memory and size",
        tag("p", _where(sources.bench_about), class_="note"),
        tag("ul", *_winners(sources.bench.get("winners"))),
        table(
            heads,
            map(_row, rows[:ROWS]),
            caption=f"Milliseconds of a call at batch {' or '.join(batches)}; photos a second at the best "
            "batch; peak memory of a process that does nothing else",
            sortable=True,
        ),
        *(notice("bad", words) for words in _problems(rows)),
    )


def _first_batches(value: object) -> list[Mapping[str, Any]]:
    """A row of each contender, of its smallest batch, with its best throughput as "best"."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in value if isinstance(value, Sequence) else ():
        batch = number(pick(row, "batch"))
        if batch is None or number(pick(row, "latency_ms.median")) is None:
            continue
        key = (str(row.get("copy")), str(row.get("engine")), str(row.get("mode")))
        best = max(
            number(row.get("photos_per_second")) or 0.0, float(found.get(key, {}).get("best_rate") or 0.0)
        )
        if key not in found or batch < (number(found[key]["batch"]) or 0):
            found[key] = dict(row)
        found[key]["best_rate"] = best
    return list(found.values())


def _row(row: Mapping[str, Any]) -> list[object]:
    name = " ".join(short(row.get(key), 30) for key in ("copy", "engine", "mode"))
    times = [number(pick(row, f"latency_ms.{key}")) for key in LATENCIES]
    rate, peak, size, accuracy = (
        number(row.get(key)) for key in ("best_rate", "peak_bytes", "size_bytes", "accuracy")
    )
    return [
        name,
        *(("—", -1.0) if time is None else (f"{time:.2f}", time) for time in times),
        (f"{rate:.1f}", rate) if rate else ("—", -1.0),
        (mebibytes(peak), peak or -1.0),
        (mebibytes(size), size or -1.0),
        (percent(accuracy, 2), -1.0 if accuracy is None else accuracy),
    ]


def _winners(value: object) -> list[Markup]:
    found = []
    for goal in GOALS:
        won = pick(value, goal)
        figure = {
            "latency": (number(pick(won, "latency_ms")), "{:.2f} ms a photo"),
            "throughput": (number(pick(won, "photos_per_second")), "{:.1f} photos a second"),
            "memory": (number(pick(won, "peak_bytes")), None),
        }[goal]
        if figure[0] is None:
            continue
        words = mebibytes(figure[0]) if figure[1] is None else figure[1].format(figure[0])
        name = " ".join(short(pick(won, key), 30) for key in ("copy", "engine", "mode"))
        found.append(tag("li", tag("b", f"Best for {goal}"), f": {name}, {words}"))
    return found


def _problems(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What speaks against answers, each once."""
    found: dict[str, None] = {}
    for row in rows:
        problems = row.get("problems")
        for words in problems if isinstance(problems, Sequence) and not isinstance(problems, str) else ():
            found[
                f"{short(row.get('copy'))} in {short(row.get('engine'))} cannot win: {short(words, 200)}"
            ] = None
    return list(found)


def _where(about: Mapping[str, Any]) -> str:
    load = pick(about, "machine.load_average")
    busy = number(load[0]) if isinstance(load, Sequence) and not isinstance(load, str) and load else None
    words = f"Measured on {short(pick(about, 'machine.processor') or 'an unknown processor', 80)}"
    cpus, when = number(pick(about, "machine.cpus")), pick(about, "created")
    words += f" with {cpus:.0f} CPUs" if cpus is not None else ""
    words += f", {short(when)}" if when else ""
    words += f", load average {busy:.1f}" if busy is not None else ""
    return f"{words}. Only ratios within this table mean anything elsewhere."
