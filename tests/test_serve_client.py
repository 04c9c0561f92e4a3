"""`samesight verify --runner server`: a server's answers held to the bundle, from the photo's bytes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from serving import Server, serving
from tiny_bundle import tampered

from samesight.bundle import Bundle
from samesight.cli import main
from samesight.errors import CopyError, InputError
from samesight.preprocess import preprocess
from samesight.runtime import load
from samesight.serve.client import ServerRunner

pytestmark = pytest.mark.row("R2", "V1")


@pytest.fixture(scope="module")
def server(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("client-server")
    (folder / "token").write_text("a-token-of-ours")
    with serving(folder, f"mine={bundle.folder}", "--token", folder / "token") as running:
        yield running


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMESIGHT_TOKEN", "a-token-of-ours")


def test_verify_proves_a_server(
    bundle: Bundle, server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    photos = bundle.folder.parent / "photos"
    words = ["verify", str(bundle.folder), "--runner", "server", "--url", server.url]
    assert main([*words, "--json", "--photos", str(photos)]) == 0
    found = json.loads(capsys.readouterr().out)
    (row,) = found["runners"]
    assert (row["runner"], row["copy"], row["samples"], row["ok"]) == ("server", "fp32", 6, True)
    assert row["accuracy"]["measured"] == 1.0
    sent = [event for event in server.events("request") if event["route"] == "infer"]
    assert len(sent) >= 2 * 6, "each golden sample as a tensor and as a photo"


def test_many_rows_are_sent_in_pieces(bundle: Bundle, server: Server) -> None:
    tensors = np.random.default_rng(2).standard_normal((19, 3, 32, 32)).astype(np.float32)
    runner = ServerRunner(bundle, "fp32", server.url, "a-token-of-ours")
    here = load(bundle)
    np.testing.assert_allclose(runner.logits(tensors), here._runner.logits(tensors), atol=1e-5)
    runner.close()


def test_another_preparation_is_named(bundle: Bundle, server: Server) -> None:
    runner = ServerRunner(bundle, "fp32", server.url, "a-token-of-ours")
    tensors = {
        name: preprocess(bundle.read(photo), bundle.preprocess) for name, photo in runner._photos.items()
    }
    (one, tensor), (other, _) = list(tensors.items())[:2]
    assert runner.logits(tensor[np.newaxis]).shape == (1, 3)
    runner._photos[one] = runner._photos[other]
    with pytest.raises(CopyError, match="decodes or resizes") as caught:
        runner.logits(tensor[np.newaxis])
    assert caught.value.exit_code == 1


def test_what_cannot_be_checked_is_told(
    bundle: Bundle, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tampered(bundle, tmp_path / "other", version="9.0.0")
    token = "a-token-of-ours"
    for given, copy, url, words in (
        (other, "fp32", server.url, "does not serve this bundle"),
        (bundle, "fp16", server.url, "does not serve this bundle"),
        (bundle, "fp32", "http://127.0.0.1:9", "does not answer"),
        (bundle, "fp32", "ftp://x", "not a server's address"),
    ):
        with pytest.raises(InputError, match=words):
            ServerRunner(given, copy, url, token)
    with pytest.raises(InputError, match="does not answer") as caught:
        ServerRunner(bundle, "fp32", server.url, "another-token")
    assert "bearer token" in str(caught.value)
    assert "SAMESIGHT_TOKEN" in str(caught.value)
    assert main(["verify", str(bundle.folder), "--runner", "server"]) == 2
    assert main(["verify", str(bundle.folder), "--runner", "onnxruntime", "--url", server.url]) == 2
