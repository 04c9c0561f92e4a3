"""A plain FastAPI application with ONNX Runtime: `PORT=… MODEL=… LABELS=… python server_fastapi.py`."""

from __future__ import annotations

import os
from typing import Annotated

import uvicorn
from fastapi import FastAPI, File
from server_common import answer, labels, prepare, session

app = FastAPI()
network, names = session(), labels()


@app.post("/predict")
def predict(photo: Annotated[bytes, File()]) -> dict:
    """Run in FastAPI's thread pool, so that photos are answered side by side."""
    (logits,) = network.run(None, {"input": prepare(photo)})
    return answer(logits[0], names)


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PORT"]), log_level="warning")
