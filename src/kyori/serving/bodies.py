"""From the bytes of a request to a checked question; nothing here touches a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from .limits import Limits, Refused

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["PICTURES", "check_json", "json_shape", "read_question"]

PICTURES = ("image/jpeg", "image/png", "image/webp", "image/bmp")
_SHOWN = 5  # mistakes that are named
Question = TypeVar("Question", bound=BaseModel)


async def read_question(request: Request, model: type[Question], limits: Limits) -> Question:
    """Read a JSON body, or a picture as the body with the rest as query parameters.

    Raises:
        Refused: 415 for another content type, 400 for a body that is no JSON, 422 for one that does not fit.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    asked = request.query_params.multi_items()
    try:
        if kind in PICTURES and "items" in model.model_fields and model.__name__ != "Insertion":
            question = model.model_validate(_picture_question(body, asked), strict=False)
        elif kind == "application/json":
            if asked:
                raise Refused(422, f"with a JSON body, {asked[0][0][:50]!r} belongs into the body.")
            check_json(body, limits)
            question = model.model_validate_json(body)
        else:
            allowed = "application/json" + (", or a picture: " + ", ".join(PICTURES))
            raise Refused(415, f"the content type must be {allowed}; got {kind[:50] or 'none'!r}.")
    except ValidationError as error:
        raise _refusal(error) from None
    _check_count(question, limits)
    return question


def json_shape(body: bytes) -> tuple[int, int]:
    """Return how deep lists and objects are nested in a JSON text, and how many keys it has, without parsing it.

    In time linear in its length whatever it holds, so that a hostile text costs no more than its bytes.

    >>> json_shape(b'{"a": [1, {"b:": "]]]["}]}')
    (3, 2)
    """
    letters = np.frombuffer(body, np.uint8)
    quotes = np.flatnonzero(letters == ord('"'))
    if len(quotes) and (letters == ord("\\")).any():
        places = np.arange(len(letters), dtype=np.int64)
        plain = np.maximum.accumulate(np.where(letters != ord("\\"), places, -1))
        before = np.where(quotes > 0, plain[np.maximum(quotes - 1, 0)], quotes - 1)
        quotes = quotes[
            (quotes - 1 - before) % 2 == 0
        ]  # an odd run of backslashes escapes the quote after it
    colons = np.flatnonzero(letters == ord(":"))
    keys = int((np.searchsorted(quotes, colons) % 2 == 0).sum())
    opening = (letters == ord("[")) | (letters == ord("{"))
    closing = (letters == ord("]")) | (letters == ord("}"))
    brackets = np.flatnonzero(opening | closing)
    outside = brackets[np.searchsorted(quotes, brackets) % 2 == 0]
    depth = np.cumsum(np.where(opening[outside], 1, -1))
    return int(depth.max(initial=0)), keys


def check_json(body: bytes, limits: Limits) -> None:
    """Refuse a JSON text by its shape, before it is parsed.

    Raises:
        Refused: It is empty, too deep (400), or has too many keys (422).
    """
    if not body.strip():
        raise Refused(400, "the body is empty; expected JSON.")
    depth, keys = json_shape(body)
    if depth > limits.json_depth:
        raise Refused(400, f"the JSON may be nested {limits.json_depth} levels deep; got {depth}.")
    if (
        keys > limits.json_keys
    ):  # each that is unknown is a mistake of its own, and costs a thousand times its bytes
        raise Refused(422, f"the JSON may have {limits.json_keys} keys; got {keys}. Send several requests.")


def _picture_question(body: bytes, asked: list[tuple[str, str]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in asked:
        if name in values or name == "items":
            raise Refused(422, f"query parameter {name[:50]!r} is given twice, or has no place here.")
        values[name] = value
    if "where" in values:
        try:
            values["where"] = json.loads(values["where"])
        except (ValueError, RecursionError):
            raise Refused(422, "query parameter 'where' must be JSON.") from None
    return {**values, "items": [{"image": body}]}


def _check_count(question: BaseModel, limits: Limits) -> None:
    for name in ("items", "pairs", "ids"):
        count = len(getattr(question, name, ()))
        if count * (2 if name == "pairs" else 1) > limits.items:
            raise Refused(422, f"{name} may name {limits.items} items; got {count}. Send several requests.")
    k = getattr(question, "k", 1)
    if k > limits.k:
        raise Refused(422, f"k may be {limits.k} at most; got {k}.")


def _refusal(error: ValidationError) -> Refused:
    """Name places and reasons, never the values: a client's data have no business in messages."""
    mistakes: list[Mapping[str, Any]] = list(
        error.errors(include_url=False, include_input=False, include_context=False)
    )
    if mistakes[0]["type"] == "json_invalid":
        return Refused(400, f"the body is no JSON: {mistakes[0]['msg']}.")
    named = [f"{_place(mistake['loc'])}: {mistake['msg']}" for mistake in mistakes[:_SHOWN]]
    more = f" (and {len(mistakes) - _SHOWN} more)" if len(mistakes) > _SHOWN else ""
    return Refused(422, "; ".join(named) + more)


def _place(parts: tuple[int | str, ...]) -> str:
    """Write a place as ``items[0].image``; what it names may be a client's own key, so it is cut."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part[:50]}"
    return text.lstrip(".") or "body"
