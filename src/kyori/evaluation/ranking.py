"""The ranks of every query's positives: all that retrieval measures need.

Two ways, one answer. Where a query has few positives, their exact distances are computed first, and one float32
product then tells what could be as close (:class:`kyori.neighbors.Screen`); only that is sorted, and only what
rounding could turn is computed exactly. Where positives are many, each row of exact distances is sorted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from ..neighbors import Screen, distance_blocks, first_keys, order_keys, row_keys
from ..threads import in_order, side_by_side
from .ahead import Ahead
from .task import Task

__all__ = ["Ranks", "rank_blocks"]

Counts = NDArray[np.int64]

_FEW = 32  # the screen is used when no more than one in so many pairs is a same pair
_CROWDED = 64  # and left when more than one in so many pairs would have to be computed exactly
_WIDE = 24  # the share of a row that is sorted rather than counted
_PASSES = 12  # a row is counted through for each of so many positives, and sorted for more
_WIDTH = 65_536  # gallery items of one product
_MEMORY = 512 << 20  # bytes of the working arrays of one block
_LEAST_ITEMS = 256  # below this the plain way is as quick


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
    ahead: Ahead | None = None


def rank_blocks(
    task: Task,
    depth: int,
    *,
    rows: slice | None = None,
    block_rows: int | None = None,
    memory: int | None = None,
    ahead: bool = False,
    listed: bool = False,
) -> Iterator[Ranks]:
    """Yield the ranks of one block of queries after the other; what stands ahead is known until the next is asked for.

    Args:
        task: Who is compared with whom.
        depth: How deep ranks are asked for, besides that of the first positive.
        rows: The queries to do; all when left out.
        block_rows: Queries of a block; chosen by the memory when left out.
        memory: Bytes that the working arrays of the blocks in work may take, on top of the vectors.
        ahead: Whether it is wanted what stands before each positive (of those that are not left out).
        listed: Whether that should be a list for every row.

    Raises:
        ArgumentError: ``block_rows`` or ``memory`` is too small to do anything.
    """
    q, m = len(task.queries), len(task.gallery)
    todo = slice(0, q) if rows is None else rows
    if block_rows is not None and block_rows < 1:
        raise ArgumentError(f"block_rows must be at least 1; got {block_rows}.")
    budget = _MEMORY if memory is None else memory
    if budget < 64 * m:
        raise ArgumentError(
            f"memory must hold the distances of one query, {64 * m:,} bytes for {m:,} gallery items; got {budget:,}."
        )
    positives = task.positive_counts()
    few = int(positives.sum()) * _FEW <= q * m
    if task.metric in Screen.METRICS and few and m >= _LEAST_ITEMS:
        screen = Screen(task.queries, task.gallery, task.metric)
        share = budget if memory is None else memory // side_by_side()
        step = block_rows or max(1, min(1024, share // ((64 if listed else 16) * min(m, _WIDTH))))
        blocks = [slice(start, min(start + step, todo.stop)) for start in range(todo.start, todo.stop, step)]
        # Fresh memory for each product costs a tenth of its time.
        spare: list[NDArray[np.float32]] = []

        def ranked(block: slice) -> tuple[Ranks | None, NDArray[np.float32]]:
            try:
                room = spare.pop()
            except IndexError:
                room = np.empty(step * min(m, _WIDTH), np.float32)
            return _screened(task, screen, block, room, ahead, listed), room

        for ranks, room in in_order(ranked, blocks):
            if ranks is None:  # a poor embedding: the other blocks will not be better
                break
            yield ranks
            spare.append(room)
            todo = slice(ranks.rows.stop, todo.stop)
        if todo.start == todo.stop:
            return
    yield from _sorted(task, todo, depth, positives, block_rows, budget // 2 if ahead else budget, ahead)


def _sorted(
    task: Task, rows: slice, depth: int, positives: Counts, block_rows: int | None, memory: int, ahead: bool
) -> Iterator[Ranks]:
    """Sort the exact distances of each query, no deeper than asked for."""
    m = len(task.gallery)
    step = block_rows or max(1, min(2_000_000, memory // 48) // m)
    for part, distances in distance_blocks(task.queries[rows], task.gallery, task.metric, step):
        block = slice(rows.start + part.start, rows.start + part.stop)
        distances[task.excluded_pairs(block)] = np.inf
        positive = task.positives(block)
        keys = order_keys(distances)
        far = np.iinfo(np.int64).max
        closest = np.where(positive, keys, far).min(axis=1, keepdims=True)
        first = 1 + (keys < closest).sum(axis=1)
        tied = ((keys >> 32 == closest >> 32) & ~positive).any(axis=1)
        query, rank, column = (np.zeros(0, np.int64) for _ in range(3))
        columns = np.zeros((len(keys), 0), np.int64)
        beyond_column = closest[:, 0] & 0xFFFFFFFF
        if depth:
            deep = min(depth + 1, m)  # one more shows a tie between the last and the next
            columns = first_keys(keys, deep)
            hits = np.take_along_axis(positive, columns, axis=1)
            level = keys[:, :deep] >> 32
            tied |= ((level[:, 1:] == level[:, :-1]) & (hits[:, 1:] != hits[:, :-1])).any(axis=1)
            query, place = np.nonzero(hits)
            rank, column = place + 1, columns[query, place]
        found = np.bincount(query, minlength=len(keys)) > 0
        beyond = np.flatnonzero(~found & (positives[block] > 0))
        query = np.concatenate([query, beyond])
        order = np.argsort(query, kind="stable")
        ranks = Ranks(
            block,
            query[order],
            np.concatenate([rank, first[beyond]])[order],
            positives[block],
            tied & (positives[block] > 0),
            np.concatenate([column, beyond_column[beyond]])[order],
        )
        yield replace(ranks, ahead=_of_lists(columns, ranks)) if ahead else ranks


def _of_lists(columns: Counts, ranks: Ranks) -> Ahead:
    """Return what stands before each positive, out of the ``(b, deep)`` closest; nothing for one deeper than that."""
    b, deep = columns.shape
    place = np.where(ranks.rank <= deep, ranks.query * deep + ranks.rank - 1, ranks.query * deep)
    none = np.zeros(0, np.int64)
    low = np.full(len(place), -np.inf, np.float32)
    return Ahead(np.arange(b + 1) * deep, columns.ravel(), place, none, none, none, low, lambda: iter(()))


def _screened(
    task: Task, screen: Screen, rows: slice, room: NDArray[np.float32], ahead: bool, listed: bool
) -> Ranks | None:
    """Rank by the screen, or return None where too much is too close for it; ``room`` is for the values of a block."""
    b = rows.stop - rows.start
    query, column = task.positive_pairs(rows)
    distance, value = screen.exact(rows.start + query, column)
    found = _Question.of(screen, rows, query, column, value).answer(task, screen, rows, room, listed)
    if found is None:
        return None
    closer, of, rivals, near = found
    rank, tied = closer + 1, np.zeros(b, np.bool_)
    before = np.zeros(len(of), np.bool_)
    if len(of):
        pair, place = np.unique((query[of] << 32) | rivals, return_inverse=True)
        exact = screen.exact(rows.start + (pair >> 32), pair & 0xFFFFFFFF)[0][place]
        before = (exact < distance[of]) | ((exact == distance[of]) & (rivals < column[of]))
        rank += np.bincount(of, before, minlength=len(query)).astype(np.int64)
        negative = task.gallery_classes[rivals] != task.query_classes[rows][query[of]]
        tied[query[of[(exact == distance[of]) & negative]]] = True
    order = np.lexsort((rank, query))
    stands = replace(near, of=of[before], rival=rivals[before]).taken(order) if ahead else None
    return Ranks(rows, query, rank[order], np.bincount(query, minlength=b), tied, column[order], stands)


@dataclass(frozen=True, eq=False)
class _Question:
    """What the screen is asked about a block: how many items lie below each positive, and which lie about it.

    Attributes:
        query: ``(p,)`` row of each positive, ascending.
        column: ``(p,)`` its gallery column.
        low: ``(p,)`` float32; what lies below is closer than the positive.
        high: ``(p,)`` float32; what lies above is farther.
        starts: ``(b + 1,)`` where the positives of each row begin.
        limit: ``(b,)`` nothing above it matters to the row.
    """

    query: Counts
    column: Counts
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    starts: Counts
    limit: NDArray[np.float32]

    @classmethod
    def of(
        cls, screen: Screen, rows: slice, query: Counts, column: Counts, value: NDArray[np.float64]
    ) -> "_Question":
        b = rows.stop - rows.start
        slack = screen.slack[rows][query]
        high = _rounded(value + slack, 1)
        limit = np.full(b, np.finfo(np.float32).min)  # a query without a positive needs nobody
        np.maximum.at(limit, query, high)
        starts = np.searchsorted(query, np.arange(b + 1))
        return cls(query, column, _rounded(value - slack, -1), high, starts, limit)

    def answer(
        self, task: Task, screen: Screen, rows: slice, room: NDArray[np.float32], listed: bool
    ) -> tuple[Counts, Counts, Counts, Ahead] | None:
        """Return ``(p,)`` how many are closer, the unsure pairs (which positive, which column), and who is ahead.

        Args:
            task: Who is compared with whom.
            screen: Of the task.
            rows: The block.
            room: Where its values are written to.
            listed: Whether every row is sorted, however far its positives are.
        """
        m, b = len(task.gallery), len(self.limit)
        closer = np.zeros(len(self.query), np.int64)
        wide = np.zeros(0, np.int64)
        keys, columns = [], []
        of, rivals = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        scan = _scanned(task, screen, rows, room)
        for start, values in scan():
            close = values <= self.limit[:, None]
            if start == 0 and not listed:
                # Where a positive is far away, counting is cheaper than sorting what lies before it.
                counts = np.array([np.count_nonzero(row) for row in close])
                wide = np.flatnonzero(counts > max(values.shape[1] // _WIDE, 64))
            close[wide] = False
            flat = np.flatnonzero(close)
            row, column = np.divmod(flat, values.shape[1])
            keys.append(row_keys(row, values.ravel()[flat]))
            columns.append(column + start)
            for i in wide.tolist():
                self._count(i, values[i], start, closer, of, rivals)
            if sum(map(len, of)) > b * m // _CROWDED:
                return None
        starts, ordered, place = self._sort(
            np.concatenate(keys), np.concatenate(columns), wide, closer, of, rivals
        )
        if sum(map(len, of)) > b * m // _CROWDED:
            return None
        none = np.zeros(0, np.int64)
        near = Ahead(starts, ordered, place, none, none, wide, self.low, scan)
        return closer, np.concatenate(of), np.concatenate(rivals), near

    def _sort(
        self,
        keys: Counts,
        columns: Counts,
        wide: Counts,
        closer: Counts,
        of: list[Counts],
        rivals: list[Counts],
    ) -> tuple[Counts, Counts, Counts]:
        """Answer for the rows that are not wide, out of what lies within their limits.

        Returns:
            Where each row begins, the columns in order, and where those before each positive end.
        """
        order = np.argsort(keys, kind="stable")
        keys, columns = keys[order], columns[order]
        narrow = np.ones(len(self.limit), np.bool_)
        narrow[wide] = False
        asked = np.flatnonzero(narrow[self.query])
        query = self.query[asked]
        from_ = np.searchsorted(keys, row_keys(query, self.low[asked]), side="left")
        to = np.searchsorted(keys, row_keys(query, self.high[asked]), side="right")
        starts = np.searchsorted(keys, np.arange(len(self.limit) + 1) << 32)
        closer[asked] = from_ - starts[query]
        # The window of a positive holds itself; whatever else is in it is too close to be told apart by float32.
        unsure = np.flatnonzero(to - from_ > 1)
        widths = (to - from_)[unsure]
        at = np.arange(int(widths.sum())) - np.repeat(np.cumsum(widths) - widths - from_[unsure], widths)
        of.append(np.repeat(asked[unsure], widths))
        rivals.append(columns[at])
        place = starts[self.query]
        place[asked] = from_
        return starts, columns, place

    def _count(
        self,
        row: int,
        values: NDArray[np.float32],
        start: int,
        closer: Counts,
        of: list[Counts],
        rivals: list[Counts],
    ) -> None:
        """Answer for one row out of all its values (of one block of columns)."""
        part = slice(self.starts[row], self.starts[row + 1])
        low, high, own = self.low[part], self.high[part], self.column[part] - start
        itself = (own >= 0) & (own < len(values))
        if len(low) > _PASSES:
            ordered = np.sort(values)
            below = np.searchsorted(ordered, low, side="left")
            crowded = np.flatnonzero(np.searchsorted(ordered, high, side="right") - below > itself).tolist()
            near = [np.flatnonzero((values >= low[p]) & (values <= high[p])) for p in crowded]
        else:
            below = np.zeros(len(low), np.int64)
            crowded, near = [], []
            for p in range(len(low)):
                before, until = values < low[p], values <= high[p]
                below[p] = np.count_nonzero(before)
                if np.count_nonzero(until) - below[p] > itself[p]:
                    crowded.append(p)
                    near.append(np.flatnonzero(until != before))
        closer[part] += below
        of += [np.full(len(columns), part.start + p) for p, columns in zip(crowded, near, strict=True)]
        rivals += [columns + start for columns in near]


def _scanned(
    task: Task, screen: Screen, rows: slice, room: NDArray[np.float32]
) -> Callable[[], Iterator[tuple[int, NDArray[np.float32]]]]:
    """Return how to go through the values of a block, once and again, infinite where a pair is no pair.

    Kept where they are one block of columns, else computed anew.
    """
    m = len(task.gallery)
    excluded = task.excluded_pairs(rows)
    kept: list[NDArray[np.float32]] = []

    def scan() -> Iterator[tuple[int, NDArray[np.float32]]]:
        for start in range(0, m, _WIDTH):
            columns = slice(start, min(start + _WIDTH, m))
            b, w = rows.stop - rows.start, columns.stop - start
            values = kept[0] if kept else screen.block(rows, columns, room[: b * w].reshape(b, w))
            inside = (excluded[1] >= start) & (excluded[1] < start + values.shape[1])
            values[excluded[0][inside], excluded[1][inside] - start] = np.inf
            if m <= _WIDTH and not kept:
                kept.append(values)
            yield start, values

    return scan


def _rounded(values: NDArray[np.float64], direction: int) -> NDArray[np.float32]:
    """Return the float32 at or beyond each value, towards +∞ (1) or −∞ (−1)."""
    near = values.astype(np.float32)
    beyond = np.nextafter(near, np.float32(direction * np.inf))
    return np.where((near - values) * direction < 0, beyond, near).astype(np.float32)
