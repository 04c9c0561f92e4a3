"""Samesight: one verified image classifier that gives the same answer everywhere.

>>> import samesight
>>> samesight.load("bundle").classify("photo.jpg").label  # doctest: +SKIP
'cat'
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samesight.bundle import Bundle
    from samesight.errors import SamesightError
    from samesight.preprocess import Preprocess
    from samesight.runtime import Classifier, Prediction, load

__all__ = ["Bundle", "Classifier", "Prediction", "Preprocess", "SamesightError", "__version__", "load"]
__version__ = "0.1.0"

# Official builds of ONNX Runtime, from 1.29 on, report their use to Microsoft unless this is set before they
# are loaded (their Privacy.md). Nothing is sent unasked; whoever has set the variable keeps what it says.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOME = {
    "Bundle": "bundle",
    "Classifier": "runtime",
    "Prediction": "runtime",
    "Preprocess": "preprocess",
    "SamesightError": "errors",
    "load": "runtime",
}


def __getattr__(name: str) -> Any:
    """The public names, imported when first used: `samesight --help` loads neither numpy nor torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'samesight' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"samesight.{_HOME[name]}"), name)
