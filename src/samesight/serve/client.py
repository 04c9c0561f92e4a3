"""A server's answers as a runner: the Open Inference Protocol over HTTP, with the standard library alone."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from numpy.typing import NDArray

from samesight.bundle import Bundle
from samesight.errors import CopyError, InputError
from samesight.runner import Runner
from samesight.serve.settings import TOKEN_VARIABLE
from samesight.verify.golden import array_sha256, read_golden

__all__ = ["ServerRunner", "open_server_runners"]

PIECE = 8  # photos a request
TRIES = 8
LONGEST_WAIT_S = 30.0
TIMEOUT_S = 120.0


class ServerRunner:
    """One copy of a bundle, run by a server that serves this very bundle."""

    name = "server"

    def __init__(self, bundle: Bundle, copy: str, url: str, token: str | None = None) -> None:
        """Raises InputError where there is no server at `url`, or it serves another bundle or copy."""
        self.copy = copy
        self._bundle = bundle
        self._parts = urlsplit(url)
        if self._parts.scheme not in ("http", "https") or not self._parts.hostname:
            raise InputError("this is not a server's address", expected="http://127.0.0.1:8000", found=url)
        self._token = token
        self._connection: http.client.HTTPConnection | None = None
        self._model = self._find()
        # Golden samples are sent as photos too: the server's own decoding and resizing are part of the proof.
        self._photos = {sample.tensor_sha256: sample.photo for sample in read_golden(bundle).samples}

    def logits(self, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits (n, classes) of `tensors` (n, 3, height, width).

        Raises CopyError where the server makes another tensor than this of a golden photo, InputError where
        it does not answer.
        """
        rows = [
            self._infer(_input("input", "FP32", list(piece.shape)), piece.astype("<f4").tobytes())
            for piece in (tensors[start : start + PIECE] for start in range(0, len(tensors), PIECE))
        ]
        if len(tensors) == 1 and (photo := self._photos.get(array_sha256(tensors[0]))) is not None:
            data = self._bundle.read(photo)
            element = len(data).to_bytes(4, "little") + data
            found = self._infer(_input("image", "BYTES", [1]), element)
            if not np.array_equal(found, rows[0]):
                raise CopyError(
                    "the server decodes or resizes a photo otherwise than its bundle records",
                    where=f"{self._parts.geturl()}, {photo}",
                    expected="the logits that it gives for the recorded tensor",
                    found=f"a difference of up to {np.abs(found - rows[0]).max():.3g}",
                )
        return np.concatenate(rows)

    def _find(self) -> str:
        """The path of the model that is this bundle."""
        path = f"/v2/models/{quote(self._bundle.name)}/versions/{quote(self._bundle.version)}"
        others = [f"/v2/models/{quote(name)}/versions/{quote(version)}" for name, version in self._listed()]
        found = []
        for place in (path, *(other for other in others if other != path)):
            status, _, body = self._ask("GET", place)
            if status == 503:
                raise self._failed(_object(body).get("error"), fix="the same again, once it is ready")
            if status != 200:
                continue
            said = _object(body).get("properties") or {}
            if said.get("bundle") == self._bundle.id and said.get("copy") == self.copy:
                return place
            found.append(f"{str(said.get('bundle'))[:12]} {said.get('copy')}")
        raise InputError(
            "the server does not serve this bundle and copy",
            where=self._parts.geturl(),
            expected=f"{self._bundle.id[:12]} {self.copy}",
            found=", ".join(found) or "no such model",
            fix=f"samesight serve {self._bundle.folder} --copy {self.copy}",
        )

    def _listed(self) -> list[tuple[str, str]]:
        """Name and version of all that is served; none where the server keeps no such list."""
        status, _, body = self._ask("POST", "/v2/repository/index", b"")
        if status == 401:
            raise self._failed(_object(body).get("error"), fix=f"{TOKEN_VARIABLE}=TOKEN samesight …")
        try:
            return [(str(row["name"]), str(row["version"])) for row in json.loads(body)]
        except (ValueError, KeyError, TypeError):
            return []

    def _infer(self, given: Mapping[str, Any], data: bytes) -> NDArray[np.float32]:
        given = {**given, "parameters": {"binary_data_size": len(data)}}
        wanted = [{"name": "output", "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": [given], "outputs": wanted}).encode()
        headers = {"inference-header-content-length": str(len(head))}
        status, found, body = self._ask("POST", f"{self._model}/infer", head + data, headers)
        if status != 200:
            raise self._failed(f"status {status}: {_object(body).get('error', body[:200])}")
        length = int(found.get("inference-header-content-length", "0"))
        (row,) = json.loads(body[:length])["outputs"]
        return np.frombuffer(body[length:], "<f4").reshape(row["shape"]).astype(np.float32)

    def _ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of an answer; a server that is busy is asked again when it says."""
        given = dict(headers or {})
        if self._token is not None:
            given["authorization"] = f"Bearer {self._token}"
        for attempt in range(TRIES):
            try:
                connection = self._connect()
                connection.request(method, self._parts.path.rstrip("/") + path, body, given)
                answer = connection.getresponse()
                found = {name.lower(): value for name, value in answer.getheaders()}
                data = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if attempt and isinstance(error, ConnectionRefusedError):
                    raise self._failed(error) from error
                if attempt == TRIES - 1:
                    raise self._failed(error) from error
                continue  # a kept connection may have been closed meanwhile
            if answer.status not in (429, 503) or attempt == TRIES - 1:
                return answer.status, found, data
            time.sleep(min(float(found.get("retry-after", "1")), LONGEST_WAIT_S))
        raise AssertionError("the last attempt returns or raises")

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None:
            secure = self._parts.scheme == "https"
            kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            self._connection = kind(self._parts.netloc, timeout=TIMEOUT_S)
        return self._connection

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _failed(self, error: object, fix: str = "samesight serve BUNDLE") -> InputError:
        return InputError("the server does not answer", where=self._parts.geturl(), found=error, fix=fix)


def open_server_runners(
    bundle: Bundle, copies: Sequence[str], url: str | None, token: str | None
) -> list[Runner]:
    """A runner for each of `copies`. Raises InputError where there is no address, or another bundle there."""
    if url is None:
        raise InputError("a server is needed to run copies in one", fix="--url http://127.0.0.1:8000")
    return [ServerRunner(bundle, copy, url, token) for copy in copies]


def _input(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape}


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
