"""The ranks of every query's positives: all that retrieval measures need.

Two ways, one answer. Where a query has few positives, their exact distances are computed first, and one float32
product then tells what could be as close (:class:`kyori.neighbors.Screen`); only that is sorted, and only what
rounding could turn is computed exactly. Where positives are many, each row of exact distances is sorted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from ..neighbors import Screen, distance_blocks, first_keys, order_bits, order_keys
from .task import Task

__all__ = ["Ranks", "rank_blocks"]

Counts = NDArray[np.int64]

_FEW = 32  # the screen is used when no more than one in so many pairs is a same pair
_CROWDED = 16  # and left when more than one in so many items would have to be sorted
_WIDTH = 65_536  # gallery items of one product
_MEMORY = 256 << 20  # bytes of the working arrays of one block
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
    """

    rows: slice
    query: Counts
    rank: Counts
    positives: Counts
    tied: NDArray[np.bool_]


def rank_blocks(
    task: Task,
    depth: int,
    *,
    rows: slice | None = None,
    block_rows: int | None = None,
    memory: int | None = None,
) -> Iterator[Ranks]:
    """Yield the ranks of one block of queries after the other.

    Args:
        task: Who is compared with whom.
        depth: How deep ranks are asked for, besides that of the first positive.
        rows: The queries to do; all when left out.
        block_rows: Queries of a block; chosen by the memory when left out.
        memory: Bytes that the working arrays of a block may take, on top of the vectors.

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
        step = block_rows or max(1, min(1024, budget // (16 * min(m, _WIDTH))))
        for start in range(todo.start, todo.stop, step):
            block = slice(start, min(start + step, todo.stop))
            ranks = _screened(task, screen, block)
            if ranks is None:  # a poor embedding: the other blocks will not be better
                todo = slice(start, todo.stop)
                break
            yield ranks
        else:
            return
    yield from _sorted(task, todo, depth, positives, block_rows, budget)


def _sorted(
    task: Task, rows: slice, depth: int, positives: Counts, block_rows: int | None, memory: int
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
        query, rank = np.zeros(0, np.int64), np.zeros(0, np.int64)
        if depth:
            deep = min(depth + 1, m)  # one more shows a tie between the last and the next
            hits = np.take_along_axis(positive, first_keys(keys, deep), axis=1)
            level = keys[:, :deep] >> 32
            tied |= ((level[:, 1:] == level[:, :-1]) & (hits[:, 1:] != hits[:, :-1])).any(axis=1)
            query, place = np.nonzero(hits)
            rank = place + 1
        found = np.bincount(query, minlength=len(keys)) > 0
        beyond = np.flatnonzero(~found & (positives[block] > 0))
        order = np.argsort(np.concatenate([query, beyond]), kind="stable")
        yield Ranks(
            block,
            np.concatenate([query, beyond])[order],
            np.concatenate([rank, first[beyond]])[order],
            positives[block],
            tied & (positives[block] > 0),
        )


def _screened(task: Task, screen: Screen, rows: slice) -> Ranks | None:
    """Rank by the screen, or return None where so many items are in question that sorting all is cheaper."""
    b = rows.stop - rows.start
    query, column = task.positive_pairs(rows)
    positives = np.bincount(query, minlength=b)
    distance, value = screen.exact(rows.start + query, column)
    slack = screen.slack[rows]
    reach = np.full(b, -float(np.finfo(np.float32).max) / 2)  # a query without a positive needs nobody
    np.maximum.at(reach, query, value)
    found = _within(task, screen, rows, reach + slack)
    if found is None:
        return None
    keys, others = found
    starts = np.searchsorted(keys, np.arange(b) << 32)
    from_, to = (
        np.searchsorted(keys, _keys(query, _rounded(value + sign * slack[query], sign)), side=side)
        for sign, side in ((-1, "left"), (1, "right"))
    )
    rank, tied = from_ - starts[query] + 1, np.zeros(b, np.bool_)
    # An item's own window holds itself; whatever else is in it is too close to be told apart by float32.
    unsure = np.flatnonzero(to - from_ > 1)
    if len(unsure):
        widths = (to - from_)[unsure]
        if widths.sum() > b * len(task.gallery) // _CROWDED // 8:
            return None
        of = np.repeat(unsure, widths)
        at = (
            np.arange(len(of))
            - np.repeat(np.cumsum(widths) - widths, widths)
            + np.repeat(from_[unsure], widths)
        )
        different, place = np.unique(at, return_inverse=True)
        rivals = others[different]
        exact = screen.exact(rows.start + (keys[different] >> 32), rivals)[0][place]
        rivals = rivals[place]
        closer = (exact < distance[of]) | ((exact == distance[of]) & (rivals < column[of]))
        rank += np.bincount(of, closer, minlength=len(query)).astype(np.int64)
        negative = task.gallery_classes[rivals] != task.query_classes[rows][query[of]]
        tied[query[of[(exact == distance[of]) & negative]]] = True
    order = np.lexsort((rank, query))
    return Ranks(rows, query, rank[order], positives, tied)


def _within(
    task: Task, screen: Screen, rows: slice, reach: NDArray[np.float64]
) -> tuple[Counts, Counts] | None:
    """Return sorted keys (query, coarse value) of all items that may be within reach, and their columns."""
    m, b = len(task.gallery), rows.stop - rows.start
    limit = _rounded(reach, 1)[:, None]
    keys, columns, kept = [], [], 0
    for start in range(0, m, _WIDTH):
        values = screen.block(rows, slice(start, min(start + _WIDTH, m)))
        close = np.flatnonzero(values <= limit)
        kept += len(close)
        if kept > max(b * m // _CROWDED, 4096):
            return None
        query, column = np.divmod(close, values.shape[1])
        keys.append(_keys(query, values.ravel()[close]))
        columns.append(column + start)
    key, column = np.concatenate(keys), np.concatenate(columns)
    query = key >> 32
    allowed = column != task.excluded[rows][query]
    if task.query_groups is not None and task.gallery_groups is not None:
        allowed &= task.query_groups[rows][query] != task.gallery_groups[column]
    key, column = key[allowed], column[allowed]
    order = np.argsort(key, kind="stable")
    return key[order], column[order]


def _keys(query: Counts, values: NDArray[np.float32]) -> Counts:
    """Return integers that sort by query, then by value."""
    return (query << 32) | (order_bits(values).astype(np.int64) + (1 << 31))


def _rounded(values: NDArray[np.float64], direction: int) -> NDArray[np.float32]:
    """Return the float32 at or beyond each value, towards +∞ (1) or −∞ (−1)."""
    near = values.astype(np.float32)
    beyond = np.nextafter(near, np.float32(direction * np.inf))
    return np.where((near - values) * direction < 0, beyond, near).astype(np.float32)
