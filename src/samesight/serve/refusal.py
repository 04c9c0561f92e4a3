"""Every answer of the server that is not 200, with the reason that its metric has."""

from __future__ import annotations

import math

from samesight.errors import PhotoError

__all__ = ["Refusal", "photo_status"]

# By the kinds of spec/preprocess.md.
_PHOTO_STATUS = {"too-large": 413, "unknown": 415, "unsupported": 415}


class Refusal(Exception):
    """A request that is not answered; `reason` is a word for the metrics, `message` one for people."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        retry_s: float | None = None,
        allow: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message
        self.retry_s, self.allow = retry_s, allow

    @property
    def headers(self) -> dict[str, str]:
        """What goes with the status: when to come again, how to be let in, that the connection ends."""
        headers = {}
        if self.retry_s is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_s)))
        if self.allow is not None:
            headers["allow"] = self.allow
        if self.status == 401:
            headers["www-authenticate"] = 'Bearer realm="samesight"'
        if self.status in (408, 413):  # the rest of the body is not wanted
            headers["connection"] = "close"
        return headers


def photo_status(error: PhotoError) -> int:
    """413 for a photo that is too large, 415 for a kind that is not read, 422 for one that is spoilt."""
    return _PHOTO_STATUS.get(error.kind, 422)
