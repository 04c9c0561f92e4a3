"""The blocks that a network is made of, from input to head: what is frozen by depth, or learns slower."""

from __future__ import annotations

from torch import nn

from samesight.models import head_parameters

__all__ = ["blocks_of", "first_of_last_block", "last_block"]

CONTAINER_SHARE = 0.8  # a part with so many of the parameters is no block but holds them
EARLY_SHARE = 0.5  # so is one with so many that others follow: MobileNetV3's features before its classifier
LAST_SHARE = 0.6  # of the backbone's parameters, at least, are in what is called the last block


def blocks_of(network: nn.Module, model: str) -> list[list[str]]:
    """The names of the backbone's parameters, block by block in the order in which they were registered."""
    return list(_named_blocks(network, model).values())


def first_of_last_block(network: nn.Module, model: str) -> str | None:
    """The name of the first module of `last_block`; None where parameters outside modules are part of it."""
    learns = last_block(network, model)
    for name, block in _named_blocks(network, model).items():
        if learns.issuperset(block):
            modules = {inner for inner, _ in network.named_modules()}
            return name if name in modules else None
    return None


def _named_blocks(network: nn.Module, model: str) -> dict[str, list[str]]:
    """The blocks by name.

    A block is a child of the innermost part that holds nearly all parameters: ResNet's stem and layers 1 to
    4, MobileNet's inverted residuals, a transformer's encoder layers.
    """
    head = set(head_parameters(network, model))
    sizes = {name: p.numel() for name, p in network.named_parameters() if name not in head}
    prefix = ""
    while True:
        inner = [name for name in sizes if name.startswith(prefix)]
        children = dict.fromkeys(prefix + name[len(prefix) :].partition(".")[0] for name in inner)
        largest = max(children, key=lambda child: _size(sizes, child), default="")
        part = network.get_submodule(largest) if largest and largest not in sizes else None
        is_last = largest == next(reversed(children), None)
        wanted = (CONTAINER_SHARE if is_last else EARLY_SHARE) * sum(sizes.values())
        if part is None or _size(sizes, largest) < wanted:
            break
        if not any(True for _ in part.children()):
            break
        prefix = f"{largest}."
    blocks: dict[str, list[str]] = {}
    for name in sizes:
        known = next((child for child in children if name.startswith(f"{child}.") or name == child), None)
        blocks.setdefault(known or name.partition(".")[0], []).append(name)
    return blocks


def last_block(network: nn.Module, model: str) -> set[str]:
    """The names of the parameters of the last blocks that together hold three fifths of the backbone's.

    ResNet's layer 4; the last four of MobileNetV2; the last eight encoder layers of ViT-B.
    """
    sizes = {name: p.numel() for name, p in network.named_parameters()}
    blocks = blocks_of(network, model)
    wanted = LAST_SHARE * sum(sizes[name] for block in blocks for name in block)
    found: set[str] = set()
    for block in reversed(blocks):
        found.update(block)
        if sum(sizes[name] for name in found) >= wanted:
            break
    return found


def _size(sizes: dict[str, int], part: str) -> int:
    return sum(size for name, size in sizes.items() if name == part or name.startswith(f"{part}."))
