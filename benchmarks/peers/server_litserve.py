"""The same network in LitServe, a worker a CPU: `PORT=… MODEL=… LABELS=… python server_litserve.py`."""

from __future__ import annotations

import os

import litserve
from server_common import answer, labels, prepare, session


class Photos(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.network, self.names = session(), labels()

    def decode_request(self, request):  # without a type, so that LitServe takes forms
        return prepare(request["photo"].file.read())

    def predict(self, x: object) -> object:
        (logits,) = self.network.run(None, {"input": x})
        return logits[0]

    def encode_response(self, output: object) -> dict:
        return answer(output, self.names)  # type: ignore[arg-type]


if __name__ == "__main__":
    server = litserve.LitServer(Photos(), accelerator="cpu", workers_per_device=len(os.sched_getaffinity(0)))
    server.run(
        port=int(os.environ["PORT"]), host="127.0.0.1", generate_client_file=False, log_level="warning"
    )
