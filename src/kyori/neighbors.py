"""Exact nearest neighbours, in blocks of rows so that memory stays bounded.

Order is by distance, and among equal distances by the position in the gallery, so that the answer does not
depend on the block size, the number of threads or the sorting method.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from .distances import Distance, check_distance, pairwise_distance
from .errors import ArgumentError

__all__ = ["Matches", "distance_blocks", "first_keys", "nearest", "order_keys"]

_BLOCK_ITEMS = 2_000_000  # distances held at a time; with their temporaries about 100 MB, and cache-friendly
_SAME_DIRECTION = 1e-13  # a cosine distance below the rounding of float32 coordinates is 0


@dataclass(frozen=True, eq=False)
class Matches:
    """The ``k`` nearest items of each query, nearest first.

    Attributes:
        ids: ``(q, k)`` int64 positions in the gallery, −1 where the gallery has fewer items. From an index: the
            caller's ids, integers or strings (then an array of objects, filled up with None).
        distances: ``(q, k)`` float32, inf where the gallery has fewer items.
    """

    ids: NDArray[Any]
    distances: NDArray[np.float32]


def nearest(
    queries: ArrayLike,
    gallery: ArrayLike,
    k: int,
    metric: Distance = "euclidean",
    *,
    block_rows: int | None = None,
    exclude_self: bool = False,
) -> Matches:
    """Find the ``k`` nearest gallery items of each query, exactly.

    Args:
        queries: ``(q, d)`` numbers.
        gallery: ``(m, d)`` numbers.
        k: How many neighbours; what is missing when the gallery is smaller is filled up with −1 and inf.
        metric: A name of :mod:`kyori.distances`.
        block_rows: Queries computed at a time; chosen for a bounded memory when left out.
        exclude_self: Leave gallery item i out of the answer to query i; both must then be the same items.

    Returns:
        Matches of shape ``(q, k)``; equal distances stand in gallery order.

    Raises:
        ArgumentError: The shapes do not fit, ``k`` is below 1, or the metric is unknown.

    >>> found = nearest([[0.0], [9.0]], [[1.0], [2.0], [1.0]], k=2)
    >>> found.ids
    array([[0, 2],
           [1, 0]])
    >>> found.distances
    array([[1., 1.],
           [7., 8.]], dtype=float32)
    """
    if k < 1:
        raise ArgumentError(f"k must be at least 1; got {k}.")
    rows, columns = np.asarray(queries, np.float32), np.asarray(gallery, np.float32)
    if exclude_self and len(rows) != len(columns):
        raise ArgumentError(
            "exclude_self needs queries and gallery to be the same items; got"
            f" {len(rows)} queries and {len(columns)} gallery items."
        )
    ids = np.full((len(rows), k), -1, np.int64)
    distances = np.full((len(rows), k), np.inf, np.float32)
    available = min(k, len(columns) - exclude_self)
    if available < 1:
        return Matches(ids, distances)
    for block, found in distance_blocks(rows, columns, metric, block_rows):
        if exclude_self:
            found[np.arange(len(found)), np.arange(block.start, block.stop)] = np.inf
        positions = first_keys(order_keys(found), available)
        ids[block, :available] = positions
        distances[block, :available] = np.take_along_axis(found, positions, axis=1)
    return Matches(ids, distances)


def distance_blocks(
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    metric: Distance = "euclidean",
    block_rows: int | None = None,
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield a slice of the queries and its ``(b, m)`` float32 distances to the gallery, block after block.

    Raises:
        ArgumentError: The shapes do not fit, ``block_rows`` is below 1, or the metric is unknown.
    """
    check_distance(metric)
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ArgumentError(
            "queries and gallery must have shapes (q, d) and (m, d); got"
            f" {queries.shape} and {gallery.shape}."
        )
    if block_rows is not None and block_rows < 1:
        raise ArgumentError(f"block_rows must be at least 1; got {block_rows}.")
    step = block_rows or max(1, _BLOCK_ITEMS // max(1, len(gallery)))
    # Products of float32 numbers are exact in float64, so that ties stay ties; the others are computed that way.
    dtype = torch.float64 if metric in ("cosine", "dot") else torch.float32
    columns = torch.tensor(gallery, dtype=dtype)
    for start in range(0, len(queries), step):
        rows = slice(start, min(start + step, len(queries)))
        with torch.no_grad():
            distances = pairwise_distance(torch.tensor(queries[rows], dtype=dtype), columns, metric)
        if metric == "cosine":
            distances[distances < _SAME_DIRECTION] = 0
        yield rows, distances.float().numpy()


def order_keys(distances: NDArray[np.float32]) -> NDArray[np.int64]:
    """Turn ``(b, m)`` distances into integers that sort by distance, then by column.

    The upper half of a key is the float's bits in an order-preserving form and the lower half is the column,
    so keys are unique: any sort, and any partial sort, gives the one right order.
    """
    bits = (distances + np.float32(0)).view(np.int32)  # adding 0 turns −0 into 0
    bits ^= (bits >> 31) & 0x7FFFFFFF  # negative floats sort backwards by their bits
    return (bits.astype(np.int64) << 32) | np.arange(distances.shape[1])


def first_keys(keys: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the columns of the ``count`` smallest keys of each row, in order; ``keys`` is sorted in place."""
    if count < keys.shape[1]:
        keys.partition(count - 1, axis=1)
    keys[:, :count].sort(axis=1)
    return keys[:, :count] & 0xFFFFFFFF
