"""What stands around every route: the token, the form of errors, slow readers, log and metrics."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
import traceback
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from samesight.serve.logs import Log
from samesight.serve.metrics import Metrics
from samesight.serve.refusal import Refusal

__all__ = ["OPEN_PATHS", "Guard", "Tokens"]

# What asks for no token: whether the server lives, and two pages that hold nothing but themselves.
OPEN_PATHS = frozenset({"/", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready"})


class Tokens:
    """The bearer tokens that open; all requests are open where there are none."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._digests = [hashlib.sha256(token.encode()).digest() for token in tokens]

    def check(self, scope: Scope) -> None:
        """Raise Refusal, 401, where the request needs a token and has none that fits."""
        if not self._digests or scope["path"] in OPEN_PATHS:
            return
        kind, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        given = hashlib.sha256(token.strip().encode("latin-1", "replace")).digest()
        # Every token is compared, in the same time whichever fits.
        fits = [hmac.compare_digest(given, digest) for digest in self._digests]
        if kind.lower() != "bearer" or not any(fits):
            raise Refusal(401, "token", "this server asks for a bearer token: Authorization: Bearer TOKEN")


class Guard:
    """The application within, guarded."""

    def __init__(self, app: ASGIApp, *, tokens: Tokens, metrics: Metrics, log: Log, write_s: float) -> None:
        self._app, self._tokens, self._metrics, self._log = app, tokens, metrics, log
        self._write_s = write_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. A client that does not take its answer in time is cut off."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 0
        scope["app"] = self  # so that the router raises instead of answering in a form of its own
        facts: dict[str, Any] = {}
        scope["facts"] = facts

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            async with asyncio.timeout(self._write_s):
                await send(message)

        try:
            self._tokens.check(scope)
            await self._app(scope, receive, watched)
        except Exception as error:
            if status:  # the answer had begun, so uvicorn ends the connection: all that is left to do
                facts["cut"] = type(error).__name__
                raise
            refusal = self._refusal(error, scope)
            self._metrics.rejected(refusal.reason)
            facts["refused"] = refusal.reason
            await error_response(refusal)(scope, receive, watched)
        finally:
            seconds = time.perf_counter() - start
            endpoint = scope.get("endpoint")
            route = getattr(endpoint, "__name__", "none")
            self._metrics.request(route, status, seconds)
            self._log(
                "request",
                method=scope["method"],
                route=route,
                status=status,
                ms=round(1000 * seconds, 2),
                **facts,
            )

    def _refusal(self, error: Exception, scope: Scope) -> Refusal:
        if isinstance(error, Refusal):
            return error
        if isinstance(error, HTTPException):
            words = {404: "there is nothing at this address", 405: "this address takes another method"}
            return Refusal(
                error.status_code,
                "address",
                words.get(error.status_code, error.detail),
                allow=(error.headers or {}).get("Allow"),
            )
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        self._log(
            "fault",
            level="error",
            path=scope["path"],
            exception=type(error).__name__,
            at=[f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames],
        )
        return Refusal(500, "fault", "the server made a mistake; its log says where")


def error_response(refusal: Refusal) -> JSONResponse:
    """The error form of the inference protocol, which all routes have."""
    return JSONResponse({"error": refusal.message}, refusal.status, headers=refusal.headers)
