"""A client of the server, on Python's own HTTP."""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import threading
import time
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, KyoriError

__all__ = ["Client", "ServerError"]


class ServerError(KyoriError):
    """The server answered with an error.

    Attributes:
        status: HTTP status.
        message: What the server said.
        retry_after: Seconds after which to come back; None where it did not say.
    """

    def __init__(self, status: int, message: str, retry_after: float | None):
        super().__init__(f"{status}: {message}")
        self.status, self.message, self.retry_after = status, message, retry_after


class Client:
    """Asks a Kyori server; safe for many threads, each of which keeps one connection.

    An item is a path or bytes of a picture file, a PIL image, an array of features, a plain dict of the API such as
    ``{"id": "owl-7"}`` or ``{"embedding": [...]}``, or, with ``Client(..., text=True)``, a string of text.

    Args:
        address: ``http://host:port``, or ``https://…`` where a proxy brings TLS.
        token: The bearer token; KYORI_TOKEN from the environment if left out.
        timeout: Seconds for an answer.
        retries: How often to come back after 429 or 503, each time after the seconds that the server names.
        text: Take strings for texts, not for paths.

    >>> Client("http://127.0.0.1:8000", token="only-an-example-1")
    Client(http://127.0.0.1:8000)
    """

    def __init__(
        self,
        address: str,
        token: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 4,
        text: bool = False,
    ):
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ArgumentError(
                f"address must be like http://127.0.0.1:8000; got {_without_user(address)!r}."
            )
        if retries < 0:
            raise ArgumentError(f"retries must be at least 0; got {retries}.")
        self._parts, self._timeout, self._retries, self._text = parts, timeout, retries, text
        self._token = token if token is not None else os.environ.get("KYORI_TOKEN")
        self._local = threading.local()

    def __repr__(self) -> str:
        return f"Client({self._parts.scheme}://{self._parts.netloc})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def embed(self, items: Sequence[Any]) -> NDArray[np.float32]:
        """Return the vectors ``(n, d)`` of items."""
        found = self._post("/embed", {"items": self._items(items)})["vectors"]
        return np.array(found, np.float32)

    def search(
        self,
        items: Sequence[Any],
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        rerank: str | None = None,
    ) -> list[list[dict[str, Any]]]:
        """Return the ``k`` nearest items of each: dicts of id, label, distance and probability."""
        asked = {"items": self._items(items), "k": k, "where": where, "rerank": rerank}
        return list(self._post("/search", asked)["matches"])

    def verify(self, a: Any, b: Any) -> dict[str, Any]:
        """Return the verdict on one pair: same, distance, probability, threshold and its false-accept rate."""
        pair = dict(zip("ab", self._items([a, b]), strict=True))
        return dict(self._post("/verify", {"pairs": [pair]})["verdicts"][0])

    def verify_pairs(self, pairs: Sequence[tuple[Any, Any]]) -> list[dict[str, Any]]:
        """Return a verdict for each pair."""
        asked = [dict(zip("ab", self._items(list(pair)), strict=True)) for pair in pairs]
        return list(self._post("/verify", {"pairs": asked})["verdicts"])

    def identify(
        self,
        items: Sequence[Any],
        k: int = 5,
        pooling: str | None = None,
        threshold: float | None = None,
    ) -> list[dict[str, Any]]:
        """Return who each item is; ``identity`` is None where nobody known is near enough."""
        asked = {"items": self._items(items), "k": k, "pooling": pooling, "threshold": threshold}
        return list(self._post("/identify", asked)["identities"])

    def add(
        self,
        ids: Sequence[int | str],
        items: Sequence[Any],
        labels: Sequence[int | str] | None = None,
        columns: Mapping[str, Sequence[Any]] | None = None,
    ) -> int:
        """Add items to the index, or replace those with the same ids, and return how many it holds now.

        All of them are there when this returns, or none.
        """
        forms = self._items(items)
        if len(ids) != len(forms) or (labels is not None and len(labels) != len(forms)):
            raise ArgumentError(
                f"ids, items and labels must be equally many; got {len(ids)} and {len(forms)}."
            )
        rows = [
            {
                "id": _plain(id_),
                "item": form,
                "label": None if labels is None else _plain(labels[row]),
                "columns": {name: _plain(values[row]) for name, values in (columns or {}).items()},
            }
            for row, (id_, form) in enumerate(zip(ids, forms, strict=True))
        ]
        return int(self._post("/items", {"items": rows})["total"])

    def remove(self, ids: Sequence[int | str]) -> int:
        """Remove items and return how many there were."""
        return int(self._call("DELETE", "/items", {"ids": [_plain(id_) for id_ in ids]})["changed"])

    def items(self, ids: Sequence[int | str]) -> list[dict[str, Any]]:
        """Return id, label and columns of items."""
        query = urlencode([("id", str(id_)) for id_ in ids])
        return list(self._call("GET", f"/items?{query}")["items"])

    def about(self) -> dict[str, Any]:
        """Return what the server knows and allows."""
        return self._call("GET", "/about")

    def health(self) -> bool:
        """Return whether the server takes requests."""
        try:
            return bool(self._call("GET", "/health")["status"] == "ok")
        except KyoriError:
            return False

    def reload(self) -> str:
        """Have the server open its run again, and return the mark of the model."""
        return str(self._call("POST", "/reload")["model"])

    def close(self) -> None:
        """Close the connection of this thread."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
        self._local.connection = None

    def _items(self, items: Sequence[Any]) -> list[dict[str, Any]]:
        if isinstance(items, (str, bytes, Path, Mapping)):
            raise ArgumentError("items must be a list of items; put a single one into a list: [item].")
        return [_form(item, self._text) for item in items]

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("POST", path, {name: value for name, value in body.items() if value is not None})

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        for left in range(self._retries, -1, -1):
            try:
                return self._once(method, path, content)
            except ServerError as error:
                if error.status not in (429, 503) or error.retry_after is None or not left:
                    raise
                # Not all at the same moment: the crowd that was sent away would come back as one.
                time.sleep(error.retry_after * random.uniform(0.5, 1.5))
        raise AssertionError("unreachable")

    def _once(self, method: str, path: str, content: bytes | None) -> dict[str, Any]:
        headers = {"Accept": "application/json"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        for fresh in (False, True):
            connection = self._connection(fresh)
            reused = connection.sock is not None
            try:
                connection.request(method, self._parts.path.rstrip("/") + path, content, headers)
                answer = connection.getresponse()
                return _read(answer.status, answer.getheader("Retry-After"), answer.read())
            except (OSError, http.client.HTTPException) as error:
                self.close()
                # The server may have closed an idle connection; that is no failure. All calls can be repeated.
                if not reused or isinstance(error, TimeoutError):
                    raise KyoriError(f"{self!r} cannot be reached: {error or type(error).__name__}") from None
        raise AssertionError("unreachable")

    def _connection(self, fresh: bool) -> http.client.HTTPConnection:
        connection = None if fresh else getattr(self._local, "connection", None)
        if connection is None:
            kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
            assert self._parts.hostname is not None
            connection = kinds[self._parts.scheme](
                self._parts.hostname, self._parts.port, timeout=self._timeout
            )
            self._local.connection = connection
        return connection


def _read(status: int, retry_after: str | None, content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    if status == 200 and isinstance(value, dict):
        return value
    said = value["error"]["message"] if isinstance(value, dict) and "error" in value else "no Kyori server"
    wait = float(retry_after) if retry_after is not None and retry_after.isdigit() else None
    raise ServerError(status, said, wait)


def _form(item: Any, text: bool) -> dict[str, Any]:
    if isinstance(item, Mapping):
        return dict(item)
    if isinstance(item, str) and text:
        return {"text": item}
    if isinstance(item, (str, Path)):
        return {"image": _base64(Path(item).read_bytes())}
    if isinstance(item, (bytes, bytearray)):
        return {"image": _base64(bytes(item))}
    if hasattr(item, "save") and hasattr(item, "mode"):  # a PIL image
        buffer = BytesIO()
        item.save(buffer, "PNG")
        return {"image": _base64(buffer.getvalue())}
    array = np.asarray(item)
    if array.ndim == 1 and array.dtype.kind in "fiu":
        return {"features": array.astype(float).tolist()}
    if array.dtype == np.uint8 and array.ndim in (2, 3):
        from PIL import Image

        return _form(
            Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array), text
        )
    raise ArgumentError(
        "an item must be a path, bytes or array of a picture, an array of features, or a dict of the API; got"
        f" {type(item).__name__}."
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _without_user(address: str) -> str:
    return address.rpartition("@")[2]
