"""What one client may ask of the server at most, and the error that says no."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from ..errors import ArgumentError, KyoriError

__all__ = ["Limits", "Refused"]

_PILLOW = 89_478_485  # pixels that Pillow opens without a warning


class Refused(KyoriError):  # noqa: N818 (an answer, not an accident)
    """A request is turned away with a status and a sentence that the client may read.

    Args:
        status: HTTP status, 400 to 503.
        message: What was expected, what came, what to do.
        retry_after: Whole seconds after which a client should come back; with 429 and 503.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None):
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


@dataclass(frozen=True)
class Limits:
    """The limits of a server; each has a default that suits one machine.

    Attributes:
        body_bytes: Bytes of one request's body.
        buffered_bytes: Bytes of all bodies that are held at once.
        pixels: Pixels of one picture before it is scaled, read from its header before it is decoded.
        items: Items (or pairs, or queries) in one request.
        k: Neighbours that a query may ask for.
        json_depth: Levels of nested lists and objects in a JSON body.
        json_keys: Keys in a JSON body, over all of its objects.
        concurrency: Requests worked on at once; one more is answered 429.
        queue: Items that wait for the model; one more is answered 503.
        batch: Items that the model is given at once.
        connections: Open connections; one more is closed at once.
        header_seconds: Time for a client to send the headers of a request.
        body_seconds: Time for a client to send the body.
        wait_seconds: Time that an item may wait for the model; then the answer is 503.
        seconds: Time for a request as a whole, and for a client to take the answer.
        keep_alive_seconds: How long an idle connection is kept.
        stop_seconds: How long a stopping server waits for the requests it has accepted.
    """

    body_bytes: int = 16 * 2**20
    buffered_bytes: int = 256 * 2**20
    pixels: int = 50_000_000
    items: int = 256
    k: int = 1000
    json_depth: int = 16
    json_keys: int = 20_000
    concurrency: int = 64
    queue: int = 1024
    batch: int = 256
    connections: int = 512
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    wait_seconds: float = 10.0
    seconds: float = 60.0
    keep_alive_seconds: float = 30.0
    stop_seconds: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not math.isfinite(value) or value <= 0:
                raise ArgumentError(f"{field.name} must be above 0; got {value}.")
        if self.buffered_bytes < self.body_bytes:
            raise ArgumentError(
                f"buffered_bytes must be at least body_bytes, {self.body_bytes}; got {self.buffered_bytes}."
            )
        if self.queue < self.items:
            raise ArgumentError(f"queue must be at least items, {self.items}; got {self.queue}.")
        if self.pixels > _PILLOW:
            raise ArgumentError(f"pixels must be at most {_PILLOW}, Pillow's own limit; got {self.pixels}.")
