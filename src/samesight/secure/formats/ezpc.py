"""Files for EzPC: Athos (integers), LLAMA (raw floats, channels last) and SECFLOAT (decimals).

model.onnx is compiled by the engine itself; the weights beside it are what the owner of the model gives to
the compiled program, the images what the other party does. The orders are those of EzPC's own writers:
Athos in the order of the file's initialisers, OnnxBridge in the order in which the nodes name them; here
these are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samesight.errors import InputError
from samesight.files import json_text
from samesight.secure.formats import Parts, numbers_in, text_of
from samesight.secure.graph import Weights
from samesight.secure.writing import write_onnx

__all__ = ["Athos", "Llama", "Secfloat"]

MAX_SCALE = 24
NINE_DIGITS = "%.9g"  # tells every float32 from every other


def _initialisers(parts: Parts) -> dict[str, NDArray[np.float32]]:
    """Every float constant of the written file by its name, in its order: weights, and what Clip needs."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(write_onnx(parts.network.graph, parts.network.weights))
    found = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    return {name: values for name, values in found.items() if values.dtype == np.float32}


def _weights(parts: Parts, found: dict[str, NDArray[np.float32]]) -> Weights:
    return {name: found[name] for name in parts.network.weights}


class Athos:
    """Integers, one a line: each weight times 2 to the scale, cut towards zero."""

    def write(self, parts: Parts, folder: Path) -> None:
        """model.onnx, config.json, the weights, the images."""
        if not 1 <= parts.scale <= MAX_SCALE:
            raise InputError(
                "the scale is out of range", expected=f"1 to {MAX_SCALE} bits", found=parts.scale
            )
        _write_model(parts, folder)
        config: dict[str, Any] = {
            "model_name": "model.onnx",
            "output_tensors": ["output"],
            "target": "SCI",
            "scale": parts.scale,
            "bitlength": 64,
            "save_weights": True,
        }
        (folder / "config.json").write_text(json_text(config))
        with (folder / self._weights_name(parts)).open("w") as stream:
            for values in _initialisers(parts).values():
                stream.write(text_of(_integers(values, parts.scale), "%d\n", ""))
        for number, image in enumerate(parts.images, 1):
            text = text_of(_integers(image, parts.scale), "%d", " ")
            (folder / f"image_{number}_fixedpt_scale_{parts.scale}.inp").write_text(f"{text} \n")

    def read(self, parts: Parts, folder: Path) -> Weights:
        """The weights that the integers stand for."""
        shapes = {name: values.shape for name, values in _initialisers(parts).items()}
        size = sum(int(np.prod(shape)) for shape in shapes.values())
        numbers = numbers_in(folder / self._weights_name(parts), (size,)) / 2.0**parts.scale
        return _weights(parts, dict(_split(numbers, shapes)))

    def _weights_name(self, parts: Parts) -> str:
        return f"model_input_weights_fixedpt_scale_{parts.scale}.inp"


class Llama:
    """Little-endian float32: convolutions O, H, W, I; matrices transposed."""

    def write(self, parts: Parts, folder: Path) -> None:
        """model.onnx, the weights, the images."""
        _write_model(parts, folder)
        with (folder / "model_input_weights.dat").open("wb") as stream:
            for values in _initialisers(parts).values():
                stream.write(np.ascontiguousarray(_last(values)).astype("<f4").tobytes())
        _write_images(parts, folder)

    def read(self, parts: Parts, folder: Path) -> Weights:
        """The weights as they are in the file."""
        shapes = {name: values.shape for name, values in _initialisers(parts).items()}
        data = (folder / "model_input_weights.dat").read_bytes()
        if len(data) != 4 * sum(int(np.prod(shape)) for shape in shapes.values()):
            raise InputError("the file of weights has the wrong size", where=folder, found=len(data))
        laid = {name: _last(np.empty(shape, np.float32)).shape for name, shape in shapes.items()}
        found = dict(_split(np.frombuffer(data, "<f4"), laid))
        return _weights(parts, {name: _first(values) for name, values in found.items()})


class Secfloat:
    """Decimals, one a line, in the order of the ONNX file."""

    def write(self, parts: Parts, folder: Path) -> None:
        """model.onnx, the weights, the images."""
        _write_model(parts, folder)
        with (folder / "model_input_weights.inp").open("w") as stream:
            for values in _initialisers(parts).values():
                stream.write(text_of(values, f"{NINE_DIGITS}\n", ""))
        _write_images(parts, folder)

    def read(self, parts: Parts, folder: Path) -> Weights:
        """The weights as they are in the file."""
        shapes = {name: values.shape for name, values in _initialisers(parts).items()}
        size = sum(int(np.prod(shape)) for shape in shapes.values())
        return _weights(parts, dict(_split(numbers_in(folder / "model_input_weights.inp", (size,)), shapes)))


def _write_model(parts: Parts, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(write_onnx(parts.network.graph, parts.network.weights))


def _write_images(parts: Parts, folder: Path) -> None:
    """Each image as decimals, one a line, channel by channel."""
    for number, image in enumerate(parts.images, 1):
        (folder / f"image_{number}.inp").write_text(text_of(image, f"{NINE_DIGITS} \n", ""))


def _integers(values: NDArray[np.float32], scale: int) -> NDArray[Any]:
    return np.trunc(values.astype(np.float64) * 2.0**scale).astype(np.int64)


def _split(
    numbers: NDArray[Any], shapes: dict[str, tuple[int, ...]]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    place = 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        yield name, numbers[place : place + size].reshape(shape).astype(np.float32)
        place += size


def _last(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Channels last: OIHW → OHWI, matrices transposed."""
    orders = {4: (0, 2, 3, 1), 2: (1, 0)}
    return values.transpose(orders[values.ndim]) if values.ndim in orders else values


def _first(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The inverse of `_last`."""
    orders = {4: (0, 3, 1, 2), 2: (1, 0)}
    return np.ascontiguousarray(values.transpose(orders[values.ndim])) if values.ndim in orders else values
