"""Files for MP-SPDZ: a program for its compiler, and what each player puts in.

Programs/Source/NAME.mpc      the network, by MP-SPDZ's own library `Compiler.ml`
Player-Data/Input-P0-0        player 0, the model's owner: weights
Player-Data/Input-P1-0        player 1, the image's owner: images, one after another

Compile with `./compile.py -R 64 NAME`, then run any of its protocols for rings (semi2k, replicated, …).
Numbers are written so that they are the same float32 again; the engine rounds them to its own precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samesight.secure.formats import Parts, numbers_in, text_of
from samesight.secure.graph import Graph, Step, Weights

__all__ = ["MpSpdz"]

NINE_DIGITS = "%.9g"


class MpSpdz:
    """A program and its inputs."""

    def write(self, parts: Parts, folder: Path) -> None:
        """The program and the two players' inputs."""
        graph, weights = parts.network.graph, parts.network.weights
        (folder / "Programs" / "Source").mkdir(parents=True)
        (folder / "Player-Data").mkdir()
        program = "\n".join(_program(graph, len(parts.images)))
        (folder / "Programs" / "Source" / f"{parts.name}.mpc").write_text(f"{program}\n")
        with (folder / "Player-Data" / "Input-P0-0").open("w") as stream:
            for name, order in _orders(graph):
                stream.write(text_of(_moved(weights[name], order), NINE_DIGITS, " ") + "\n")
        with (folder / "Player-Data" / "Input-P1-0").open("w") as stream:
            for image in parts.images:
                stream.write(text_of(np.ascontiguousarray(image.transpose(1, 2, 0)), NINE_DIGITS, " ") + "\n")

    def read(self, parts: Parts, folder: Path) -> Weights:
        """The weights as player 0 puts them in."""
        graph = parts.network.graph
        orders = list(_orders(graph))
        sizes = [int(np.prod(graph.weight_shapes[name])) for name, _ in orders]
        numbers = numbers_in(folder / "Player-Data" / "Input-P0-0", (sum(sizes),)).astype(np.float32)
        found: dict[str, NDArray[np.float32]] = {}
        for (name, order), piece in zip(orders, np.split(numbers, np.cumsum(sizes)[:-1]), strict=True):
            found[name] = _moved_back(piece, graph.weight_shapes[name], order)
        return {name: found[name] for name in graph.weight_shapes}


def _orders(graph: Graph) -> Iterator[tuple[str, tuple[int, ...] | None]]:
    """Each weight in the order in which the program reads it; for a matrix what was flattened before it."""
    shapes = graph.shapes
    flattened = {step.output: shapes[step.inputs[0]][1:] for step in graph.steps if step.kind == "Flatten"}
    for step in graph.steps:
        for name in step.weights:
            is_matrix = step.kind == "Gemm" and name == step.weights[0]
            yield name, flattened.get(step.inputs[0], (1,)) if is_matrix else None


def _moved(values: NDArray[np.float32], flattened: tuple[int, ...] | None) -> NDArray[np.float32]:
    """Convolutions O, H, W, I; matrices (in, out) with the inputs in the order of rows, columns, channels."""
    if values.ndim == 4:
        values = values.transpose(0, 2, 3, 1)
    elif values.ndim == 2 and flattened is not None:
        out, inside = values.shape
        if len(flattened) == 3:
            values = values.reshape(out, *flattened).transpose(0, 2, 3, 1).reshape(out, inside)
        values = values.T
    return np.ascontiguousarray(values)


def _moved_back(
    piece: NDArray[np.float32], shape: tuple[int, ...], flattened: tuple[int, ...] | None
) -> NDArray[np.float32]:
    """The inverse of `_moved`."""
    if len(shape) == 4:
        out, inside, height, width = shape
        return np.ascontiguousarray(piece.reshape(out, height, width, inside).transpose(0, 3, 1, 2))
    if len(shape) == 2 and flattened is not None:
        out, inside = shape
        matrix = piece.reshape(inside, out).T
        if len(flattened) == 3:
            channels, height, width = flattened
            matrix = matrix.reshape(out, height, width, channels).transpose(0, 3, 1, 2).reshape(shape)
        return np.ascontiguousarray(matrix)
    return piece.reshape(shape)


def _program(graph: Graph, images: int) -> Iterator[str]:
    """The lines of the program."""
    shapes = graph.shapes
    yield "# The network's public part, by samesight secure export. Player 0 has the weights, player 1 the"
    yield "# images; the labels are revealed."
    yield "from Compiler import ml"
    yield ""
    yield "program.options_from_args()"
    yield f"image = sfix.Tensor({_last(graph.shape)})"
    yield "layers, made = [], {}"
    yield ""
    yield ""
    yield "def add(name, layer, inputs, weights=()):"
    yield "    layer.inputs = [made[one] for one in inputs if one in made] or None"
    yield "    for one in weights:"
    yield "        one.input_from(0)"
    yield "    layers.append(layer)"
    yield "    made[name] = layer"
    yield ""
    yield ""
    alias: dict[str, str] = {}
    for step in graph.steps:
        if step.kind == "Flatten":  # a matrix reads its input flat
            alias[step.output] = alias.get(step.inputs[0], step.inputs[0])
            continue
        inputs = [alias.get(name, name) for name in step.values]
        layer, weights = _layer(step, shapes)
        more = f", {weights}" if weights else ""
        if weights:
            yield f"layer = {layer}"
            layer = "layer"
        yield f"add({step.output!r}, {layer}, {inputs!r}{more})"
    last = alias.get(graph.output, graph.output)
    yield ""
    yield "network = ml.Optimizer(layers)"
    yield f"for number in range({images}):"
    yield "    image.input_from(1)"
    yield "    layers[0].X.assign(image)"
    yield "    network.forward(1)"
    yield f"    logits = sfix.Array({graph.classes})"
    yield f"    logits.assign_vector(made[{last!r}].Y.get_vector())"
    yield "    print_ln('image %s: label %s', number + 1, ml.argmax(logits).reveal())"


def _layer(step: Step, shapes: dict[str, tuple[int, ...]]) -> tuple[str, str]:
    """The layer, and the tuple of its tensors that player 0 puts in."""
    before = _last(shapes[step.inputs[0]])
    if step.kind == "Conv":
        kernel, strides, pads = (step.numbers(one) for one in ("kernel", "strides", "pads"))
        out = shapes[step.output][1]
        return (
            f"ml.easyConv2d({before}, 1, {out}, {kernel}, {strides}, {list(pads[:2])})",
            "(layer.weights, layer.bias)",
        )
    if step.kind == "Gemm":
        inside, out = shapes[step.inputs[1]][1], shapes[step.output][1]
        return f"ml.Dense(1, {inside}, {out})", "(layer.W, layer.b)"
    if step.kind == "Scale":
        return f"ml.FusedBatchNorm({before})", "(layer.weights, layer.bias)"
    if step.kind == "Relu":
        return f"ml.Relu({before})", ""
    if step.kind in ("MaxPool", "AveragePool"):
        kernel, strides, pads = (step.numbers(one) for one in ("kernel", "strides", "pads"))
        if step.kind == "MaxPool":
            return f"ml.easyMaxPool({before}, {kernel}, {strides}, {list(pads[:2])})", ""
        return f"ml.FixAveragePool2d({before}, None, {kernel}, {strides}, {list(pads[:2])})", ""
    if step.kind == "GlobalAveragePool":
        return f"ml.FixAveragePool2d({before}, None, {tuple(before[1:3])}, {tuple(before[1:3])}, [0, 0])", ""
    names = ", ".join(f"made[{name!r}]" for name in step.values)
    return (f"ml.Add([{names}])", "") if step.kind == "Add" else (f"ml.Concat([{names}], 3)", "")


def _last(shape: tuple[int, ...]) -> list[int]:
    """Channels last."""
    return [shape[0], *shape[2:], shape[1]] if len(shape) == 4 else list(shape)
