"""A network by name as one ONNX file, in a process of its own: `python -m samesight.export.network`.

A job as JSON on stdin, what was written as JSON on stdout. PyTorch's memory goes with the process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from samesight.errors import CheckpointError, SamesightError

__all__ = ["main", "write_network"]


def main() -> None:
    """Do the job on stdin, and print what was written as the last line of stdout."""
    job = json.load(sys.stdin)
    answer = sys.stdout
    sys.stdout = sys.stderr
    try:
        result = write_network(job["network"], job["weights"], Path(job["out"]), download=job["download"])
    except SamesightError as error:
        result = {"error": error.what, "found": None if error.found is None else str(error.found)}
    print(json.dumps(result), file=answer, flush=True)


def write_network(network: str, weights: str | None, out: Path, *, download: bool) -> dict[str, Any]:
    """What is known of `network`, after its ONNX file was written to `out`.

    `weights` is a file, or None for the recommended ones: with `download` fetched where they are not in the
    cache, else the network is left untrained, and "weights" is null. Raises InputError, ExportError.
    """
    from samesight.export.onnxfile import FileForm, write_onnx
    from samesight.models import create_pretrained

    try:
        made = create_pretrained(network, weights, offline=not download)
    except CheckpointError:
        if weights is not None or download:
            raise
        made = create_pretrained(network, "none")
    out.write_bytes(write_onnx(made.network, FileForm(made.preprocess.size)))
    return {
        "weights": None if made.weights.startswith("none") else made.weights,
        "preprocess": made.preprocess.to_json(),
        "parameters": sum(parameter.numel() for parameter in made.network.parameters()),
    }


if __name__ == "__main__":
    main()
