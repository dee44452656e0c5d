"""The routes of the explorer: a page, the map as bytes, and items by the page as somebody looks at them."""

import csv
import io
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from ..optional import require
from ..serving.access import Tokens
from ..serving.app import answer_errors
from ..serving.gate import Gate
from ..serving.limits import Limits, Refused
from ..serving.metrics import Metrics
from .desk import Desk
from .page import ASSETS, POLICY, frame, read_asset

__all__ = ["create_app"]

_MOST_ITEMS = 100  # of one page of a gallery
_MOST_NEIGHBORS = 200
_MOST_FOUND = 2000
_HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}


def create_app(desk: Desk, *, lang: str = "en") -> Gate:
    """Return the ASGI app of an explorer. It answers only requests that name this machine.

    Args:
        desk: What answers.
        lang: Language of the page, ``"en"`` or ``"ja"``.

    Raises:
        MissingExtraError: FastAPI is not installed.
    """
    fastapi = require("fastapi", extra="serve", purpose="kyori explore")
    app = fastapi.FastAPI(title="Kyori explorer", openapi_url=None, redirect_slashes=False)
    answer_errors(app)

    @app.middleware("http")
    async def guard(request: Any, go_on: Any) -> Any:
        answer = await go_on(request)
        answer.headers.update(_HEADERS)
        return answer

    _add_page(app, fastapi, desk, lang)
    _add_map(app, fastapi, desk)
    _add_items(app, fastapi, desk)
    size = max(2**20, 4 * len(desk))  # a selection of all items, as row numbers
    limits = Limits(body_bytes=size, buffered_bytes=max(4 * size, Limits.buffered_bytes))
    metrics = Metrics(waiting=lambda: 0, indexed=lambda: len(desk))
    routes = {route.path for route in app.routes}
    return Gate(app, limits=limits, tokens=Tokens(), metrics=metrics, routes=routes)


def _add_page(app: Any, fastapi: Any, desk: Desk, lang: str) -> None:
    page = frame(desk.scene.name, lang, texts=desk.has_texts).encode("utf-8")
    files = {name: (read_asset(name), kind) for name, (_, _, kind) in ASSETS.items()}

    def file(content: bytes, kind: str) -> Any:
        return lambda: fastapi.Response(content, media_type=kind)

    app.get("/")(file(page, "text/html; charset=utf-8"))
    for name, (content, kind) in files.items():
        app.get(f"/{name}")(file(content, kind))

    @app.get("/about")
    def about() -> Any:
        return desk.about(lang)


def _add_map(app: Any, fastapi: Any, desk: Desk) -> None:
    def column(name: str) -> Any:
        if name not in desk.columns:
            raise Refused(404, "there is no such column.")
        return desk.column(name)

    def data(content: bytes) -> Any:
        return fastapi.Response(content, media_type="application/octet-stream")

    @app.get("/positions")
    def positions() -> Any:
        places = desk.layouts.current
        answer = data(places.points.astype("<f4").tobytes())
        answer.headers["x-layout"] = places.method
        return answer

    @app.get("/legend")
    def legend(column_name: Annotated[str, fastapi.Query(alias="column", max_length=512)]) -> Any:
        return column(column_name).legend()

    @app.get("/colours")
    def colours(column_name: Annotated[str, fastapi.Query(alias="column", max_length=512)]) -> Any:
        return data(column(column_name).data())


def _add_items(app: Any, fastapi: Any, desk: Desk) -> None:
    row_number = Annotated[int, fastapi.Query(ge=0, le=2**53)]

    def known(row: int) -> int:
        if row >= len(desk):
            raise Refused(404, f"there are {len(desk)} items, counted from 0; there is no such one.")
        return row

    @app.get("/item")
    def item(row: row_number, k: Annotated[int, fastapi.Query(ge=1, le=_MOST_NEIGHBORS)] = 12) -> Any:
        return desk.item(known(row), k)

    @app.get("/items")
    def items(row: Annotated[list[row_number], fastapi.Query(min_length=1, max_length=_MOST_ITEMS)]) -> Any:
        return {"items": [desk.brief(known(one)) for one in row]}

    @app.get("/find")
    def find(text: Annotated[str, fastapi.Query(min_length=1, max_length=1000)]) -> Any:
        rows = desk.finder.rows(text)
        return {"count": len(rows), "rows": rows[:_MOST_FOUND].tolist()}

    @app.post("/csv")
    async def table(request: fastapi.Request) -> Any:
        rows = _row_numbers(await request.body(), len(desk))
        text = await _in_thread(_csv, desk, rows)
        return fastapi.Response(text, media_type="text/csv; charset=utf-8")


async def _in_thread(function: Any, *arguments: Any) -> Any:
    from starlette.concurrency import run_in_threadpool

    return await run_in_threadpool(function, *arguments)


def _row_numbers(body: bytes, n: int) -> NDArray[np.int64]:
    if not body or len(body) % 4:
        raise Refused(422, f"the body must hold row numbers of 4 bytes each; got {len(body)} bytes.")
    rows = np.frombuffer(body, "<u4").astype(np.int64)
    if rows.max() >= n:
        raise Refused(404, f"there are {n} items, counted from 0; there is no such one.")
    return rows


def _csv(desk: Desk, rows: NDArray[np.int64]) -> str:
    """Return id, label and columns of some items, with a line of titles."""
    columns = desk.written(rows)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return file.getvalue()
