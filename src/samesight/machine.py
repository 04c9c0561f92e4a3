"""Where a figure was measured: processor, cores, memory, system, load, and the versions that matter."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from samesight import __version__
from samesight.runner import cpus

__all__ = ["machine", "processor", "versions"]

PACKAGES = ("numpy", "pillow", "simplejpeg", "onnxruntime", "openvino", "torch", "torchvision")
# What tells how quick int8, float16 and bfloat16 can be.
ABILITIES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_tile",
    "asimddp",
    "i8mm",
    "bf16",
)


def machine() -> dict[str, Any]:
    """What kind of machine this is, and how busy it is now."""
    return {
        "processor": processor(),
        "abilities": [name for name in ABILITIES if name in _flags()],
        "cpus": cpus(),
        "memory_bytes": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def processor() -> str:
    """The processor's name."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """The versions of Samesight, Python and the packages that compute, of those that are installed."""
    found = {"samesight": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _flags() -> set[str]:
    return set((_cpuinfo("flags") or _cpuinfo("Features") or "").split())


def _cpuinfo(name: str) -> str | None:
    """The first line of that name in Linux's /proc/cpuinfo; None where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next(
        (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), None
    )


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
