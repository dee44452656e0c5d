"""The ranks of positives, and who stands before whom: the items that a query ranks before its positives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .sums import Sums

__all__ = ["Ahead", "Far", "Ranks", "joined"]

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Levels = NDArray[np.unsignedinteger]

_TABLE = 4096  # entries that are looked up quickly: they stay in the cache
_SCATTERED = 64  # items are taken one by one when no more than one in so many matter


@dataclass(frozen=True, eq=False)
class Ranks:
    """Ranks of the positives of one block of queries.

    Attributes:
        rows: Which queries.
        query: ``(p,)`` position in the block of each positive's query, ascending.
        rank: ``(p,)`` rank of the positive among all that the query is compared with, from 1, ascending for each
            query. Positives deeper than was asked for are left out, but for the first of each query.
        positives: ``(b,)`` number of positives of each query.
        tied: ``(b,)`` whether a positive and a negative are at exactly the same distance, as deep as was asked for.
        column: ``(p,)`` gallery column of each positive.
        ahead: What stands before each positive, where that was asked for.
    """

    rows: slice
    query: Counts
    rank: Counts
    positives: Counts
    tied: NDArray[np.bool_]
    column: Counts
    ahead: "Ahead | None" = None


@dataclass(frozen=True, eq=False)
class Far:
    """Rows in which a positive is far away: what stands before it is not listed, but for what is about as close.

    Attributes:
        rows: ``(w,)`` which, ascending.
        level: ``(p,)`` for the positives of these rows: items of a level up to this one stand before it.
        levels: Yields the first column and the ``(b, ·)`` levels of the items, block of columns after block.
    """

    rows: Counts
    level: Counts
    levels: Callable[[], Iterator[tuple[int, Levels]]]


@dataclass(frozen=True, eq=False)
class Ahead:
    """The gallery items before each positive of a block, other positives among them.

    Attributes:
        columns: ``(e,)`` gallery columns, list after list, the closest first in each.
        starts: ``(l,)`` where each list begins.
        rows: ``(l,)`` whose list it is.
        of: ``(p,)`` the list of each positive.
        place: ``(p,)`` position in ``columns`` where those before the positive end.
        far: Rows of which not all is listed.
    """

    columns: Counts
    starts: Counts
    rows: Counts
    of: Counts
    place: Counts
    far: Far | None = None

    def add(self, weights: Floats, ranks: Ranks, side: Counts, totals: Sums) -> None:
        """Add to each item what the positives behind it weigh, apart for rows of one side and of the other.

        Args:
            weights: ``(s, p)`` of each positive, for s measures.
            ranks: Of the positives.
            side: ``(b,)`` 0 or 1 of each row.
            totals: To which is added.
        """
        for measure, weight in enumerate(weights):
            self._add_listed(measure, weight, side[self.rows], totals)
        if self.far is not None:
            _add_far(self.far, weights, ranks, side, totals)

    def _add_listed(self, measure: int, weight: Floats, side: Counts, totals: Sums) -> None:
        active = np.flatnonzero(weight)
        of = self.of[active]
        reach = self.place[active] - self.starts[of]
        lengths = np.zeros(len(self.starts), np.int64)
        np.maximum.at(lengths, of, reach)
        at = joined(self.starts, lengths)
        if len(at) == 0:
            return
        begin = (np.cumsum(lengths) - lengths)[of]
        steps = np.bincount(begin, weight[active], len(at) + 1)
        steps -= np.bincount(begin + reach, weight[active], len(at) + 1)
        totals.scatter(measure, np.repeat(side, lengths), self.columns[at], np.cumsum(steps[:-1]))


def _add_far(far: Far, weights: Floats, ranks: Ranks, side: Counts, totals: Sums) -> None:
    row = np.full(len(side), -1)
    row[far.rows] = np.arange(len(far.rows))
    asked = np.flatnonzero(row[ranks.query] >= 0)
    row, level, rank = row[ranks.query[asked]], far.level[asked], ranks.rank[asked]
    weights = weights[:, asked]
    # What an item of each level of a row gains, (levels of all rows, s): the weights of that level and of all above.
    sizes = np.full(len(far.rows), 2)
    np.maximum.at(sizes, row, level + 2)
    begins = np.cumsum(sizes) - sizes
    gains: Floats = np.stack([np.bincount(begins[row] + level, of, sizes.sum()) for of in weights], axis=1)
    for top in range(int(sizes.max()) - 1, 0, -1):
        at = begins[sizes > top] + top
        gains[at - 1] += gains[at]
    # How far in the row what weighs reaches, in items and in levels.
    reach, depth = (np.zeros((len(weights), len(far.rows)), np.int64) for _ in range(2))
    for s, weight in enumerate(weights):
        active = np.flatnonzero(weight)
        np.maximum.at(reach[s], row[active], rank[active])
        np.maximum.at(depth[s], row[active], level[active])
    many = reach * _SCATTERED > totals.units
    few = (reach > 0) & ~many
    dense = np.flatnonzero(many.any(axis=1))
    tables = np.split(gains[:, dense] * np.repeat(many[dense].T, sizes, axis=0), begins[1:])
    for start, levels in far.levels():
        for i in np.flatnonzero(few.any(axis=0)).tolist():
            own, measures = levels[far.rows[i]], np.flatnonzero(few[:, i]).tolist()
            deepest = int(depth[measures, i].max())  # as an int64 it would turn all levels into such
            items = np.flatnonzero(own <= deepest)
            at = begins[i] + own[items]
            for s in measures:
                totals.add(s, side[far.rows[i]], start + items, gains[at, s])
        for one in (0, 1):
            chosen = np.flatnonzero(many.any(axis=0) & (side[far.rows] == one)).tolist()
            if chosen:
                sums = _looked_up([levels[far.rows[i]] for i in chosen], [tables[i] for i in chosen])
                for s, found in zip(dense.tolist(), sums.T, strict=True):
                    totals.add(s, one, slice(start, start + len(found)), found)


def _looked_up(levels: list[Levels], tables: list[Floats]) -> Floats:
    """Return the sum over rows of the entry ``(s,)`` of its table at each item's level, ``(w, s)``.

    One table of the sums of several rows' entries is looked up once for all of them.
    """
    shape = len(levels[0]), tables[0].shape[1]
    sums, found, at = np.zeros(shape), np.empty(shape), np.empty(shape[0], np.intp)
    for first, *others in _groups([len(table) for table in tables]):
        table, code = tables[first], levels[first]
        for i in others:
            table = (table[:, None] + tables[i]).reshape(-1, shape[1])
            code = np.multiply(code, len(tables[i]), dtype=np.min_scalar_type(len(table)))
            code += levels[i]
        at[:] = code
        sums += np.take(table, at, axis=0, out=found, mode="clip")
    return sums


def _groups(sizes: list[int]) -> Iterator[list[int]]:
    """Yield positions one after the other, as many at a time as have a product of sizes up to ``_TABLE``, or one."""
    group: list[int] = []
    entries = 1
    for i, size in enumerate(sizes):
        if group and entries * size > _TABLE:
            yield group
            group, entries = [], 1
        group.append(i)
        entries *= size
    if group:
        yield group


def joined(starts: Counts, lengths: Counts) -> Counts:
    """Return the positions ``starts[i] … starts[i] + lengths[i] − 1`` of all ranges, one after the other.

    >>> joined(np.array([5, 9]), np.array([2, 3])).tolist()
    [5, 6, 9, 10, 11]
    """
    before = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
