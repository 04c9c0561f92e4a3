"""Text files for SCALE-MAMBA as the libraries of FANNG-MPC read them, on numbered channels.

NAME/all_parameters/{weights,bias,new_gamma,new_beta}/P0-conv_layer_1_weight.txt …   numbered within a kind
NAME/Inputs/Execution_0/P0-Conv_layer_1.input.txt …    numbered by the layer's place in the row of layers
NAME/Outputs/Execution_0/P0-Conv_layer_1.output.txt …
channels.md                                            which channel reads which file

Every file is one line of `%.8f` with single blanks, in C order: SCALE-MAMBA takes no exponents, and a point
makes a number fixed point. A normalisation is x · new_gamma + new_beta, after the convolution with its bias.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samesight.errors import InputError
from samesight.secure.formats import Parts, numbers_in, text_of
from samesight.secure.graph import Graph, Step, Weights
from samesight.secure.operators import normalisation
from samesight.secure.reading import Network
from samesight.secure.writing import write_onnx

__all__ = ["DEFAULT_CHANNELS", "Channels", "ScaleMamba", "with_normalisations"]

FORM = "%.8f"
KINDS = {
    "Conv": "Conv_layer",
    "Scale": "Batch_normalization_layer",
    "Relu": "ReLU_layer",
    "AveragePool": "Avg_pool_layer",
    "MaxPool": "Max_pool_layer",
    "Flatten": "Flatten_layer",
    "Gemm": "Linear_layer",
}
# The row of layers of the network that FANNG-MPC ships programs for: dropout has a number and no file.
_BLOCK = ("Conv", "Scale", "Relu")
PRUNED_RESNET = (
    *(kind for _ in range(3) for kind in (*_BLOCK, "Dropout", *_BLOCK, "AveragePool")),
    *("Flatten", "Gemm", "Dropout", "Relu", "Gemm"),
)


@dataclass(frozen=True)
class Channels:
    """The channels that may be used: the first and last for parameters, and for images."""

    parameters: tuple[int, int] = (100020, 100049)
    inputs: tuple[int, int] = (90050, 90059)


DEFAULT_CHANNELS = Channels()


@dataclass(frozen=True)
class ScaleMamba:
    """The text files; `folder_name` is what the programs call their folder."""

    folder_name: str = "PrunedResnetData"
    channels: Channels = DEFAULT_CHANNELS
    pruned_resnet: bool = False
    """Whether layers are numbered as in FANNG-MPC's own network, dropout counted."""

    def write(self, parts: Parts, folder: Path) -> None:
        """Parameters, each layer's input and output for each image, and the channel map."""
        network = parts.network
        _check_row(network.graph)
        files = list(self._parameters(network.graph))
        used = self._channels(files, len(parts.images))
        for path, name in files:
            _write(folder / self.folder_name / path, network.weights[name])
        numbers = self._numbers(network.graph)
        for execution, image in enumerate(parts.images):
            values = _values(network, image)
            for step, number in zip(network.graph.steps, numbers, strict=True):
                name = f"Execution_{execution}/P0-{KINDS[step.kind]}_{number}"
                place = folder / self.folder_name
                _write(place / "Inputs" / f"{name}.input.txt", values[step.inputs[0]])
                _write(place / "Outputs" / f"{name}.output.txt", values[step.output])
        (folder / "channels.md").write_text("\n".join(used) + "\n", encoding="utf-8")

    def read(self, parts: Parts, folder: Path) -> Weights:
        """The weights as the text has them."""
        shapes = parts.network.graph.weight_shapes
        return {
            name: numbers_in(folder / self.folder_name / path, shapes[name]).astype(np.float32)
            for path, name in self._parameters(parts.network.graph)
        }

    def _parameters(self, graph: Graph) -> Iterator[tuple[str, str]]:
        """Each file of parameters and the weight that it has, in the order of the channels."""
        kinds: dict[str, list[Step]] = {"Conv": [], "Scale": [], "Gemm": []}
        for step in graph.steps:
            if step.kind in kinds:
                kinds[step.kind].append(step)
        rows = (
            ("bias", "conv", "bias", [one.weights[1] for one in kinds["Conv"]]),
            ("bias", "linear", "bias", [one.weights[1] for one in kinds["Gemm"]]),
            ("new_beta", "bn", "new_beta", [one.weights[1] for one in kinds["Scale"]]),
            ("new_gamma", "bn", "new_gamma", [one.weights[0] for one in kinds["Scale"]]),
            ("weights", "conv", "weight", [one.weights[0] for one in kinds["Conv"]]),
            ("weights", "linear", "weight", [one.weights[0] for one in kinds["Gemm"]]),
        )
        for place, kind, what, names in rows:
            for number, name in enumerate(names, 1):
                yield f"all_parameters/{place}/P0-{kind}_layer_{number}_{what}.txt", name

    def _channels(self, files: Sequence[tuple[str, str]], images: int) -> Iterator[str]:
        """The lines of the channel map. Raises InputError where there are fewer channels than files."""
        first, last = self.channels.parameters
        _check_range("parameters", (first, last), len(files))
        _check_range("images", self.channels.inputs, images)
        titles = {"bias": "Bias", "new_beta": "Beta", "new_gamma": "Gamma", "weights": "Weights"}
        lines = ["## Parameters", "", f"Range of channels reserved: **{first} - {last}**", ""]
        lines.append("Channels in use:")
        for channel, (path, _) in enumerate(files, first):
            title = titles.pop(path.split("/")[1], None)
            lines += ["", f"### {title}", ""] if title else []
            lines.append(f"- {channel} → {self.folder_name}/{path}")
        first, last = self.channels.inputs
        lines += ["", "## First layer input", "", f"Range of channels reserved: **{first} - {last}**", ""]
        for number in range(images):
            path = f"./{self.folder_name}/Inputs/Execution_{number}/P0-Conv_layer_1.input.txt"
            lines.append(f"- {first + number} → execution {number + 1} {path}")
        return iter(lines)

    def _numbers(self, graph: Graph) -> list[int]:
        """The number of each step's layer, counted from 1."""
        kinds = tuple(step.kind for step in graph.steps)
        if self.pruned_resnet:
            places = [place for place, kind in enumerate(PRUNED_RESNET, 1) if kind != "Dropout"]
            if kinds == tuple(PRUNED_RESNET[place - 1] for place in places):
                return places
        return list(range(1, len(kinds) + 1))


def with_normalisations(
    network: Network, state: Mapping[str, NDArray[np.float32]] | None, *, epsilon: float = 1e-5
) -> Network:
    """The network with a Scale behind each convolution, as the state dict of its checkpoint has them.

    Exported ONNX files have the normalisations in the convolutions already. Without a state dict each is
    x · 1 + 0, which is the same network. Raises InputError where the state dict is not of such a network.
    """
    steps: list[Step] = []
    weights = dict(network.weights)
    convolutions = [step for step in network.graph.steps if step.kind == "Conv"]
    apart = None if state is None else _apart(state, len(convolutions))
    renamed: dict[str, str] = {}
    for step in network.graph.steps:
        step = replace(step, inputs=tuple(renamed.get(name, name) for name in step.inputs))
        if step.kind != "Conv":
            steps.append(step)
            continue
        number = len(renamed)
        channels = weights[step.weights[1]].shape[0]
        gamma, beta = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        if apart is not None:
            weight, bias, gamma, beta = apart[number]
            if weight.shape != weights[step.weights[0]].shape:
                raise InputError(
                    "the checkpoint is of another network than the bundle",
                    expected=f"convolution {number + 1} of shape {weights[step.weights[0]].shape}",
                    found=weight.shape,
                )
            weights[step.weights[0]], weights[step.weights[1]] = weight, bias
        weights[f"g{number}"], weights[f"b{number}"] = gamma, beta
        renamed[step.output] = f"n{number}"
        scale = Step("Scale", (step.output, f"g{number}", f"b{number}"), f"n{number}", {}, step.name)
        steps += [step, scale]
    for name, values in (state or {}).items():
        if apart is not None and name.endswith("weight") and values.ndim == 2:
            _put_matrix(network, weights, name, values, state or {})
    shapes = {name: values.shape for name, values in weights.items()}
    graph = replace(network.graph, steps=tuple(steps), weight_shapes=shapes)
    return replace(network, graph=graph, weights=weights)


def _put_matrix(
    network: Network,
    weights: dict[str, NDArray[np.float32]],
    name: str,
    values: NDArray[np.float32],
    state: Mapping[str, NDArray[np.float32]],
) -> None:
    """Matrices are in the file as they are in the checkpoint; one that is not is another network's."""
    for step in network.graph.steps:
        if step.kind == "Gemm" and np.array_equal(weights[step.weights[0]], values):
            weights[step.weights[1]] = state[f"{name.removesuffix('weight')}bias"]
            return
    raise InputError(
        "the checkpoint is of another network than the bundle", found=f"{name} is not in the file"
    )


def _apart(
    state: Mapping[str, NDArray[np.float32]], count: int
) -> list[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]]:
    """Weight, bias, new_gamma and new_beta of each convolution, in the order of the state dict."""
    names = [name.removesuffix("weight") for name, one in state.items() if one.ndim == 4]
    means = [name.removesuffix("running_mean") for name in state if name.endswith("running_mean")]
    if not len(names) == len(means) == count:
        raise InputError(
            "the checkpoint is not of a row of convolutions with a normalisation each",
            expected=f"{count} convolutions and {count} normalisations",
            found=f"{len(names)} and {len(means)}",
        )
    found = []
    for conv, norm in zip(names, means, strict=True):
        weight = np.ascontiguousarray(state[f"{conv}weight"], np.float32)
        bias = state.get(f"{conv}bias", np.zeros(len(weight), np.float32))
        gamma, beta = normalisation(
            *(state[f"{norm}{part}"] for part in ("weight", "bias", "running_mean", "running_var")),
            epsilon=1e-5,
        )
        found.append((weight, bias, gamma, beta))
    return found


def _check_row(graph: Graph) -> None:
    last = graph.input
    for step in graph.steps:
        if step.kind not in KINDS or step.values != (last,):
            raise InputError(
                f"SCALE-MAMBA's files are of a row of layers, and {step.kind} does not fit into one",
                where=step.name,
                fix="samesight secure check BUNDLE --target scale-mamba",
            )
        last = step.output


def _check_range(what: str, channels: tuple[int, int], needed: int) -> None:
    first, last = channels
    if not 0 <= first <= last or last - first + 1 < needed:
        raise InputError(
            f"the range of channels for {what} is too small",
            expected=f"{needed} channels",
            found=f"{first} to {last}",
            fix=f"--channels {first}-{first + needed - 1}" if what == "parameters" else "fewer images",
        )


def _values(network: Network, image: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Every step's value for one image."""
    import onnxruntime

    graph = network.graph
    inner = [step.output for step in graph.steps if step.output != graph.output]
    model = write_onnx(graph, network.weights, outputs=inner)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    logits, *values = session.run(["output", *inner], {"input": image[None]})
    return {graph.input: image[None], graph.output: logits, **dict(zip(inner, values, strict=True))}


def _write(path: Path, values: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text_of(values, FORM, " "), encoding="ascii")
