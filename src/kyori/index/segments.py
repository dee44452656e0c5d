"""The two parts of an index in a folder: a large one that is searched by FAISS, and what came since.

The base is never changed, but for rows that are marked dead; so it can lie in a mapped file. What came since stands in
the delta, which is searched exactly. A row's number is its place in the base, or the base's size plus its place in
the delta.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray

from ..errors import FileFormatError
from . import filters
from .factory import (
    REFINE,
    exact,
    faiss,
    flat_vectors,
    lossless,
    ordered,
    search_exactly,
    selects,
    sharpened,
    true_squares,
)
from .filters import Condition
from .schema import Rows

__all__ = ["Base", "Delta", "id_keys", "plain", "sorted_keys"]

_BATCH = 20  # from here on FAISS multiplies matrices
_FAR = 100.0  # squared distance of the centre from the origin, in units of the squared spread
_SUBSET = 0.1  # below this share of wanted rows, a search of just these is quicker than a search around them
_SMALL = 2_000
_BLOCK = 65_536


def plain(array: pyarrow.Array, dtype: type) -> NDArray[Any]:
    """Return a view of numbers without gaps (Arrow's own ``to_numpy`` imports pandas, if there is one)."""
    size = np.dtype(dtype).itemsize
    return np.frombuffer(array.buffers()[1], dtype, count=len(array), offset=array.offset * size)


def id_keys(ids: pyarrow.Array) -> NDArray[np.int64]:
    """Return a 64-bit key of each id: the integer itself, or a hash of the string that is the same on every machine."""
    if pyarrow.types.is_integer(ids.type):
        return plain(ids, np.int64)
    parts = [_hash(ids[start : start + _BLOCK].to_pylist()) for start in range(0, len(ids), _BLOCK)]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _hash(strings: list[str]) -> NDArray[np.int64]:
    """FNV-1a over code points, for all strings at once, and a final mix."""
    texts = np.array(strings, np.str_)
    points = (
        texts.view(np.uint32).reshape(len(texts), -1) if texts.dtype.itemsize else np.zeros((len(texts), 0))
    )
    keys = np.full(len(texts), 0xCBF29CE484222325, np.uint64)
    for column in points.T.astype(np.uint64):
        keys = np.where(column != 0, (keys ^ column) * np.uint64(0x100000001B3), keys)
    keys ^= keys >> np.uint64(32)
    return keys.view(np.int64)


def sorted_keys(ids: pyarrow.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the keys in ascending order, and the row of each."""
    keys = id_keys(ids)
    order = np.argsort(keys, kind="stable")
    return keys[order], order


class Base:
    """Rows that FAISS has indexed.

    Attributes:
        index: The FAISS index.
        vectors: ``(n, d)`` float32 view or map of the vectors as they came.
        items: Arrow table of id and columns.
        alive: ``(n,)`` bools; False for what was deleted or replaced.
        keys, key_rows: Sorted keys of the ids, and the row of each.
    """

    def __init__(
        self,
        index: Any,
        vectors: NDArray[np.float32] | None,
        items: pyarrow.Table,
        alive: NDArray[np.bool_],
        keys: NDArray[np.int64],
        key_rows: NDArray[np.int64],
    ):
        self.index = index
        whole = flat_vectors(index)
        self.lossless, self._selects, self._flat = lossless(index), selects(index), exact(index)
        if whole is None and vectors is None:
            raise FileFormatError("the index lacks its file of vectors.")
        self.vectors: NDArray[np.float32] = whole if whole is not None else vectors  # type: ignore[assignment]
        self.items = items
        self.alive = alive
        self.keys, self.key_rows = keys, key_rows
        self.dead = len(alive) - int(np.count_nonzero(alive))
        self._ids = items["id"].combine_chunks() if items["id"].num_chunks != 1 else items["id"].chunk(0)
        self._numbers = plain(self._ids, np.int64) if pyarrow.types.is_integer(self._ids.type) else None
        self._selector: Any = None

    def __len__(self) -> int:
        return len(self.alive)

    def ids_at(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the ids of rows, as int64 or objects, of any shape."""
        if self._numbers is not None:
            return self._numbers[rows]
        found = np.empty(rows.size, object)
        numbers = pyarrow.py_buffer(np.ascontiguousarray(rows))
        found[:] = self._ids.take(
            pyarrow.Array.from_buffers(pyarrow.int64(), rows.size, [None, numbers])
        ).to_pylist()
        return found.reshape(rows.shape)

    def find(self, ids: pyarrow.Array) -> NDArray[np.int64]:
        """Return the living row of each id, −1 where there is none."""
        wanted = id_keys(ids)
        result = np.full(len(wanted), -1, np.int64)
        place = np.searchsorted(self.keys, wanted)
        open_ = np.arange(len(wanted))
        while open_.size:  # walks over dead rows of the same id, and over strings with the same hash
            open_ = open_[place[open_] < len(self.keys)]
            open_ = open_[self.keys[place[open_]] == wanted[open_]]
            rows = self.key_rows[place[open_]]
            hit = self.alive[rows]
            if self._numbers is None and open_.size:
                hit = hit & (
                    self.ids_at(rows) == np.array(ids.take(pyarrow.array(open_)).to_pylist(), object)
                )
            result[open_[hit]] = rows[hit]
            open_ = open_[~hit]
            place[open_] += 1
        return result

    def kill(self, rows: NDArray[np.int64]) -> None:
        """Mark rows as deleted."""
        self.alive[rows] = False
        self.dead += len(rows)
        self._selector = None

    def nearest(
        self,
        queries: NDArray[np.float32],
        k: int,
        conditions: Sequence[Condition],
        effort: tuple[str, int] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return squared distances and rows, at most ``k`` a query, and never fewer than there are."""
        wanted = self.alive & filters.mask(conditions, self.items) if conditions else self.alive
        total = int(np.count_nonzero(wanted)) if conditions else len(self) - self.dead
        count = min(k, total)
        if count == 0:
            return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        asked = count if self.lossless else min(REFINE * count, total)
        if self._flat and len(queries) >= _BATCH and self._far:
            return search_exactly(queries, self.vectors, count, np.flatnonzero(wanted))
        if total == len(self):
            squares, rows = self.index.search(queries, asked)
        elif total <= max(_SMALL, _SUBSET * len(self)) or not self._selects:
            return search_exactly(queries, self.vectors, count, np.flatnonzero(wanted))
        else:
            parameters = self._parameters(wanted if conditions else None, effort, total / len(self))
            squares, rows = self.index.search(queries, asked, params=parameters)
        return self._checked(queries, squares, rows, count, wanted)

    @cached_property
    def _far(self) -> bool:
        """Whether the vectors lie so far from the origin that FAISS's |q|² + |x|² − 2qx cannot tell them apart."""
        some = self.vectors[:: max(1, len(self) // 4096)].astype(np.float64)
        centre = some.mean(axis=0)
        return bool(centre @ centre > _FAR * np.square(some - centre).sum(axis=1).mean())

    def _parameters(
        self, wanted: NDArray[np.bool_] | None, effort: tuple[str, int] | None, share: float
    ) -> Any:
        """Return FAISS's parameters for a search that leaves out rows, the wider the more it leaves out."""
        module = faiss()
        if wanted is None:
            if self._selector is None:
                self._selector = module.IDSelectorBitmap(np.packbits(self.alive, bitorder="little"))
            selector = self._selector
        else:
            selector = module.IDSelectorBitmap(np.packbits(wanted, bitorder="little"))
        if effort is None:
            return module.SearchParameters(sel=selector)
        name, value = effort
        wider = int(np.ceil(value / share))
        if name == "efSearch":
            return module.SearchParametersHNSW(sel=selector, efSearch=wider)
        return module.SearchParametersIVF(sel=selector, nprobe=min(wider, self.index.nlist))

    def _checked(
        self,
        queries: NDArray[np.float32],
        squares: NDArray[np.float32],
        rows: NDArray[np.int64],
        count: int,
        wanted: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Make distances true, and fill up what an approximate search did not reach."""
        if not self.lossless:
            squares, rows = ordered(true_squares(queries, self.vectors, rows), rows, count)
        elif len(queries) >= _BATCH and self._flat:
            squares, rows = sharpened(queries, self.vectors, squares, rows)
        if not self._flat and np.minimum.reduce(rows[:, -1], initial=0) < 0:
            short = np.flatnonzero(rows[:, -1] < 0)
            squares[short], rows[short] = search_exactly(
                queries[short], self.vectors, count, np.flatnonzero(wanted)
            )
        return squares, rows


class Delta:
    """Rows that came since the base was built, searched exactly."""

    def __init__(self, dimension: int):
        self._index = faiss().IndexFlatL2(dimension)
        self._tables: list[pyarrow.Table] = []
        self._ids: list[Any] = []
        self._alive: list[bool] = []
        self._place: dict[Any, int] = {}
        self.dead = 0

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """``(n, d)`` view, good until the next :meth:`append`."""
        whole = flat_vectors(self._index)
        assert whole is not None
        return whole

    @property
    def alive(self) -> NDArray[np.bool_]:
        """``(n,)`` bools."""
        return np.array(self._alive, bool)

    def items(self) -> pyarrow.Table:
        """Return ids and columns of all rows."""
        if len(self._tables) > 1:
            self._tables = [pyarrow.concat_tables(self._tables).combine_chunks()]
        return self._tables[0]

    def append(self, rows: Rows) -> None:
        """Take rows whose ids are not alive here."""
        start = len(self)
        self._index.add(rows.vectors)
        self._tables.append(rows.items)
        ids = rows.items["id"].to_pylist()
        self._ids += ids
        self._alive += [True] * len(ids)
        self._place.update(zip(ids, range(start, start + len(ids)), strict=True))

    def find(self, ids: Sequence[Any]) -> NDArray[np.int64]:
        """Return the living row of each id, −1 where there is none."""
        return np.array([self._place.get(id_, -1) for id_ in ids], np.int64)

    def kill(self, rows: NDArray[np.int64]) -> None:
        """Mark rows as deleted."""
        for row in rows.tolist():
            self._alive[row] = False
            del self._place[self._ids[row]]
        self.dead += len(rows)

    def ids_at(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the ids of rows as objects, of any shape."""
        found = np.empty(rows.size, object)
        found[:] = [self._ids[row] for row in rows.ravel().tolist()]
        return found.reshape(rows.shape)

    def nearest(
        self, queries: NDArray[np.float32], k: int, conditions: Sequence[Condition]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return squared distances and rows, at most ``k`` a query."""
        if self.dead == 0 and not conditions:
            if len(queries) >= _BATCH:
                return search_exactly(queries, self.vectors, min(k, len(self)))
            return self._index.search(queries, min(k, len(self)))
        wanted = self.alive
        if conditions:
            wanted &= filters.mask(conditions, self.items())
        chosen = np.flatnonzero(wanted)
        if chosen.size == 0:
            return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        return search_exactly(queries, self.vectors, min(k, len(chosen)), chosen)
