"""One line an event, on stderr. Never what was sent: no photo, no file name, no token, no label."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

__all__ = ["Log", "PlainHandler"]


class Log:
    """Writes events as JSON lines, as text, or not at all."""

    def __init__(self, form: str = "json") -> None:
        self._form = form

    def __call__(self, event: str, *, level: str = "info", **facts: Any) -> None:
        """Write one event. In form "off" only warnings and errors are written, as text."""
        if self._form == "off" and level == "info":
            return
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03}Z"
        if self._form == "json":
            line = json.dumps({"time": stamp, "level": level, "event": event, **facts}, default=str)
        else:
            words = " ".join(f"{name}={_word(value)}" for name, value in facts.items() if value is not None)
            line = f"{stamp} {level:<7} {event} {words}".rstrip()
        try:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
        except (OSError, ValueError):  # nobody reads it any more; that is no reason to stop answering
            return


class PlainHandler(logging.Handler):
    """Turns what uvicorn says into events of ours."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's message, and the kind of an exception that comes with it."""
        facts: dict[str, Any] = {"message": record.getMessage()}
        if record.exc_info and record.exc_info[0] is not None:
            facts["exception"] = record.exc_info[0].__name__
        self._log("http", level=record.levelname.lower(), **facts)


def _word(value: object) -> str:
    text = str(value).replace("\n", " | ")
    return ascii(text) if " " in text or not text.isprintable() else text
