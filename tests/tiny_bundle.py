"""A small real network, exported by hand, with real photos around it: for tests that need a whole bundle.

Two convolutions and a matrix, fitted to tell reddish from greenish from bluish photos; PyTorch computes it,
and two ONNX copies say the same in float32 and float16.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from samesight.bundle import Bundle, open_bundle, seal
from samesight.bundle.format import BundleInfo, Copy
from samesight.evaluate import photos_sha256
from samesight.preprocess import Preprocess, decode, normalise, preprocess, read_photo, resize
from samesight.quantize.newbundle import Int8Copy, write_new_bundle
from samesight.runner import Runner
from samesight.runtime import OnnxRunner
from samesight.verify import golden
from samesight.verify.tolerances import TOLERANCES

LABELS = ("blue sky", "grass", "rose")
SPEC = Preprocess(resize=40, crop=(32, 32))
Weights = dict[str, NDArray[np.float32]]


class Torch:
    """PyTorch, computing the network."""

    name = copy = "pytorch"

    def __init__(self, weights: Weights) -> None:
        self.weights = {name: torch.from_numpy(values) for name, values in weights.items()}

    def features(self, tensors: NDArray[np.float32]) -> torch.Tensor:
        w, conv = self.weights, torch.nn.functional.conv2d
        with torch.no_grad():
            x = torch.relu(conv(torch.from_numpy(tensors), w["w1"], w["b1"], stride=2, padding=1))
            x = torch.relu(conv(x, w["w2"], w["b2"], stride=2, padding=1))
            return x.mean(dim=(2, 3))

    def logits(self, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = (
            self.features(tensors) @ self.weights["w3"].T + self.weights["b3"]
        ).numpy()
        return result


def write_photos(folder: Path, per_class: int = 5) -> list[tuple[Path, str]]:
    """Photos in every common form: JPEG, PNG, WebP, a rotated JPEG, a BMP, all of different sizes."""
    random = np.random.default_rng(3)
    photos = []
    for hue, label in enumerate(LABELS):
        (folder / label).mkdir(parents=True)
        for index in range(per_class):
            size = (44 + 5 * index, 76 - 7 * index + hue, 3)
            pixels = random.integers(0, 90, size, dtype=np.uint8)
            pixels[..., 2 - hue] += 140
            suffix = ("jpg", "png", "webp", "jpeg", "bmp")[index % 5]
            path = folder / label / f"{index}.{suffix}"
            image = Image.fromarray(pixels)
            if suffix == "jpeg":
                exif = Image.Exif()
                exif[0x0112], exif[0x010E] = 6, "somebody's name"
                image.save(path, quality=92, exif=exif)
            elif suffix == "webp":
                image.save(path, lossless=True)
            else:
                image.save(path)
            photos.append((path, label))
    return photos


def make_weights(photos: list[tuple[Path, str]]) -> Weights:
    """Random convolutions, and a last layer fitted to the photos by least squares."""
    random = np.random.default_rng(11)

    def draw(*shape: int) -> NDArray[np.float32]:
        return (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    weights = {
        "w1": draw(8, 3, 3, 3),
        "b1": draw(8, 1)[:, 0],
        "w2": draw(12, 8, 3, 3),
        "b2": draw(12, 1)[:, 0],
    }
    tensors = np.stack([preprocess(read_photo(path), SPEC) for path, _ in photos])
    features = Torch(weights).features(tensors).numpy().astype(np.float64)
    wanted = np.array([[8.0 if label == one else -2.0 for one in LABELS] for _, label in photos])
    fitted, *_ = np.linalg.lstsq(np.c_[features, np.ones(len(photos))], wanted, rcond=None)
    return weights | {"w3": fitted[:-1].T.astype(np.float32), "b3": fitted[-1].astype(np.float32)}


def onnx_model(weights: Weights, *, half: bool = False, names: str = "") -> bytes:
    """The network as ONNX, opset 17; with `half` in float16 behind a Cast; `names` starts each tensor's."""
    inputs = [
        (f"{names}{name}", values.astype(np.float16) if half else values) for name, values in weights.items()
    ]
    last = f"{names}logits" if half else "output"
    conv: dict[str, Any] = {"strides": [2, 2], "pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    steps = [
        ("Conv", [f"{names}x" if half else "input", f"{names}w1", f"{names}b1"], f"{names}c1", conv),
        ("Relu", [f"{names}c1"], f"{names}r1", {}),
        ("Conv", [f"{names}r1", f"{names}w2", f"{names}b2"], f"{names}c2", conv),
        ("Relu", [f"{names}c2"], f"{names}r2", {}),
        ("GlobalAveragePool", [f"{names}r2"], f"{names}p", {}),
        ("Flatten", [f"{names}p"], f"{names}f", {}),
        ("Gemm", [f"{names}f", f"{names}w3", f"{names}b3"], last, {"transB": 1}),
    ]
    nodes = [
        helper.make_node(kind, ins, [out], name=f"/{out}/{kind}", **more) for kind, ins, out, more in steps
    ]
    if half:
        nodes.insert(0, helper.make_node("Cast", ["input"], [f"{names}x"], to=TensorProto.FLOAT16))
        nodes.append(helper.make_node("Cast", [last], ["output"], to=TensorProto.FLOAT))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", len(LABELS)])],
        [numpy_helper.from_array(values, name) for name, values in inputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def info_of(bundle: Bundle) -> BundleInfo:
    """What `seal` needs to seal the same again."""
    return BundleInfo(**{field.name: getattr(bundle, field.name) for field in fields(BundleInfo)})


def make_bundle(folder: Path, photos: list[tuple[Path, str]], weights: Weights) -> Bundle:
    """A sealed bundle of the network, with two golden samples a class."""
    folder.mkdir(parents=True)
    models = {"fp32": onnx_model(weights), "fp16": onnx_model(weights, half=True, names="half_")}
    runners: list[Runner] = [Torch(weights)]
    for name, model in models.items():
        (folder / f"model.{name}.onnx").write_bytes(model)
        runners.append(OnnxRunner(model, copy=name))
    tensors = np.stack([preprocess(read_photo(path), SPEC) for path, _ in photos])
    rows = {runner.copy: runner.logits(tensors) for runner in runners}
    candidates = [
        golden.Candidate(path, label, {copy: logits[index] for copy, logits in rows.items()})
        for index, (path, label) in enumerate(photos)
    ]
    tolerances = {name: TOLERANCES[name] for name in models}
    chosen, without = golden.choose(candidates, LABELS, tolerances)
    written = golden.write_golden(folder, chosen, SPEC, LABELS, runners)
    truth = np.array([LABELS.index(label) for _, label in photos])
    recorded = {
        name: {
            "test_accuracy": float((logits.argmax(axis=1) == truth).mean()),
            "test_photos": len(photos),
            "train_accuracy": None,
            "train_photos": None,
            "label_agreement": 1.0,
            "max_abs_difference": 0.0,
            "mean_abs_difference": 0.0,
        }
        for name, logits in rows.items()
    }
    info = BundleInfo(
        name="tiny",
        version="1.0.0",
        created="2026-01-01T00:00:00Z",
        labels=LABELS,
        preprocess=SPEC,
        input_shape=("batch", 3, 32, 32),
        output_shape=("batch", len(LABELS)),
        copies=tuple(
            Copy(name, f"model.{name}.onnx", name, 17, "float32", "float32", recorded[name])
            for name in models
        ),
        reference={"framework": "pytorch", "recorded": recorded["pytorch"]},
        golden={
            "publishable": True,
            "samples": len(written.samples),
            "origin": "made by the tests",
            "labels_without_sample": without,
        },
        made={
            "by": "samesight tests",
            "model": "tiny",
            "how": "checkpoint",
            "test_photos_sha256": photos_sha256(path for path, _ in photos),
        },
        license={"weights": "Apache-2.0"},
    )
    seal(folder, info)
    return open_bundle(folder)


def with_int8(bundle: Bundle, folder: Path, photos: list[tuple[Path, str]]) -> Bundle:
    """The next version of `bundle`, with an int8 copy that ONNX Runtime's own tool calibrates on `photos`."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    tensors = [preprocess(read_photo(path), SPEC)[None] for path, _ in photos]

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # not typed
        def __init__(self) -> None:
            self.rest = iter(tensors)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            tensor = next(self.rest, None)
            return None if tensor is None else {"input": tensor}

    file = folder.with_name(f"{folder.name}.int8.onnx")
    source = bundle.folder / bundle.copy("fp32").file
    quantize_static(source, file, Reader(), quant_format=QuantFormat.QDQ, reduce_range=True)
    known = golden.read_golden(bundle)
    samples = [normalise(resize(decode(bundle.read(one.photo)), SPEC), SPEC) for one in known.samples]
    runner = OnnxRunner(file.read_bytes(), copy="int8")
    logits = runner.logits(np.stack(samples))
    distance = np.abs(logits - known.logits[golden.REFERENCE])
    recorded: dict[str, float | int | None] = {
        **dict.fromkeys(bundle.copy("fp32").recorded),
        "label_agreement": 1.0,
        "max_abs_difference": float(distance.max()),
        "mean_abs_difference": float(distance.mean()),
    }
    write_new_bundle(
        bundle, folder, Int8Copy(file.read_bytes(), 17, recorded, logits, {}, {}), replace_old=False
    )
    return open_bundle(folder)


def tampered(
    bundle: Bundle, folder: Path, change: Callable[[Path], None] = lambda _: None, **other: Any
) -> Bundle:
    """A copy of `bundle` after `change(folder)`, with `other` said in bundle.json, sealed again."""
    shutil.copytree(bundle.folder, folder)
    (folder / "bundle.json").unlink()
    (folder / "bundle.sha256").unlink()
    change(folder)
    seal(folder, replace(info_of(bundle), **other))
    return open_bundle(folder)


def reworded(words: Mapping[str, Any]) -> Callable[[Path], None]:
    """A change that sets fields of the first golden sample in golden.json."""
    import json

    def change(folder: Path) -> None:
        path = folder / "golden" / "golden.json"
        record = json.loads(path.read_text())
        record["samples"][0] |= words
        path.write_text(json.dumps(record))

    return change
