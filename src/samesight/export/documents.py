"""The files in a bundle that people, and their other tools, read: written from what bundle.json is to say.

labels_mapping.json          class names and numbers, both ways
model_info.json              shapes, classes, preprocessing, version; a row a copy
model_checksums.json         the SHA-256 of each ONNX file
accuracy_and_model_size.csv  training and test accuracy of PyTorch and of each copy, and sizes in MiB
CONVERSION_SUMMARY.md        what was converted from what, and how near it is to PyTorch

Only measured figures stand in them. What was not measured is left empty, or said so.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samesight.bundle.format import BundleInfo, Copy
from samesight.data.labels import labels_mapping
from samesight.files import json_text, sha256_file
from samesight.preprocess import Preprocess
from samesight.verify.tolerances import tolerance_for

__all__ = [
    "TABLE_COLUMNS",
    "Weights",
    "accuracy_table",
    "conversion_summary",
    "model_checksums",
    "model_info",
    "write_documents",
]

MIB = 1 << 20
TABLE_COLUMNS = (
    "model",
    "copy",
    "file",
    "train_accuracy",
    "train_photos",
    "test_accuracy",
    "test_photos",
    "size_mib",
)
LABELS_SHOWN = 20


@dataclass(frozen=True)
class Weights:
    """The file of weights that the copies were made from."""

    name: str
    size_bytes: int


def write_documents(folder: Path, info: BundleInfo, weights: Weights) -> None:
    """Write all five into `folder`, which holds the copies that `info` names."""
    texts = {
        "labels_mapping.json": json_text(labels_mapping(info.labels)),
        "model_info.json": json_text(model_info(folder, info)),
        "model_checksums.json": json_text(model_checksums(folder, info)),
        "accuracy_and_model_size.csv": accuracy_table(folder, info, weights),
        "CONVERSION_SUMMARY.md": conversion_summary(folder, info, weights),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def model_info(folder: Path, info: BundleInfo) -> dict[str, Any]:
    """model_info.json: what a program must know to feed each copy and to read its answer."""
    return {
        "name": info.name,
        "version": info.version,
        "created": info.created,
        "architecture": info.made["model"],
        "num_classes": len(info.labels),
        "classes": list(info.labels),
        "input": {
            "name": "input",
            "shape": list(info.input_shape),
            "layout": "NCHW",
            "channels": "RGB",
        },
        "output": {"name": "output", "shape": list(info.output_shape), "meaning": "logits"},
        "preprocessing": info.preprocess.to_json(),
        "models": {
            copy.name: {
                "file": copy.file,
                "precision": copy.precision,
                "opset": copy.opset,
                "input_dtype": copy.input_dtype,
                "output_dtype": copy.output_dtype,
                "input_shape": list(info.input_shape),
                "output_shape": list(info.output_shape),
                "size_bytes": (folder / copy.file).stat().st_size,
                "recorded": dict(copy.recorded),
            }
            for copy in info.copies
        },
    }


def model_checksums(folder: Path, info: BundleInfo) -> dict[str, str]:
    """model_checksums.json: the SHA-256 of each ONNX file, by its name."""
    return {copy.file: sha256_file(folder / copy.file) for copy in info.copies}


def accuracy_table(folder: Path, info: BundleInfo, weights: Weights) -> str:
    """accuracy_and_model_size.csv: a row for PyTorch's weights and one a copy; unknown figures are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, TABLE_COLUMNS, lineterminator="\n")
    writer.writeheader()
    rows = [("pytorch", weights.name, weights.size_bytes, info.reference["recorded"])]
    rows += [(c.name, c.file, (folder / c.file).stat().st_size, c.recorded) for c in info.copies]
    for copy, file, size_bytes, recorded in rows:
        figures = {key: _cell(recorded.get(key) or None) for key in TABLE_COLUMNS if key.endswith("photos")}
        figures |= {key: _cell(recorded.get(key)) for key in TABLE_COLUMNS if key.endswith("accuracy")}
        size = f"{size_bytes / MIB:.2f}"
        writer.writerow(
            {"model": info.made["model"], "copy": copy, "file": file, "size_mib": size, **figures}
        )
    return text.getvalue()


def _cell(value: float | int | None) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def conversion_summary(folder: Path, info: BundleInfo, weights: Weights) -> str:
    """CONVERSION_SUMMARY.md."""
    sizes = {copy.file: (folder / copy.file).stat().st_size for copy in info.copies}
    sections = (
        _overview(info),
        _models(info, weights, sizes),
        _parameters(info),
        _results(info),
        _input(info),
        _OUTPUT_TEXT,
        _integrity(model_checksums(folder, info)),
        _files(info),
    )
    return "\n".join(line for section in sections for line in section) + "\n"


def _overview(info: BundleInfo) -> Iterator[str]:
    yield "# ONNX model conversion summary"
    yield ""
    yield "## Overview"
    yield ""
    count = info.copies[0].recorded.get("compared_photos")
    copies = "one ONNX copy" if len(info.copies) == 1 else f"{len(info.copies)} ONNX copies"
    yield f"`{info.name}` {info.version}: `{info.made['model']}` converted from PyTorch to {copies}, each"
    yield f"compared with PyTorch on {count} real photos ({_plain(info.made.get('samples', 'unknown'))})."
    yield ""
    yield "Everything here was measured when the bundle was written; `samesight verify` measures it again."
    yield ""


def _models(info: BundleInfo, weights: Weights, sizes: Mapping[str, int]) -> Iterator[str]:
    yield "## Models converted"
    yield ""
    yield "| Model | Source | Output | Size | Status |"
    yield "|---|---|---|---|---|"
    for copy in info.copies:
        yield _row(
            f"{info.made['model']} ({copy.name})",
            f"`{weights.name}` ({weights.size_bytes / MIB:.2f} MiB)",
            f"`{copy.file}`",
            f"{sizes[copy.file] / MIB:.2f} MiB",
            "Verified",
        )
    yield ""


def _parameters(info: BundleInfo) -> Iterator[str]:
    dynamic = info.input_shape[0] == "batch"
    yield "## Conversion parameters"
    yield ""
    yield f"- **ONNX opset**: {info.copies[0].opset}, read back from the files"
    yield f"- **Input**: `input`, {_shape(info.input_shape)} (batch, channels, height, width)"
    yield f"- **Output**: `output`, {_shape(info.output_shape)} (batch, classes), logits"
    for copy in info.copies:
        yield f"- **{copy.name}**: takes {copy.input_dtype}, gives {copy.output_dtype}"
        if wide := info.made.get(f"{copy.name}_layers_in_fp32"):
            names = ", ".join(map(_plain, wide[:LABELS_SHOWN])) + (" …" if len(wide) > LABELS_SHOWN else "")
            yield f"- **{copy.name}**, layers that stay float32 as their values are too large: {names}"
    said = (
        "dynamic: run with 1 and 5 photos" if dynamic else f"fixed: exactly {info.input_shape[0]} at a time"
    )
    yield f"- **Batch**: {said}"
    shown = ", ".join(map(_plain, info.labels[:LABELS_SHOWN]))
    more = f", … ({len(info.labels)} in labels_mapping.json)" if len(info.labels) > LABELS_SHOWN else ""
    yield f"- **Classes**: {shown}{more}"
    yield f"- **Converted**: {info.created}, {info.reference['framework']}, {info.made['by']}"
    yield f"- **Licence of the weights**: {_plain(info.license['weights'])}"
    yield ""


def _results(info: BundleInfo) -> Iterator[str]:
    yield "## Verification results"
    yield ""
    yield "PyTorch in float32 against each copy in ONNX Runtime on the CPU, over all logits of all photos:"
    yield ""
    yield "| Copy | Max difference | Mean difference | Tolerance | Same label | Status |"
    yield "|---|---|---|---|---|---|"
    for copy in info.copies:
        yield _row(
            copy.name,
            _number(copy.recorded.get("max_abs_difference")),
            _number(copy.recorded.get("mean_abs_difference")),
            tolerance_for(copy.precision).text(),
            _share(copy.recorded.get("label_agreement")),
            "Pass",
        )
    yield ""
    yield "| Accuracy | Test photos | of | Training photos | of |"
    yield "|---|---|---|---|---|"
    rows: list[tuple[str, Mapping[str, Any]]] = [("PyTorch", info.reference["recorded"])]
    rows += [(copy.name, copy.recorded) for copy in info.copies]
    for name, recorded in rows:
        yield _row(
            name,
            _share(recorded.get("test_accuracy")),
            str(recorded.get("test_photos") or ""),
            _share(recorded.get("train_accuracy")),
            str(recorded.get("train_photos") or ""),
        )
    yield ""
    for copy in info.copies:
        yield f"- **{copy.name}**: {tolerance_for(copy.precision).reason}."
    golden = info.golden
    yield f"- **Golden samples**: {golden['samples']} photos ({_plain(golden['origin'])}) lie in `golden/`."
    if golden["labels_without_sample"]:
        missing = golden["labels_without_sample"]
        some = ", ".join(map(_plain, missing[:LABELS_SHOWN])) + (" …" if len(missing) > LABELS_SHOWN else "")
        yield f"- **Without a golden sample**: {len(missing)} classes ({some})."
    yield ""


def _input(info: BundleInfo) -> Iterator[str]:
    yield "## Input preprocessing"
    yield ""
    yield "```python"
    yield "import samesight"
    yield ""
    yield f'classifier = samesight.load("{info.name}")  # the folder of this bundle'
    yield 'prediction = classifier.classify("photo.jpg")'
    yield "prediction.label, prediction.confidence, prediction.logits"
    yield "```"
    yield ""
    yield "This decodes, resizes and normalises exactly as training did. The nearest in torchvision is"
    yield ""
    yield "```python"
    yield from torchvision_equivalent(info.preprocess)
    yield "```"
    yield ""
    yield "on a PIL image that was turned upright (`ImageOps.exif_transpose`) and converted to RGB. Beware:"
    yield "Pillow 13 changed the order of its two resize passes, so it gives other pixels than Pillow 12 for"
    yield "many shapes, and other libraries (OpenCV, TensorFlow, a browser's canvas) resize differently"
    yield "altogether. Samesight resizes horizontally first, under every version."
    yield ""


def torchvision_equivalent(spec: Preprocess) -> Iterator[str]:
    """Lines of Python: `spec` as torchvision's transforms for PIL images."""
    yield "from torchvision import transforms"
    yield "from torchvision.transforms import InterpolationMode"
    yield ""
    yield "transform = transforms.Compose(["
    if isinstance(spec.resize, int):
        size = f"{spec.resize}"
    else:
        size = f"({spec.resize[1]}, {spec.resize[0]})"  # height, width
    yield f"    transforms.Resize({size}, interpolation=InterpolationMode.{spec.interpolation.upper()}),"
    if spec.crop is not None:
        yield f"    transforms.CenterCrop(({spec.crop[1]}, {spec.crop[0]})),"
    yield "    transforms.ToTensor(),"
    yield f"    transforms.Normalize(mean={list(spec.mean)}, std={list(spec.std)}),"
    yield "])"


_OUTPUT_TEXT = (
    "## Output processing",
    "",
    "`output` holds logits. Probabilities are their softmax; the label is the place of the largest:",
    "",
    "```python",
    "import numpy as np",
    "",
    "def softmax(logits):",
    "    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))",
    "    return powers / powers.sum(axis=-1, keepdims=True)",
    "```",
    "",
    "`labels_mapping.json` has the name of each place under `int_to_class`.",
    "",
)


def _integrity(checksums: Mapping[str, str]) -> Iterator[str]:
    yield "## Model integrity (SHA-256)"
    yield ""
    yield "As in `model_checksums.json`; Samesight checks these and every other file before it loads any."
    yield ""
    yield "```json"
    yield json_text(dict(checksums)).rstrip()
    yield "```"
    yield ""


def _files(info: BundleInfo) -> Iterator[str]:
    yield "## Files"
    yield ""
    yield "```"
    names = [
        ("bundle.json, bundle.sha256", "all of this for programs, with the hash of every file"),
        *((copy.file, _copy_words(copy)) for copy in info.copies),
        ("labels_mapping.json", "class names and numbers, both ways"),
        ("model_info.json", "shapes, classes, preprocessing, version"),
        ("model_checksums.json", "SHA-256 of each ONNX file"),
        ("accuracy_and_model_size.csv", "accuracy and size of PyTorch and of each copy"),
        ("golden/", "photos, and what every stage must make of them"),
    ]
    width = max(len(name) for name, _ in names)
    for name, words in names:
        yield f"{name:<{width}}  {words}"
    yield "```"


def _copy_words(copy: Copy) -> str:
    return f"{copy.name}, opset {copy.opset}, {copy.input_dtype} input"


def _shape(shape: Sequence[int | str]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "not measured" if value is None else f"{100 * value:.2f} %"


def _plain(text: object) -> str:
    """Words of others in Markdown: on one line, and none of them markup."""
    flat = " ".join(str(text).split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|" else c for c in flat)
