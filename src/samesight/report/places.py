"""Which copy suits a browser, and which a server, and why: from the copies' own sizes and figures."""

from __future__ import annotations

from dataclasses import dataclass

from samesight.bundle import Bundle, Copy
from samesight.report.figures import mebibytes, number, percent
from samesight.report.markup import Markup, join, table, tag

__all__ = ["Advice", "advise", "places_part"]

BROWSER_MIB = 32  # what a visitor may be asked to fetch before the first answer
LARGE_MIB = 100
MIB = 1 << 20


@dataclass(frozen=True)
class Advice:
    """A place, the copy that suits it, and the reason."""

    place: str
    copy: str
    why: str


def advise(bundle: Bundle) -> tuple[Advice, ...]:
    """The copy for a browser and the one for a server."""
    sizes = {file.path: file.size_bytes for file in bundle.files}
    named = {copy.precision: copy for copy in reversed(bundle.copies)}  # the first of each precision
    first = named.get("fp32", bundle.copies[0])
    size = {precision: sizes[copy.file] for precision, copy in named.items()}
    return _browser(first, named, size, sizes[first.file]), _server(first, named)


def _browser(first: Copy, named: dict[str, Copy], size: dict[str, int], bytes_of_first: int) -> Advice:
    if bytes_of_first <= BROWSER_MIB * MIB or "fp16" not in named:
        why = (
            f"{mebibytes(bytes_of_first)} to fetch, once. Smaller copies save bytes there, not time: of "
            "MobileNetV2 the float16 copy, whose numbers WebAssembly widens, took 1.1 to 1.4 times as long, "
            "and the int8 copy 1.4 times."
        )
        chosen = first
    else:
        why = (
            f"{mebibytes(size['fp16'])} to fetch in place of {mebibytes(bytes_of_first)}, and the same "
            "answers within its tolerance. It is not faster there: WebAssembly widens its numbers to float32."
        )
        chosen = named["fp16"]
    if min(size.values()) > LARGE_MIB * MIB:
        why += " For a browser this network is large: a smaller network is worth more than a smaller copy."
    return Advice("Browser", chosen.name, why)


def _server(first: Copy, named: dict[str, Copy]) -> Advice:
    int8 = named.get("int8")
    if int8 is None:
        why = (
            "What PyTorch answers, to float32's last digits. A float16 copy saves bytes, not time, on a CPU; "
            "samesight quantize may find an int8 copy that is faster and loses no more than you allow."
        )
        return Advice("Server, CPU", first.name, why)
    drop = number(int8.recorded.get("drop"))
    cost = (
        ""
        if drop is None
        else f" It lost {percent(drop)} of accuracy where it was judged."
        if drop > 0
        else ""
    )
    why = (
        "It ships because it is inside its budget of accuracy, and it is a quarter of the size."
        f"{cost} Whether it is also faster, the machine decides: samesight bench tells. Where it is not, "
        f"take {first.name}."
    )
    return Advice("Server, CPU", int8.name, why)


def places_part(bundle: Bundle) -> Markup:
    """The table of places."""
    rows = [(one.place, tag("b", one.copy), one.why) for one in advise(bundle)]
    return join(
        [
            tag("h3", "Which copy where"),
            table(["Place", "Copy", "Why"], rows, caption="By size and kind; samesight bench measures time"),
        ]
    )
