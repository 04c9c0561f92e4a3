"""The same network in BentoML, a worker a CPU: `bentoml serve server_bentoml:Photos --port …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType
from server_common import answer, labels, prepare, session


@bentoml.service(workers="cpu_count", traffic={"timeout": 60})
class Photos:
    def __init__(self) -> None:
        self.network, self.names = session(), labels()

    @bentoml.api
    def predict(self, photo: Annotated[Path, ContentType("image/jpeg")]) -> dict:
        (logits,) = self.network.run(None, {"input": prepare(photo.read_bytes())})
        return answer(logits[0], self.names)
