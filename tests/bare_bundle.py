"""Tiny bundles made by hand, each a few kilobytes, for the tests of everything that reads bundles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from samesight.bundle import BundleInfo, Copy, seal
from samesight.preprocess import Preprocess

LABELS = ("cat", "dog", "Eule")
SIZE = 8
HALF = 0.5


def tiny_model(
    classes: int = len(LABELS),
    *,
    dtype: type = np.float32,
    batch: int | str = "batch",
    names: tuple[str, str] = ("input", "output"),
    size: int = SIZE,
) -> bytes:
    """A convolution, its mean, a linear layer: (batch, 3, size, size) to (batch, classes)."""
    random = np.random.default_rng(5)
    kind = TensorProto.FLOAT if dtype is np.float32 else TensorProto.FLOAT16
    weights = [
        numpy_helper.from_array(random.normal(0, HALF, (4, 3, 3, 3)).astype(dtype), "conv"),
        numpy_helper.from_array(random.normal(0, 1, (4, classes)).astype(dtype), "linear"),
    ]
    nodes = [
        helper.make_node("Conv", [names[0], "conv"], ["seen"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["seen"], ["lit"]),
        helper.make_node("GlobalAveragePool", ["lit"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "linear"], [names[1]]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(names[0], kind, [batch, 3, size, size])],
        [helper.make_tensor_value_info(names[1], kind, [batch, classes])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def tiny_info(**changes: Any) -> BundleInfo:
    """What bundle.json of a tiny bundle says, with some fields of its own."""
    info = BundleInfo(
        name="tiny-net",
        version="1.2.0",
        created="2026-11-22T02:00:00Z",
        labels=LABELS,
        preprocess=Preprocess(resize=(SIZE, SIZE), crop=None),
        input_shape=("batch", 3, SIZE, SIZE),
        output_shape=("batch", len(LABELS)),
        copies=(
            Copy("fp32", "model.onnx", "fp32", 17, "float32", "float32", {"test_accuracy": HALF}),
            Copy("fp16", "model.fp16.onnx", "fp16", 17, "float16", "float16", {"label_agreement": 1.0}),
        ),
        reference={"framework": "pytorch 2.15.0", "recorded": {"test_accuracy": HALF, "test_photos": 24}},
        golden={
            "publishable": False,
            "samples": 1,
            "origin": "test split",
            "labels_without_sample": ["Eule"],
        },
        made={"by": "samesight 0.1.0", "model": "tiny", "how": "train", "epochs": 3, "sides": [1, HALF]},
        license={"weights": "unknown"},
    )
    return replace(info, **changes)


def tiny_files(folder: Path, models: dict[str, bytes] | None = None) -> None:
    """Everything of a tiny bundle but bundle.json and bundle.sha256."""
    (folder / "golden" / "logits").mkdir(parents=True)
    (folder / "golden" / "golden.json").write_text("{}\n")
    (folder / "golden" / "logits" / "fp32.f32").write_bytes(bytes(12))
    (folder / "labels_mapping.json").write_text('{"class_to_int": {}}\n')
    (folder / "CONVERSION_SUMMARY.md").write_text("# Tiny\n")
    both = {"model.onnx": tiny_model(), "model.fp16.onnx": tiny_model(dtype=np.float16)}
    for name, data in (both if models is None else models).items():
        (folder / name).write_bytes(data)


def tiny_bundle(folder: Path, models: dict[str, bytes] | None = None, **changes: Any) -> Path:
    """A sealed tiny bundle in `folder`, which is made."""
    folder.mkdir(parents=True)
    tiny_files(folder, models)
    seal(folder, tiny_info(**changes))
    return folder


def one_copy(model: bytes, **changes: Any) -> dict[str, Any]:
    """The arguments of a tiny bundle of one copy only."""
    copy = replace(tiny_info().copies[0], **changes)
    return {"models": {"model.onnx": model}, "copies": (copy,)}


def rewrite(folder: Path, data: bytes | dict[str, Any]) -> None:
    """Put `data` as bundle.json, with a bundle.sha256 that agrees."""
    if isinstance(data, dict):
        data = json.dumps(data).encode()
    (folder / "bundle.json").write_bytes(data)
    (folder / "bundle.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  bundle.json\n")


def document_of(folder: Path) -> dict[str, Any]:
    """bundle.json of a bundle, parsed."""
    value: dict[str, Any] = json.loads((folder / "bundle.json").read_text())
    return value


def put(value: Any, place: Sequence[str | int], new: Any) -> Any:
    """`value` with what lies at `place` replaced, in place."""
    for step in place[:-1]:
        value = value[step]
    value[place[-1]] = new
    return value
