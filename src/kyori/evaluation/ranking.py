"""The ranks of every query's positives: all that retrieval measures need.

Where a query has few positives, one float32 product tells what could be as close as they, and what could is compared
exactly (:mod:`.screening`). Where positives are many, each row of distances, computed in float32, is sorted. The two
differ in what is closer only where distances differ by less than float32's rounding of them.
"""

import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from ..neighbors import Screen, distances_of_rows, first_keys, order_keys
from ..threads import in_order, side_by_side
from .ahead import Ahead, Ranks
from .screening import BLOCK_WIDTH, screened
from .task import Task

__all__ = ["rank_blocks"]

Counts = NDArray[np.int64]
Result = TypeVar("Result")

_FEW = 32  # the screen is used when no more than one in so many pairs is a same pair
_MEMORY = 512 << 20  # bytes of the working arrays of one block
_LEAST_ITEMS = 256  # below this the plain way is as quick


def rank_blocks(
    task: Task,
    depth: int,
    use: Callable[[Ranks], Result],
    *,
    rows: slice | None = None,
    block_rows: int | None = None,
    memory: int | None = None,
    ahead: bool = False,
    listed: bool = False,
) -> Iterator[Result]:
    """Yield what ``use`` makes of the ranks of one block of queries after the other.

    It is called in several threads and in any order. What stands ahead is known only until it returns.

    Args:
        task: Who is compared with whom.
        depth: How deep ranks are asked for, besides that of the first positive.
        use: What becomes of ranks.
        rows: The queries to do; all when left out.
        block_rows: Queries of a block; chosen by the memory when left out.
        memory: Bytes that the working arrays of the blocks in work may take, on top of the vectors.
        ahead: Whether it is wanted what stands before each positive (of those that are not left out).
        listed: Whether that should be a list for every row.

    Raises:
        ArgumentError: ``block_rows`` or ``memory`` is too small to do anything.
    """
    q, m = len(task.queries), len(task.gallery)
    if block_rows is not None and block_rows < 1:
        raise ArgumentError(f"block_rows must be at least 1; got {block_rows}.")
    if memory is not None and memory < 64 * m:
        raise ArgumentError(
            f"memory must hold the distances of one query, {64 * m:,} bytes for {m:,} gallery items; got {memory:,}."
        )
    share = _MEMORY if memory is None else memory // side_by_side()
    positives = task.positive_counts()
    few = int(positives.sum()) * _FEW <= q * m
    sorting = _Sorting(task, depth, positives, ahead, block_rows, share)
    screen, step = None, sorting.step
    if task.metric in Screen.METRICS and few and m >= _LEAST_ITEMS:
        screen = Screen(task.queries, task.gallery, task.metric)
        step = block_rows or max(1, min(1024, share // ((64 if listed else 10) * min(m, BLOCK_WIDTH))))
    spare: list[NDArray[np.float32]] = []  # fresh memory for each product costs a tenth of its time

    def ranked(block: slice) -> list[Result]:
        if screen is not None:
            try:
                room = spare.pop()
            except IndexError:
                room = np.empty(step * min(m, BLOCK_WIDTH), np.float32)
            ranks = screened(task, screen, block, room, ahead=ahead, listed=listed)
            found = None if ranks is None else [use(ranks)]
            spare.append(room)
            if found is not None:
                return found
        return [use(ranks) for ranks in sorting.blocks(block)]

    for found in in_order(ranked, _divided(slice(0, q) if rows is None else rows, step)):
        yield from found


def _divided(rows: slice, most: int) -> list[slice]:
    """Return blocks of up to ``most`` rows that leave no thread without work while the last ones are done.

    The first and the last are half as large: of two threads, one has its product while the other goes through the last
    one's values. That is done in many short calls, for which they would wait for each other.
    """
    n = rows.stop - rows.start
    count = -(-n // most)
    if count < 2:
        return [rows] if n else []
    together = side_by_side()
    count = -(-count // together) * together
    inner = rows.start + (np.arange(count) + 0.5) * (n / count)
    edges = [rows.start, *inner.astype(int).tolist(), rows.stop]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges) if start < stop]


class _Sorting:
    """Sorts the distances of each query, no deeper than asked for.

    Args:
        task: Who is compared with whom.
        depth: How deep.
        positives: ``(q,)`` how many each query has.
        ahead: Whether it is wanted what stands before each positive.
        block_rows: Queries sorted at a time; chosen by the memory when left out.
        memory: Bytes that may be taken.

    Attributes:
        step: How many queries are sorted at a time.
    """

    def __init__(
        self, task: Task, depth: int, positives: Counts, ahead: bool, block_rows: int | None, memory: int
    ):
        self._task, self._depth, self._positives, self._ahead = task, depth, positives, ahead
        share = memory // 2 if ahead else memory
        self.step = block_rows or max(1, min(2_000_000, share // 48) // max(1, len(task.gallery)))
        self._making = threading.Lock()

    @functools.cached_property
    def _far(self) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        return distances_of_rows(self._task.gallery, self._task.metric)

    def blocks(self, rows: slice) -> Iterator[Ranks]:
        """Yield the ranks of some of the rows after the other."""
        with self._making:
            far = self._far
        for start in range(rows.start, rows.stop, self.step):
            block = slice(start, min(start + self.step, rows.stop))
            yield self._ranks(block, far(self._task.queries[block]))

    def _ranks(self, block: slice, distances: NDArray[np.float32]) -> Ranks:
        m = len(self._task.gallery)
        distances[self._task.excluded_pairs(block)] = np.inf
        positive = self._task.positives(block)
        positives = self._positives[block]
        keys = order_keys(distances)
        far = np.iinfo(np.int64).max
        closest = np.where(positive, keys, far).min(axis=1, keepdims=True)
        first = 1 + (keys < closest).sum(axis=1)
        tied = ((keys >> 32 == closest >> 32) & ~positive).any(axis=1)
        query, rank, column = (np.zeros(0, np.int64) for _ in range(3))
        columns = np.zeros((len(keys), 0), np.int64)
        beyond_column = closest[:, 0] & 0xFFFFFFFF
        if self._depth:
            deep = min(self._depth + 1, m)  # one more shows a tie between the last and the next
            columns = first_keys(keys, deep)
            hits = np.take_along_axis(positive, columns, axis=1)
            level = keys[:, :deep] >> 32
            tied |= ((level[:, 1:] == level[:, :-1]) & (hits[:, 1:] != hits[:, :-1])).any(axis=1)
            query, place = np.nonzero(hits)
            rank, column = place + 1, columns[query, place]
        found = np.bincount(query, minlength=len(keys)) > 0
        beyond = np.flatnonzero(~found & (positives > 0))
        query = np.concatenate([query, beyond])
        order = np.argsort(query, kind="stable")
        ranks = Ranks(
            block,
            query[order],
            np.concatenate([rank, first[beyond]])[order],
            positives,
            tied & (positives > 0),
            np.concatenate([column, beyond_column[beyond]])[order],
        )
        return replace(ranks, ahead=_of_lists(columns, ranks)) if self._ahead else ranks


def _of_lists(columns: Counts, ranks: Ranks) -> Ahead:
    """Return what stands before each positive, out of the ``(b, deep)`` closest; nothing for one deeper than that."""
    b, deep = columns.shape
    place = np.where(ranks.rank <= deep, ranks.query * deep + ranks.rank - 1, ranks.query * deep)
    return Ahead(columns.ravel(), np.arange(b) * deep, np.arange(b), ranks.query, place)
