"""The index: everything that is the same wherever the vectors lie."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import pyarrow
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError, DataError
from ..neighbors import Matches, nearest
from ..vectors import VectorTable
from . import filters
from .reranking import Rerank
from .reranking import rerank as rerank_found
from .schema import Rows, ids_of, rows_of
from .store import Metric, Store, empty_matches

__all__ = ["Index"]

_LARGEST_NORM = 1e18  # squares of differences stay finite in float32
_BLOCK = 65_536


class Index:
    """Vectors that can be searched, with the caller's ids, labels and columns. Made by :func:`kyori.open_index`.

    The first batch decides the dimension, the kind of the ids (integers or strings) and the columns; later batches
    must have the same. What a call of :meth:`add`, :meth:`upsert` or :meth:`delete` returned from is durable.
    With the metric cosine, vectors are kept at length 1, and :meth:`get` gives them back so.

    Attributes:
        metric: ``"euclidean"`` or ``"cosine"`` (1 − cos); distances are true ones, smaller is closer.

    >>> import kyori, tempfile
    >>> index = kyori.open_index(tempfile.mkdtemp() + "/index")
    >>> index.add(["a", "b", "c"], [[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]], labels=["x", "y", "x"])
    >>> index.search([[0.0, 0.0]], k=2).ids
    array([['a', 'c']], dtype=object)
    >>> index.search([[0.0, 0.0]], k=2, where={"label": "y"}).distances
    array([[ 5., inf]], dtype=float32)
    >>> index.delete(["a"]), len(index)
    (1, 2)
    >>> index.close()
    """

    def __init__(self, store: Store):
        self._store = store
        self._metric = store.settings.metric  # which no call changes

    @property
    def metric(self) -> Metric:
        """The distance of the results."""
        return self._metric

    @property
    def dimension(self) -> int | None:
        """Numbers in a vector; None before the first batch."""
        return self._store.schema.dimension if self._store.schema else None

    @property
    def columns(self) -> dict[str, str]:
        """Kind of each column (bool, int, float, str) by name; ``label`` is one of them where there are labels."""
        return dict(self._store.schema.columns) if self._store.schema else {}

    def __len__(self) -> int:
        return self._store.count() if self._store.schema else 0

    def __repr__(self) -> str:
        return f"Index({len(self):,} vectors of {self.dimension or '?'} numbers, {self.metric})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(
        self,
        ids: ArrayLike,
        vectors: ArrayLike,
        labels: ArrayLike | None = None,
        columns: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        """Add new vectors; either all of the batch is there afterwards, or nothing of it.

        Args:
            ids: ``(n,)`` integers or strings that the index does not hold yet.
            vectors: ``(n, d)`` finite numbers.
            labels: ``(n,)`` integers or strings; kept as the column ``label``.
            columns: Further ``(n,)`` arrays of bools, numbers or strings.

        Raises:
            ArgumentError: A shape, kind or column does not fit what the index holds.
            DataError: An id is there already or comes twice, or a vector is not finite, too long, or zero with cosine.
        """
        self._write(VectorTable(ids, vectors, labels, columns), replace=False)

    def upsert(
        self,
        ids: ArrayLike,
        vectors: ArrayLike,
        labels: ArrayLike | None = None,
        columns: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        """Add vectors, and put those whose ids are there already in the place of the old ones; else as :meth:`add`."""
        self._write(VectorTable(ids, vectors, labels, columns), replace=True)

    def add_table(self, table: VectorTable, *, replace: bool = False) -> None:
        """Add a table: :meth:`upsert` if ``replace``, else :meth:`add`."""
        self._write(table, replace=replace)

    def delete(self, ids: ArrayLike) -> int:
        """Remove vectors by id and return how many there were; ids that are not there are passed over."""
        wanted = self._ids(ids)
        return 0 if wanted is None else self._store.delete(wanted.unique())

    def get(self, ids: ArrayLike, *, missing: Literal["error", "skip"] = "error") -> VectorTable:
        """Return items by id, in the order asked for.

        Args:
            ids: ``(n,)`` unique.
            missing: What to do about ids that are not there: ``"skip"`` is for ids that were found a moment ago, as
                another thread or process may have deleted them since.

        Raises:
            DataError: An id is not there, or asked for twice.
        """
        if missing not in ("error", "skip"):
            raise ArgumentError(f"missing must be 'error' or 'skip'; got {missing!r}.")
        wanted = self._ids(ids)
        if wanted is None:
            if np.size(ids) and missing == "error":
                raise DataError("the index is empty; there is nothing to get.")
            return VectorTable(vectors=np.zeros((0, self.dimension or 1), np.float32))
        if (distinct := len(wanted.unique())) < len(wanted):
            raise DataError(f"ids must be unique; got {len(wanted)}, of which {distinct} are distinct.")
        rows = self._store.fetch(wanted)
        place = {id_: row for row, id_ in enumerate(rows.items["id"].to_pylist())}
        absent = [id_ for id_ in wanted.to_pylist() if id_ not in place]
        if absent and missing == "error":
            raise DataError(
                f"ids must be in the index; {absent[0]!r} is not ({len(absent)} of {len(wanted)} are not)."
            )
        order = np.array([place[id_] for id_ in wanted.to_pylist() if id_ in place], np.int64)
        return _table(rows.items.take(order), rows.vectors[order])

    def ids(self) -> NDArray[Any]:
        """Return all ids, in ascending order (strings by code points)."""
        if self._store.schema is None:
            return np.zeros(0, np.int64)
        found = sorted(self._store.ids())
        return np.array(found, np.int64) if self._store.schema.ids == "int" else np.array(found, np.str_)

    def search(
        self,
        queries: ArrayLike,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        *,
        rerank: Rerank | None = None,
    ) -> Matches:
        """Find the ``k`` nearest items of each query.

        Args:
            queries: ``(q, d)`` finite numbers, or one query ``(d,)``.
            k: How many; what is missing when fewer items are there is filled up with None (−1 where ids are
                integers) and inf.
            where: A filter on columns, e.g. ``{"label": ["cat", "dog"], "price": ("<", 3)}``; all forms are in
                :mod:`kyori.index.filters`.
            rerank: :class:`kyori.index.QueryExpansion`, :class:`kyori.index.KReciprocal` or a model of pairs
                (:class:`kyori.recognition.PairwiseReranker`).

        Returns:
            ``ids`` and ``distances``, both ``(q, k)``, nearest first.

        Raises:
            ArgumentError: A shape, ``k`` or the filter is wrong.
            DataError: A query is not finite, or (with cosine) zero.
        """
        if k < 1:
            raise ArgumentError(f"k must be at least 1; got {k}.")
        schema = self._store.schema
        if schema is None:
            return empty_matches(1 if np.ndim(queries) == 1 else len(np.asarray(queries)), k, "int")
        asked = self._queries(queries, schema.dimension)
        conditions: tuple[filters.Condition, ...] = ()
        if where is not None:
            conditions = filters.parse(where, schema)
            if any(condition.operator == "in" and not condition.values for condition in conditions):
                return empty_matches(len(asked), k, schema.ids)
            conditions = tuple(c for c in conditions if c.operator != "not in" or c.values)
        if rerank is None:
            return self._find(asked, k, conditions)

        def find(vectors: NDArray[np.float32], count: int) -> Matches:
            return self._find(vectors, count, conditions)

        return rerank_found(rerank, asked, k, self.metric, find, self._vectors_of)

    def steady(self) -> AbstractContextManager[object]:
        """Let several calls of one thread see the same items: ``with index.steady(): ...``.

        In a folder other threads wait meanwhile; PostgreSQL answers from one snapshot, whoever writes. Milvus has none:
        there others may change items in between.
        """
        return self._store.steady()

    def recall(self, k: int = 10, *, sample: int = 100, seed: int = 0) -> float:
        """Measure which share of the true ``k`` nearest neighbours search finds, against an exact search.

        Args:
            k: Neighbours a query.
            sample: How many of the index's own vectors are asked for; each is left out of its own answer.
            seed: Decides which.

        Returns:
            Between 0 and 1; 1 for an index with fewer than two vectors. An item as near as the true k-th counts. What
            others change meanwhile blurs it.
        """
        everything = self.ids()
        if len(everything) < 2:
            return 1.0
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.permutation(len(everything))[:sample])
        queries = self.get(everything[chosen], missing="skip").vectors
        found = self.search(queries, min(k + 1, len(everything))).distances
        bound = np.full((len(queries), 0), np.inf, np.float32)
        for start in range(0, len(everything), _BLOCK):  # the true distances, a block of items at a time
            part = self.get(everything[start : start + _BLOCK], missing="skip").vectors
            if len(part):
                block = nearest(queries, part, min(k + 1, len(part)), self.metric).distances
                bound = np.sort(np.concatenate([bound, block], axis=1), axis=1)[:, : k + 1]
        if len(queries) == 0 or bound.shape[1] < 2:
            return 1.0  # fewer than two are left
        # The query finds itself at distance 0 in both; a found distance within rounding of the true k-th is a hit.
        limit = bound[:, -1:] * (1 + 1e-4) + 1e-6
        hits = (found <= limit).sum(axis=1) - 1
        return float(np.clip(hits / (bound.shape[1] - 1), 0, 1).mean())

    def statistics(self) -> dict[str, Any]:
        """Return what an operator wants to know: sizes, the kind of search, what waits for :meth:`compact`."""
        schema = self._store.schema
        facts = {"vectors": len(self), "metric": self.metric, "factory": self._store.settings.factory}
        return {**facts, **(schema.to_dict() if schema else {}), **self._store.statistics()}

    def copy_to(self, other: Index) -> int:
        """Write all items into another index, wherever it lies, and return how many there were.

        Items that the other one holds under the same ids are replaced. Neither index is locked against other writers:
        what they change while items are copied may be missed.

        Args:
            other: Empty, or of the same dimension, kind of ids and columns.

        Raises:
            ArgumentError: The other index measures another distance, or holds items of another form.
        """
        if other.metric != self.metric:
            raise ArgumentError(f"the other index must measure {self.metric} distances, as this one; it measures"
                                f" {other.metric} ones.")  # fmt: skip
        ids = self.ids()
        for start in range(0, len(ids), _BLOCK):
            other.add_table(self.get(ids[start : start + _BLOCK], missing="skip"), replace=True)
        other.save()
        return len(ids)

    def save(self) -> None:
        """Bring the index into the form that opens and searches quickest. Nothing is lost without it."""
        self._store.save()

    def compact(self, factory: str | None = None) -> None:
        """Drop what was deleted and build anew, with another ``factory`` if one is given."""
        self._store.compact(factory)

    def clear(self) -> None:
        """Remove everything, the decisions of the first batch too."""
        self._store.clear()

    def close(self) -> None:
        """Let go of files, locks and connections."""
        self._store.close()

    def _write(self, table: VectorTable, *, replace: bool) -> None:
        rows = rows_of(table)
        if len(rows) == 0:
            return
        rows = Rows(rows.items, _checked_vectors(rows.vectors, self.metric, "vectors"))
        if self._store.schema is None:
            self._store.create(rows.schema())
        self._store.write(self._fitted(rows), replace=replace)

    def _fitted(self, rows: Rows) -> Rows:
        """Check rows against the schema and bring their columns into its order."""
        schema, got = self._store.schema, rows.schema()
        assert schema is not None
        if got.dimension != schema.dimension:
            raise ArgumentError(f"vectors must have {schema.dimension} numbers; got {got.dimension}.")
        if got.ids != schema.ids:
            raise ArgumentError(f"ids must be of the kind that the index holds, {schema.ids}; got {got.ids}.")
        wanted, came = dict(schema.columns), dict(got.columns)
        if set(wanted) != set(came):
            raise ArgumentError(
                f"columns must be {', '.join(wanted) or 'none'}, as in the first batch; got"
                f" {', '.join(came) or 'none'}."
            )
        items = rows.items
        for name, kind in wanted.items():
            if (came[name], kind) == ("int", "float"):
                place = items.column_names.index(name)
                items = items.set_column(place, name, items[name].cast(pyarrow.float64()))
            elif came[name] != kind:
                raise ArgumentError(f"column {name!r} must hold {kind} values; got {came[name]}.")
        return Rows(items.select(["id", *wanted]), rows.vectors)

    def _ids(self, ids: ArrayLike) -> pyarrow.Array | None:
        """Return ids as an array of the index's kind; None where there is nothing to look for."""
        schema = self._store.schema
        if np.ndim(ids) != 1:
            raise ArgumentError(
                f"ids must be a list of ids; got {ids!r}. Put a single one into a list: [id]."
            )
        if schema is None or not np.size(ids):
            return None
        found, got = ids_of(ids)
        if got != schema.ids:
            raise ArgumentError(f"ids must be of the kind that the index holds, {schema.ids}; got {got}.")
        return found

    def _queries(self, queries: ArrayLike, dimension: int) -> NDArray[np.float32]:
        asked = np.ascontiguousarray(queries, dtype=np.float32)
        if asked.ndim == 1:
            asked = asked[None]
        if asked.ndim != 2 or asked.shape[1] != dimension:
            raise ArgumentError(f"queries must have shape (q, {dimension}); got {np.shape(queries)}.")
        # The least and the largest number tell of all that they are finite and of no row that it is too long. A search
        # leaves nothing of NumPy in the caches, so that each further look at a batch costs more than its arithmetic.
        largest = _LARGEST_NORM / dimension**0.5
        if (
            self._metric == "euclidean"
            and -largest < np.minimum.reduce(asked, axis=None, initial=0)
            and np.maximum.reduce(asked, axis=None, initial=0) < largest
        ):
            return asked
        if not np.isfinite(asked).all():
            row = int(np.argmin(np.isfinite(asked).all(axis=1)))
            raise DataError(f"queries must be finite numbers; query {row} is not.")
        return _checked_vectors(asked, self.metric, "queries")

    def _vectors_of(self, ids: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the vectors of those of unique ids ``(m,)`` that are there, and ``(m,)`` which are."""
        table = self.get(ids, missing="skip")
        present = set(table.ids.tolist())
        return table.vectors, np.array([id_ in present for id_ in ids.tolist()])

    def _find(
        self, vectors: NDArray[np.float32], k: int, conditions: tuple[filters.Condition, ...]
    ) -> Matches:
        found = self._store.nearest(vectors, k, conditions)
        squares = found.distances
        if self._metric == "cosine":
            # On the unit sphere ‖a − b‖² = 2 (1 − cos), and the difference loses nothing for near-duplicates.
            np.multiply(squares, 0.5, out=squares)
        else:
            np.sqrt(squares, out=squares)
        return found


def _table(items: pyarrow.Table, vectors: NDArray[np.float32]) -> VectorTable:
    plain = {name: _numpy(items[name]) for name in items.column_names}
    return VectorTable(plain.pop("id"), vectors, labels=plain.pop("label", None), columns=plain)


def _numpy(column: pyarrow.ChunkedArray) -> NDArray[Any]:
    if pyarrow.types.is_large_string(column.type) or pyarrow.types.is_string(column.type):
        return np.array(column.to_pylist(), np.str_)
    return column.to_numpy()


def _checked_vectors(vectors: NDArray[np.float32], metric: Metric, what: str) -> NDArray[np.float32]:
    """Check the lengths of finite vectors; with cosine, return them at length 1."""
    scaled = np.empty_like(vectors) if metric == "cosine" else vectors
    for start in range(0, len(vectors), _BLOCK):
        rows = slice(start, start + _BLOCK)
        part = vectors[rows]
        squares = np.einsum("nd,nd->n", part, part)
        if metric == "euclidean" and squares.max() < _LARGEST_NORM**2:
            continue
        lengths = np.linalg.norm(part.astype(np.float64), axis=1)
        if lengths.max() > _LARGEST_NORM:
            row = start + int(lengths.argmax())
            raise DataError(
                f"{what} must have a norm of at most {_LARGEST_NORM:g}, or distances overflow; row {row} has"
                f" {lengths.max():.3g}."
            )
        if metric == "cosine":
            if not lengths.all():
                row = start + int(lengths.argmin())
                raise DataError(f"{what} must not be zero with the metric cosine; row {row} is.")
            scaled[rows] = part / lengths[:, None]
    return scaled
