"""ONNX Runtime's C API by ctypes, against its Python package."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from bare_bundle import LABELS, SIZE, tiny_model

from samesight.ortlibrary import Library, LibraryTrouble, Model, find_libraries

pytestmark = pytest.mark.row("B3", "R1")


@pytest.fixture
def library() -> Iterator[Library]:
    opened = Library()
    yield opened
    opened.close()


def test_the_library_is_the_packages() -> None:
    (found,) = find_libraries()
    assert found.is_relative_to(Path(onnxruntime.__file__).parent)
    assert onnxruntime.__version__ in found.name


def test_logits_are_the_same_bits_and_sides_are_told(library: Library) -> None:
    data = tiny_model()
    model = Model(library, data, threads=2)
    assert model.input == ("input", "float32", (None, 3, SIZE, SIZE))
    assert model.output == ("output", "float32", (None, len(LABELS)))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(1)
    for batch in (1, 3):
        tensor = random.normal(size=(batch, 3, SIZE, SIZE)).astype(np.float32)
        values, shape = model.run(bytearray(tensor.tobytes()), tensor.shape)
        assert shape == (batch, len(LABELS))
        assert values.tobytes() == session.run(None, {"input": tensor})[0].tobytes()
    model.close()


def test_what_the_library_refuses_is_trouble_in_its_words(library: Library) -> None:
    for data in (b"", b"\x07", tiny_model()[:200]):
        with pytest.raises(LibraryTrouble):
            Model(library, data, threads=1)
    model = Model(library, tiny_model(), threads=1)
    with pytest.raises(LibraryTrouble, match="rank"):
        model.run(bytearray(4 * 3), (1, 3, 1))
    values, _ = model.run(bytearray(4 * 3 * SIZE * SIZE), (1, 3, SIZE, SIZE))
    assert all(map(math.isfinite, values))
    model.close()


def test_a_tensor_of_another_type_is_named_so_that_it_is_not_taken_for_float32(library: Library) -> None:
    model = Model(library, tiny_model(dtype=np.float16), threads=1)
    assert model.input[1] != "float32"
    assert model.output[1] != "float32"
    model.close()
