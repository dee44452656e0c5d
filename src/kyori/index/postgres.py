"""An index in a table of PostgreSQL, with pgvector.

The table has the columns ``id``, ``vector`` and ``col_<name>`` for each column (``col_<number>`` where the name is no
plain word); its comment holds what the index was made with. Names are quoted and values are parameters, always.
"""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray

from ..errors import ArgumentError, DataError, KyoriError
from ..neighbors import Matches
from ..optional import require
from .factory import check_server_factory, server_kind
from .filters import Condition
from .schema import Kind, Rows, Schema
from .servers import column_names, facts_text, read_facts, redacted, table_of
from .store import Settings, Store, empty_matches

__all__ = ["PostgresStore"]

_TYPES: dict[Kind, str] = {
    "bool": "boolean",
    "int": "bigint",
    "float": "double precision",
    "str": 'text COLLATE "C"',
}
_COMPARE = {"==": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_LEAST_EFFORT, _MOST_EFFORT = 100, 1000  # what pgvector takes for hnsw.ef_search
_GRAPH_DIMENSIONS = 2000  # pgvector's limit for its indexes


class PostgresStore(Store):
    """A table.

    Args:
        url: ``postgresql://…`` as libpq takes it.
        name: Of the table.
        settings, insist: As in a folder.
        create: Make the table where there is none.

    Raises:
        KyoriError: The server cannot be reached, or has no pgvector.
        ArgumentError: There is no such index, the table is another one's, or a setting differs.
    """

    def __init__(
        self, url: str, name: str, settings: Settings, insist: Sequence[str] = (), *, create: bool = True
    ):
        self._psycopg: Any = require("psycopg", extra="postgres", purpose="An index in PostgreSQL")
        self._sql: Any = require("psycopg.sql", extra="postgres", purpose="An index in PostgreSQL")
        check_server_factory(settings.factory)
        self._table = self._sql.Identifier(name)
        self._name, self._insist, self.settings, self.schema = name, tuple(insist), settings, None
        self._guard = (
            threading.RLock()
        )  # the transactions of two threads on one connection would be one inside the other
        try:
            self._connection = self._psycopg.connect(url, autocommit=True)
        except self._psycopg.Error as error:
            raise KyoriError(
                f"cannot reach {redacted(url)}: {str(error).strip()}. Start the server, or check the URL."
            ) from error
        try:
            with self._turn():
                self._find_extension()
                self._find(self._insist)
                if self.schema is None and not create:
                    raise ArgumentError(
                        f"the database holds no index {name}. Make one with kyori index RUN DATA --url URL."
                    )
        except BaseException:
            self.close()
            raise

    def create(self, schema: Schema) -> None:
        """Make the table, unless another writer has made it since this one looked."""
        sql = self._sql
        fields = [
            ("id", schema.ids),
            *zip(column_names(schema).values(), dict(schema.columns).values(), strict=True),
        ]
        columns = sql.SQL(", ").join(
            sql.SQL("{} {} NOT NULL").format(sql.Identifier(name), sql.SQL(_TYPES[kind]))
            for name, kind in fields
        )
        if schema.dimension > 16_000:
            raise ArgumentError(f"pgvector keeps vectors of at most 16,000 numbers; got {schema.dimension}.")
        with self._turn(), self._connection.transaction():
            self._connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [self._name])
            self._find((*self._insist, "metric"))
            if self.schema is not None:
                return
            self._connection.execute(
                sql.SQL("CREATE TABLE {} ({}, vector vector({}) NOT NULL, PRIMARY KEY (id))").format(
                    self._table, columns, sql.Literal(schema.dimension)
                )
            )
            self.schema = schema
            try:
                self._remember()
                if self._kind()[0] == "hnsw" and self.settings.factory != "auto":
                    self._build()
            except BaseException:
                self.schema = None  # the transaction takes the table back
                raise

    def write(self, rows: Rows, *, replace: bool) -> None:
        """Copy the rows into a temporary table, then take them over in one transaction."""
        sql = self._sql
        names = ["id", *self._columns().values(), "vector"]
        listed = sql.SQL(", ").join(map(sql.Identifier, names))
        updates = sql.SQL(", ").join(
            sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in names[1:]
        )
        conflict = sql.SQL("ON CONFLICT (id) DO UPDATE SET {}").format(updates) if replace else sql.SQL("")
        with self._turn(), self._connection.transaction():
            self._run("CREATE TEMPORARY TABLE kyori_batch (LIKE {table}) ON COMMIT DROP")
            self._copy(rows, listed)
            try:
                self._connection.execute(
                    sql.SQL("INSERT INTO {} ({}) SELECT {} FROM kyori_batch {}").format(
                        self._table, listed, listed, conflict
                    )
                )
            except self._psycopg.errors.UniqueViolation as error:
                detail = (error.diag.message_detail or "").replace("Key (id)=", "")
                raise DataError(
                    f"ids must be new; {detail or 'one of them is in the index already'} Use upsert to replace them."
                ) from None

    def delete(self, ids: pyarrow.Array) -> int:
        """Delete by id."""
        with self._turn():
            return int(self._run("DELETE FROM {table} WHERE id = ANY(%s)", [ids.to_pylist()]).rowcount)

    def nearest(self, queries: NDArray[np.float32], k: int, conditions: Sequence[Condition]) -> Matches:
        """Ask for all queries in one statement."""
        schema = self._known()
        where, values = self._where(conditions)
        found = empty_matches(len(queries), k, schema.ids)
        texts = [_text(query) for query in queries]
        # The texts are cast where the list is opened: a cast inside would be done again for every row of the table.
        statement = self._sql.SQL(
            "SELECT q.place, m.id, m.d FROM unnest(%s::text[]::vector[]) WITH ORDINALITY AS q(v, place)"
            " CROSS JOIN LATERAL (SELECT id, vector <-> q.v AS d FROM {} WHERE {} ORDER BY vector <-> q.v LIMIT %s) m"
        ).format(self._table, where)
        with self._turn(), self._connection.transaction():
            self._widen(k)
            rows = self._connection.execute(statement, [texts, *values, k]).fetchall()
        place = np.zeros(len(queries), np.int64)
        for query, id_, distance in rows:
            at = place[query - 1]
            found.ids[query - 1, at], found.distances[query - 1, at] = id_, np.float32(distance) ** 2
            place[query - 1] += 1
        order = np.argsort(found.distances, axis=1, kind="stable")
        return Matches(np.take_along_axis(found.ids, order, 1), np.take_along_axis(found.distances, order, 1))

    def fetch(self, ids: pyarrow.Array) -> Rows:
        """Select by id."""
        schema = self._known()
        names = {"id": "id", **self._columns()}
        listed = self._sql.SQL(", ").join(map(self._sql.Identifier, names.values()))
        statement = self._sql.SQL("SELECT vector::real[], {} FROM {} WHERE id = ANY(%s)").format(
            listed, self._table
        )
        with self._turn():
            rows = self._connection.execute(statement, [ids.to_pylist()], binary=True).fetchall()
        vectors = np.array([row[0] for row in rows], np.float32).reshape(len(rows), schema.dimension)
        return Rows(table_of(schema, list(names), [row[1:] for row in rows]), vectors)

    def ids(self) -> list[Any]:
        """Select all ids."""
        with self._turn():
            return [row[0] for row in self._run("SELECT id FROM {table}").fetchall()]

    def count(self) -> int:
        """Count."""
        with self._turn():
            return int(self._run("SELECT count(*) FROM {table}").fetchone()[0])

    def statistics(self) -> dict[str, Any]:
        """Return the server's version, the table's size and its index."""
        with self._turn():
            built = self._built() if self.schema else None
            size = "SELECT pg_total_relation_size(%s::regclass)"
            name = self._table.as_string(self._connection)
            return {
                "place": f"PostgreSQL {self._connection.info.server_version // 10_000}, table {self._name}",
                "built": built,
                "bytes": self._connection.execute(size, [name]).fetchone()[0] if self.schema else 0,
            }

    def save(self) -> None:
        """Build the search index if the factory asks for one and there is none; refresh the planner's figures."""
        if self.schema is None:
            return
        with self._turn():
            if self._built() is None and self._kind()[0] != "flat":
                self._build()
            self._run("ANALYZE {table}")

    def compact(self, factory: str | None) -> None:
        """Build the search index anew."""
        if factory is not None:
            check_server_factory(factory)
            self.settings = replace(self.settings, factory=factory)
        if self.schema is None:
            return
        with self._turn():
            with self._connection.transaction():
                self._remember()
                self._build()
            self._run("VACUUM (ANALYZE) {table}")

    def clear(self) -> None:
        """Drop the table."""
        with self._turn():
            self._run("DROP TABLE IF EXISTS {table}")
            self.schema = None

    def close(self) -> None:
        """Close the connection."""
        with self._guard:
            self._connection.close()

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Ask all from one snapshot."""
        with self._turn():
            outermost = self._connection.info.transaction_status == self._psycopg.pq.TransactionStatus.IDLE
            with self._connection.transaction():
                if outermost:
                    self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                yield

    def _find(self, insist: Sequence[str]) -> None:
        """Read what the index was made with, if it is there."""
        if self._connection.execute("SELECT to_regclass(%s)", [f'"{self._name}"']).fetchone()[0] is None:
            return
        comment = self._connection.execute(
            "SELECT obj_description(%s::regclass)", [f'"{self._name}"']
        ).fetchone()[0]
        self.settings, self.schema = read_facts(comment, f"the table {self._name}", self.settings, insist)

    def _find_extension(self) -> None:
        try:
            self._connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone() or (
                self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            )
            info = self._psycopg.types.TypeInfo.fetch(self._connection, "vector")
        except self._psycopg.Error as error:
            raise KyoriError(
                f"the database has no pgvector ({str(error).strip().splitlines()[0]}); let its administrator run CREATE"
                " EXTENSION vector."
            ) from error
        info.register(self._connection)

        class Dumper(self._psycopg.adapt.Dumper):  # type: ignore[name-defined]
            oid, format = info.oid, self._psycopg.pq.Format.BINARY

            def dump(self, vector: _Vector) -> bytes:
                return bytes(vector)

        self._connection.adapters.register_dumper(_Vector, Dumper)

    def _remember(self) -> None:
        text = facts_text(self.settings, self._known())
        self._connection.execute(
            self._sql.SQL("COMMENT ON TABLE {} IS {}").format(self._table, self._sql.Literal(text))
        )

    def _copy(self, rows: Rows, listed: Any) -> None:
        schema = self._known()
        types = [_TYPES[kind].split(" COLLATE")[0] for kind in (schema.ids, *dict(schema.columns).values())]
        columns = [rows.items[name].to_pylist() for name in rows.items.column_names]
        head = struct.pack(">HH", schema.dimension, 0)
        statement = self._sql.SQL("COPY kyori_batch ({}) FROM STDIN (FORMAT BINARY)").format(listed)
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types([*types, "vector"])
            for *values, vector in zip(*columns, rows.vectors.astype(">f4"), strict=True):
                copy.write_row((*values, _Vector(head + vector.tobytes())))

    def _where(self, conditions: Sequence[Condition]) -> tuple[Any, list[Any]]:
        sql, names = self._sql, {"id": "id", **self._columns()}
        parts, values = [sql.SQL("TRUE")], []
        for condition in conditions:
            column = sql.Identifier(names[condition.column])
            if condition.operator in _COMPARE:
                parts.append(sql.SQL("{} {} %s").format(column, sql.SQL(_COMPARE[condition.operator])))
                values.append(condition.values[0])
            else:
                template = "{} = ANY(%s)" if condition.operator == "in" else "NOT {} = ANY(%s)"
                parts.append(sql.SQL(template).format(column))
                values.append(list(condition.values))
        return sql.SQL(" AND ").join(parts), values

    def _widen(self, k: int) -> None:
        """Let this transaction's search look wide enough, and go on where a filter leaves too few."""
        effort = str(min(_MOST_EFFORT, max(_LEAST_EFFORT, 2 * k)))
        lists = (self._kind()[1] or 1) if self._kind()[0] == "ivf" else 1
        for name, value in (
            ("hnsw.ef_search", effort),
            ("hnsw.iterative_scan", "strict_order"),
            ("ivfflat.iterative_scan", "relaxed_order"),
            ("ivfflat.probes", str(max(1, round(lists**0.5) * 2))),
        ):
            self._connection.execute("SELECT set_config(%s, %s, true)", [name, value])

    def _kind(self) -> tuple[str, int]:
        count = self.count() if self.settings.factory == "auto" and self.schema else 0
        return server_kind(self.settings.factory, count)

    def _built(self) -> str | None:
        statement = "SELECT indexdef FROM pg_indexes WHERE tablename = %s AND indexname = %s"
        row = self._connection.execute(statement, [self._name, f"{self._name}_vector"]).fetchone()
        found = re.search(r"USING (\w+).*?(?:WITH \((.*)\))?$", row[0]) if row else None
        return f"{found[1]} {found[2] or ''}".strip() if found else None

    def _build(self) -> None:
        kind, size = self._kind()
        name = self._sql.Identifier(f"{self._name}_vector")
        if kind != "flat" and self._known().dimension > _GRAPH_DIMENSIONS:
            raise ArgumentError(
                f"pgvector builds {kind} for at most {_GRAPH_DIMENSIONS:,} numbers; these vectors have"
                f" {self._known().dimension:,}. Use factory='Flat'."
            )
        self._connection.execute(self._sql.SQL("DROP INDEX IF EXISTS {}").format(name))
        if kind == "flat":
            return
        options = (
            f"m = {int(size)}, ef_construction = {2 * int(size)}"
            if kind == "hnsw"
            else f"lists = {int(size)}"
        )
        method = "hnsw" if kind == "hnsw" else "ivfflat"
        self._connection.execute(
            self._sql.SQL("CREATE INDEX {} ON {} USING {} (vector vector_l2_ops) WITH ({})").format(
                name, self._table, self._sql.SQL(method), self._sql.SQL(options)
            )
        )

    def _run(self, statement: str, values: Sequence[Any] = ()) -> Any:
        return self._connection.execute(self._sql.SQL(statement).format(table=self._table), values or None)

    def _columns(self) -> dict[str, str]:
        return column_names(self._known())

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Let one thread at a time speak with the server, and turn what it says into an error of Kyori."""
        try:
            with self._guard:
                yield
        except self._psycopg.Error as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise KyoriError(f"PostgreSQL, table {self._name}: {lines[0]}") from error


class _Vector(bytes):
    """A vector in pgvector's binary form."""


def _text(vector: NDArray[np.float32]) -> str:
    return f"[{','.join(map(repr, vector.tolist()))}]"
