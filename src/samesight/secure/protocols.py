"""The protocols, and what each of them promises to whom. Told to the user with every run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from samesight.errors import InputError

__all__ = ["IMAGE", "LEAKS", "MODEL", "PROTOCOLS", "ROLES", "Protocol", "protocol"]

ROLES = ("model", "image", "helper")  # by rank
MODEL, IMAGE = 0, 1


@dataclass(frozen=True)
class Protocol:
    """One protocol, as it is offered."""

    name: str
    engine_name: str
    roles: tuple[str, ...]
    private_inputs: bool
    """Whether an owner's input stays with its owner, instead of being split into shares."""
    promise: str
    trust: str
    paper: str


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "aby3": Protocol(
            "aby3",
            "ABY3",
            ("model", "image", "helper"),
            False,
            "no party alone learns the image, the weights or any value in between",
            "semi-honest, honest majority: each of the three follows the protocol, and no two of them put "
            "together what they saw",
            "https://eprint.iacr.org/2018/403",
        ),
        "cheetah": Protocol(
            "cheetah",
            "CHEETAH",
            ("model", "image"),
            True,
            "neither party learns the other's input or any value in between",
            "semi-honest: both follow the protocol; no third party is needed",
            "https://eprint.iacr.org/2022/207",
        ),
    }
)
LEAKS = (
    "all parties see the network's steps and shapes, the sizes and times of messages, and that a query was "
    "made; the image's owner learns the answer, and many answers let a network be copied"
)
_DEBUGGING = {
    "semi2k": "its first party deals the randomness and could read everything",
    "ref2k": "it computes in the clear",
    "securenn": "it was seen to give wrong labels",
}


def protocol(name: str) -> Protocol:
    """The protocol of that name. Raises InputError for another, and says why it is not offered."""
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    why = _DEBUGGING.get(name.lower())
    raise InputError(
        f"{name} is not offered as secure: {why}" if why else "there is no such protocol",
        expected=", ".join(PROTOCOLS),
        found=name,
    )
