"""The ranks of every query's positives: all that retrieval measures need.

Where a query has few positives, one float32 product tells what could be as close as they, and what could is compared
exactly (:mod:`.screening`). Where positives are many, each row of distances, computed in float32, is sorted. The two
differ in what is closer only where distances differ by less than float32's rounding of them.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from ..neighbors import Screen, distance_blocks, first_keys, order_keys
from ..threads import in_order, side_by_side
from .ahead import Ahead, Ranks
from .screening import BLOCK_WIDTH, screened
from .task import Task

__all__ = ["rank_blocks"]

Counts = NDArray[np.int64]

_FEW = 32  # the screen is used when no more than one in so many pairs is a same pair
_MEMORY = 512 << 20  # bytes of the working arrays of one block
_LEAST_ITEMS = 256  # below this the plain way is as quick


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
        step = block_rows or max(1, min(1024, share // ((64 if listed else 16) * min(m, BLOCK_WIDTH))))
        blocks = [slice(start, min(start + step, todo.stop)) for start in range(todo.start, todo.stop, step)]
        # Fresh memory for each product costs a tenth of its time.
        spare: list[NDArray[np.float32]] = []

        def ranked(block: slice) -> tuple[Ranks | None, NDArray[np.float32]]:
            try:
                room = spare.pop()
            except IndexError:
                room = np.empty(step * min(m, BLOCK_WIDTH), np.float32)
            return screened(task, screen, block, room, ahead=ahead, listed=listed), room

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
    return Ahead(columns.ravel(), np.arange(b) * deep, np.arange(b), ranks.query, place)
