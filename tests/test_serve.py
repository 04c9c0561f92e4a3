"""`samesight serve` as its clients see it: a real process, asked by tritonclient and as curl asks."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from serving import Server, multipart, serving, until
from tiny_bundle import LABELS, info_of, tampered
from tritonclient.utils import InferenceServerException

from samesight.bundle import Bundle, open_bundle
from samesight.preprocess import preprocess, read_photo
from samesight.runner import softmax
from samesight.runtime import load

pytestmark = pytest.mark.row("R2")


@pytest.fixture(scope="module")
def photos(bundle: Bundle) -> list[Path]:
    return sorted(path for path in (bundle.folder.parent / "photos").rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def newer(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tampered(bundle, tmp_path_factory.mktemp("newer") / "bundle", version="1.10.0")


@pytest.fixture(scope="module")
def server(bundle: Bundle, newer: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    words = (bundle.folder, newer.folder, f"other={bundle.folder}", "--cors", "https://app.example")
    with serving(folder, *words) as running:
        yield running


def logits_of(bundle: Bundle, photos: list[Path]) -> np.ndarray:
    return np.stack([load(bundle).classify(photo).logits for photo in photos])


def image_input(photos: list[Path], *, binary: bool = True) -> triton.InferInput:
    found = triton.InferInput("image", [len(photos)], "BYTES")
    files = np.array([photo.read_bytes() for photo in photos] + [None], dtype=object)[:-1]
    found.set_data_from_numpy(files, binary_data=binary)
    return found


def test_a_triton_client_asks_everything(server: Server, bundle: Bundle, photos: list[Path]) -> None:
    client = triton.InferenceServerClient(server.place)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1.0.0")
    assert not client.is_model_ready("tiny", "3.0.0")
    assert not client.is_model_ready("huge")
    meta = client.get_server_metadata()
    assert meta["name"] == "samesight"
    assert "binary_tensor_data" in meta["extensions"]
    assert [(row["name"], row["version"]) for row in client.get_model_repository_index()] == [
        ("tiny", "1.10.0"),
        ("tiny", "1.0.0"),
        ("other", "1.0.0"),
    ]
    model = client.get_model_metadata("tiny", "1.0.0")
    assert model["versions"] == ["1.10.0", "1.0.0"]
    assert model["inputs"][0] == {"name": "input", "datatype": "FP32", "shape": [-1, 3, 32, 32]}
    assert model["properties"]["bundle"] == bundle.id
    assert model["properties"]["labels"] == list(LABELS)
    answer = client.infer("tiny", [image_input(photos)], model_version="1.0.0", request_id="9")
    assert answer.get_response()["id"] == "9"
    assert answer.get_response()["parameters"]["bundle"] == bundle.id
    expected = logits_of(bundle, photos)
    np.testing.assert_allclose(answer.as_numpy("output"), expected, atol=1e-5)
    np.testing.assert_allclose(answer.as_numpy("probabilities"), softmax(expected), atol=1e-6)
    assert answer.as_numpy("index").tolist() == expected.argmax(axis=1).tolist()
    assert [one.decode() for one in answer.as_numpy("label")] == [LABELS[i] for i in expected.argmax(axis=1)]
    with pytest.raises(InferenceServerException, match="there is no model tiny 2"):
        client.infer("tiny", [image_input(photos)], model_version="2")
    client.close()


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_tensors_give_the_photos_answer_in_every_form(
    server: Server, bundle: Bundle, photos: list[Path], binary: bool, coding: str | None
) -> None:
    tensors = np.stack([preprocess(read_photo(photo), bundle.preprocess) for photo in photos[:3]])
    given = triton.InferInput("input", list(tensors.shape), "FP32")
    given.set_data_from_numpy(tensors, binary_data=binary)
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("output", "label")]
    with triton.InferenceServerClient(server.place) as client:
        options: dict[str, Any] = {
            "outputs": wanted,
            "request_compression_algorithm": coding,
            "response_compression_algorithm": coding,
        }
        from_tensor = client.infer("tiny", [given], **options).as_numpy("output")
        from_photo = client.infer("tiny", [image_input(photos[:3])], **options).as_numpy("output")
    assert np.array_equal(from_tensor, from_photo)
    np.testing.assert_allclose(from_tensor, logits_of(bundle, photos[:3]), atol=1e-5)


def test_classes_as_an_output(server: Server, photos: list[Path]) -> None:
    with triton.InferenceServerClient(server.place) as client:
        wanted = [triton.InferRequestedOutput("output", class_count=2)]
        found = client.infer("tiny", [image_input(photos[:1])], outputs=wanted).as_numpy("output")
    assert found.shape == (1, 2)
    assert found[0, 0].decode().split(":")[1:] == ["0", "blue sky"]


def test_the_asynchronous_client(server: Server, bundle: Bundle, photos: list[Path]) -> None:
    async def ask() -> list[np.ndarray]:
        async with triton_aio.InferenceServerClient(server.place) as client:
            assert await client.is_server_ready()
            assert (await client.get_model_metadata("tiny"))["name"] == "tiny"
            answers = await asyncio.gather(
                *(client.infer("tiny", [image_input([photo])]) for photo in photos),
            )
            return [answer.as_numpy("output")[0] for answer in answers]

    np.testing.assert_allclose(asyncio.run(ask()), logits_of(bundle, photos), atol=1e-5)


def test_classify_answers_as_predict_does(server: Server, newer: Bundle, photos: list[Path]) -> None:
    classifier = load(newer)
    for photo in photos[:5]:
        name = f"/classify?name={photo.name}"
        answer = server.ask("POST", name, photo.read_bytes(), {"content-type": "image/jpeg"})
        assert answer.status == 200
        expected = classifier.classify(photo).to_json(photo.name)
        assert list(answer.json) == list(expected)
        assert {key: answer.json[key] for key in ("path", "label", "index", "bundle")} == {
            key: expected[key] for key in ("path", "label", "index", "bundle")
        }
        assert answer.json["confidence"] == pytest.approx(expected["confidence"], abs=1e-6)
    body, headers = multipart(*[(photo.name, photo.read_bytes()) for photo in photos])
    answers = server.ask("POST", "/classify?top=1&model=tiny&version=1.0.0", body, headers).json
    assert [answer["path"] for answer in answers] == [photo.name for photo in photos]
    assert {answer["bundle"] for answer in answers} != {newer.id}
    assert all(len(answer["top"]) == 1 for answer in answers)
    one = server.ask("POST", "/classify", *multipart(("ü 1.png", photos[1].read_bytes()))).json
    assert one["path"] == "ü 1.png"


def test_one_spoilt_photo_does_not_stop_the_others(server: Server, photos: list[Path]) -> None:
    whole = photos[0].read_bytes()
    body, headers = multipart(("a.jpg", whole), ("b.jpg", whole[:700]), ("c.txt", b"hello"))
    answer = server.ask("POST", "/classify", body, headers)
    assert answer.status == 200
    assert [list(one)[:2] for one in answer.json] == [["path", "label"], ["path", "error"], ["path", "error"]]


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"", 422, "empty"),
        (b"hello", 415, "not a photo"),
        (b"\xff\xd8\xff\xe0", 422, "cut short"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 30, 422, "damaged"),
    ],
)
def test_a_photo_that_is_none(server: Server, data: bytes, status: int, words: str) -> None:
    for answer in (
        server.ask("POST", "/classify", data),
        server.ask("POST", "/classify", *multipart(("x", data))),
    ):
        assert (answer.status, list(answer.json)) == (status, ["path", "error"])
        assert words in answer.json["error"]
    body = b"".join((len(data).to_bytes(4, "little"), data))
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "image",
                    "datatype": "BYTES",
                    "shape": [1],
                    "parameters": {"binary_data_size": len(body)},
                }
            ]
        }
    ).encode()
    headers = {"inference-header-content-length": str(len(head))}
    answer = server.ask("POST", "/v2/models/tiny/infer", head + body, headers)
    assert (answer.status, list(answer.json)) == (status, ["error"])
    assert answer.json["error"].startswith("element 0: ")


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/nothing", None, {}, 404),
        ("GET", "/classify", None, {}, 405),
        ("POST", "/classify?model=huge", b"x", {}, 404),
        ("POST", "/classify?top=0", b"x", {}, 422),
        ("POST", "/classify?top=1e3", b"x", {}, 422),
        ("POST", "/classify", b"{}", {"content-type": "application/json"}, 415),
        ("POST", "/classify", b"x", {"content-encoding": "br"}, 415),
        ("POST", "/classify", b"x", {"content-encoding": "gzip"}, 400),
        ("POST", "/classify", gzip.compress(b"x", mtime=0)[:-3], {"content-encoding": "gzip"}, 400),
        ("POST", "/classify", gzip.compress(b"x", mtime=0) + b"y", {"content-encoding": "gzip"}, 400),
        ("POST", "/classify", b"x", {"content-type": "multipart/form-data"}, 400),
        ("POST", "/classify", b"x", {"content-type": "multipart/form-data; boundary=b"}, 400),
        ("POST", "/classify", b"--b--\r\n", {"content-type": "multipart/form-data; boundary=b"}, 400),
        ("POST", "/v2/models/tiny/infer", b"{}", {}, 400),
        ("POST", "/v2/models/tiny/infer", b"{}", {"inference-header-content-length": "-1"}, 400),
        ("POST", "/v2/models/tiny/infer", b"{}", {"inference-header-content-length": "9"}, 400),
        ("GET", "/v2/models/huge", None, {}, 404),
        ("GET", "/v2/models/tiny/versions/9.9.9/ready", None, {}, 404),
    ],
)
def test_every_refusal_has_the_protocols_form(
    server: Server, method: str, path: str, body: bytes | None, headers: dict[str, str], status: int
) -> None:
    answer = server.ask(method, path, body, headers)
    assert (answer.status, list(answer.json)) == (status, ["error"])
    assert answer.headers["content-type"] == "application/json"
    if status == 405:
        assert answer.headers["allow"] == "POST"


def test_compression_both_ways(server: Server, photos: list[Path]) -> None:
    data = photos[0].read_bytes()
    plain = server.ask("POST", "/classify", data)
    assert "content-encoding" not in plain.headers, "nobody asked for it"
    for coding, body in (("gzip", gzip.compress(data, mtime=0)), ("deflate", zlib.compress(data))):
        answer = server.ask("POST", "/classify", body, {"content-encoding": coding})
        assert answer.json == plain.json
    for accepted, coding in (("br, gzip;q=0.5", "gzip"), ("gzip;q=0, deflate", "deflate"), ("br", None)):
        answer = server.ask("GET", "/openapi.json", None, {"accept-encoding": accepted})
        assert answer.headers.get("content-encoding") == coding
        assert "accept-encoding" in answer.headers["vary"]
        undone = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}[coding](answer.body)
        assert json.loads(undone)["openapi"] == "3.1.0"


def test_only_the_origin_that_was_named_may_ask(server: Server, photos: list[Path]) -> None:
    ours, theirs = {"origin": "https://app.example"}, {"origin": "https://evil.example"}
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    assert server.ask("OPTIONS", "/classify", None, ours | asked).headers["access-control-allow-origin"] == (
        "https://app.example"
    )
    data = photos[0].read_bytes()
    allowed = "access-control-allow-origin"
    assert server.ask("POST", "/classify", data, ours).headers[allowed] == "https://app.example"
    assert allowed not in server.ask("POST", "/classify", data, theirs).headers
    assert allowed not in server.ask("OPTIONS", "/classify", None, theirs | asked).headers


def test_pages_need_nothing_from_elsewhere(server: Server) -> None:
    for path in ("/", "/docs"):
        answer = server.ask("GET", path)
        assert answer.status == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert b"http://" not in answer.body
        assert b"https://" not in answer.body


def test_the_description_names_every_route(server: Server) -> None:
    paths = server.ask("GET", "/openapi.json").json["paths"]
    for path, item in paths.items():
        for method in set(item) & {"get", "post"}:
            place = path.replace("{name}", "tiny").replace("{version}", "1.0.0")
            answer = server.ask(method.upper(), place)
            assert str(answer.status) in item[method]["responses"], (path, answer.status, answer.body)


def test_metrics_and_log_tell_of_the_work_and_not_of_the_photos(server: Server, photos: list[Path]) -> None:
    for name, data in (("secret-name.jpg", photos[0].read_bytes()), ("x", b"hello")):
        server.ask(
            "POST", f"/classify?model=other&name={name}", data, {"authorization": "Bearer secret-token"}
        )
    text = server.ask("GET", "/metrics").body.decode()
    for line in (
        'samesight_requests_total{route="classify",status="200"}',
        'samesight_rejections_total{reason="photo unknown"}',
        'samesight_photo_errors_total{kind="unknown"}',
        'samesight_labels_total{label="blue sky",model="other",version="1.0.0"} 1.0',
        'samesight_confidence_count{model="other",version="1.0.0"} 1.0',
        *(
            f'samesight_stage_seconds_count{{stage="{stage}"}}'
            for stage in ("read", "queue", "decode", "network")
        ),
        "samesight_batch_photos_count",
        "samesight_queue_photos 0.0",
        "samesight_ready_processes 1.0",
        'samesight_bundle_events_total{event="loaded"} 3.0',
    ):
        assert line in text
    last = server.events("request")[-2]
    assert {"route", "status", "ms", "model", "version", "photos"} <= set(last)
    log = server.log.read_text()
    assert "secret" not in log
    assert "blue sky" not in log


def test_a_server_takes_only_its_tokens(bundle: Bundle, photos: list[Path], tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("# two of them\nfirst-token-1\n\nsecond-token-2\n")
    data = photos[0].read_bytes()
    with serving(tmp_path, bundle.folder, "--token", tokens) as server:
        for path in ("/v2/health/live", "/v2/health/ready", "/", "/docs", "/openapi.json"):
            assert server.ask("GET", path).status == 200
        for path in ("/v2", "/metrics", "/v2/models/tiny", "/nothing"):
            assert server.ask("GET", path).status == 401
        for words in ("", "Bearer wrong-token", "Basic first-token-1", "Bearer first-token-12"):
            answer = server.ask("POST", "/classify", data, {"authorization": words})
            assert answer.status == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
        for token in ("first-token-1", "second-token-2"):
            headers = {"authorization": f"Bearer {token}"}
            assert server.ask("POST", "/classify", data, headers).status == 200
        assert "first-token" not in server.log.read_text()
        assert server.ask("GET", "/openapi.json").json["security"] == [{"token": []}]


def test_a_replaced_bundle_takes_over_and_a_bad_one_does_not(
    bundle: Bundle, photos: list[Path], tmp_path: Path
) -> None:
    served = tmp_path / "served"
    shutil.copytree(bundle.folder, served)
    data = photos[0].read_bytes()

    def answering() -> str:
        answer = server.ask("POST", "/classify", data)
        assert answer.status == 200
        bundle_id: str = answer.json["bundle"]
        return bundle_id

    def replace_with(folder: Path) -> None:
        served.rename(tmp_path / f"old-{time.monotonic_ns()}")
        folder.rename(served)

    with serving(tmp_path, served, "--reload", 0.1) as server:
        assert answering() == bundle.id
        better = tampered(bundle, tmp_path / "better", version="1.1.0")
        replace_with(better.folder)
        until(lambda: answering() == better.id)
        assert server.ask("GET", "/v2/models/tiny").json["versions"] == ["1.1.0"]

        def swap_logits(folder: Path) -> None:
            path = folder / "golden" / "logits" / "pytorch.f32"
            path.write_bytes(path.read_bytes()[::-1])

        wrong = tampered(bundle, tmp_path / "wrong", swap_logits, version="1.2.0")
        replace_with(wrong.folder)
        until(lambda: len(server.events("bundle refused")) == 1)
        broken = tmp_path / "broken"
        shutil.copytree(bundle.folder, broken)
        (broken / "bundle.sha256").write_text("0" * 64 + "  bundle.json\n")
        replace_with(broken)
        until(lambda: len(server.events("bundle refused")) == 2)
        shutil.rmtree(served)
        until(lambda: server.events("bundle missing"))
        assert answering() == better.id
        shutil.copytree(bundle.folder, served)
        until(lambda: answering() == bundle.id)


def test_several_processes_answer_as_one(bundle: Bundle, photos: list[Path], tmp_path: Path) -> None:
    data = photos[0].read_bytes()
    with serving(tmp_path, bundle.folder, "--workers", 2, "--threads", 1) as server:
        assert len(server.events("ready")) == 2, "the server is ready when all processes are"
        for _ in range(20):
            assert server.ask("POST", "/classify", data).status == 200
        text = server.ask("GET", "/metrics").body.decode()
        assert 'samesight_requests_total{route="classify",status="200"} 20.0' in text
        assert "samesight_ready_processes 2.0" in text
        assert server.stop() == 0
        assert len(server.events("stopped")) == 2


@pytest.mark.slow  # a process that dies sooner is not started again
def test_a_process_that_dies_is_started_again_and_none_outlives_the_first(
    bundle: Bundle, photos: list[Path], tmp_path: Path
) -> None:
    data = photos[0].read_bytes()
    with serving(tmp_path, bundle.folder, "--workers", 2, "--threads", 1) as server:
        first = psutil.Process(server.process.pid)

        def serving_processes() -> list[psutil.Process]:
            return [one for one in first.children() if "spawn_main" in " ".join(one.cmdline())]

        time.sleep(10)
        serving_processes()[0].kill()
        statuses = set()

        def another_is_ready() -> bool:
            statuses.add(server.ask("POST", "/classify", data).status)
            statuses.add(server.ask("GET", "/v2/health/ready").status)
            return len(server.events("ready")) == 3

        until(another_is_ready)
        assert statuses == {200}, "nothing is asked of a process before it is ready"
        others = serving_processes()
        assert len(others) == 2
        first.kill()
        until(lambda: not any(one.is_running() and one.status() != "zombie" for one in others))


def test_a_bundle_that_is_not_proved_is_not_served(bundle: Bundle, tmp_path: Path) -> None:
    def forget(folder: Path) -> None:
        shutil.rmtree(folder / "golden")

    none = tampered(bundle, tmp_path / "none", forget, golden=dict(info_of(bundle).golden, samples=0))

    def swap(folder: Path) -> None:
        path = folder / "golden" / "logits" / "pytorch.f32"
        path.write_bytes(path.read_bytes()[::-1])

    wrong = tampered(bundle, tmp_path / "wrong", swap)
    for folder, code, words in (
        (none.folder, 1, "--unproved"),
        (wrong.folder, 1, "samesight verify"),
        (tmp_path / "nothing", 2, "no bundle here"),
    ):
        with serving(tmp_path, folder, ready=False) as server:
            assert server.process.wait(60) == code
            assert words in server.log.read_text()
            assert "Traceback" not in server.log.read_text()
    with serving(tmp_path, none.folder, "--unproved") as server:
        assert server.ask("GET", "/v2/models/tiny").json["properties"]["golden_samples"] == 0
    assert open_bundle(none.folder)
