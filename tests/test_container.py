"""The Dockerfile, compose.yaml and kserve.yaml: what they say, and the image itself, built and run."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import container
import pytest
import yaml
from container import COMPOSE, ROOT, Container, Image
from serving import until

from samesight.bundle import Bundle
from samesight.commands.serve import add_arguments
from samesight.runtime import load
from samesight.serve.settings import Source

pytestmark = pytest.mark.row("R2")

DOCKERFILE = (ROOT / "Dockerfile").read_text()
ASK = """
import http.client, sys, time
token, photo, pause_s = sys.argv[1:]
body = open(photo, "rb").read()
connection = http.client.HTTPConnection("127.0.0.1", 8000)
connection.putrequest("POST", "/classify")
connection.putheader("content-length", str(len(body)))
connection.putheader("authorization", f"Bearer {token}")
connection.endheaders(body[:9])
print("begun", flush=True)
time.sleep(float(pause_s))
connection.send(body[9:])
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""
TOKEN = "a-token-for-a-container"


def test_the_image_holds_what_is_pinned_and_nobody_owns_it() -> None:
    """What hadolint and its like ask for, and that what is copied exists and is let through."""
    lines = re.sub(r"\\\n", "", DOCKERFILE).splitlines()
    words = {line.split()[0]: line for line in lines if line and not line.startswith("#")}
    assert all(re.search(r"FROM [a-z]+:[0-9.]+\S*", line) for line in lines if line.startswith("FROM"))
    assert re.fullmatch(r"USER [1-9][0-9]*:[1-9][0-9]*", words["USER"])
    assert '"-c", "import' in words["HEALTHCHECK"]
    assert json.loads(words["ENTRYPOINT"].partition(" ")[2])[:2] == ["samesight", "serve"]
    assert "-c requirements.lock" in words["RUN"]
    assert "--no-cache-dir" in words["RUN"]
    assert not {"ADD", "MAINTAINER"} & set(words)
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = {
        place
        for line in lines
        if line.startswith("COPY") and "--from" not in line
        for place in line.split()[1:-1]
    }
    assert copied == let_through
    assert all((ROOT / place).exists() for place in copied)


def test_compose_and_kserve_start_it_with_what_it_takes() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    predictor = yaml.safe_load((ROOT / "docs" / "kserve.yaml").read_text())["spec"]["predictor"]
    (kserve,) = predictor["containers"]
    for given in (COMPOSE["command"], kserve["args"]):
        assert parser.parse_args(given).bundles == [Source(Path("/bundles/mine"))]
    asked = {kserve[name]["httpGet"]["path"] for name in ("readinessProbe", "livenessProbe", "startupProbe")}
    assert asked == {"/v2/health/ready", "/v2/health/live"}
    assert kserve["securityContext"]["runAsUser"] == 65534
    mounted = {mount["name"]: mount["mountPath"] for mount in kserve["volumeMounts"]}
    assert sorted(mounted) == sorted(volume["name"] for volume in predictor["volumes"])
    assert "/tmp" in mounted.values()
    assert COMPOSE["tmpfs"] == ["/tmp"]
    # Compose must wait longer than the server does before it kills it.
    assert int(COMPOSE["stop_grace_period"].removesuffix("s")) > 30


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    if (why := container.missing()) is not None:
        pytest.skip(why)
    image = Image(tmp_path_factory.mktemp("image"))
    try:
        yield image
    finally:
        image.remove()


@pytest.fixture
def bundles(bundle: Bundle, tmp_path: Path) -> dict[str, Path]:
    """What compose.yaml mounts, readable to all: the folder above the bundle, and the token."""
    above = tmp_path / "bundles"
    above.mkdir()
    shutil.copytree(bundle.folder, above / "mine")
    (tmp_path / "token").write_text(TOKEN)
    return {"/bundles": above, "/run/secrets/token": tmp_path / "token"}


@pytest.mark.slow
def test_the_image_serves_as_nobody_and_writes_nothing(
    image: Image, bundles: dict[str, Path], bundle: Bundle, tmp_path: Path
) -> None:
    running = Container(image, tmp_path / "box", COMPOSE["command"], bundles)
    try:
        until(running.healthy)
        assert running.run("id", "-u") == (0, "65534\n")
        photo = next(path for path in sorted((bundle.folder / "golden").rglob("photo.*")))
        within = f"/bundles/mine/{photo.relative_to(bundle.folder)}"
        code, told = running.run("python", "-c", ASK, TOKEN, within, "0")
        assert told.startswith("begun\n200 "), (code, told)
        answer = json.loads(told[len("begun\n200 ") :])
        assert (answer["label"], answer["bundle"]) == (load(bundle).classify(photo).label, bundle.id)
        assert "\n401 " in running.run("python", "-c", ASK, "not-the-token", within, "0")[1]
        for place in ("/x", "/samesight/x", "/bundles/x", "/bundles/mine/x"):
            assert "Read-only file system" in running.run("touch", place)[1]
        assert running.run("ls", "-A", "/tmp") == (0, "")
        status = running.run("cat", "/proc/1/status")[1]
        assert re.search(r"CapEff:\s+0+\n", status)
        assert re.search(r"NoNewPrivs:\s+1\n", status)
        asking = running.begin("python", "-c", ASK, TOKEN, within, "2")
        assert asking.stdout is not None
        assert asking.stdout.readline() == "begun\n"
        assert running.stop() == 0
        assert asking.communicate()[0].startswith("200 "), "what was begun is finished"
        assert json.loads(running.log.splitlines()[-1])["event"] == "stopped"
    finally:
        running.end()


@pytest.mark.slow
def test_an_image_without_a_proved_bundle_is_never_healthy(
    image: Image, bundles: dict[str, Path], tmp_path: Path
) -> None:
    network = bundles["/bundles"] / "mine" / "model.fp32.onnx"
    network.write_bytes(network.read_bytes() + b" ")
    running = Container(image, tmp_path / "box", COMPOSE["command"], bundles)
    try:
        assert running.process.wait(60) == 2
        assert not running.healthy()
        assert "model.fp32.onnx" in running.log
    finally:
        running.end()


@pytest.mark.slow
def test_the_image_is_slim(image: Image) -> None:
    installed = {path.name for path in (image.root / "samesight").glob("lib/*/site-packages/*")}
    assert not {"torch", "onnx", "ray", "pytest"} & installed
    assert image.bytes("samesight") < 300 << 20
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    for name in ("onnxruntime", "pillow", "starlette"):
        assert f"{name}-{pinned[name]}.dist-info" in installed
