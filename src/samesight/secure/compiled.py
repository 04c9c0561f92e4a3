"""A network compiled in parts, and its run: programs of the engine, and the signs of what they give, in turn.

Imports jax and spu, so it is imported in the engine's own environment alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import spu.libspu
import spu.utils.frontend as frontend
from jax.experimental import enable_x64
from numpy.typing import NDArray

from samesight.secure.signs import ROWS, WORD, circuit, circuit_inputs, signs_of
from samesight.secure.stages import Program, Signs, split

__all__ = ["Compiled"]

AT_ONCE = 1 << 20  # numbers whose signs are found in one run: more need memory, and save no time
ANY_SIZE = 1_000_003  # stands for the number of words while the circuit is compiled
WHERE = ("left", "right", "last", "total")  # what the circuit takes
NUMBERS, WORDS, BITS = "aby3.AShr<FM64>", "aby3.BShr<PT_U64,64>", "aby3.BShr<PT_U8,1>"


class Compiled:
    """A function of secret arrays: called `names`, and giving one that is called "answer"."""

    def __init__(
        self, function: Callable[..., Any], inputs: Sequence[Any], names: Sequence[str], cut: int | None
    ) -> None:
        """Compile. With `cut` the signs are found apart, and that many low bits do not count (ABY3 only)."""
        self._cut = cut
        if cut is None:
            types = tuple(inputs)
            self.parts: list[Program | Signs] = [Program(function, tuple(names), ("answer",), types, ())]
        else:
            self.parts = split(function, inputs, names, "answer")
        self._programs = [
            _compile(part.function, part.input_types, part.inputs, part.outputs)
            if isinstance(part, Program)
            else None
            for part in self.parts
        ]
        signs = [part for part in self.parts if isinstance(part, Signs)]
        pieces = {words for part in signs for _, words in _pieces(int(np.prod(part.shape)))}
        self._circuits = _circuits(pieces) if pieces else {}

    @property
    def id(self) -> str:
        """The SHA-256 of all that is run."""
        whole = hashlib.sha256(repr(self._cut).encode())
        for program in [*self._programs, *self._circuits.values()]:
            if program is None:
                whole.update(b"signs")
                continue
            code = program.code if isinstance(program.code, bytes) else program.code.encode("latin-1")
            for one in (*program.input_names, *program.output_names):
                whole.update(one.encode() + b"\0")
            whole.update(hashlib.sha256(code).digest())
        return whole.hexdigest()

    def run(self, runtime: Any, rank: int) -> None:
        """Run it all on the shares of one party; the answer is a variable of `runtime` then."""
        for part, program in zip(self.parts, self._programs, strict=True):
            if isinstance(part, Signs):
                self._find_signs(runtime, rank, part)
            else:
                runtime.run(program)
            for name in part.done_with:
                runtime.del_var(name)

    def _find_signs(self, runtime: Any, rank: int, part: Signs) -> None:
        assert self._cut is not None
        shares = _content(runtime.get_var(part.value), NUMBERS, np.uint64)
        found = np.empty(shares.shape, np.uint8)
        for place, words in _pieces(len(shares)):
            piece = shares[place : place + words * WORD]
            for name, values in zip(WHERE, circuit_inputs(piece, rank, self._cut), strict=True):
                shape = values.shape[:-1]
                runtime.set_var(name, _share(values, shape, WORDS, spu.libspu.DataType.DT_U64))
            runtime.run(self._circuits[words])
            signs = _content(runtime.get_var("signs"), WORDS, np.uint64)
            found[place : place + len(piece)] = signs_of(signs, len(piece))
        runtime.set_var(part.output, _share(found, part.shape, BITS, spu.libspu.DataType.DT_I1))


def _pieces(count: int) -> list[tuple[int, int]]:
    """Where each piece of `count` numbers begins, and its words."""
    return [(place, -(-min(AT_ONCE, count - place) // WORD)) for place in range(0, count, AT_ONCE)]


def _circuits(sizes: Iterable[int]) -> dict[int, Any]:
    """The circuit for each number of words: compiled once, since nothing but that number differs."""
    with enable_x64():
        rows = jax.ShapeDtypeStruct((ROWS, ANY_SIZE), np.uint64)
        one = _compile(partial(circuit, join=jnp.concatenate), [rows] * len(WHERE), WHERE, ("signs",))
    code = one.code if isinstance(one.code, bytes) else one.code.encode("latin-1")
    return {
        words: spu.libspu.Executable(
            name=one.name,
            input_names=one.input_names,
            output_names=one.output_names,
            code=code.replace(b"%d" % ANY_SIZE, b"%d" % words),
        )
        for words in sorted(sizes)
    }


def _compile(
    function: Callable[..., Any], types: Sequence[Any], names: Sequence[str], outputs: Sequence[str]
) -> Any:
    program, _ = frontend.compile(
        frontend.Kind.JAX,
        function,
        list(types),
        {},
        list(names),
        [spu.libspu.Visibility.VIS_SECRET] * len(names),
        lambda _: list(outputs),
        copts=spu.libspu.CompilerOptions(),
    )
    return program


def _content(share: Any, kind: str, dtype: type) -> NDArray[Any]:
    """A party's share as an array (n, 2). Raises ValueError where it is not of that kind."""
    meta = spu.libspu.ValueMeta()
    meta.ParseFromString(share.meta)
    if meta.storage_type != kind:
        raise ValueError(f"a share of {meta.storage_type}, not {kind}")
    contents = []
    for one in share.share_chunks:
        chunk = spu.libspu.ValueChunk()
        chunk.ParseFromString(one)
        contents.append(chunk.content)
    return np.frombuffer(contents[0] if len(contents) == 1 else b"".join(contents), dtype).reshape(-1, 2)


def _share(values: NDArray[Any], shape: Sequence[int], kind: str, dtype: Any) -> Any:
    """An array (..., 2) as a party's share of an array of `shape`."""
    meta = spu.libspu.ValueMeta()
    meta.data_type, meta.visibility, meta.storage_type = dtype, spu.libspu.Visibility.VIS_SECRET, kind
    meta.shape = list(shape)
    chunk = spu.libspu.ValueChunk()
    chunk.content = values.tobytes()
    chunk.total_bytes = values.nbytes
    share = spu.libspu.Share()
    share.meta, share.share_chunks = meta.SerializeToString(), [chunk.SerializeToString()]
    return share
