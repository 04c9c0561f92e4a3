"""A bundle as the model's owner serves it: read, rewritten for MPC, and with fraction bits that fit it."""

from __future__ import annotations

from samesight.bundle import Bundle
from samesight.secure.ledger import Ledger
from samesight.secure.modelparty import Served
from samesight.secure.prove import golden_tensors
from samesight.secure.ranges import SAMPLES, fraction_bits, largest_value, room_bits
from samesight.secure.reading import read_network
from samesight.secure.rewrite import for_mpc

__all__ = ["served_from"]


def served_from(bundle: Bundle, *, reveal_logits: bool = False, ledger: Ledger | None = None) -> Served:
    """What is offered of `bundle`. Raises InputError where the network cannot be run, or has no samples."""
    network = for_mpc(read_network(bundle))
    tensors = (tensor for tensor, _ in zip(golden_tensors(bundle), range(SAMPLES), strict=False))
    largest = largest_value(network, tensors)
    return Served(bundle, network, fraction_bits(largest), room_bits(largest), reveal_logits, ledger)
