"""The ways in which PyTorch quantises a network, by name. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FLOAT", "STATIC", "WAYS", "Way", "way_of"]

STATIC = ("fx", "pt2e")  # kinds that are calibrated


@dataclass(frozen=True)
class Way:
    """One way, and what is said of it."""

    name: str
    kind: str  # "float", "dynamic", "fx", "pt2e"
    words: str
    engine: str | None = None  # of torch.backends.quantized; None: that which PyTorch takes here
    target: str | None = None  # the kind of layer that dynamic quantisation is asked to change
    custom: bool = False  # an own QConfig instead of the engine's default mapping


FLOAT = Way("float32", "float", "the network as it was trained")
WAYS = (
    FLOAT,
    Way("dynamic Conv2d", "dynamic", "quantize_dynamic, asked for Conv2d", target="Conv2d"),
    Way("dynamic Linear", "dynamic", "quantize_dynamic, asked for Linear", target="Linear"),
    Way("fx fbgemm", "fx", "FX graph mode, the default mapping of fbgemm", engine="fbgemm"),
    Way("fx qnnpack", "fx", "FX graph mode, the default mapping of qnnpack", engine="qnnpack"),
    Way("fx x86", "fx", "FX graph mode, the default mapping of x86", engine="x86"),
    Way(
        "fx custom",
        "fx",
        "FX graph mode, HistogramObserver for activations and MinMaxObserver for weights (a scale a layer)",
        custom=True,
    ),
    Way("pt2e x86", "pt2e", "PyTorch 2 export: torchao's X86InductorQuantizer, compiled by Inductor"),
)


def way_of(name: str) -> Way:
    """The way of that name."""
    return next(way for way in WAYS if way.name == name)
