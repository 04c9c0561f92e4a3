"""What is timed: each copy, in each engine that can run it, in each way of using the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from samesight.errors import InputError
from samesight.runner import Settings, cpus
from samesight.runners import PACKAGES, RUNNERS, installed

__all__ = ["MODES", "Contender", "contenders", "modes_for", "settings_of"]

# name → what it is for
MODES = {
    "shared": "every core for one call, waiting threads sleep: the usual way, beside other work",
    "spinning": "every core for one call, waiting threads spin: for latency on a machine of its own",
    "lanes": "a call on each core, all at once: for throughput",
    "lean": "one core, nothing kept between calls: for memory",
}
# What an engine does not have is not timed twice: OpenVINO neither spins nor has an arena to leave out.
_LACKING = {"openvino": ("spinning",), "openvino-bf16": ("spinning",)}
_FP32_ONLY = ("openvino-bf16",)  # it is the fp32 copy, computed in fewer bits


@dataclass(frozen=True)
class Contender:
    """One copy in one engine, used in one way."""

    engine: str
    copy: str
    mode: str
    settings: Settings

    @property
    def name(self) -> str:
        """In words, for a table."""
        return f"{self.engine} {self.copy} {self.mode}"

    def to_json(self) -> dict[str, Any]:
        """Engine, copy, mode, and each setting."""
        settings = {**asdict(self.settings), "threads": self.settings.threads or cpus()}
        return {"engine": self.engine, "copy": self.copy, "mode": self.mode, **settings}


def settings_of(mode: str) -> Settings:
    """The settings of a mode on this machine."""
    every = cpus()
    return {
        "shared": Settings(every),
        "spinning": Settings(every, spinning=True),
        "lanes": Settings(1, lanes=every),
        "lean": Settings(1, arena=False),
    }[mode]


def modes_for(engine: str, modes: Sequence[str]) -> list[str]:
    """Those of `modes` that make a difference in `engine` on this machine."""
    lacking = {*_LACKING.get(engine, ()), *(("lanes", "spinning") if cpus() == 1 else ())}
    return [mode for mode in modes if mode not in lacking]


def contenders(
    precisions: Mapping[str, str], engines: Sequence[str], modes: Sequence[str]
) -> tuple[list[Contender], list[dict[str, str]]]:
    """Everything to be timed, and what is left out with the reason. `precisions` is of each copy.

    `engines` may be ["all"]: those that are installed. Raises InputError for one that there is not.
    """
    found, skipped = [], []
    for engine in RUNNERS if "all" in engines else engines:
        if engine not in RUNNERS:
            raise InputError("there is no such engine", expected=", ".join(["all", *RUNNERS]), found=engine)
        if not installed(engine):
            reason = f'not installed: pip install "samesight[{PACKAGES[engine]}]"'
            skipped.append({"engine": engine, "copy": "", "reason": reason})
            continue
        for copy, precision in precisions.items():
            if precision != "fp32" and engine in _FP32_ONLY:
                continue
            found += [Contender(engine, copy, mode, settings_of(mode)) for mode in modes_for(engine, modes)]
    return found, skipped
