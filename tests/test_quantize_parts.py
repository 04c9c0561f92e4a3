"""The parts that quantisation is made of: portable weights, photos that are apart, verdicts, calibrators."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tiny_bundle import make_weights, onnx_model, write_photos

from samesight.data.prepare import prepare
from samesight.errors import InputError, PhotosError
from samesight.preprocess import Preprocess, preprocess, read_photo
from samesight.quantize.correct import corrections
from samesight.quantize.equalise import channel_tensors, equalise
from samesight.quantize.graph import Graph, open_graph
from samesight.quantize.newbundle import next_version
from samesight.quantize.observe import BINS, Observed, observe
from samesight.quantize.parts import open_parts
from samesight.quantize.plan import make_plan
from samesight.quantize.qdq import Rounding, rounded_weights, write_qdq
from samesight.quantize.ranges import CALIBRATORS, ranges
from samesight.quantize.verdict import interval, judge, mcnemar
from samesight.quantize.weights import is_portable, round_weights, weight_scales

SPEC = Preprocess(resize=40, crop=(32, 32))


# --- weights -----------------------------------------------------------------------------------------------


@pytest.mark.row("Q3")
@settings(max_examples=200, deadline=None)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 9)),
        elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False),
    ),
    st.booleans(),
)
def test_no_two_weights_can_overflow_16_bits(rows: np.ndarray, shrink: bool) -> None:
    scales = weight_scales(rows, shrink=shrink)
    whole = round_weights(rows, scales)
    assert (scales > 0).all()
    assert is_portable(whole)
    for row in whole.astype(np.int64):
        for first in range(len(row)):
            for second in range(first):
                for x, y in ((255, 255), (255, 0), (1, 255)):
                    assert -(2**15) <= x * row[first] + y * row[second] < 2**15
    if not shrink:
        assert (np.abs(whole * scales[:, None] - rows) <= 0.5001 * scales[:, None]).all()


def test_portable_weights_are_finer_than_seven_bits() -> None:
    rows = np.random.default_rng(0).standard_normal((64, 9)).astype(np.float32)
    assert (weight_scales(rows) <= np.abs(rows).max(axis=1) / 64 * 1.0001).all()
    assert weight_scales(rows).mean() < 0.9 * (np.abs(rows).max(axis=1) / 64).mean()


def test_weights_of_full_range_would_not_be_portable() -> None:
    assert not is_portable(np.array([[127, 126, 0]], np.int8))
    assert is_portable(np.array([[127, 1, -127, -1]], np.int8))


# --- calibrators -------------------------------------------------------------------------------------------


def seen(values: np.ndarray) -> Observed:
    low, high = float(values.min()), float(values.max())
    histogram, _ = np.histogram(values, BINS, (low, high))
    return Observed(low, high, histogram, np.zeros(1), np.zeros(1))


@pytest.mark.row("Q3")
@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_calibrators_give_a_range_around_zero_within_what_was_seen(calibrator: str) -> None:
    random = np.random.default_rng(0)
    for values in (random.standard_normal(9999), random.exponential(1, 9999), np.full(9, 3.0), np.zeros(9)):
        low, high = CALIBRATORS[calibrator](seen(values))
        assert min(values.min(), 0) <= low <= 0 <= high <= max(values.max(), 0)


def test_mse_leaves_an_outlier_out_where_that_rounds_better() -> None:
    random = np.random.default_rng(0)
    values = np.concatenate([random.exponential(1, 1_000_000), [60.0]])
    one = seen(values)

    def error(high: float) -> float:
        step = high / 255
        return float(((np.clip(np.rint(values / step), 0, 255) * step - values) ** 2).mean())

    assert CALIBRATORS["mse"](one)[1] < 60
    assert error(CALIBRATORS["mse"](one)[1]) < error(CALIBRATORS["minmax"](one)[1])


# --- the graph ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, np.ndarray]:
    photos = write_photos(tmp_path_factory.mktemp("parts") / "photos")
    tensors = np.stack([preprocess(read_photo(path), SPEC) for path, _ in photos])
    return open_graph(onnx_model(make_weights(photos))), tensors


def run(model: bytes, tensors: np.ndarray, *, fused: bool = True) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if fused else level.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, {"input": tensors})[0]
    return result


def optimised(model: bytes, folder: Path) -> list[str]:
    """The kinds of nodes that ONNX Runtime makes of a file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]


def observed(graph: Graph, tensors: np.ndarray) -> dict[str, Observed]:
    names = [*make_plan(graph).tensors, *(layer.input for layer in graph.layers)]
    names += [*(layer.end for layer in graph.layers), *channel_tensors(graph)]
    return observe(graph, list(dict.fromkeys(names)), tensors)


@pytest.mark.row("Q3")
def test_onnx_runtime_merges_everything_into_integer_kernels(
    tiny: tuple[Graph, np.ndarray], tmp_path: Path
) -> None:
    graph, tensors = tiny
    model = write_qdq(graph, Rounding(ranges(observed(graph, tensors), "minmax")))
    kinds = optimised(model, tmp_path)
    assert kinds.count("QLinearConv") == 2
    assert "QGemm" in kinds
    assert not {"Conv", "Gemm", "Relu", "DequantizeLinear"} & set(kinds)
    before, after = run(graph.proto.SerializeToString(), tensors), run(model, tensors)
    assert np.abs(before - after).max() < 0.1 * np.abs(before).max()
    assert (before.argmax(axis=1) == after.argmax(axis=1)).all()


GATED = """
<ir_version: 8, opset_import: ["" : 17]>
gated (float[batch, 3, 8, 8] input) => (float[batch, 4] output)
{
    features = Conv <pads = [1, 1, 1, 1]> (input, w0, b0)
    swished = HardSwish (features)
    mean = ReduceMean <axes = [-1, -2]> (swished)
    squeezed = Conv (mean, w1, b1)
    gate = HardSigmoid <alpha = 0.2> (squeezed)
    gated = Mul (swished, gate)
    positive = Relu (gated)
    mixed = Conv (positive, w2, b2)
    pooled = ReduceMean <axes = [2, 3]> (mixed)
    flat = Flatten (pooled)
    output = Gemm <transB = 1> (flat, w3, b3)
}
"""


@pytest.fixture(scope="module")
def gated() -> tuple[Graph, np.ndarray]:
    """A network with HardSwish and a gate of channels, the HardSigmoid of a mean, as MobileNetV3 has."""
    random = np.random.default_rng(3)
    proto = onnx.parser.parse_model(GATED)
    for place, shape in enumerate([(8, 3, 3, 3), (8, 8, 1, 1), (8, 8, 1, 1), (4, 8)]):
        weights = random.standard_normal(shape).astype(np.float32)
        bias = weights.reshape(shape[0], -1).sum(axis=1)
        for name, values in ((f"w{place}", weights), (f"b{place}", bias)):
            proto.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return open_graph(proto.SerializeToString()), random.standard_normal((16, 3, 8, 8)).astype(np.float32)


@pytest.mark.row("Q3")
def test_hard_swish_gates_and_means_become_integer_kernels(
    gated: tuple[Graph, np.ndarray], tmp_path: Path
) -> None:
    graph, tensors = gated
    model = write_qdq(graph, Rounding(ranges(observed(graph, tensors), "minmax")))
    kinds = optimised(model, tmp_path)
    assert kinds.count("QLinearConv") == 3
    assert kinds.count("QLinearMul") == 2
    assert not {"HardSigmoid", "HardSwish", "Mul", "ReduceMean", "Relu", "DequantizeLinear"} & set(kinds)
    before, after = run(graph.proto.SerializeToString(), tensors), run(model, tensors)
    assert np.abs(before - after).max() < 0.05 * np.abs(before).max()
    assert np.abs(after - run(model, tensors, fused=False)).max() < 0.02 * np.abs(before).max()


DENSE = """
<ir_version: 8, opset_import: ["" : 17]>
dense (float[batch, 3, 8, 8] input) => (float[batch, 4] output)
{
    first = Conv <pads = [1, 1, 1, 1]> (input, w0, b0)
    second = Conv (first, w1, b1)
    both = Concat <axis = 1> (first, second)
    norm = BatchNormalization (both, scale, shift, mean, variance)
    positive = Relu (norm)
    mixed = Conv (positive, w2, b2)
    pooled = GlobalAveragePool (mixed)
    flat = Flatten (pooled)
    output = Gemm <transB = 1> (flat, w3, b3)
}
"""


@pytest.mark.row("Q3")
def test_batch_normalisation_behind_no_convolution_becomes_one(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    proto = onnx.parser.parse_model(DENSE)
    values = {
        name: random.uniform(0.5, 2.0, 12).astype(np.float32)
        for name in ("scale", "shift", "mean", "variance")
    }
    for place, shape in enumerate([(8, 3, 3, 3), (4, 8, 1, 1), (8, 12, 1, 1), (4, 8)]):
        values[f"w{place}"] = random.standard_normal(shape).astype(np.float32)
        values[f"b{place}"] = random.standard_normal(shape[0]).astype(np.float32)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(one, name) for name, one in values.items())
    tensors = random.standard_normal((16, 3, 8, 8)).astype(np.float32)
    graph = open_graph(proto.SerializeToString())
    assert [layer.groups for layer in graph.layers] == [1, 1, 12, 1, 1]
    before, folded = run(proto.SerializeToString(), tensors), run(graph.proto.SerializeToString(), tensors)
    assert np.abs(before - folded).max() < 1e-5 * np.abs(before).max()
    model = write_qdq(graph, Rounding(ranges(observed(graph, tensors), "minmax")))
    kinds = optimised(model, tmp_path)
    assert kinds.count("QLinearConv") == 4
    assert not {"BatchNormalization", "Concat", "Relu", "DequantizeLinear"} & set(kinds)
    assert np.abs(before - run(model, tensors)).max() < 0.05 * np.abs(before).max()


def test_a_gate_that_its_levels_do_not_cut_at_one_stays_as_it_is(gated: tuple[Graph, np.ndarray]) -> None:
    graph, tensors = gated
    limits = ranges(observed(graph, tensors), "minmax")
    wide = Rounding({**limits, "gate": (0.0, 1.5)})
    kinds = [node.op_type for node in onnx.load_from_string(write_qdq(graph, wide)).graph.node]
    assert kinds.count("HardSigmoid") == 1
    before, after = run(graph.proto.SerializeToString(), tensors), run(write_qdq(graph, wide), tensors)
    assert np.abs(before - after).max() < 0.05 * np.abs(before).max()


@pytest.mark.row("Q3")
def test_a_layer_kept_in_float32_stays_so_in_onnx_runtime(tiny: tuple[Graph, np.ndarray]) -> None:
    """Its optimiser rounds float weights between rounded tensors by itself, one scale for all channels."""
    graph, tensors = tiny
    weights = dict(graph.constants)
    layer = graph.layers[1]
    uneven = weights[layer.weight] * np.logspace(-2, 0, len(weights[layer.weight]))[:, None, None, None]
    uneven_graph = graph.with_constants({layer.weight: uneven.astype(np.float32)})
    kept = frozenset([layer.name])
    model = write_qdq(uneven_graph, Rounding(ranges(observed(uneven_graph, tensors), "minmax"), kept=kept))
    assert np.abs(run(model, tensors) - run(model, tensors, fused=False)).max() < 1e-4


def test_what_stays_float32_is_as_it_was(tiny: tuple[Graph, np.ndarray]) -> None:
    graph, tensors = tiny
    kept = frozenset(layer.name for layer in graph.layers)
    model = write_qdq(graph, Rounding({}, kept=kept))
    assert np.array_equal(run(model, tensors), run(graph.proto.SerializeToString(), tensors))


@pytest.mark.row("Q3")
def test_equalisation_changes_no_answer_and_evens_channels(tiny: tuple[Graph, np.ndarray]) -> None:
    graph, tensors = tiny
    before = observed(graph, tensors)
    equalised, groups = equalise(graph, before, 1.0)
    assert groups == 2
    logits = run(graph.proto.SerializeToString(), tensors)
    assert np.allclose(run(equalised.proto.SerializeToString(), tensors), logits, atol=1e-4)
    after = observed(equalised, tensors)

    def spread(one: Observed) -> float:
        alive = one.size[one.size > one.size.max() / 60]
        return float(alive.max() / alive.min())

    name = graph.layers[0].end
    assert spread(after[name]) < 1.01 < spread(before[name])


@pytest.mark.row("Q3")
def test_bias_correction_takes_off_what_rounding_adds_on_average(tiny: tuple[Graph, np.ndarray]) -> None:
    graph, tensors = tiny
    found = observed(graph, tensors)
    layer = graph.layers[2]  # the matrix: no borders, so the mean is exact
    fixed = corrections(graph, found, Rounding({}))[layer.name]
    session_input = found[layer.input].mean
    lost = graph.constants[layer.weight] - rounded_weights(graph, layer, Rounding({}))
    assert np.allclose(fixed, lost @ session_input, atol=1e-6)
    assert fixed.shape == (3,)


@pytest.mark.row("Q3")
def test_a_network_that_gives_no_numbers_is_judged_and_written() -> None:
    right = np.eye(3, dtype=np.float32)
    verdict = judge(right, np.where(np.eye(3) > 0, np.nan, right), [0, 1, 2], ["a", "b", "c"], 0.005)
    assert (verdict.lost, verdict.max_abs_difference, verdict.ok) == (3, float("inf"), False)
    assert json.loads(json.dumps(verdict.to_json(), allow_nan=False))["max_abs_difference"] is None


# --- photos ------------------------------------------------------------------------------------------------


@pytest.mark.row("Q3")
def test_plain_photos_are_divided_into_parts_that_share_none(digits: Path) -> None:
    labels = tuple("0123456789")
    parts = open_parts(digits, labels)
    every = [set(part.sha256) for part in (parts.calibration, parts.choice, parts.verdict)]
    assert all(every)
    assert sum(map(len, every)) == len(set.union(*every))
    assert [len(one) for one in every[:2]] == [len(set.union(*every)) // 5] * 2
    again = open_parts(digits, labels)
    assert again == parts
    assert open_parts(digits, labels, seed=1).verdict.sha256 != parts.verdict.sha256


@pytest.mark.row("Q3")
def test_a_split_is_kept(digits: Path, tmp_path: Path) -> None:
    split = prepare(digits, out=tmp_path / "data").split
    parts = open_parts(tmp_path / "data", tuple("0123456789"))
    sides = {item.sha256: item.part for item in split.items}
    assert {sides[one] for one in parts.calibration.sha256} == {"train"}
    assert {sides[one] for one in parts.verdict.sha256} == {"test"}
    assert len(parts.verdict.sha256) == len({i.sha256 for i in split.items if i.part == "test"})
    assert "test" not in {sides[one] for one in parts.choice.sha256}
    assert not set(parts.calibration.sha256) & set(parts.choice.sha256)


def test_too_few_photos_are_refused(photo_folder: Path) -> None:
    with pytest.raises(PhotosError, match="too few photos"):
        open_parts(photo_folder, ("blue sky", "grass", "rose"))


# --- the verdict -------------------------------------------------------------------------------------------


def rows(*labels: int) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[list(labels)]


@pytest.mark.row("Q3")
def test_flips_are_told_apart() -> None:
    found = judge(rows(0, 1, 2, 0, 1), rows(0, 2, 1, 1, 1), [0, 1, 1, 2, None], ("a", "b", "c"), 0.005)
    assert (found.flips, found.lost, found.gained, found.photos, found.labelled) == (3, 1, 1, 5, 4)
    assert found.drop == 0
    assert found.ok
    assert found.too_few
    assert "too few" in (found.doubt() or "")
    assert found.worst is None  # "b" loses one of two and gains one


def test_the_worst_class_is_named() -> None:
    found = judge(rows(0, 0, 1, 1), rows(0, 1, 2, 2), [0, 0, 1, 1], ("a", "b", "c"), 0.5)
    assert found.worst is not None
    assert (found.worst.label, found.worst.lost, found.worst.gained, found.worst.photos) == ("b", 2, 0, 2)
    assert not found.ok


def test_without_labels_every_flip_is_a_loss() -> None:
    found = judge(rows(0, 1), rows(1, 1), [None, None], ("a", "b", "c"), 0.1)
    assert (found.lost, found.drop, found.fp32_accuracy, found.ok) == (1, 0.5, None, False)


def test_logits_that_are_not_finite_are_lost() -> None:
    broken = rows(0, 1)
    broken[0, 0] = np.nan
    assert judge(rows(0, 1), broken, [0, 1], ("a", "b", "c"), 0.1).lost == 1


@pytest.mark.row("Q3")
def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    for lose, gain, photos in ((0.02, 0.01, 300), (0.005, 0.005, 150), (0.1, 0.02, 100)):
        draws = random.multinomial(photos, [lose, gain, 1 - lose - gain], 2000)
        held = [low <= lose - gain <= high for low, high in (interval(b, c, photos) for b, c, _ in draws)]
        assert np.mean(held) > 0.93


def test_mcnemar_is_the_binomial_test() -> None:
    from scipy.stats import binomtest

    for lost, gained in ((0, 0), (1, 0), (5, 2), (30, 10), (600, 500)):
        expected = binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
        assert mcnemar(lost, gained) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("old", "new"), [("1.0.0", "1.1.0"), ("2.9.4-rc.1+b.2", "2.10.0"), ("0.0.1", "0.1.0")]
)
def test_the_next_version(old: str, new: str) -> None:
    assert next_version(old) == new


def test_a_network_without_weights_is_refused() -> None:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["input"], ["output"])],
        "none",
        [onnx.helper.make_tensor_value_info("input", 1, ["batch", 3])],
        [onnx.helper.make_tensor_value_info("output", 1, ["batch", 3])],
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    with pytest.raises(InputError, match="nothing to quantise"):
        open_graph(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
