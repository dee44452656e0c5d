"""Connections that cannot be held open for nothing: time limits that uvicorn leaves to others."""

from __future__ import annotations

import asyncio
from typing import Any

from ..optional import require
from .limits import Limits

__all__ = ["bounded_protocol"]


def bounded_protocol(limits: Limits) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP/1.1 protocol with limits on the number of connections, on the time that headers may
    take (a client that sends a byte a second would hold its connection for ever), and on the time in which a
    client must take its answer.
    """
    base: Any = require("uvicorn.protocols.http.h11_impl", extra="serve", purpose="kyori serve").H11Protocol

    class Bounded(base):
        _headers_timer: asyncio.TimerHandle | None = None
        _answer_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self.access_log = False  # its lines hold whole addresses; the gate writes its own
            if len(self.connections) > limits.connections:
                transport.abort()
                return
            self._expect_headers()

        def connection_lost(self, error: Exception | None) -> None:
            self._stop("_headers_timer")
            self._stop("_answer_timer")
            super().connection_lost(error)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._between_requests():
                self._expect_headers()
            else:
                self._stop("_headers_timer")

        def pause_writing(self) -> None:
            super().pause_writing()
            self._answer_timer = self.loop.call_later(limits.seconds, self.transport.abort)

        def resume_writing(self) -> None:
            self._stop("_answer_timer")
            super().resume_writing()

        def timeout_keep_alive_handler(self) -> None:
            if (
                self.transport.get_write_buffer_size()
            ):  # never taken: a polite close would wait for it for ever
                self.transport.abort()
            else:
                super().timeout_keep_alive_handler()

        def _between_requests(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def _expect_headers(self) -> None:
            if self._headers_timer is None:
                self._headers_timer = self.loop.call_later(limits.header_seconds, self._late)

        def _late(self) -> None:
            self._headers_timer = None
            if not self.transport.is_closing() and self._between_requests():
                self.transport.write(
                    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                )
                self.transport.close()

        def _stop(self, name: str) -> None:
            timer = getattr(self, name)
            if timer is not None:
                timer.cancel()
                setattr(self, name, None)

    return Bounded
