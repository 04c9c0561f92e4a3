"""Networks in JAX, in the clear, for tests without JAX: run by the engine's Python, asked through its pipes.

Each frame of stdin has a graph and, in one row, the image and the weights; each of stdout the logits.
"""

from __future__ import annotations

import os
import sys

import numpy as np

from samesight.secure.engine import read_frame, write_frame
from samesight.secure.graph import Graph
from samesight.secure.jaxnet import forward, laid_out


def main() -> None:
    """Answer until the pipe ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the libraries print is no answer
    while (frame := read_frame(sys.stdin.buffer)) is not None:
        head, numbers = frame
        graph = Graph.from_json(head["graph"])
        parts, place = [], 0
        for shape in (graph.shape, *graph.weight_shapes.values()):
            size = int(np.prod(shape))
            parts.append(numbers[place : place + size].reshape(shape))
            place += size
        weights = dict(zip(graph.weight_shapes, parts[1:], strict=True))
        logits = forward(graph, label=False)(parts[0], *laid_out(graph, weights))
        write_frame(answers, {"kind": "done"}, np.asarray(logits))


if __name__ == "__main__":
    main()
