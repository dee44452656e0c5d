"""The routes, and the app they make."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from pydantic_core import to_json

from .. import __version__
from ..errors import KyoriError
from ..optional import require
from . import messages
from .access import Tokens
from .answers import Desk
from .bodies import PICTURES, read_question
from .gate import Gate, failure
from .limits import Limits, Refused
from .metrics import Metrics
from .page import api_page
from .served import Served, Shelf

__all__ = ["answer_errors", "create_app"]

log = logging.getLogger("kyori.serving")
_ASKED = (
    messages.Embed,
    messages.Search,
    messages.Verify,
    messages.Identify,
    messages.Insertion,
    messages.Deletion,
)
_REASONS = {
    400: "The body is no JSON, or nested too deep.",
    401: "No valid token.",
    403: "The token may not do this.",
    404: "There is no such thing.",
    405: "The path knows other methods.",
    408: "The body did not arrive in time.",
    409: "The run lacks an index or a calibration for this.",
    413: "The body or a picture is too large.",
    415: "Another content type is expected.",
    422: "The question does not fit: the message says where and why.",
    429: "Too many requests at once; Retry-After says when to come back.",
    503: "Overloaded, too slow, or stopping; Retry-After says when to come back.",
}


def create_app(
    run: str | Path,
    *,
    url: str | None = None,
    tokens: Tokens | None = None,
    writable: bool = True,
    device: str = "cpu",
    limits: Limits | None = None,
) -> Gate:
    """Open a run and return the ASGI app that serves it, for uvicorn or any other server.

    A server of another's choosing must itself limit the time of slow connections; :class:`kyori.serving.Service`
    does.

    Args:
        run: A run folder, or a link to one; opened again at each reload.
        url: Where its index is, if not where ``kyori index`` put it.
        tokens: Who may ask. Without any, only requests that name this machine (localhost) are answered, and all of
            them may write.
        writable: Whether items may be added and removed. An index in a folder is then locked for other writers.
        device: Where the model runs.
        limits: How much a client may ask.

    Raises:
        KyoriError: The run or its index cannot be opened.
        MissingExtraError: FastAPI is not installed.
    """
    limits, tokens = limits or Limits(), tokens or Tokens()
    fastapi = require("fastapi", extra="serve", purpose="the server")
    metrics = Metrics(
        waiting=lambda: shelf.current.batcher.waiting if shelf.ready else 0,
        indexed=lambda: _indexed(shelf),
    )
    shelf = Shelf(Path(run), url=url, writable=writable, device=device, limits=limits, observe=metrics.model)
    desk = Desk(limits)
    shelf.open()

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        _reload_at_sighup(lambda: _reload(shelf, metrics))
        yield
        await shelf.close()
        desk.close()

    app = fastapi.FastAPI(
        title="Kyori",
        version=__version__,
        description="Search, verify and identify by a learned distance.",
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from another server
        redoc_url=None,
        redirect_slashes=False,
    )
    answer_errors(app)
    _add_questions(app, fastapi, shelf, desk, limits)
    _add_items(app, fastapi, shelf, desk, limits)
    _add_operations(app, fastapi, shelf, desk, metrics, limits)
    _describe(app, bool(len(tokens)))
    app.openapi()  # now, and not while the first who asks for it holds up the others
    routes = {route.path for route in app.routes}
    return Gate(app, limits=limits, tokens=tokens, metrics=metrics, routes=routes)


def _add_questions(app: Any, fastapi: Any, shelf: Shelf, desk: Desk, limits: Limits) -> None:
    """Add the routes that change nothing."""

    def route(
        path: str,
        asked: type[BaseModel],
        answered: type[BaseModel],
        answer: Callable[[Served, Any], Awaitable[dict[str, Any]]],
        summary: str,
        *,
        pictures: bool = True,
    ) -> None:
        async def endpoint(request: fastapi.Request) -> Any:
            question = await read_question(request, asked, limits)
            served = shelf.current
            with served.used():
                return _json(fastapi, await answer(served, question))

        endpoint.__annotations__["request"] = fastapi.Request
        app.post(
            path,
            summary=summary,
            responses=_responses(answered, 400, 401, 408, 409, 413, 415, 422, 429, 503),
            openapi_extra=_body(asked, pictures=pictures),
            name=path,
        )(endpoint)

    route("/embed", messages.Embed, messages.Vectors, desk.embed, "Vectors of items")
    route("/search", messages.Search, messages.Matches, desk.search, "The nearest items of the index")
    route("/identify", messages.Identify, messages.Identities, desk.identify, "Who is it, or nobody known?")
    route(
        "/verify", messages.Verify, messages.Verdicts, desk.verify, "Are two items the same?", pictures=False
    )


def _add_items(app: Any, fastapi: Any, shelf: Shelf, desk: Desk, limits: Limits) -> None:
    """Add the routes of the index's items."""
    refusals = (400, 401, 403, 408, 409, 413, 415, 422, 429, 503)

    def writable() -> Served:
        if not shelf.writable:
            raise Refused(403, "this server does not write (--read-only).")
        return shelf.current

    async def insert(request: Any) -> Any:
        question = await read_question(request, messages.Insertion, limits)
        served = writable()
        with served.used():
            return _json(fastapi, await desk.insert(served, question))

    async def delete(request: Any) -> Any:
        question = await read_question(request, messages.Deletion, limits)
        served = writable()
        with served.used():
            return _json(fastapi, await desk.delete(served, question.ids))

    async def items(id: Any) -> Any:
        served = shelf.current
        with served.used():
            return _json(fastapi, await desk.items(served, _ids_of(served, id, limits)))

    insert.__annotations__["request"] = delete.__annotations__["request"] = fastapi.Request
    wanted = fastapi.Query(
        min_length=1, max_length=limits.items, description="Ids; may be given several times."
    )
    items.__annotations__["id"] = Annotated[list[str], wanted]
    app.get(
        "/items",
        summary="What is kept of items",
        responses=_responses(messages.StoredItems, 401, 404, 409, 422, 429, 503),
    )(items)
    app.post(
        "/items",
        summary="Add or replace items",
        responses=_responses(messages.Written, *refusals),
        openapi_extra=_body(messages.Insertion, pictures=False),
    )(insert)
    app.delete(
        "/items",
        summary="Remove items",
        responses=_responses(messages.Written, *refusals),
        openapi_extra=_body(messages.Deletion, pictures=False),
    )(delete)


def _add_operations(
    app: Any, fastapi: Any, shelf: Shelf, desk: Desk, metrics: Metrics, limits: Limits
) -> None:
    """Add the routes for operators."""

    @app.get(
        "/health", summary="Whether the server takes requests", responses=_responses(messages.Health, 503)
    )
    async def health() -> Any:
        _ = shelf.current
        return _json(fastapi, {"status": "ok"})

    @app.get(
        "/about",
        summary="What the server knows and allows",
        responses=_responses(messages.About, 401, 429, 503),
    )
    async def about() -> Any:
        served = shelf.current
        with served.used():
            count, columns = await desk.count(served)
            return _json(fastapi, _about(served, shelf.writable, count, columns, limits))

    @app.get("/metrics", summary="Counters for Prometheus", response_class=fastapi.responses.PlainTextResponse,
             responses=_responses(None, 401))  # fmt: skip
    async def counters() -> Any:
        text, kind = metrics.text()
        return fastapi.Response(text, headers={"content-type": kind})

    @app.get("/docs", summary="This description, as a page", response_class=fastapi.responses.HTMLResponse,
             responses=_responses(None, 401, 429, 503))  # fmt: skip
    async def docs() -> Any:
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        return fastapi.responses.HTMLResponse(
            api_page(app.openapi()), headers={"content-security-policy": policy}
        )

    async def reload(request: Any) -> Any:
        if await request.body():
            raise Refused(422, "a reload takes no body: the run's place is the server's own.")
        if not await _reload(shelf, metrics):
            raise Refused(
                409, "the run cannot be opened, and the old one goes on; the server's log says why."
            )
        return _json(fastapi, {"model": shelf.current.mark})

    reload.__annotations__["request"] = fastapi.Request
    app.post(
        "/reload",
        summary="Open the run again, without dropping requests",
        responses=_responses(messages.Reloaded, 401, 403, 408, 409, 413, 422, 429, 503),
    )(reload)


async def _reload(shelf: Shelf, metrics: Metrics) -> bool:
    try:
        await shelf.reload()
    except Refused:
        raise
    except (KyoriError, OSError) as error:
        metrics.reloads.labels("failed").inc()
        log.error("the run was not reloaded, and the old one goes on: %s", error)
        return False
    metrics.reloads.labels("done").inc()
    return True


def _reload_at_sighup(reload: Callable[[], Awaitable[bool]]) -> None:
    """Reload at SIGHUP, as servers do; in the main thread only, and where the system has it."""
    tasks: set[asyncio.Future[bool]] = set()

    def start() -> None:
        task = asyncio.ensure_future(reload())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    with contextlib.suppress(AttributeError, NotImplementedError, RuntimeError, ValueError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, start)


def _about(
    served: Served, writable: bool, count: int | None, columns: dict[str, str], limits: Limits
) -> dict[str, Any]:
    recogniser, calibration = served.recogniser, served.recogniser.calibration
    verification = calibration.verification if calibration is not None else None
    identification = calibration.identification if calibration is not None else None
    return {
        "kyori": __version__,
        "model": served.mark,
        "takes": served.embedder.preprocess.kind,
        "shape": list(served.embedder.preprocess.shape),
        "dimensions": served.embedder.embedding_size,
        "metric": recogniser.metric,
        "writable": writable,
        "items": count,
        "columns": columns,
        "verification": None if verification is None else _threshold(verification),
        "identification": None
        if identification is None
        else {**_threshold(identification.calibration), "pooling": identification.pooling},
        "limits": dict(vars(limits)),
    }


def _threshold(calibration: Any) -> dict[str, Any]:
    return {"threshold": calibration.threshold, "target": "{}={:g}".format(*calibration.target)}


def _ids_of(served: Served, words: list[str], limits: Limits) -> list[int | str]:
    """Return ids of the index's kind: in a query string all are text."""
    if not served.recogniser.has_index or served.recogniser.index.statistics().get("ids") != "int":
        if any("\0" in word or len(word) > 512 for word in words):
            raise Refused(422, "ids have at most 512 characters, and no zero bytes.")
        return list(words)
    try:
        found: list[int | str] = [int(word) for word in words if len(word) < 25]
    except ValueError:
        found = []
    if len(found) < len(words) or any(not -(2**63) <= int(id_) < 2**63 for id_ in found):
        raise Refused(422, "the ids of this index are integers.")
    return found


def _indexed(shelf: Shelf) -> int | None:
    """Return the number of items for /metrics; a server that cannot be reached is no reason to answer nothing."""
    if not shelf.ready or not shelf.current.recogniser.has_index:
        return None
    try:
        return len(shelf.current.recogniser.index)
    except Exception:
        return None


def _json(
    fastapi: Any, value: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None
) -> Any:
    content = to_json(value, inf_nan_mode="null")
    return fastapi.Response(content, status, headers=headers, media_type="application/json")


def answer_errors(app: Any) -> None:
    """Make every error of an app a status and a sentence, as :func:`failure` writes it."""
    fastapi = require("fastapi", extra="serve", purpose="the server")
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    async def refused(_: Any, error: Refused) -> Any:
        wait = None if error.retry_after is None else {"retry-after": str(error.retry_after)}
        return _json(fastapi, failure(error.message), error.status, wait)

    async def known(_: Any, error: HTTPException) -> Any:
        return _json(fastapi, failure(str(error.detail)), error.status_code, dict(error.headers or {}))

    async def invalid(_: Any, error: RequestValidationError) -> Any:
        said = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        return _json(fastapi, failure(said), 422)

    async def broken(_: Any, error: KyoriError) -> Any:
        log.error("%s: %s", type(error).__name__, error)
        said = "the server cannot answer now; its log says why."
        return _json(fastapi, failure(said), 503, {"retry-after": "5"})

    async def failed(_: Any, error: Exception) -> Any:  # raised again afterwards: the gate writes the log
        return _json(fastapi, failure("the server failed on this request; its log says why."), 500)

    app.add_exception_handler(HTTPException, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(KyoriError, broken)
    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(Exception, failed)


def _responses(answered: type[BaseModel] | None, *refusals: int) -> dict[int | str, Any]:
    found: dict[int | str, Any] = {
        status: {"model": messages.Failure, "description": _REASONS[status]} for status in refusals
    }
    return found if answered is None else {200: {"model": answered, "description": "Done."}, **found}


def _body(asked: type[BaseModel], *, pictures: bool) -> dict[str, Any]:
    """Describe a body that is read by hand, for the page and for generated clients."""
    content: dict[str, Any] = {
        "application/json": {"schema": {"$ref": f"#/components/schemas/{asked.__name__}"}}
    }
    if pictures:
        content |= {kind: {"schema": {"type": "string", "format": "binary"}} for kind in PICTURES}
    said = (
        "A picture may be the body itself; the other fields are then query parameters." if pictures else None
    )
    return {"requestBody": {"required": True, "content": content, **({"description": said} if said else {})}}


def _describe(app: Any, secured: bool) -> None:
    """Complete the OpenAPI description with what FastAPI cannot see: bodies and tokens."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = plain()
            _, definitions = models_json_schema(
                [(model, "validation") for model in _ASKED], ref_template="#/components/schemas/{model}"
            )
            components = found.setdefault("components", {})
            components.setdefault("schemas", {}).update(definitions["$defs"])
            if secured:
                components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
                found["security"] = [{"token": []}]
                found["paths"]["/health"]["get"]["security"] = []
            app.openapi_schema = json.loads(json.dumps(found))
        return dict(app.openapi_schema)

    app.openapi = openapi
