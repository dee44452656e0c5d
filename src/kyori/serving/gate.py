"""What stands before every route: who asks, how much, how many at once, how long; and what an error looks like."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from .access import Role, Tokens, is_loopback
from .limits import Limits, Refused
from .metrics import Metrics

__all__ = ["Gate", "failure"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_OPEN = ("/health",)
_UNCOUNTED = ("/health", "/metrics")  # answered however busy the server is
_READING_POSTS = ("/embed", "/search", "/verify", "/identify")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_DRAIN_SECONDS = 2.0
log = logging.getLogger("kyori.serving")


def failure(message: str) -> dict[str, Any]:
    """Return the body of every answer that is an error."""
    return {"error": {"message": message}}


class Gate:
    """An ASGI layer around the app. Outermost, so that nothing is parsed before it is allowed.

    In this order: the token (401, 403), the size of the body while it comes in (413, 408), the number of requests
    at once (429), then the app within a time limit (503). Whatever the app raises becomes a status and a sentence; a
    trace goes to the log only.

    Args:
        app: The app.
        limits: How much.
        tokens: Who; without any, only requests that name this machine are answered.
        metrics: Where answers are counted.
        routes: The paths that the app knows; others are counted together.
    """

    def __init__(self, app: App, *, limits: Limits, tokens: Tokens, metrics: Metrics, routes: set[str]):
        self._app, self._limits, self._tokens, self._metrics = app, limits, tokens, metrics
        self._routes = routes
        self._working = 0
        self._buffered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http":
            await self._answer(scope, receive, _Answer(send))
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        start = time.perf_counter()
        held = _Held(self)
        try:
            async with asyncio.timeout(self._limits.seconds + self._limits.body_seconds):
                await self._checked(scope, receive, answer, held)
        except _GoneError:
            answer.status = 499  # as nginx counts clients that left
        except Refused as refused:
            await answer.refuse(refused)
        except TimeoutError:
            await answer.refuse(
                Refused(503, f"the answer was not ready within {self._limits.seconds:g} s.", 1)
            )
        except Exception as error:
            # Not log.exception: an error's text may repeat what the client sent, its trace only names our code.
            log.error("%s on %s", _described(error), self._route(scope))
            await answer.refuse(Refused(500, "the server failed on this request; its log says why."))
        finally:
            held.release()
            method = scope["method"] if scope["method"] in _METHODS else "other"
            seconds = time.perf_counter() - start
            self._metrics.answered(self._route(scope), method, answer.status, seconds)
            log.info("%s %s %d %.1f ms", method, self._route(scope), answer.status, 1e3 * seconds)

    async def _checked(self, scope: Scope, receive: Receive, answer: _Answer, held: _Held) -> None:
        headers = _headers(scope)
        path = scope["path"]
        incoming = _Incoming(receive)
        try:
            self._admit(scope["method"], path, headers)
            body = await self._body(headers, incoming, held)
        except Refused as refused:
            if refused.status != 408:
                await self._drain(incoming)
            answer.close = incoming.more  # whatever of the body still comes is no request
            raise
        if path not in _UNCOUNTED:
            held.work()
        async with asyncio.timeout(self._limits.seconds):
            await self._app(scope, _replay(body, receive), answer)

    def _admit(self, method: str, path: str, headers: dict[bytes, bytes]) -> None:
        """Raise unless the token of the request allows it."""
        if path in _OPEN:
            return
        if not len(self._tokens):
            # Listening to this machine only is no protection against a web page that renames itself to 127.0.0.1.
            host = headers.get(b"host", b"").decode("latin-1")
            if not is_loopback(_without_port(host)):
                raise Refused(403, "without tokens only requests to localhost are answered; use that name.")
            return
        role = self._role(headers)
        if role is None:
            raise Refused(401, "a valid token is needed: Authorization: Bearer TOKEN.")
        if role == "read" and not (method in ("GET", "HEAD", "OPTIONS") or path in _READING_POSTS):
            raise Refused(403, "this needs a token with the role write; yours may read.")

    def _role(self, headers: dict[bytes, bytes]) -> Role | None:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        return self._tokens.role(token.strip()) if scheme.lower() == b"bearer" else None

    async def _body(self, headers: dict[bytes, bytes], incoming: _Incoming, held: _Held) -> bytes:
        """Read the body, counting while it comes: what a header says of its size may be wrong or missing."""
        largest = self._limits.body_bytes
        too_large = Refused(413, f"the body must have at most {largest} bytes; send fewer or smaller items.")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > largest:
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while incoming.more:
                    part = await incoming.next()
                    size += len(part)
                    if size > largest:
                        raise too_large
                    held.buffer(len(part))
                    parts.append(part)
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {self._limits.body_seconds:g} s.") from None
        return b"".join(parts)

    async def _drain(self, incoming: _Incoming) -> None:
        """Drop what a refused client still sends, for a while: it reads the answer only when it has sent all."""
        left = 4 * self._limits.body_bytes
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while incoming.more and left > 0:
                    left -= len(await incoming.next())

    def _route(self, scope: Scope) -> str:
        return scope["path"] if scope["path"] in self._routes else "other"


class _Incoming:
    """The body of a request, part by part."""

    def __init__(self, receive: Receive):
        self._receive = receive
        self.more = True

    async def next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise _GoneError
        self.more = message.get("more_body", False)
        return bytes(message.get("body", b""))


class _Held:
    """What one request holds of what there is: its body's bytes and its place among those worked on."""

    def __init__(self, gate: Gate):
        self._gate = gate
        self._bytes = 0
        self._works = False

    def buffer(self, count: int) -> None:
        gate = self._gate
        if gate._buffered + count > gate._limits.buffered_bytes:
            raise Refused(503, "the server holds as many bytes of requests as it may; ask again.", 1)
        gate._buffered += count
        self._bytes += count
        gate._metrics.buffered.set(gate._buffered)

    def work(self) -> None:
        gate = self._gate
        if gate._working >= gate._limits.concurrency:
            raise Refused(429, f"the server works on {gate._working} requests already; ask again.", 1)
        gate._working += 1
        self._works = True
        gate._metrics.in_flight.set(gate._working)

    def release(self) -> None:
        gate = self._gate
        gate._buffered -= self._bytes
        gate._working -= self._works
        gate._metrics.buffered.set(gate._buffered)
        gate._metrics.in_flight.set(gate._working)


class _Answer:
    """The way back to the client; remembers the status, and can still say no as long as nothing was sent."""

    def __init__(self, send: Send):
        self._send = send
        self.status = 500
        self.close = False
        self._started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self._started = message["status"], True
            message = {**message, "headers": [*message.get("headers", []), *_SAFE]}
        await self._send(message)

    async def refuse(self, refused: Refused) -> None:
        if (
            self._started
        ):  # half an answer cannot be taken back; ending here makes the server close the connection
            return
        body = json.dumps(failure(refused.message)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if refused.retry_after is not None:
            headers.append((b"retry-after", str(refused.retry_after).encode()))
        if refused.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if self.close:
            headers.append((b"connection", b"close"))
        await self({"type": "http.response.start", "status": refused.status, "headers": headers})
        await self({"type": "http.response.body", "body": body})


_SAFE = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]


class _GoneError(Exception):
    """The client left before it had said what it wants."""


def _headers(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers by name; a second Authorization or Host makes the request nobody's."""
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        found[name] = value if name not in found else found[name] + b", " + value
    return found


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0][1:]
    return host.partition(":")[0]


def _described(error: BaseException) -> str:
    """Return the kind of an error and the lines of code it came through, without the text it carries."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return f"{type(error).__name__} at " + " < ".join(reversed(places[-8:]))


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hand a body that was read already to the app, then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
