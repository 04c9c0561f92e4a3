"""The routes: the inference protocol under /v2, /classify and two pages for people, /metrics."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from samesight import __version__
from samesight.errors import PhotoError, SamesightError, one_line
from samesight.runner import cpus
from samesight.runtime import TOP, Prediction
from samesight.serve.body import Budget, Lease, read_body, split_parts
from samesight.serve.guard import Guard, Tokens
from samesight.serve.logs import Log
from samesight.serve.metrics import CONTENT_TYPE, Metrics
from samesight.serve.openapi import description
from samesight.serve.processes import Proved
from samesight.serve.protocol import Answers, ProtocolError, metadata, read_request, write_answer
from samesight.serve.refusal import Refusal, photo_status
from samesight.serve.settings import Settings
from samesight.serve.shelf import Served, Shelf
from samesight.serve.turns import short_turns
from samesight.serve.work import Content, Pool

__all__ = ["Service"]

HEADER_LENGTH = "inference-header-content-length"
EXTENSIONS = ["binary_tensor_data", "classification", "model_repository(index)"]
PAGES = Path(__file__).parent / "pages"
PHOTO_TYPES = ("image/", "application/octet-stream", "application/x-www-form-urlencoded")
LARGE_BYTES = 1 << 16  # of JSON, from which reading it would keep the event loop from others
SMALL_BYTES = 1024  # below which compressing an answer only costs
PAGE_POLICY = (
    "default-src 'none'; img-src blob: data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Service:
    """One process's server, without its sockets: an ASGI application, and what stands behind it."""

    def __init__(
        self, settings: Settings, on_failure: Callable[[Exception], None], proved: Proved | None = None
    ) -> None:
        """`on_failure` hears of the error that keeps the server from ever becoming ready."""
        self.settings = settings
        self.metrics = Metrics()
        self.log = Log(settings.log)
        self.shelf = Shelf(settings, self._told)
        self.pool = Pool(
            threads=settings.threads or max(1, cpus() // settings.workers),
            length=settings.queue,
            max_pixels=settings.max_pixels,
            metrics=self.metrics,
        )
        self._budget = Budget(settings.memory_mib << 20)
        self._on_failure = on_failure
        self._proved = proved
        self._stopping = threading.Event()
        self.app = self._build()

    def _build(self) -> ASGIApp:
        model = "/v2/models/{name}"
        version = f"{model}/versions/{{version}}"
        routes = [
            Route("/", self.drop_page),
            Route("/classify", self.classify, methods=["POST"]),
            Route("/docs", self.docs_page),
            Route("/openapi.json", self.openapi),
            Route("/metrics", self.prometheus),
            Route("/v2", self.server_metadata),
            Route("/v2/", self.server_metadata),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.server_ready),
            Route("/v2/repository/index", self.index, methods=["POST"]),
            *(
                Route(f"{place}{suffix}", endpoint, methods=[method])
                for place in (model, version)
                for suffix, endpoint, method in (
                    ("", self.model_metadata, "GET"),
                    ("/ready", self.model_ready, "GET"),
                    ("/infer", self.infer, "POST"),
                )
            ),
        ]
        app: ASGIApp = Guard(
            Router(routes, redirect_slashes=False, lifespan=self._lifespan),
            tokens=Tokens(self.settings.tokens),
            metrics=self.metrics,
            log=self.log,
            write_s=self.settings.read_timeout_s,
        )
        if self.settings.origins:
            app = CORSMiddleware(
                app,
                allow_origins=self.settings.origins,
                allow_methods=["GET", "POST"],
                allow_headers=["authorization", "content-type", "content-encoding", HEADER_LENGTH],
                expose_headers=[HEADER_LENGTH, "retry-after"],
            )
        return app

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: object) -> AsyncIterator[None]:
        self.pool.start()
        keeper = threading.Thread(target=self._keep, name="serve-keeper", daemon=True)
        keeper.start()
        short_turns()  # of the event loop, which the pool's threads would keep waiting; they have longer ones
        try:
            yield
        finally:
            self._stopping.set()
            await asyncio.to_thread(self.pool.close)

    def load(self) -> None:
        """Open and prove every bundle. Raises SamesightError."""
        self.shelf.load()
        self.metrics.ready.set(1)
        if self._proved is not None:
            self._proved.tell()
        self.log("ready", threads=self.pool.threads, queue=self.pool.length)

    def _keep(self) -> None:
        """Load the bundles, then look for replaced ones until the server stops. Runs in its own thread."""
        try:
            if not self.shelf.ready:
                self.load()
        except Exception as error:
            self._on_failure(error)
            return
        while self.settings.reload_s and not self._stopping.wait(self.settings.reload_s):
            try:
                self.shelf.refresh()
            except Exception as error:  # whatever it is, what is served goes on being served
                self.log("reload failed", level="error", exception=type(error).__name__, error=str(error))

    def _told(self, event: str, *, level: str = "info", **facts: Any) -> None:
        self.metrics.bundle(event)
        self.log(f"bundle {event}", level=level, **facts)

    # What programs ask: the inference protocol.

    async def live(self, _: Request) -> Response:
        """Whether the process answers."""
        return JSONResponse({"live": True})

    async def server_ready(self, _: Request) -> Response:
        """Whether all bundles have been proved, by all processes, and the server is not stopping."""
        all_proved = self._proved is None or self._proved.by_all()
        ready = self.shelf.ready and all_proved and not self._stopping.is_set()
        return JSONResponse({"live": True, "ready": ready}, 200 if ready else 503, _retry(ready))

    async def server_metadata(self, _: Request) -> Response:
        """Name, version and extensions."""
        return JSONResponse({"name": "samesight", "version": __version__, "extensions": EXTENSIONS})

    async def index(self, request: Request) -> Response:
        """Every bundle: Triton's model repository index."""
        with Lease(self._budget) as lease:
            await read_body(request, lease, limit_bytes=LARGE_BYTES, timeout_s=self.settings.read_timeout_s)
        rows = [
            {"name": name, "version": version, "state": "READY", "reason": ""}
            for name, versions in self.shelf.names.items()
            for version in versions
        ]
        return JSONResponse(rows)

    async def model_metadata(self, request: Request) -> Response:
        """Inputs, outputs and versions of one name, and which bundle it is."""
        served = self._served(request.path_params)
        bundle = served.bundle
        answer = {
            "name": served.name,
            "versions": list(self.shelf.names[served.name]),
            "platform": "samesight_onnxruntime",
            **metadata(served.shape),
            "properties": {
                "version": served.version,
                "bundle": bundle.id,
                "copy": served.runner.copy,
                "golden_samples": served.samples,
                "batch": served.batch,
                "labels": list(bundle.labels),
                "preprocess": bundle.preprocess.to_json(),
            },
        }
        return _respond(request, _dumps(answer), {"content-type": "application/json"})

    async def model_ready(self, request: Request) -> Response:
        """Whether one name, or one version of it, answers."""
        served = self._served(request.path_params)
        return JSONResponse({"name": served.name, "version": served.version, "ready": True})

    async def infer(self, request: Request) -> Response:
        """Logits, probabilities, indices and labels of photos or tensors."""
        served = self._served(request.path_params)
        with Lease(self._budget) as lease:
            body, deadline = await self._read(request, lease)
            words = request.headers.get(HEADER_LENGTH)
            if words is not None and not (words.isascii() and words.isdigit() and len(words) < 12):
                raise Refusal(400, "protocol", "Inference-Header-Content-Length is not a number of bytes")
            length = None if words is None else int(words)
            large = (len(body) if length is None else length) > LARGE_BYTES
            try:
                if large:
                    asked = await asyncio.to_thread(read_request, body, length, served.shape)
                else:
                    asked = read_request(body, length, served.shape)
            except ProtocolError as error:
                raise Refusal(400, "protocol", str(error)) from error
            if asked.timeout_s is not None:
                deadline = min(deadline, time.monotonic() + asked.timeout_s)
            contents: list[Content] = list(asked.photos) if asked.tensor is None else [asked.tensor]
            found = await self.pool.answers(served, contents, lambda logits: logits, deadline)
        rows = [self._row(one, place) for place, one in enumerate(found)]
        answers = Answers(served.name, served.version, served.bundle.id, np.concatenate(rows))
        for row in answers.logits:
            self.metrics.labelled(served.name, served.version, served.classifier.prediction(row, 1))
        request.scope["facts"].update(model=served.name, version=served.version, photos=len(answers.logits))
        body, head = write_answer(asked, answers, served.bundle.labels)
        if head is None:
            return _respond(request, body, {"content-type": "application/json"})
        headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(head)}
        return _respond(request, body, headers)

    def _row(self, found: NDArray[np.float32] | SamesightError, place: int) -> NDArray[np.float32]:
        if isinstance(found, SamesightError):
            raise self._photo_refusal(found, f"element {place}: ")
        return found

    # What people ask.

    async def classify(self, request: Request) -> Response:
        """What a photo shows, in the form of `samesight predict --json`; of several photos, a list."""
        query = request.query_params
        served = self._served({"name": query.get("model"), "version": query.get("version")})
        top = _top(query.get("top"))
        with Lease(self._budget) as lease:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            multipart = kind == "multipart/form-data"
            if kind and not multipart and not kind.startswith(PHOTO_TYPES):
                raise Refusal(
                    415, "type", f"a photo or multipart/form-data is expected, not {ascii(kind)[1:-1]}"
                )
            body, deadline = await self._read(request, lease)
            if multipart:
                lease.upto(2 * len(body))
                parts = split_parts(body, request.headers["content-type"], self.settings.max_photos)
                photos = [(part.filename, part.data) for part in parts if part.filename is not None]
            else:
                photos = [(query.get("name", "photo"), body)]
            if not photos:
                raise Refusal(400, "multipart", "the body has no part that is a file")
            found = await self.pool.answers(
                served,
                [data for _, data in photos],
                lambda logits: served.classifier.prediction(logits[0], top),
                deadline,
            )
        request.scope["facts"].update(model=served.name, version=served.version, photos=len(found))
        records = [
            self._record(served, path or "photo", one) for (path, _), one in zip(photos, found, strict=True)
        ]
        status = 200
        if len(found) == 1 and isinstance(found[0], SamesightError):
            refusal = self._photo_refusal(found[0])
            status = refusal.status
            self.metrics.rejected(refusal.reason)
        answer = records[0] if len(records) == 1 else records
        return _respond(request, _dumps(answer), {"content-type": "application/json"}, status)

    def _record(self, served: Served, path: str, found: Prediction | SamesightError) -> dict[str, Any]:
        if isinstance(found, SamesightError):
            if isinstance(found, PhotoError):
                self.metrics.photo_error(found.kind)
            return {"path": path, "error": one_line(found)}
        self.metrics.labelled(served.name, served.version, found)
        return found.to_json(path)

    def _photo_refusal(self, error: SamesightError, where: str = "") -> Refusal:
        if isinstance(error, PhotoError):
            self.metrics.photo_error(error.kind)
            return Refusal(photo_status(error), f"photo {error.kind}", where + one_line(error))
        return Refusal(500, "network", where + one_line(error))

    async def drop_page(self, _: Request) -> Response:
        """A page to drop photos on."""
        return _page("drop.html")

    async def docs_page(self, _: Request) -> Response:
        """The description, to be read."""
        return _page("docs.html")

    async def openapi(self, request: Request) -> Response:
        """The description, for programs."""
        body = _dumps(description(self.settings))
        return _respond(request, body, {"content-type": "application/json"})

    async def prometheus(self, request: Request) -> Response:
        """The metrics."""
        self.metrics.queue.set(self.pool.waiting)
        self.metrics.body_bytes.set(self._budget.held_bytes)
        body = await asyncio.to_thread(self.metrics.text)
        return _respond(request, body, {"content-type": CONTENT_TYPE})

    # What several of them need.

    def _served(self, words: Mapping[str, str | None]) -> Served:
        """The bundle that is meant. Raises Refusal: 404, or 503 while bundles are being proved."""
        name, version = words.get("name"), words.get("version")
        served = self.shelf.get(name, version)
        if served is None:
            if not self.shelf.ready:
                raise Refusal(503, "not ready", "the bundles are still being proved", retry_s=2)
            there = ", ".join(f"{one} {', '.join(versions)}" for one, versions in self.shelf.names.items())
            wanted = " ".join(ascii(word)[1:-1] for word in (name, version) if word)
            raise Refusal(404, "model", f"there is no model {wanted}; there are: {there}")
        return served

    async def _read(self, request: Request, lease: Lease) -> tuple[bytes, float]:
        """The body, and the time by which it must be answered."""
        self.pool.check_room()
        start = time.perf_counter()
        body = await read_body(
            request,
            lease,
            limit_bytes=self.settings.max_bytes,
            timeout_s=self.settings.read_timeout_s,
        )
        self.metrics.stage("read", time.perf_counter() - start)
        return body, time.monotonic() + self.settings.deadline_s


def _top(words: str | None) -> int:
    if words is None:
        return TOP
    if not (words.isascii() and words.isdigit() and len(words) < 7 and int(words) > 0):
        raise Refusal(422, "query", "top is not a whole number from 1")
    return int(words)


def _dumps(value: object) -> bytes:
    return json.dumps(value, allow_nan=False).encode()


def _retry(ready: bool) -> dict[str, str]:
    return {} if ready else {"retry-after": "2"}


def _page(name: str) -> Response:
    headers = {
        "content-security-policy": PAGE_POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }
    return HTMLResponse((PAGES / name).read_text(), headers=headers)


def _respond(request: Request, body: bytes, headers: dict[str, str], status: int = 200) -> Response:
    """The answer, compressed where the client takes that and it is worth it."""
    if len(body) >= SMALL_BYTES:
        headers["vary"] = "accept-encoding"
        coding = _coding(request.headers.get("accept-encoding", ""))
        if coding is not None:
            body = gzip.compress(body, 1, mtime=0) if coding == "gzip" else zlib.compress(body, 1)
            headers["content-encoding"] = coding
    return Response(body, status, headers)


def _coding(accepted: str) -> str | None:
    """gzip or deflate, the first that the client names and does not forbid."""
    for word in accepted.lower().split(","):
        coding, _, weight = word.strip().partition(";")
        if coding in ("gzip", "deflate") and weight.replace(" ", "") not in (
            "q=0",
            "q=0.0",
            "q=0.00",
            "q=0.000",
        ):
            return coding
    return None
