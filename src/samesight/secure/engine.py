"""A party's engine as a process: `python -m samesight.secure.engine IN OUT LOG`, in the engine's environment.

It takes orders from the party's own process through the pipe IN and answers through OUT; each frame is JSON
and, where it says so, an array. It ends when its pipe does, and in the middle of a run when its party is
gone, so that nothing is left running behind one that died. What the engine's libraries print goes to LOG.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["main", "read_frame", "write_frame"]

PARTY_SECONDS = 0.5  # between two looks whether the party is still there
MAX_HEAD_BYTES = 32 << 20
MAX_ARRAY_BYTES = 16 << 30


def write_frame(stream: BinaryIO, head: Mapping[str, Any], values: NDArray[Any] | None = None) -> None:
    """Write JSON, and an array behind it."""
    extra = {} if values is None else {"dtype": values.dtype.str, "shape": list(values.shape)}
    data = json.dumps({**head, **extra}).encode()
    stream.write(struct.pack(">I", len(data)) + data)
    if values is not None:
        stream.write(np.ascontiguousarray(values).tobytes())
    stream.flush()


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], NDArray[Any] | None] | None:
    """The next frame; None at the end. Raises ValueError for what is none."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    (size,) = struct.unpack(">I", head)
    if size > MAX_HEAD_BYTES:
        raise ValueError(f"a frame of {size} bytes")
    fields = json.loads(stream.read(size))
    if "dtype" not in fields:
        return fields, None
    dtype = np.dtype(fields["dtype"])
    count = int(np.prod(fields["shape"], dtype=object))
    if dtype.hasobject or count * dtype.itemsize > MAX_ARRAY_BYTES:
        raise ValueError(f"an array of {count} {dtype}")
    data = stream.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        return None
    return fields, np.frombuffer(data, dtype).reshape(fields["shape"])


def main(arguments: list[str]) -> int:
    """Serve one party until its pipe ends."""
    orders, answers = os.fdopen(int(arguments[0]), "rb"), os.fdopen(int(arguments[1]), "wb")
    log = Path(arguments[2])
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    engine: Any = None
    try:
        while (frame := read_frame(orders)) is not None:
            order, values = frame
            engine, answer, result = _obey(engine, order, values, log)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            write_frame(answers, {"kind": order["kind"], **answer, "memory_kib": memory}, result)
    except Exception as error:  # whatever it was, the party is told, and tells the others
        write_frame(answers, {"kind": "failed", "why": f"{type(error).__name__}: {error}"[:500]})
        return 1
    return 0


def _end_with(party: int) -> None:
    """End this process at once when its parent is another one than `party`."""
    while os.getppid() == party:
        time.sleep(PARTY_SECONDS)
    os._exit(1)


def _obey(
    engine: Any, order: dict[str, Any], values: NDArray[Any] | None, log: Path
) -> tuple[Any, dict[str, Any], NDArray[Any] | None]:
    from samesight.secure.graph import Graph

    kind = order["kind"]
    if kind == "compile":
        from importlib.metadata import version

        from samesight.secure.program import Engine

        graph = Graph.from_json(order["graph"])
        engine = Engine(graph, order["protocol"], order["bits"], order["room"], label=order["label"])
        versions = {name: version(name) for name in ("spu", "jax", "numpy")}
        return engine, {"program": engine.id, "versions": versions}, None
    if kind == "link":
        engine.link(order["rank"], order["session"], order["places"], log)
        return engine, {}, None
    if kind == "weights":
        weights = None
        if values is not None:
            weights = dict(_split(engine.graph.weight_shapes, values))
        return engine, {"sent_bytes": engine.share_weights(weights)}, None
    if kind == "run":
        result, seconds, traffic = engine.answer(values)
        return engine, {"seconds": seconds, **vars(traffic)}, result
    if kind == "end":
        engine.close()
        return engine, {}, None
    raise ValueError(f"an order {kind!r}")


def _split(shapes: Mapping[str, tuple[int, ...]], numbers: NDArray[Any]) -> Any:
    place = 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        yield name, numbers[place : place + size].reshape(shape)
        place += size


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
