"""A trace put in order for a picture: chains, forks and shortcuts, in groups, with what repeats told once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from samesight.models.trace import PICTURE, Place, Step

__all__ = ["Box", "Chain", "Fork", "Group", "Item", "arrange", "opened", "rows", "short_name"]

MOST_ROWS = 110  # that a picture shows; with more, the innermost groups are closed
IN = -1  # where a graph's inputs come from


@dataclass(frozen=True)
class Box:
    """One step, with the normalisation, activation and the like that follow it."""

    words: str
    role: str
    shape: tuple[int, ...]
    count: int = 1  # so many of these, one after the other


@dataclass(frozen=True)
class Group:
    """A module with others inside."""

    name: str
    kind: str  # "" for a Sequential
    body: Chain
    shape: tuple[int, ...]
    parameters: int  # of all `count`
    count: int = 1


@dataclass(frozen=True)
class Fork:
    """Branches that start from one place and are joined by what comes after them."""

    branches: tuple[Chain, ...]


@dataclass(frozen=True)
class Chain:
    """Items one after the other. A shortcut (i, j) leads from after item i (-1: from the start) into item j.

    `gaps`: the items that lead by shortcuts only, not into the one below them.
    """

    items: tuple[Item, ...]
    shortcuts: tuple[tuple[int, int], ...] = ()
    gaps: tuple[int, ...] = ()


Item = Box | Group | Fork


def arrange(steps: Sequence[Step]) -> Chain:
    """What `steps` do, from the picture to the last step, in as much detail as is readable."""
    needed = _needed(steps)
    for depth in range(max((len(step.places) for step in needed), default=0), -1, -1):
        chain = _level(needed, 0, depth, {steps[-1].id})
        if rows(chain) <= MOST_ROWS:
            break
    return chain


def opened(chain: Chain) -> Chain:
    """`chain` with a group that holds most of it replaced by its items, so that they can stand in columns."""
    for place, item in enumerate(chain.items):
        if not isinstance(item, Group) or item.count > 1 or len(item.body.items) < 3:
            continue
        if 2 * rows(item.body) <= rows(chain):
            continue
        extra = len(item.body.items) - 1
        moved = tuple((a + extra * (a >= place), b + extra * (b > place)) for a, b in chain.shortcuts)
        inner = tuple((a + place, b + place) for a, b in item.body.shortcuts)
        items = (*chain.items[:place], *item.body.items, *chain.items[place + 1 :])
        gaps = (*(g + extra * (g >= place) for g in chain.gaps), *(g + place for g in item.body.gaps))
        return opened(Chain(items, (*moved, *inner), gaps))
    return chain


def rows(chain: Chain) -> int:
    """How many rows of boxes and headings `chain` takes, one under the other."""
    return sum(_item_rows(item) for item in chain.items)


def _item_rows(item: Item) -> int:
    if isinstance(item, Box):
        return 1
    if isinstance(item, Group):
        return 1 + rows(item.body)
    return max(rows(branch) for branch in item.branches)


def _needed(steps: Sequence[Step]) -> list[Step]:
    """The steps that the last one depends on, without the picture."""
    wanted = {steps[-1].id}
    for step in reversed(steps):
        if step.id in wanted:
            wanted.update(step.inputs)
    return [step for step in steps if step.id in wanted and step.id != PICTURE]


def _level(steps: Sequence[Step], level: int, depth: int, results: set[int]) -> Chain:
    """The chain of `steps`, which stand in the same `level` places; those below `depth` are not shown.

    `results`: the ids of the steps whose results are taken outside.
    """
    units: dict[tuple[str, int], list[Step]] = {}
    for step in steps:
        key = ("call", step.places[level].call) if len(step.places) > level else ("step", step.id)
        units.setdefault(key, []).append(step)
    home = {step.id: index for index, unit in enumerate(units.values()) for step in unit}
    uses = {(source, home[step.id]) for step in steps for source in step.inputs}
    edges = {(home.get(source, IN), user) for source, user in uses if home.get(source, IN) != user}
    edges |= {(home[step], len(units)) for step in results}
    crossing = results | {source for source, user in uses if source in home and home[source] != user}
    items = [_unit(unit, level, depth, crossing) for unit in units.values()]
    if level:  # a Sequential of nothing but layers, inside a block: its layers are the block's own
        bare = {call for call, item in zip(units, items, strict=True) if _is_bare(item)}
        lifted = [_lifted(step, level) if key in bare else step for key in units for step in units[key]]
        if bare:
            return _level(lifted, level, depth, results)
    graph = _Graph(dict(enumerate(items)), edges)
    graph.fuse()
    graph.merge_runs()
    return graph.chain()


def _unit(steps: Sequence[Step], level: int, depth: int, crossing: set[int]) -> Item:
    """A step as a box; the steps of a module's call as a group, or as less where that says as much."""
    last = steps[-1]
    if len(last.places) <= level:
        return Box(last.words, last.role, last.shape)
    place = last.places[level]
    if level >= depth and len(steps) > 1:
        return _closed(
            place, {step.places[level + 1] for step in steps if len(step.places) > level + 1}, last
        )
    body = _level(steps, level + 1, depth, {step.id for step in steps} & crossing)
    kind = "" if place.plain else place.kind
    only = body.items[0] if len(body.items) == 1 and not body.shortcuts else None
    if isinstance(only, Box):
        closed = only.role == "block" and only.count == 1
        return replace(only, words=kind) if kind and closed else only
    if isinstance(only, Group) and not (kind and only.kind):
        return replace(only, name=place.name, kind=kind or only.kind)
    return Group(place.name, kind, body, last.shape, place.parameters)


def _closed(place: Place, inner: set[Place], last: Step) -> Box:
    """A group that is not opened; `inner`: the groups right inside."""
    kinds = {one.kind for one in inner if not one.plain}
    if place.plain and len(kinds) == 1 and not any(one.plain for one in inner):
        return Box(kinds.pop(), "block", last.shape, len(inner))
    words = short_name(place.name) if place.plain else place.kind
    return Box(words, "block", last.shape)


def short_name(name: str) -> str:
    """The last part of a module's name; where that is a number, with what it is a number of."""
    parts = name.split(".")
    first = len(parts) - 1
    while first and parts[first].isdigit():
        first -= 1
    return ".".join(parts[first:])


def _is_bare(item: Item) -> bool:
    """Whether `item` is a Sequential with no groups inside."""
    return (
        isinstance(item, Group)
        and not item.kind
        and item.count == 1
        and not any(isinstance(part, Group) for part in item.body.items)
    )


def _lifted(step: Step, level: int) -> Step:
    """`step`, one place further out."""
    return replace(step, places=step.places[:level] + step.places[level + 1 :])


class _Graph:
    """Items by their place in the trace's order, and which leads to which, from IN to the end."""

    def __init__(self, items: dict[int, Item], edges: set[tuple[int, int]]) -> None:
        self.items, self.edges = items, edges

    def fuse(self) -> None:
        """Put normalisation, activation and the like into the box before them, else into the one after."""
        while any(self._fuse(node) for node in list(self.items)):
            pass

    def _fuse(self, node: int) -> bool:
        """Whether `node` went into another."""
        item = self.items.get(node)
        if not isinstance(item, Box) or item.role not in ("norm", "activation", "tail"):
            return False
        before, after = self._before(node), self._after(node)
        if len(before) == 1 and (host := self._host(before[0])) and self._after(before[0]) == [node]:
            words, shape, place = f"{host.words} · {item.words}", item.shape, before[0]
        elif len(after) == 1 and (host := self._host(after[0])) and self._before(after[0]) == [node]:
            if host.role not in ("conv", "linear", "attention"):
                return False
            words, shape, place = f"{item.words} · {host.words}", host.shape, after[0]
        else:
            return False
        self._join(place, node, replace(host, words=words, shape=shape))
        return True

    def merge_runs(self) -> None:
        """Put items that are alike and follow one another into one that says how many they are."""
        previous: int | None = None
        for node in sorted(self.items):
            if previous is not None and (previous, node) in self.edges:
                one, other = self.items[previous], self.items[node]
                if (
                    not isinstance(one, Fork)
                    and not isinstance(other, Fork)
                    and _signature(one) == _signature(other)
                ):
                    self._join(previous, node, _several(one, other))
                    continue
            previous = node

    def chain(self) -> Chain:
        """The graph as a chain with forks and shortcuts."""
        edges, shortcuts = _reduced(self.edges)
        return _chain(sorted(self.items), self.items, edges, shortcuts)

    def _before(self, node: int) -> list[int]:
        return [a for a, b in self.edges if b == node]

    def _after(self, node: int) -> list[int]:
        return [b for a, b in self.edges if a == node]

    def _host(self, node: int) -> Box | None:
        item = self.items.get(node)
        return item if isinstance(item, Box) and item.role != "block" and item.count == 1 else None

    def _join(self, kept: int, gone: int, item: Item) -> None:
        """`item` in the place of two nodes."""
        self.items[kept] = item
        del self.items[gone]
        renamed = {(kept if a == gone else a, kept if b == gone else b) for a, b in self.edges}
        self.edges = {(a, b) for a, b in renamed if a != b}


def _signature(item: Item | Chain) -> object:
    """What two items share that may be told once: everything but names, parameters and how many."""
    if isinstance(item, Box):
        return item.words, item.role, None if item.role == "concat" else item.shape
    if isinstance(item, Group):
        return item.kind, item.shape, _signature(item.body)
    if isinstance(item, Fork):
        return tuple(_signature(branch) for branch in item.branches)
    counts = tuple(getattr(part, "count", 1) for part in item.items)
    return tuple(_signature(part) for part in item.items), counts, item.shortcuts


def _several(one: Box | Group, other: Box | Group) -> Box | Group:
    """Two items of one signature as one that says how many they are."""
    alike = _alike(one, other)
    assert not isinstance(alike, Fork), "it is of the kind of the first"
    if isinstance(alike, Group) and isinstance(other, Group):
        alike = replace(alike, parameters=alike.parameters + other.parameters)
    return replace(alike, count=one.count + other.count)


def _alike(one: Item, other: Item) -> Item:
    """`one`, without the shapes that `other`, of the same signature, does not share."""
    if isinstance(one, Fork):
        assert isinstance(other, Fork), "of the same signature"
        return Fork(tuple(map(_alike_chain, one.branches, other.branches)))
    assert not isinstance(other, Fork), "of the same signature"
    alike = replace(one, shape=one.shape if one.shape == other.shape else ())
    if isinstance(alike, Group) and isinstance(other, Group):
        return replace(alike, body=_alike_chain(alike.body, other.body))
    return alike


def _alike_chain(one: Chain, other: Chain) -> Chain:
    return replace(one, items=tuple(map(_alike, one.items, other.items)))


def _reduced(edges: Iterable[tuple[int, int]]) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """The edges without those that another way leads around, and those: they are the shortcuts."""
    edges = set(edges)
    after: dict[int, set[int]] = {}
    for a, b in edges:
        after.setdefault(a, set()).add(b)
    beyond: dict[int, set[int]] = {}  # what can be reached from a node
    for node in sorted(after, reverse=True):
        beyond[node] = set().union(*({b} | beyond.get(b, set()) for b in after[node]))
    shortcuts = {(a, b) for a, b in edges if any(b in beyond.get(c, ()) for c in after[a] if c != b)}
    return edges - shortcuts, shortcuts


def _chain(
    nodes: Sequence[int],
    items: dict[int, Item],
    edges: set[tuple[int, int]],
    shortcuts: set[tuple[int, int]],
) -> Chain:
    """The chain of `nodes`, in the order of the trace: cut where every way leads through one node."""
    inside = set(nodes)
    start, end = min(inside, default=0) - 1, max(inside, default=0) + 1
    local = {(a if a in inside else start, b if b in inside else end) for a, b in edges}
    local = {(a, b) for a, b in local if (a in inside or b in inside) and a < b}
    cuts = [node for node in nodes if not any(a < node < b for a, b in local)]
    tangled = len(nodes) > 1 and not cuts and len(_components(nodes, local)) == 1
    if tangled:  # shown in the order of the trace
        order = {node: index for index, node in enumerate(nodes)}
        across = {(order.get(a, -1), order.get(b, len(nodes))) for a, b in local}
        ways = tuple(sorted((a, b) for a, b in across if b > a + 1))
        gaps = tuple(i for i in range(len(nodes) - 1) if (i, i + 1) not in across)
        return Chain(tuple(items[node] for node in nodes), ways, gaps)
    made: list[Item] = []
    index: dict[int, int] = {}
    between: list[int] = []
    for node in [*nodes, None]:
        if node is not None and node not in cuts:
            between.append(node)
            continue
        if between:
            parts = _components(between, local)
            branches = tuple(_chain(part, items, edges, shortcuts) for part in parts)
            index.update(dict.fromkeys(between, len(made)))
            made.append(Fork(branches))
            between = []
        if node is not None:
            index[node] = len(made)
            made.append(items[node])
    crossing = {(index.get(a, -1), index.get(b, len(made))) for a, b in shortcuts if {a, b} & inside}
    return Chain(tuple(made), tuple(sorted((a, b) for a, b in crossing if b > a + 1)))


def _components(nodes: Sequence[int], edges: set[tuple[int, int]]) -> list[list[int]]:
    """`nodes` in the parts that no edge joins, in their order."""
    part = {node: node for node in nodes}

    def root(node: int) -> int:
        while part[node] != node:
            node = part[node]
        return node

    for a, b in edges:
        if a in part and b in part:
            part[root(a)] = root(b)
    parts: dict[int, list[int]] = {}
    for node in nodes:
        parts.setdefault(root(node), []).append(node)
    return list(parts.values())
