"""ONNX Runtime behind a bundle: the right logits from every form of photo, and clear errors."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bare_bundle import LABELS, SIZE, one_copy, tiny_bundle, tiny_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import samesight
from samesight.bundle import open_bundle
from samesight.bundle.onnxparts import names_other_files
from samesight.errors import BundleChanged, BundleInvalid, InputError, PhotoError
from samesight.preprocess import preprocess
from samesight.runner import softmax
from samesight.runtime import Classifier, OnnxRunner, Prediction, load, open_runner

pytestmark = pytest.mark.row("R1")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("runtime") / "bundle")


@pytest.fixture(scope="module")
def classifier(bundle: Path) -> Classifier:
    return load(bundle)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eleven photos of colour noise, of several sizes and formats."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(3)
    paths = []
    for index in range(11):
        pixels = random.integers(0, 256, (9 + index, 14, 3), dtype=np.uint8) // (1 + index % 3)
        paths.append(folder / f"{index}.{'jpg' if index % 2 else 'png'}")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def by_hand(tensors: NDArray[np.float32]) -> NDArray[np.float64]:
    """What the tiny model computes, in float64 and plain numpy."""
    weights = {
        w.name: numpy_helper.to_array(w) for w in onnx.load_from_string(tiny_model()).graph.initializer
    }
    padded = np.pad(tensors.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    lit = np.maximum(np.einsum("nchwij,ocij->nohw", windows, weights["conv"]), 0)
    return np.asarray(lit.mean(axis=(2, 3)) @ weights["linear"])


def tensors(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(count).normal(0, 1, (count, 3, SIZE, SIZE)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
@pytest.mark.parametrize("batch", ["batch", 1, 4])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float16, 2e-2)])
def test_logits_of_any_number(count: int, batch: int | str, dtype: type, tolerance: float) -> None:
    runner = OnnxRunner(tiny_model(batch=batch, dtype=dtype), copy="x")
    logits = runner.logits(tensors(count))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, by_hand(tensors(count)), atol=tolerance)


def test_no_photos_give_no_logits() -> None:
    for batch in ("batch", 4):
        assert OnnxRunner(tiny_model(batch=batch), copy="x").logits(tensors(0)).shape == (0, 3)


def test_one_photo_in_every_form(classifier: Classifier, photos: list[Path]) -> None:
    path = photos[1]
    image = Image.open(path)
    forms: list[Any] = [path, str(path), path.read_bytes(), image, np.asarray(image)]
    answers = [classifier.classify(form) for form in forms]
    expected = by_hand(preprocess(path.read_bytes(), classifier.bundle.preprocess)[np.newaxis])[0]
    for answer in answers:
        np.testing.assert_array_equal(answer.logits, answers[0].logits)
        np.testing.assert_allclose(answer.logits, expected, atol=1e-5)
    best = answers[0]
    assert best.index == expected.argmax()
    assert best.label == LABELS[best.index]
    assert best.confidence == pytest.approx(softmax(expected)[best.index], abs=1e-5)
    assert [one.index for one in best.top] == list(np.argsort(-expected))
    assert sum(one.probability for one in best.top) == pytest.approx(1)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_pil_images_of_other_modes_are_as_their_files(classifier: Classifier, mode: str) -> None:
    random = np.random.default_rng(1)
    image = Image.fromarray(random.integers(0, 256, (12, 9, 3), dtype=np.uint8)).convert(mode)
    file = io.BytesIO()
    image.save(file, "TIFF" if mode == "CMYK" else "PNG")
    answers = [classifier.classify(form).logits for form in (image, file.getvalue())]
    np.testing.assert_array_equal(answers[0], answers[1])


@pytest.mark.parametrize(
    "photo",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        None,
        7,
        ["photo.jpg"],
    ],
    ids=lambda photo: f"{getattr(photo, 'shape', photo)}",
)
def test_what_is_no_photo_is_said_so(classifier: Classifier, photo: Any) -> None:
    with pytest.raises(InputError):
        classifier.classify(photo)


def test_an_opened_image_that_turns_out_broken(classifier: Classifier, photos: list[Path]) -> None:
    with pytest.raises(PhotoError):
        classifier.classify(Image.open(io.BytesIO(photos[2].read_bytes()[:-200])))


def test_many_keep_their_order_and_their_errors(
    classifier: Classifier, photos: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photos[1].read_bytes()[:60])
    mixed: list[Any] = []
    for path in photos:
        mixed += [path, broken, tmp_path / "absent.jpg"]
    for batch in (1, 2, 4, 64):
        answers = list(classifier.classify_many(mixed, batch=batch))
        assert len(answers) == len(mixed)
        for photo, answer in zip(mixed, answers, strict=True):
            if photo in photos:
                assert isinstance(answer, Prediction)
                np.testing.assert_allclose(answer.logits, classifier.classify(photo).logits, atol=1e-6)
            else:
                assert isinstance(answer, PhotoError)
    assert list(classifier.classify_many([])) == []
    assert all(isinstance(one, PhotoError) for one in classifier.classify_many([broken] * 9))


def test_many_are_taken_only_a_little_ahead(bundle: Path, photos: list[Path]) -> None:
    taken = 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield photos[taken % len(photos)]

    answers = load(bundle, threads=2).classify_many(endless(), batch=4)
    for _ in range(20):
        next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert taken <= 20 + 4 + 4 * 2 + 2
    assert not [one for one in threading.enumerate() if one.name.startswith("decode")]


def test_one_classifier_in_many_threads(classifier: Classifier, photos: list[Path]) -> None:
    alone = [classifier.classify(path).logits for path in photos]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda path: classifier.classify(path).logits, photos * 5))
    for index, logits in enumerate(together):
        np.testing.assert_array_equal(logits, alone[index % len(photos)])


def test_the_public_way(bundle: Path, photos: list[Path]) -> None:
    answer = samesight.load(bundle, copy="fp16", threads=1).classify(photos[0], top=2)
    assert answer.to_json("p.jpg") == {
        "path": "p.jpg",
        "label": answer.label,
        "index": answer.index,
        "confidence": answer.confidence,
        "top": [
            {"label": one.label, "index": one.index, "probability": one.probability} for one in answer.top
        ],
        "bundle": open_bundle(bundle).id,
    }
    assert len(answer.top) == 2
    assert load(open_bundle(bundle)).classify(photos[0]).label == answer.label
    with pytest.raises(InputError, match="no such copy"):
        load(bundle, copy="int8")


@pytest.mark.parametrize(
    ("model", "changes", "word"),
    [
        (tiny_model(names=("image", "output")), {}, "input"),
        (tiny_model(names=("input", "logits")), {}, "output"),
        (tiny_model(dtype=np.float16), {}, "input"),
        (tiny_model(), {"input_dtype": "float16"}, "input"),
        (tiny_model(), {"output_dtype": "float16"}, "output"),
        (tiny_model(4), {}, "output"),
        (tiny_model(size=9), {}, "input"),
        (tiny_model(batch=2), {}, "input"),
        (b"", {}, "model"),
        (b"not a model at all", {}, "ONNX"),
        (tiny_model()[:-40], {}, "ONNX"),
    ],
)
def test_a_model_that_is_not_as_described(
    tmp_path: Path, model: bytes, changes: dict[str, Any], word: str
) -> None:
    """Its hash is right, so the bundle opens; what it is comes out when it is loaded."""
    opened = open_bundle(tiny_bundle(tmp_path / "b", **one_copy(model, **changes)))
    with pytest.raises(BundleInvalid, match=word) as caught:
        open_runner(opened, "fp32")
    assert "Traceback" not in str(caught.value)
    assert len(str(caught.value.found or "").splitlines()) <= 1


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_model_is_an_error_of_ours_or_an_answer(
    data: st.DataObject, capfd: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model()
    place = data.draw(st.integers(0, len(model) - 1))
    damaged = model[:place] + data.draw(st.binary(max_size=4)) + model[place + 1 :]
    try:
        logits = OnnxRunner(damaged, copy="x").logits(tensors(1))
    except BundleInvalid:
        pass
    else:
        assert logits.dtype == np.float32
    told = capfd.readouterr()
    assert (told.out, told.err) == ("", "")


def test_a_changed_model_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path / "b")
    opened = open_bundle(folder)
    (folder / "model.onnx").write_bytes(b"x" * (folder / "model.onnx").stat().st_size)
    for do in (lambda: load(folder), lambda: load(opened)):
        with pytest.raises(BundleChanged):
            do()


def constant_answer(values: list[float]) -> bytes:
    """A model that answers `values`, whatever the photo (which it multiplies by zero)."""
    weights = [
        numpy_helper.from_array(np.zeros((3 * SIZE * SIZE, len(values)), np.float32), "zero"),
        numpy_helper.from_array(np.array(values, np.float32), "values"),
    ]
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("MatMul", ["flat", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "values"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", len(values)])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("values", [[0, np.nan, 1], [np.inf, 0, 0], [0, 0, -np.inf]])
def test_an_answer_that_is_not_a_number_is_never_a_label(
    tmp_path: Path, photos: list[Path], values: list[float]
) -> None:
    classifier = load(tiny_bundle(tmp_path / "b", **one_copy(constant_answer(values))))
    with pytest.raises(BundleInvalid, match="not a number"):
        classifier.classify(photos[0])
    assert all(isinstance(one, BundleInvalid) for one in classifier.classify_many(photos))


def test_a_model_is_held_to_the_shape_that_it_declares() -> None:
    """Its last shape comes out of its own arithmetic, so that ONNX Runtime cannot know it beforehand."""
    model = onnx.load_from_string(constant_answer([1, 2, 3, 4]))
    model.graph.node[-1].output[0] = "four"
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, 2]), "pair"))
    model.graph.node.extend(
        [
            helper.make_node("ReduceSum", ["nothing"], ["none"], keepdims=0),
            helper.make_node("Cast", ["none"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Add", ["whole", "pair"], ["shape"]),
            helper.make_node("Reshape", ["four", "shape"], ["output"]),
        ]
    )
    with pytest.raises(BundleInvalid, match="another shape") as caught:
        OnnxRunner(model.SerializeToString(), copy="x").logits(tensors(2))
    assert (caught.value.expected, caught.value.found) == ("2 × 4", "4 × 2")


def test_equal_logits_name_the_first(tmp_path: Path, photos: list[Path]) -> None:
    classifier = load(tiny_bundle(tmp_path / "b", **one_copy(constant_answer([1, 7, 7]))))
    answer = classifier.classify(photos[0])
    assert [one.index for one in answer.top] == [1, 2, 0]
    large = load(tiny_bundle(tmp_path / "c", **one_copy(constant_answer([3e38, -3e38, 0]))))
    assert large.classify(photos[0]).confidence == 1.0


def test_a_model_that_reads_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime would take the file from the current folder, where nobody has checked it."""
    model = onnx.load_from_string(tiny_model())
    onnx.save_model(
        model, tmp_path / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    monkeypatch.chdir(tmp_path)
    data = (tmp_path / "m.onnx").read_bytes()
    assert names_other_files(data)
    assert not names_other_files(tiny_model())
    with pytest.raises(BundleInvalid, match="another file"):
        OnnxRunner(data, copy="x")


def test_tensors_are_found_wherever_they_hide() -> None:
    """In a constant, in a branch, in a function, in a sparse tensor."""
    hidden = TensorProto(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    attribute = helper.make_attribute("value", hidden)
    constant = onnx.NodeProto(op_type="Constant", output=["x"], attribute=[attribute])
    branch = onnx.NodeProto(
        op_type="If",
        attribute=[onnx.AttributeProto(name="then_branch", g=onnx.GraphProto(node=[constant]), type=5)],
    )
    sparse = onnx.SparseTensorProto(values=hidden)
    for model in (
        onnx.ModelProto(graph=onnx.GraphProto(node=[constant])),
        onnx.ModelProto(graph=onnx.GraphProto(node=[branch])),
        onnx.ModelProto(graph=onnx.GraphProto(sparse_initializer=[sparse])),
        onnx.ModelProto(functions=[onnx.FunctionProto(node=[constant])]),
    ):
        assert names_other_files(model.SerializeToString())
