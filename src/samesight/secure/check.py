"""Which engine can run a network, as the files that `export` writes have it: each obstacle by its node.

The rules are those that the engines' own compilers hold without saying so. Athos and OnnxBridge end with
exit code 0 where they fail; LLAMA compiles a grouped convolution as a whole one, and takes the first of four
pads, strides and kernel sides for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from samesight.secure.graph import KINDS, Step, is_not_negative
from samesight.secure.reading import Network, Obstacle, SourceFile, counted
from samesight.secure.rewrite import for_compilers
from samesight.secure.writing import IR_VERSION, OPSET

__all__ = ["TARGETS", "Target", "changes", "obstacles"]

Rule = Callable[[Network, Step], "tuple[str, str] | None"]
_POOLS = ("MaxPool", "AveragePool")


@dataclass(frozen=True)
class Target:
    """An engine: what it is, the kinds of steps it takes, and the rules that each step is held to."""

    name: str
    title: str
    kinds: frozenset[str]
    rules: tuple[Rule, ...] = ()
    sequential: bool = field(default=False)


def _whole_groups(network: Network, step: Step) -> tuple[str, str] | None:
    group = step.attributes.get("group", 1)
    if group == 1:
        return None
    return f"group is {group}; the compiler takes it for 1", "choose a network without grouped convolutions"


def _no_dilation(network: Network, step: Step) -> tuple[str, str] | None:
    dilations = step.attributes.get("dilations", (1, 1))
    if dilations == (1, 1):
        return None
    return f"dilations are {dilations}; the compiler takes them for 1", "choose a network without dilation"


def _equal_pads(network: Network, step: Step) -> tuple[str, str] | None:
    pads = step.attributes.get("pads", (0, 0, 0, 0))
    if not isinstance(pads, tuple) or len(set(pads)) == 1:
        return None
    return f"pads are {pads}; the compiler needs four equal ones", "pad by the same number on every side"


def _mirrored_pads(network: Network, step: Step) -> tuple[str, str] | None:
    pads = step.attributes.get("pads", (0, 0, 0, 0))
    if not isinstance(pads, tuple) or pads[:2] == pads[2:]:
        return None
    return f"pads are {pads}; the first two must be the last two", "pad by the same number on both sides"


def _square(network: Network, step: Step) -> tuple[str, str] | None:
    for name in ("kernel", "strides"):
        found = step.attributes.get(name, (1, 1))
        if isinstance(found, tuple) and len(set(found)) != 1:
            return f"{name} is {found}; the compiler takes the first for both", "use square windows"
    return None


def _bare_average(network: Network, step: Step) -> tuple[str, str] | None:
    pads = step.attributes.get("pads", (0, 0, 0, 0))
    if step.kind != "AveragePool" or pads == (0, 0, 0, 0):
        return None
    return f"pads are {pads}, which the compiler leaves out or counts otherwise", "average without padding"


def _padded_maximum(network: Network, step: Step) -> tuple[str, str] | None:
    pads = step.attributes.get("pads", (0, 0, 0, 0))
    if step.kind != "MaxPool" or pads == (0, 0, 0, 0) or is_not_negative(network.graph, step.inputs[0]):
        return None
    return "the engine pads a maximum with 0, and the values may be negative", "put a ReLU before the pooling"


_COMMON = {"Conv", "Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten", "Gemm"}
TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        one.name: one
        for one in (
            Target("spu", "the secure run of Samesight itself", frozenset(KINDS)),
            Target(
                "athos",
                "EzPC's Athos: CrypTFlow2 and Porthos",
                frozenset({*_COMMON, "Clip", "Scale", "Add", "Mul", "Concat"}),
                (_no_dilation, _equal_pads, _bare_average, _padded_maximum),
            ),
            Target(
                "llama",
                "EzPC's OnnxBridge with LLAMA",
                frozenset({*_COMMON, "Scale", "Add", "Concat"}),
                (_whole_groups, _no_dilation, _equal_pads, _square, _bare_average, _padded_maximum),
            ),
            Target(
                "secfloat",
                "EzPC's OnnxBridge with SECFLOAT",
                frozenset({*_COMMON, "Scale", "Concat"}),
                (_no_dilation, _bare_average, _padded_maximum),
            ),
            Target(
                "mp-spdz",
                "MP-SPDZ, by its library for machine learning",
                frozenset({*_COMMON, "Scale", "Add", "Concat"}),
                (_whole_groups, _no_dilation, _mirrored_pads, _bare_average, _padded_maximum),
            ),
            Target(
                "scale-mamba",
                "SCALE-MAMBA with the libraries of FANNG-MPC",
                frozenset(_COMMON - {"GlobalAveragePool"}),
                (_whole_groups, _no_dilation, _equal_pads, _square, _bare_average, _padded_maximum),
                sequential=True,
            ),
        )
    }
)


def obstacles(network: Network, target: Target) -> list[Obstacle]:
    """What keeps `network` from running on `target`, after the rewrites that `export` does."""
    return list(_obstacles(for_compilers(network), target))


def _obstacles(network: Network, target: Target) -> Iterator[Obstacle]:
    last = network.graph.input
    for step in network.graph.steps:
        operator, where = step.kind, step.name or step.output
        if step.kind not in target.kinds:
            written = {"Clip": "as Relu and Sub", "Scale": "as BatchNormalization"}.get(step.kind, "")
            what = f"{target.title} has no such operator{f' ({written})' if written else ''}"
            yield Obstacle(operator, where, what, _advice(step.kind))
            continue
        for rule in target.rules:
            if found := rule(network, step):
                yield Obstacle(operator, where, *found)
        if target.sequential and step.values != (last,):
            what = "takes what an earlier layer gave; only a row of layers can be written"
            yield Obstacle(operator, where, what, "choose a network without branches, as pruned_resnet")
        last = step.output


def _advice(kind: str) -> str:
    return {
        "Clip": "train a network with ReLU in place of ReLU6",
        "Add": "choose a network without residual branches (squeezenet1_1, vgg11, pruned_resnet)",
        "Scale": "choose a network whose normalisations follow convolutions directly",
        "GlobalAveragePool": "choose a network that ends in average pooling of a fixed size",
    }.get(kind, "choose another network, or another engine: samesight secure check BUNDLE")


def changes(source: SourceFile, network: Network) -> list[str]:
    """What `export` writes otherwise than the bundle's file has it, in words."""
    found = []
    if source.batch is None:
        found.append("the batch is fixed (at 1, or --batch N): the file has any")
    if source.opset > OPSET:
        found.append(f"opset {OPSET}: the file has {source.opset}")
    if source.ir_version > IR_VERSION:
        found.append(f"IR version {IR_VERSION}: the file has {source.ir_version}")
    written = for_compilers(network).graph
    kinds = [step.kind for step in written.steps]
    if clips := kinds.count("Clip"):
        found.append(f"{clips} Clip as Relu(x) − Relu(x − limit)")
    if scales := kinds.count("Scale"):
        found.append(f"{scales} normalisations stay apart, as scale and shift")
    folded = sum(step.kind == "Scale" for step in network.graph.steps) - scales
    if folded:
        found.append(f"{folded} normalisations go into the weights before them")
    gone = {
        name: count
        for name, count in source.operators.items()
        if name in ("Identity", "Dropout", "Constant", "Shape", "Gather", "Unsqueeze", "Cast")
    }
    if gone:
        found.append(f"without {', '.join(counted(gone))}: nothing is computed there")
    return found
