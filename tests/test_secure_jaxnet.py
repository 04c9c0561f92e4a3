"""The network in JAX against ONNX Runtime: each operator on random shapes and attributes. Needs jax."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx")

from secure_networks import draw, model  # noqa: E402

import samesight  # noqa: E402
from samesight.secure.engine import read_frame, write_frame  # noqa: E402
from samesight.secure.reading import Network, read_onnx  # noqa: E402
from samesight.secure.rewrite import for_mpc  # noqa: E402

Nodes = tuple[list[tuple[str, list[str], str, dict[str, Any]]], dict[str, Any]]
Draw = Callable[[Any], Any]
TOLERANCE = 2e-5  # of numbers of some units, summed in another order in float32


class Jax:
    """A process of the engine's Python that computes networks in JAX."""

    def __init__(self, python: Path, folder: Path) -> None:
        (folder / "samesight").symlink_to(Path(samesight.__file__).parent, target_is_directory=True)
        environment = {**os.environ, "PYTHONPATH": str(folder), "JAX_PLATFORMS": "cpu"}
        script = Path(__file__).with_name("jax_forward.py")
        self.process = subprocess.Popen(
            [python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    def logits(self, network: Network, image: np.ndarray) -> np.ndarray:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        graph = network.graph.with_batch(len(image))
        numbers = [image.reshape(-1), *(one.reshape(-1) for one in network.weights.values())]
        write_frame(self.process.stdin, {"graph": graph.to_json()}, np.concatenate(numbers))
        frame = read_frame(self.process.stdout)
        assert frame is not None, "JAX could not compute it; see stderr"
        assert frame[1] is not None
        return frame[1]


@pytest.fixture(scope="module")
def jax(engine: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jax]:
    made = Jax(engine, tmp_path_factory.mktemp("jax"))
    yield made
    made.process.kill()  # at its own end it would first free all that it compiled
    made.process.communicate()


def window(pick: Draw, sides: tuple[int, int]) -> dict[str, Any]:
    """Kernel, strides and pads that fit a picture, each side with its own."""
    kernel = [pick(st.integers(1, min(3, side))) for side in sides]
    before = [pick(st.integers(0, k - 1)) for k in kernel]
    after = [pick(st.integers(0, k - 1)) for k in kernel]
    strides = [pick(st.integers(1, 3)), pick(st.integers(1, 3))]
    return {"kernel_shape": kernel, "strides": strides, "pads": before + after}


def conv(pick: Draw, shape: tuple[int, ...]) -> Nodes:
    more = window(pick, shape[2:])
    group = pick(st.sampled_from([one for one in range(1, shape[1] + 1) if shape[1] % one == 0]))
    outputs = group * pick(st.integers(1, 3))
    if pick(st.booleans()):
        more["auto_pad"] = pick(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
        del more["pads"]
    elif min(shape[2:]) >= 5:
        more["dilations"] = [pick(st.integers(1, 2)), pick(st.integers(1, 2))]
    tensors = {"w": draw(outputs, shape[1] // group, *more["kernel_shape"])}
    names = ["input", "w"]
    if pick(st.booleans()):
        tensors["b"] = draw(outputs, 1)[:, 0]
        names.append("b")
    return [("Conv", names, "x", {**more, "group": group})], tensors


def gemm(pick: Draw, shape: tuple[int, ...]) -> Nodes:
    numbers, outputs = int(np.prod(shape[1:])), pick(st.integers(1, 5))
    transposed = pick(st.booleans())
    more = {"transB": int(transposed), "alpha": pick(st.sampled_from([1.0, 0.5])), "beta": 2.0}
    weight = draw(outputs, numbers)
    tensors = {"w": weight if transposed else weight.T, "b": draw(outputs, 1)[:, 0]}
    return [("Flatten", ["input"], "f", {}), ("Gemm", ["f", "w", "b"], "x", more)], tensors


def matmul(pick: Draw, shape: tuple[int, ...]) -> Nodes:
    weight = draw(pick(st.integers(1, 5)), int(np.prod(shape[1:]))).T
    return [("Flatten", ["input"], "f", {}), ("MatMul", ["f", "w"], "x", {})], {"w": weight}


def normalised(pick: Draw, shape: tuple[int, ...]) -> Nodes:
    rows = {name: draw(shape[1], 1, seed=seed)[:, 0] for seed, name in enumerate(("g", "o", "m", "v"))}
    rows["v"] = np.abs(rows["v"]) + np.float32(0.1)
    more = {"epsilon": pick(st.sampled_from([1e-5, 1e-3]))}
    return [("BatchNormalization", ["input", *rows], "x", more)], rows


def clip(pick: Draw, shape: tuple[int, ...]) -> Nodes:
    low = pick(st.sampled_from([-1.5, 0.0, 0.25]))
    limits = {"l": np.float32(low), "h": np.float32(low + pick(st.sampled_from([0.5, 6.0])))}
    return [("Clip", ["input", "l", "h"], "x", {})], limits


def hard(pick: Draw, shape: tuple[int, ...]) -> Nodes:
    if pick(st.booleans()):
        return [("HardSwish", ["input"], "x", {})], {}
    more = {"alpha": pick(st.sampled_from([0.2, 0.5])), "beta": pick(st.sampled_from([0.5, 0.1]))}
    return [("HardSigmoid", ["input"], "g", more), ("Mul", ["input", "g"], "x", {})], {}


def pool(kind: str) -> Callable[[Draw, tuple[int, ...]], Nodes]:
    def nodes(pick: Draw, shape: tuple[int, ...]) -> Nodes:
        more = window(pick, shape[2:])
        if kind == "AveragePool":
            more["count_include_pad"] = pick(st.integers(0, 1))
        elif pick(st.booleans()):
            more["ceil_mode"] = 1
        before = [("Relu", ["input"], "r", {})] if pick(st.booleans()) else []
        return [*before, (kind, ["r" if before else "input"], "x", more)], {}

    return nodes


def mean(pick: Draw, shape: tuple[int, ...]) -> Nodes:
    if pick(st.booleans()):
        return [("GlobalAveragePool", ["input"], "x", {})], {}
    return [("ReduceMean", ["input"], "x", {"axes": [2, 3], "keepdims": pick(st.integers(0, 1))})], {}


def constant(pick: Draw, shape: tuple[int, ...]) -> Nodes:
    kind = pick(st.sampled_from(["Add", "Sub", "Mul", "Div"]))
    size = shape[1] if pick(st.booleans()) else 1
    names = ["input", "c"] if kind == "Div" or pick(st.booleans()) else ["c", "input"]
    return [(kind, names, "x", {})], {"c": draw(size, 1, 1, seed=3) + np.float32(2.5)}


def two(pick: Draw, shape: tuple[int, ...]) -> Nodes:
    kind = pick(st.sampled_from(["Add", "Mul", "Concat"]))
    more = {"axis": pick(st.sampled_from([1, -3]))} if kind == "Concat" else {}
    last = [("Relu", ["input"], "s", {})] if pick(st.booleans()) else [("Clip", ["input", "l", "h"], "s", {})]
    limits = {"l": np.float32(0), "h": np.float32(1)}
    return [("Relu", ["input"], "r", {}), *last, (kind, ["r", "s"], "x", more)], limits


def sliced(pick: Draw, shape: tuple[int, ...]) -> Nodes:
    axes = pick(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=3, unique=True))
    starts = [pick(st.integers(0, shape[axis] - 1)) for axis in axes]
    ends = [pick(st.sampled_from([shape[axis], 9999])) for axis in axes]
    steps = [pick(st.integers(1, 2)) for _ in axes]
    rows = dict(zip("seat", map(np.array, (starts, ends, axes, steps)), strict=True))
    return [("Slice", ["input", *rows], "x", {})], rows


def padded(pick: Draw, shape: tuple[int, ...]) -> Nodes:
    sides = [pick(st.integers(0, 2)) for _ in range(6)]
    return [("Pad", ["input", "p"], "x", {})], {"p": np.array([0, *sides[:3], 0, *sides[3:]])}


OPERATORS = {
    "Conv": conv,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": normalised,
    "Clip": clip,
    "HardSigmoid, HardSwish": hard,
    "MaxPool": pool("MaxPool"),
    "AveragePool": pool("AveragePool"),
    "means": mean,
    "a constant": constant,
    "two values": two,
    "Slice": sliced,
    "Pad": padded,
}


@pytest.mark.row("X1", "X3")
@pytest.mark.parametrize("examples", [4, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_gives_what_onnx_runtime_does(jax: Jax, operator: str, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.data())
    def on_random_shapes(data: st.DataObject) -> None:
        batch, channels = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 6))
        shape = (batch, channels, data.draw(st.integers(2, 9)), data.draw(st.integers(2, 9)))
        nodes, tensors = OPERATORS[operator](data.draw, shape)
        nodes = [*nodes, ("Flatten", ["x"], "output", {})]
        file = model(nodes, tensors, shape=("batch", *shape[1:]), classes="numbers")
        image = np.random.default_rng(5).normal(0, 2, shape).astype(np.float32)
        expected = onnxruntime.InferenceSession(file).run(None, {"input": image})[0]
        network = read_onnx(file)
        assert isinstance(network, Network), network
        for rewritten in (network, for_mpc(network)):
            found = jax.logits(rewritten, image)
            assert found.shape == expected.shape
            assert np.abs(found - expected).max() <= TOLERANCE, np.abs(found - expected).max()

    on_random_shapes()
