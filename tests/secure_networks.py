"""Networks and bundles for the tests of secure computation: every step kind, and a row of layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from samesight.bundle import Bundle
from samesight.secure.graph import Graph, Step
from samesight.secure.reading import Network, SourceFile, read_onnx


def model(
    nodes: list[tuple[str, list[str], str, dict[str, Any]]],
    tensors: dict[str, np.ndarray],
    *,
    shape: tuple[int | str, ...] = ("batch", 3, 12, 12),
    classes: int | str = 3,
    opset: int = 17,
) -> bytes:
    """An ONNX file of one input and one output, from (operator, inputs, output, attributes)."""
    made = [
        helper.make_node(kind, inputs, [output], name=f"/{output}", **more)
        for kind, inputs, output, more in nodes
    ]
    graph = helper.make_graph(
        made,
        "made",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [shape[0], classes])],
        [numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString())


def draw(*shape: int, seed: int = 1) -> np.ndarray:
    """Normal numbers of a size that keeps a layer's output near 1."""
    random = np.random.default_rng(seed)
    return (random.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32)


def read(data: bytes) -> Network:
    """The network in a file that must be understood."""
    found = read_onnx(data)
    assert isinstance(found, Network), found
    return found


def single(step: Step, shape: tuple[int, int, int, int], weights: dict[str, np.ndarray]) -> Network:
    """A network of one step, then the mean of each channel (so that it ends in logits)."""
    pool = Step("GlobalAveragePool", (step.output,), "t90", {})
    flat = Step("Flatten", ("t90",), "t91", {})
    steps = (step, pool, flat) if step.kind not in ("Flatten", "Gemm") else (step,)
    shapes = {name: values.shape for name, values in weights.items()}
    graph = Graph("image", shape, steps[-1].output, steps, shapes)
    return Network(graph, weights, SourceFile(17, 8, 1, {}))


def pruned_bundle(folder: Path, photos: list[tuple[Path, str]]) -> tuple[Bundle, Path]:
    """S5's network, drawn at random but for its last layer, as a bundle; and its checkpoint."""
    import torch

    from samesight.bundle import open_bundle
    from samesight.cli import main
    from samesight.models.pruned_resnet import PrunedResNet
    from samesight.preprocess import Preprocess, preprocess, read_photo

    torch.manual_seed(4)
    network = PrunedResNet(3, 32, dropout=0.0)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # the plain mean over what it has seen
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, 0, 0.2)
    spec = Preprocess(resize=(32, 32), crop=None)
    tensors = torch.from_numpy(np.stack([preprocess(read_photo(path), spec) for path, _ in photos]))
    labels = sorted({label for _, label in photos})
    with torch.no_grad():
        network.train()(tensors)
        network.eval()
        hidden = network.network[:-1](tensors).double()
        wanted = torch.tensor([[8.0 if one == label else -2.0 for one in labels] for _, label in photos])
        ones = torch.cat([hidden, torch.ones(len(photos), 1)], dim=1)
        fitted = torch.linalg.lstsq(ones, wanted.double(), driver="gelsd").solution
        network.network[-1].weight.copy_(fitted[:-1].T)
        network.network[-1].bias.copy_(fitted[-1])
    checkpoint = folder / "pruned.pth"
    torch.save(network.state_dict(), checkpoint)
    words = ["export", "--model", "pruned_resnet", "--checkpoint", str(checkpoint), "--resize", "32x32"]
    words += ["--labels", ",".join(labels), "--samples", str(photos[0][0].parent.parent), "--copies", "fp32"]
    assert main([*words, "--out", str(folder / "pruned")]) == 0
    return open_bundle(folder / "pruned"), checkpoint
