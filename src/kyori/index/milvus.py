"""An index in a collection of Milvus: Lite in a file, a server, or a cluster.

Fields are called as PostgreSQL's columns are; a property of the collection holds what the index was made with. Milvus
takes filters as text only: values are written as its literals by :func:`_literal`, and names never come from the
caller. (pymilvus's own ``delete(ids=…)`` and iterators paste strings unescaped, and are not used.)
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import numpy as np
import pyarrow
from numpy.typing import NDArray

from ..errors import ArgumentError, DataError, KyoriError
from ..neighbors import Matches
from ..optional import require
from .factory import check_server_factory, server_kind
from .filters import Condition
from .schema import Kind, Rows, Schema
from .servers import column_names, facts_text, read_facts, table_of
from .store import Settings, Store, empty_matches

__all__ = ["MilvusStore"]

_TYPES: dict[Kind, str] = {"bool": "BOOL", "int": "INT64", "float": "DOUBLE", "str": "VARCHAR"}
_LONGEST = {"id": 1_000, "text": 60_000}
_MESSAGE = 16 << 20  # bytes of a request; servers take 64 MB
_PAGE, _IDS = 1_000, 16_384
_PROPERTY = "kyori"
_MOST = 16_384  # neighbours that Milvus gives at most


class MilvusStore(Store):
    """A collection.

    Args:
        uri: A file's path, or ``http://[user:password@]host:port``.
        name: Of the collection.
        settings, insist: As in a folder.
        create: Make the collection where there is none.

    Raises:
        KyoriError: The server cannot be reached.
        ArgumentError: There is no such index, the collection is another one's, or a setting differs.
    """

    def __init__(
        self, uri: str, name: str, settings: Settings, insist: Sequence[str] = (), *, create: bool = True
    ):
        self._milvus: Any = require("pymilvus", extra="milvus", purpose="An index in Milvus")
        check_server_factory(settings.factory)
        self._name, self._insist, self.settings, self.schema = name, tuple(insist), settings, None
        self._guard = threading.RLock()  # one thread writes at a time; all may search
        self._written, self._seen = 1, 0  # writes, and how many of them a search has waited for
        lite = not uri.startswith(("http://", "https://"))
        if lite:
            require("milvus_lite", extra="milvus", purpose="An index in a Milvus file")
            if not create and not Path(uri).exists():
                raise ArgumentError(
                    f"{uri} is not there. Make an index with kyori index RUN DATA --url milvus:{uri}."
                )
        self._strong = "Session" if lite else "Strong"  # Lite is one process, and has no clock to wait for
        address, token = (uri, "") if lite else _without_credentials(uri)
        self._place = address
        try:
            self._client = self._milvus.MilvusClient(address, token=token)
        except Exception as error:
            raise KyoriError(
                f"cannot reach Milvus at {address}: {_said(error)}. Start it, or check the URL."
            ) from error
        try:
            with self._errors():
                self._find(self._insist)
                if self.schema is None and not create:
                    raise ArgumentError(
                        f"Milvus holds no index {name}. Make one with kyori index RUN DATA --url URL."
                    )
        except BaseException:
            self.close()
            raise

    def create(self, schema: Schema) -> None:
        """Make the collection and load it, unless another writer has made it since this one looked."""
        milvus = self._milvus
        if schema.dimension > 32_768:
            raise ArgumentError(f"Milvus keeps vectors of at most 32,768 numbers; got {schema.dimension}.")
        with self._writing():
            self._find((*self._insist, "metric"))
            if self.schema is not None:
                return
            made = milvus.MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
            fields = [
                ("id", schema.ids),
                *zip(column_names(schema).values(), dict(schema.columns).values(), strict=True),
            ]
            for name, kind in fields:
                size = {"max_length": _LONGEST["id" if name == "id" else "text"]} if kind == "str" else {}
                made.add_field(name, milvus.DataType[_TYPES[kind]], is_primary=name == "id", **size)
            made.add_field("vector", milvus.DataType.FLOAT_VECTOR, dim=schema.dimension)
            self._client.create_collection(
                self._name,
                schema=made,
                index_params=self._search_index(0),
                consistency_level="Session",
                properties={_PROPERTY: facts_text(self.settings, schema)},  # Lite forgets descriptions
            )
            self.schema = schema

    def write(self, rows: Rows, *, replace: bool) -> None:
        """Insert in messages of 16 MB. A writer that is killed between two leaves the first; upsert makes it whole."""
        with self._writing():
            schema = self._known()
            ids = rows.items["id"].combine_chunks()
            if not replace and (present := self._present(ids)):
                raise DataError(
                    f"ids must be new; {present[0]!r} is in the index already ({len(present)} of {len(ids)} are). Use"
                    " upsert to replace them."
                )
            names = {"id": "id", **column_names(schema)}
            size = max(1, min(10_000, _MESSAGE // (4 * schema.dimension + _weight(rows))))
            for start in range(0, len(rows), size):
                part = rows.items.slice(start, size).select(list(names)).rename_columns(list(names.values()))
                batch = part.to_pylist()
                for row, vector in zip(batch, rows.vectors[start : start + size], strict=True):
                    row["vector"] = vector
                (self._client.upsert if replace else self._client.insert)(self._name, batch)

    def delete(self, ids: pyarrow.Array) -> int:
        """Delete by id."""
        with self._writing():
            present = self._present(ids)
            for part in _pages(present):
                self._client.delete(self._name, filter=f"id in {_literal(part)}")
            return len(present)

    def nearest(self, queries: NDArray[np.float32], k: int, conditions: Sequence[Condition]) -> Matches:
        """Search; the first time after a write, wait until the servers have it."""
        schema = self._known()
        found = empty_matches(len(queries), k, schema.ids)
        if k > _MOST:
            raise ArgumentError(f"Milvus gives at most {_MOST:,} neighbours; got k={k}.")
        written = self._written
        level = self._strong if written > self._seen else "Session"
        with self._errors():
            answers = self._client.search(
                self._name,
                list(queries),
                filter=self._expression(conditions),
                limit=k,
                output_fields=["id"],
                search_params={"metric_type": "L2", "params": self._effort(k)},
                anns_field="vector",
                consistency_level=level,
            )
        self._seen = max(self._seen, written)  # not what others have written meanwhile
        for row, hits in enumerate(answers):
            for place, hit in enumerate(hits):
                found.ids[row, place], found.distances[row, place] = hit["id"], max(hit["distance"], 0)
        return found

    def fetch(self, ids: pyarrow.Array) -> Rows:
        """Query by id, a page at a time."""
        schema = self._known()
        names = {"id": "id", **column_names(schema)}
        rows = [
            row for part in _pages(ids.to_pylist()) for row in self._query(part, [*names.values(), "vector"])
        ]
        vectors = np.array([row["vector"] for row in rows], np.float32).reshape(len(rows), schema.dimension)
        return Rows(
            table_of(schema, list(names), [[row[name] for name in names.values()] for row in rows]), vectors
        )

    def ids(self) -> list[Any]:
        """Walk through all ids in their order, which is how Milvus cuts off what is beyond a limit."""
        found: list[Any] = []
        after = ""
        while True:
            with self._errors():
                page = self._client.query(
                    self._name, filter=after, limit=_IDS, output_fields=["id"], consistency_level=self._strong
                )
            names = sorted(row["id"] for row in page)
            found += names
            if len(names) < _IDS:
                return found
            after = f"id > {_literal(names[-1])}"

    def count(self) -> int:
        """Count."""
        with self._errors():
            answer = self._client.query(
                self._name, filter="", output_fields=["count(*)"], consistency_level=self._strong
            )
        return int(answer[0]["count(*)"])

    def statistics(self) -> dict[str, Any]:
        """Return the server's version and the collection's index."""
        with self._errors():
            built = None
            if self.schema is not None:
                facts = self._client.describe_index(self._name, "vector") or {}
                built = facts.get("index_type")
            return {"place": f"Milvus at {self._place}, collection {self._name}", "built": built}

    def save(self) -> None:
        """Flush what the servers hold in memory; build the search index that ``auto`` asks for by now."""
        if self.schema is None:
            return
        if self.settings.factory == "auto":
            exact = self.statistics()["built"] == "FLAT"
            if exact and server_kind("auto", self.count())[0] != "flat":
                self.compact(None)
                return
        with self._errors():
            self._client.flush(self._name)

    def compact(self, factory: str | None) -> None:
        """Let the servers merge what is left, and build the search index anew."""
        if factory is not None:
            check_server_factory(factory)
            self.settings = replace(self.settings, factory=factory)
        if self.schema is None:
            return
        with self._writing():
            wanted = self._search_index(self.count())
            facts = {_PROPERTY: facts_text(self.settings, self.schema)}
            self._client.alter_collection_properties(self._name, properties=facts)
            self._client.flush(self._name)
            self._client.release_collection(self._name)
            self._client.drop_index(self._name, "vector")
            self._client.create_index(self._name, wanted)
            self._client.load_collection(self._name)

    def clear(self) -> None:
        """Drop the collection."""
        with self._writing():
            if self._client.has_collection(self._name):
                self._client.drop_collection(self._name)
            self.schema = None

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _find(self, insist: Sequence[str]) -> None:
        """Read what the index was made with, if it is there, and load it."""
        if not self._client.has_collection(self._name):
            return
        text = self._client.describe_collection(self._name).get("properties", {}).get(_PROPERTY)
        self.settings, self.schema = read_facts(text, f"the collection {self._name}", self.settings, insist)
        self._client.load_collection(self._name)

    def _search_index(self, count: int) -> Any:
        kind, size = server_kind(self.settings.factory, count)
        parameters = self._client.prepare_index_params()
        built = {
            "flat": ("FLAT", {}),
            "hnsw": ("HNSW", {"M": size, "efConstruction": 2 * size}),
            "ivf": ("IVF_FLAT", {"nlist": size}),
        }[kind]
        parameters.add_index("vector", index_type=built[0], metric_type="L2", params=built[1])
        return parameters

    def _effort(self, k: int) -> dict[str, int]:
        kind, size = server_kind(self.settings.factory, 0)
        wide = {"ef": max(128, 2 * k), "nprobe": max(1, round(2 * math.sqrt(size or 1)))}
        if self.settings.factory == "auto":  # what was built decides; each kind reads its own
            return wide
        return {"flat": {}, "hnsw": {"ef": wide["ef"]}, "ivf": {"nprobe": wide["nprobe"]}}[kind]

    def _present(self, ids: pyarrow.Array) -> list[Any]:
        return [row["id"] for part in _pages(ids.to_pylist()) for row in self._query(part, ["id"])]

    def _query(self, ids: Sequence[Any], fields: Sequence[str]) -> list[dict[str, Any]]:
        with self._errors():
            return list(
                self._client.query(
                    self._name,
                    filter=f"id in {_literal(ids)}",
                    output_fields=list(fields),
                    consistency_level=self._strong,
                )
            )

    def _expression(self, conditions: Sequence[Condition]) -> str:
        names = {"id": "id", **column_names(self._known())}
        parts = []
        for condition in conditions:
            several = condition.operator in ("in", "not in")
            value = _literal(list(condition.values) if several else condition.values[0])
            parts.append(f"({names[condition.column]} {condition.operator} {value})")
        return " and ".join(parts)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Let one thread at a time write, and the next search wait for it."""
        with self._guard, self._errors():
            try:
                yield
            finally:
                self._written += 1

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what the server says into an error of Kyori."""
        try:
            yield
        except self._milvus.MilvusException as error:
            raise KyoriError(f"Milvus, collection {self._name}: {_said(error)}") from error


def _literal(value: Any) -> str:
    r"""Write a value in Milvus's expression language.

    >>> print(_literal(['a"b\\', "é\n"]), _literal(True), _literal(1.5))
    ["a\"b\\","é\n"] true 1.5
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'
    if isinstance(value, int | float):
        return repr(value)
    return f"[{','.join(map(_literal, value))}]"


def _pages(values: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(values), _PAGE):
        yield list(values[start : start + _PAGE])


def _weight(rows: Rows) -> int:
    """Return bytes of a row without its vector, about."""
    return 64 + rows.items.nbytes // max(1, len(rows))


def _without_credentials(uri: str) -> tuple[str, str]:
    parts = urlsplit(uri)
    if not parts.username:
        return uri, ""
    host = parts.netloc.rpartition("@")[2]
    token = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return urlunsplit(parts._replace(netloc=host)), token


def _said(error: Exception) -> str:
    text = str(getattr(error, "message", "") or error).strip()
    return json.dumps(text.splitlines()[0], ensure_ascii=False)[1:-1] if text else type(error).__name__
