"""The same int8 logits on a processor without VNNI: shown under QEMU's Haswell, where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from samesight.quantize import weights
from samesight.quantize.graph import open_graph
from samesight.quantize.observe import observe
from samesight.quantize.plan import make_plan
from samesight.quantize.qdq import Rounding, write_qdq
from samesight.quantize.ranges import ranges

QEMU = os.environ.get("SAMESIGHT_QEMU") or shutil.which("qemu-x86_64")
RUN = (
    "import sys, numpy, onnxruntime as o;"
    "s = o.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider']);"
    "numpy.save(sys.argv[3], s.run(None, {'input': numpy.load(sys.argv[2])})[0])"
)


def network() -> bytes:
    """Two convolutions and a matrix whose weights are all at one end or the other of their range."""
    random = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return np.sign(random.standard_normal(shape) + 0.7).astype(np.float32) * random.uniform(0.9, 1, shape)

    shapes = {"w1": (16, 3, 3, 3), "w2": (32, 16, 3, 3), "w3": (10, 32)}
    nodes = [
        helper.make_node("Conv", ["input", "w1"], ["c1"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w3"], ["output"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "ends",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(draw(*shape).astype(np.float32), name) for name, shape in shapes.items()],
    )
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    onnx.checker.check_model(data)
    return data


@pytest.mark.slow
@pytest.mark.row("Q3")
@pytest.mark.skipif(QEMU is None, reason="needs qemu-x86_64 (qemu-user), or SAMESIGHT_QEMU naming it")
def test_a_processor_without_vnni_gives_the_same_logits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = open_graph(network())
    tensors = np.random.default_rng(1).uniform(0, 1, (2, 3, 16, 16)).astype(np.float32)
    np.save(tmp_path / "photos.npy", tensors)
    plan = make_plan(graph)
    rounding = Rounding(ranges(observe(graph, plan.tensors, tensors), "minmax"))

    def difference() -> float:
        (tmp_path / "model.onnx").write_bytes(write_qdq(graph, rounding))
        words = [sys.executable, "-c", RUN, str(tmp_path / "model.onnx"), str(tmp_path / "photos.npy")]
        packages = os.pathsep.join(sys.path)
        here = {**os.environ, "PYTHONPATH": packages}
        subprocess.run([*words, str(tmp_path / "here.npy")], check=True, env=here)
        python = str(Path(sys.executable).resolve())
        there = [str(QEMU), "-cpu", "Haswell", python, *words[1:], str(tmp_path / "there.npy")]
        subprocess.run(there, check=True, env=here, capture_output=True)
        return float(np.abs(np.load(tmp_path / "here.npy") - np.load(tmp_path / "there.npy")).max())

    assert difference() == 0
    # The weights as they are usually rounded, to 8 bits: this must be able to fail.
    monkeypatch.setattr(weights, "PAIR", 2 * weights.LIMIT)
    assert difference() > 0
