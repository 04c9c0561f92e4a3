"""The files that another secure engine reads, written, read back, and proved to hold the bundle's network.

    OUT/secure_export.json    what was written from what, each file's SHA-256, and the proof
    OUT/…                     the engine's own files, under the names that it looks for

The same bundle gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samesight import __version__
from samesight.bundle import Bundle
from samesight.errors import InputError
from samesight.files import new_folder, sha256_file, write_json
from samesight.preprocess import normalise, preprocess, read_photo
from samesight.secure.check import TARGETS, obstacles
from samesight.secure.formats import Format, Parts
from samesight.secure.formats.ezpc import Athos, Llama, Secfloat
from samesight.secure.formats.mpspdz import MpSpdz
from samesight.secure.formats.scalemamba import DEFAULT_CHANNELS, Channels, ScaleMamba, with_normalisations
from samesight.secure.graph import Graph, Weights
from samesight.secure.prove import Proof, golden_tensors, logits_of, prove
from samesight.secure.reading import Network, read_network
from samesight.secure.rewrite import for_compilers
from samesight.secure.writing import write_onnx
from samesight.verify.golden import REFERENCE, read_golden
from samesight.verify.tolerances import TOLERANCES

__all__ = ["FORMATS", "ExportRequest", "Exported", "export_secure"]

FORMATS = ("onnx", "athos", "llama", "secfloat", "mp-spdz", "scale-mamba")
RECORD = "secure_export.json"
IMAGES = 3
EXACT = ("llama", "secfloat", "mp-spdz")  # formats that hold every float32 as it is
TEXT_STEP = 0.5e-8  # half the last digit of %.8f
FLOAT_STEP = 2.0**-24  # what rounding to float32 adds, as a part of the number


@dataclass(frozen=True)
class ExportRequest:
    """What is to be written, and where."""

    format: str
    out: Path
    photos: tuple[Path, ...] = ()
    batch: int = 1
    scale: int = 12
    channels: Channels = DEFAULT_CHANNELS
    state: Mapping[str, NDArray[np.float32]] | None = None
    """The checkpoint's tensors, where normalisations are to stay apart (scale-mamba)."""
    replace: bool = False


@dataclass(frozen=True)
class Exported:
    """What was written, and the proofs."""

    out: Path
    format: str
    rewritten: Proof
    rebuilt: Proof
    files: Mapping[str, str]  # path → SHA-256
    images: tuple[str, ...]  # what each image is

    def to_json(self) -> dict[str, Any]:
        """The object that `secure export --json` prints."""
        return {
            "ok": True,
            "out": str(self.out),
            "format": self.format,
            "rewritten": self.rewritten.to_json(),
            "rebuilt": self.rebuilt.to_json(),
            "images": list(self.images),
            "files": dict(self.files),
        }


def export_secure(bundle: Bundle, request: ExportRequest) -> Exported:
    """Write the files of one engine for `bundle`.

    Raises InputError where the network cannot run there, CopyError (exit code 1) where the files do not hold
    the same network.
    """
    source = read_network(bundle)
    if request.format != "onnx":
        _check_target(bundle, source, request.format)
    tensors = list(golden_tensors(bundle))
    expected = read_golden(bundle).logits[REFERENCE]
    network = for_compilers(source)
    if request.format == "scale-mamba" and (is_pruned_resnet(bundle) or request.state is not None):
        network = with_normalisations(network, request.state)
    network = replace(network, graph=network.graph.with_batch(request.batch))
    proof = prove(
        "the rewritten network",
        _logits(network.graph, network.weights, tensors),
        expected,
        TOLERANCES["fp32"],
    )
    images, words = _images(bundle, request.photos)
    parts = Parts(network, images, _plain_name(bundle.name), request.scale)
    with new_folder(request.out, replace=request.replace) as folder:
        if request.format == "onnx":
            (folder / "model.onnx").write_bytes(write_onnx(network.graph, network.weights))
            rebuilt = proof
        else:
            form = _form(bundle, request)
            form.write(parts, folder)
            rebuilt = _rebuild(form, parts, request, folder, tensors, expected)
        files = {
            path.relative_to(folder).as_posix(): sha256_file(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        record = {
            "by": f"samesight {__version__}",
            "bundle": bundle.id,
            "network": network.graph.id,
            "format": request.format,
            "batch": request.batch,
            "scale": request.scale if request.format == "athos" else None,
            "labels": list(bundle.labels),
            "images": list(words),
            "rewritten": proof.to_json(),
            "rebuilt": rebuilt.to_json(),
            "files": files,
        }
        write_json(folder / RECORD, record)
    return Exported(request.out, request.format, proof, rebuilt, files, words)


def is_pruned_resnet(bundle: Bundle) -> bool:
    """Whether the bundle's network is the one that FANNG-MPC has programs for."""
    return str(bundle.made["model"]) == "pruned_resnet"


def _check_target(bundle: Bundle, network: Network, name: str) -> None:
    found = obstacles(network, TARGETS[name])
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise InputError(
            f"the network does not run on {name}",
            where=bundle.folder,
            found="; ".join(f"{one.operator} {one.node}: {one.what}" for one in found[:3]) + more,
            fix=f"samesight secure check {bundle.folder} --target {name}",
        )


def _form(bundle: Bundle, request: ExportRequest) -> Format:
    if request.format == "scale-mamba":
        pruned = is_pruned_resnet(bundle)
        name = "PrunedResnetData" if pruned else "NetworkData"
        return ScaleMamba(name, request.channels, pruned)
    forms: dict[str, type[Athos | Llama | Secfloat | MpSpdz]] = {
        "athos": Athos,
        "llama": Llama,
        "secfloat": Secfloat,
        "mp-spdz": MpSpdz,
    }
    return forms[request.format]()


def _rebuild(
    form: Format,
    parts: Parts,
    request: ExportRequest,
    folder: Path,
    tensors: Sequence[NDArray[np.float32]],
    expected: NDArray[np.float32],
) -> Proof:
    """The proof by the network that is rebuilt from the files alone."""
    found = form.read(parts, folder)
    steps = {"athos": 2.0**-request.scale, "scale-mamba": TEXT_STEP}
    step = steps.get(request.format, 0.0)
    for name, values in parts.network.weights.items():
        room = step + FLOAT_STEP * np.abs(values) if step else np.zeros_like(values)
        if not (np.abs(found[name].astype(np.float64) - values) <= room).all():
            raise InputError("a file does not hold the weights that were written", where=folder, found=name)
    coarse = request.format == "athos"
    return prove(
        f"the network in the files for {request.format}",
        _logits(parts.network.graph, found, tensors),
        expected,
        None if coarse else TOLERANCES["fp32"],
        fix=f"--scale {request.scale + 4}" if coarse else None,
    )


def _logits(graph: Graph, weights: Weights, tensors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return logits_of(graph, weights, tensors)


def _images(bundle: Bundle, photos: Sequence[Path]) -> tuple[list[NDArray[np.float32]], tuple[str, ...]]:
    """The images to write, (3, h, w), and what each is.

    Golden samples leave the house only where the bundle says that they may be shown to others.
    """
    if photos:
        tensors = [preprocess(read_photo(path), bundle.preprocess) for path in photos]
        return tensors, tuple(path.name for path in photos)
    if bundle.golden["publishable"]:
        samples = read_golden(bundle).samples[:IMAGES]
        chosen = [tensor for tensor, _ in zip(golden_tensors(bundle), samples, strict=False)]
        return chosen, tuple(f"golden sample {sample.id}" for sample in samples)
    width, height = bundle.preprocess.size
    rows, columns = np.mgrid[:height, :width]
    drawn = np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 256], axis=-1)
    return [normalise(drawn.astype(np.uint8), bundle.preprocess)], ("a drawn picture",)


def _plain_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)
