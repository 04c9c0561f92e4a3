"""What is counted, for Prometheus. With several processes, over all of them."""

from __future__ import annotations

import os
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    multiprocess,
)

from samesight.runtime import Prediction

__all__ = ["CONTENT_TYPE", "SHARED_FOLDER", "STAGES", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # read by prometheus_client when it is imported
STAGES = ("read", "queue", "decode", "resize", "network", "whole")
MAX_LABELS = 1000  # of one network that are counted by name
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self._registry, "namespace": "samesight"}
        self._requests = Counter("requests", "Requests answered.", ("route", "status"), **own)
        self._rejections = Counter("rejections", "Requests refused, by reason.", ("reason",), **own)
        self._photo_errors = Counter("photo_errors", "Photos that were not read, by kind.", ("kind",), **own)
        self._labels = Counter(
            "labels",
            "Photos by the label that they were given: drift shows here.",
            ("model", "version", "label"),
            **own,
        )
        self._confidence = Histogram(
            "confidence",
            "The probability of the label that was given.",
            ("model", "version"),
            buckets=[tenth / 10 for tenth in range(1, 11)],
            **own,
        )
        stages = Histogram("stage_seconds", "Time by stage.", ("stage",), buckets=_SECONDS, **own)
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self._batch = Histogram("batch_photos", "Photos in a run.", buckets=(1, 2, 4, 8, 16, 32), **own)
        alive: dict[str, Any] = {"multiprocess_mode": "livesum", **own}
        self.queue = Gauge("queue_photos", "Photos that wait.", **alive)
        self.body_bytes = Gauge("body_bytes", "Bytes of requests that are held.", **alive)
        self.connections = Gauge("connections", "Connections that are open.", **alive)
        self.ready = Gauge("ready_processes", "Processes whose bundles have all been proved.", **alive)
        self._bundles = Counter(
            "bundle_events", "Bundles loaded, replaced, refused, missing.", ("event",), **own
        )
        if SHARED_FOLDER not in os.environ:
            ProcessCollector(registry=self._registry)

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(route, str(status)).inc()
        self._stages["whole"].observe(seconds)

    def rejected(self, reason: str) -> None:
        """A request was refused."""
        self._rejections.labels(reason).inc()

    def photo_error(self, kind: str) -> None:
        """A photo could not be read, by the kinds of spec/preprocess.md."""
        self._photo_errors.labels(kind).inc()

    def labelled(self, model: str, version: str, answer: Prediction) -> None:
        """A photo was given a label."""
        name = answer.label if answer.index < MAX_LABELS else "(others)"
        self._labels.labels(model, version, name).inc()
        self._confidence.labels(model, version).observe(answer.confidence)

    def stage(self, name: str, seconds: float) -> None:
        """A stage took so long."""
        self._stages[name].observe(seconds)

    def batch(self, photos: int) -> None:
        """A network was run on so many photos."""
        self._batch.observe(photos)

    def bundle(self, event: str) -> None:
        """A bundle came, went or was refused."""
        self._bundles.labels(event).inc()

    def text(self) -> bytes:
        """All of it in Prometheus' text form."""
        registry = self._registry
        if SHARED_FOLDER in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        text: bytes = generate_latest(registry)
        return text
