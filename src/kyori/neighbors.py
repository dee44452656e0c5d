"""Exact nearest neighbours, in blocks of rows so that memory stays bounded.

Order is by distance, and among equal distances by the position in the gallery, so that the answer does not
depend on the block size, the number of threads or the sorting method.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from .distances import Distance, check_distance, distances_to
from .errors import ArgumentError
from .threads import in_order

__all__ = [
    "Matches",
    "Screen",
    "distance_blocks",
    "distances_of_rows",
    "first_keys",
    "nearest",
    "order_bits",
    "order_keys",
    "row_keys",
]

_BLOCK_ITEMS = 2_000_000  # distances held at a time; with their temporaries about 100 MB, and cache-friendly
_SCREENED_ITEMS = 32_000_000  # the same in float32 alone: with many rows the gallery is read less often
_LEAST_PAIRS = 2**20  # of a query and an item, from which on a screen is worth making
_LEAST_ITEMS = 256  # of the gallery, from which on a query's neighbours are few among them
_CACHED_NUMBERS = 65_536  # of float64, from which on temporaries leave the cache: four times the time at 10⁶
_LARGEST = 1e18  # length of a vector whose square is far from the end of float32
_GROUP = 64  # items of which a query looks at the closest first
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
    done = 0
    for block, positions, near in _screened(rows, columns, available, metric, block_rows, exclude_self):
        ids[block, :available], distances[block, :available] = positions, near
        done = block.stop
    for part, found in distance_blocks(rows[done:], columns, metric, block_rows):
        block = slice(done + part.start, done + part.stop)
        if exclude_self:
            found[np.arange(len(found)), np.arange(block.start, block.stop)] = np.inf
        positions = first_keys(order_keys(found), available)
        ids[block, :available] = positions
        distances[block, :available] = np.take_along_axis(found, positions, axis=1)
    return Matches(ids, distances)


def _screened(
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    k: int,
    metric: Distance,
    block_rows: int | None,
    exclude_self: bool,
) -> Iterator[tuple[slice, NDArray[np.int64], NDArray[np.float32]]]:
    """Yield a slice of the queries with the columns and the distances ``(b, k)`` of their nearest, block after block.

    Ends early, or at once, where that is no gain or cannot be: few pairs, another metric, too much that is as close as
    the nearest, numbers that float32 cannot hold, arguments that do not fit.
    """
    fits = metric in Screen.METRICS and queries.ndim == gallery.ndim == 2
    fits = fits and (block_rows is None or block_rows > 0)
    if not fits or queries.shape[1] != gallery.shape[1] or not queries.shape[1]:
        return
    if len(queries) * len(gallery) < _LEAST_PAIRS or len(gallery) < max(_LEAST_ITEMS, 4 * k):
        return
    step = block_rows or max(8, _SCREENED_ITEMS // len(gallery))
    largest = max(float(np.abs(queries).max()), float(np.abs(gallery).max()))
    if not largest < _LARGEST / queries.shape[1] ** 0.5:  # nor NaN
        return
    screen = Screen(queries, gallery, metric)

    def first(block: slice) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
        values = screen.block(block, slice(None))
        if exclude_self:
            values[np.arange(len(values)), np.arange(block.start, block.stop)] = np.inf
        # At least k items lie up to the k-th closest of groups, so what is farther than both errors beyond is none.
        limit = _kth_of_groups(values, k)
        limit += 2 * screen.slack(block, limit)
        if not np.isfinite(limit).all():
            return None
        near = np.flatnonzero(values <= np.nextafter(limit.astype(np.float32), np.float32(np.inf))[:, None])
        if len(near) > len(values) * (16 * k + _GROUP):
            return None
        row, column = np.divmod(near, len(gallery))
        exact = screen.exact(block.start + row, column)[0]
        order = np.argsort(row_keys(row, exact), kind="stable")  # equal ones stay in gallery order
        chosen = order[np.searchsorted(row, np.arange(len(values)))[:, None] + np.arange(k)]
        return column[chosen], exact[chosen]

    blocks = [slice(start, min(start + step, len(queries))) for start in range(0, len(queries), step)]
    for block, found in zip(blocks, in_order(first, blocks), strict=False):
        if found is None:
            return
        yield block, *found


def _kth_of_groups(values: NDArray[np.float32], k: int) -> NDArray[np.float64]:
    """Return ``(b,)`` the k-th smallest of the minima of groups of columns, of which there are at least k."""
    m = values.shape[1]
    size = max(1, min(_GROUP, m // (4 * k)))
    whole = torch.from_numpy(values[:, : m // size * size])
    minima = whole.view(len(values), size, -1).amin(1).numpy()
    return np.partition(minima, k - 1, axis=1)[:, k - 1].astype(np.float64)


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
    far = distances_of_rows(gallery, metric)
    for start in range(0, len(queries), step):
        rows = slice(start, min(start + step, len(queries)))
        yield rows, far(queries[rows])


def distances_of_rows(
    gallery: NDArray[np.float32], metric: Distance
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return a function of queries ``(b, d)``: their ``(b, m)`` float32 distances to the gallery."""
    # Products of float32 numbers are exact in float64, so that ties stay ties; the others are computed that way.
    dtype = torch.float64 if metric in ("cosine", "dot") else torch.float32
    far = distances_to(torch.tensor(gallery, dtype=dtype), metric)

    def distances(queries: NDArray[np.float32]) -> NDArray[np.float32]:
        found = far(torch.tensor(queries, dtype=dtype))
        if metric == "cosine":
            found[found < _SAME_DIRECTION] = 0
        return found.float().numpy()

    return distances


def order_keys(distances: NDArray[np.float32]) -> NDArray[np.int64]:
    """Turn ``(b, m)`` distances into integers that sort by distance, then by column.

    The upper half of a key is the float's bits in an order-preserving form and the lower half is the column,
    so keys are unique: any sort, and any partial sort, gives the one right order.
    """
    return (order_bits(distances).astype(np.int64) << 32) | np.arange(distances.shape[1])


def order_bits(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """Turn floats into integers of the same order, equal where the floats are."""
    bits = (values + np.float32(0)).view(np.int32)  # adding 0 turns −0 into 0
    bits ^= (bits >> 31) & 0x7FFFFFFF  # negative floats sort backwards by their bits
    return bits


def row_keys(rows: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return ``(p,)`` integers that sort by row, then by value; those of a row begin at ``row << 32``."""
    return (rows << 32) | (order_bits(values).astype(np.int64) + (1 << 31))


def first_keys(keys: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the columns of the ``count`` smallest keys of each row, in order; ``keys`` is sorted in place."""
    if count < keys.shape[1]:
        keys.partition(count - 1, axis=1)
    keys[:, :count].sort(axis=1)
    return keys[:, :count] & 0xFFFFFFFF


class Screen:
    """Fast comparison of distances in float32, with a bound on its error, and the exact distance of chosen pairs.

    What is farther from a threshold than the bound is decided by one float32 matrix product; the few pairs within
    it are decided exactly. The answer is that of exact distances, for about the price of the product.

    Values are squared distances less the query's own square and the gallery's mean square (euclidean), −cosine or −dot
    product: they order the gallery of one query as its distances do.

    Args:
        queries: ``(q, d)`` float32.
        gallery: ``(m, d)`` float32.
        metric: One of ``Screen.METRICS``.
    """

    METRICS = ("euclidean", "squared_euclidean", "cosine", "dot")

    def __init__(self, queries: NDArray[np.float32], gallery: NDArray[np.float32], metric: Distance):
        self._queries, self._gallery, self._metric = queries, gallery, metric
        self._euclidean = metric in ("euclidean", "squared_euclidean")
        # Rounding grows with the norms, so the origin is put into the middle where that changes no distance.
        self._centre = (
            gallery.mean(axis=0, dtype=np.float64).astype(np.float32) if self._euclidean else np.float32(0)
        )
        self._columns = self._prepared(gallery)
        other = _lengths(self._columns[:, : gallery.shape[1]])
        self._reach = float(other.max(initial=0.0))
        self._level = self._spread = 0.0
        if self._euclidean and len(gallery):
            self._level = float(np.square(other).mean())
            self._columns[:, -1] = np.square(other) - self._level
            self._spread = float(np.abs(self._columns[:, -1]).max())
        self._own = other if queries is gallery else _lengths(queries - self._centre)
        sides = [gallery] if queries is gallery else [queries, gallery]
        longest = max(float(_lengths(side).max(initial=0.0)) for side in sides)
        self._floor = 2 * (2 * float(np.finfo(np.float32).eps)) ** 2 * longest**2  # as in kyori.distances

    def slack(self, rows: slice | NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far the coarse value of a pair may be from its true ``values`` ``(p,)``, or ``values`` from it.

        Each addition of a product a·b, in whatever order, errs by a rounding of its result (Higham 2002, §4.2), and no
        partial sum exceeds (Σ|aᵢbᵢ| + |a·b|) / 2 ≤ (‖a‖‖b‖ + |a·b|) / 2: half as much at right angles as for the
        closest. Inputs are rounded too, and so is the distance: two that round to the same are a tie.

        Args:
            rows: The query of each value.
            values: Of pairs.
        """
        unit = float(np.finfo(np.float32).eps) / 2
        d = self._gallery.shape[1]
        additions = d * unit / (1 - min(0.5, 4 * d * unit))
        if self._metric == "cosine":
            return additions * (1 + np.abs(values)) / 2 + 10 * unit
        own = self._own[rows]
        product = own * self._reach
        if self._metric == "dot":
            return additions * (product + np.abs(values)) / 2 + unit * (2 * product + 4 * np.abs(values))
        square = np.maximum(values + own**2 + self._level, 0)
        rounded = 6 * (product + square) + 3 * (own**2 + self._reach**2 + self._spread)
        return additions * (product + (np.abs(values) + 3 * self._spread) / 2) + unit * rounded + self._floor

    def block(
        self, rows: slice, columns: slice, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return ``(b, w)`` coarse values; ``out`` is an array to write them to."""
        left = self._prepared(self._queries[rows])
        if self._euclidean:
            left[:, :-1] *= -2
        else:
            np.negative(left, out=left)
        return np.matmul(left, self._columns[columns].T, out=out)

    def limit(self, rows: slice, distance: float) -> NDArray[np.float64]:
        """Return ``(b,)`` the value of each query at a distance."""
        if self._metric == "dot":
            return np.full(rows.stop - rows.start, distance)
        if self._metric == "cosine":
            return np.full(rows.stop - rows.start, distance - 1)
        square = distance if self._metric == "squared_euclidean" else distance**2
        return square - self._own[rows] ** 2 - self._level

    def exact(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return for ``(p,)`` pairs the distance, rounded once to float32, and the value in float64."""
        if self._euclidean:
            (square,) = self._products(rows, columns)
            values = square - self._own[rows] ** 2 - self._level
            distances = np.where(square <= self._floor, 0, square).astype(np.float32)
            return np.sqrt(distances) if self._metric == "euclidean" else distances, values
        if self._metric == "dot":
            (product,) = self._products(rows, columns)
            return (-product).astype(np.float32), -product
        product, own, other = self._products(rows, columns)
        norms = np.sqrt(own * other)
        cosine = np.divide(product, norms, out=np.zeros_like(product), where=norms > 0)
        far = 1 - cosine
        return np.where(far < _SAME_DIRECTION, 0, far).astype(np.float32), -cosine

    def _products(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return what distances are made of, ``(1, p)`` or ``(3, p)``: squares, or a·b, and a·a and b·b for angles."""
        d = self._gallery.shape[1]
        step = max(1, min(len(rows), _CACHED_NUMBERS // max(1, d)))
        near, wide = np.empty((step, d), np.float32), np.empty((2, step, d))
        found = np.empty((3 if self._metric == "cosine" else 1, len(rows)))
        # The gallery is larger than the cache. Small integers are sorted by their digits.
        order = np.argsort(columns.astype(np.min_scalar_type(len(self._gallery))), kind="stable")
        rows, columns = rows[order], columns[order]
        for start in range(0, len(rows), step):
            part = slice(start, min(start + step, len(rows)))
            narrow, a, b = (array[: part.stop - start] for array in (near, *wide))
            a[:] = np.take(self._queries, rows[part], axis=0, out=narrow, mode="clip")
            np.take(self._gallery, columns[part], axis=0, out=narrow, mode="clip")
            if self._euclidean:
                a -= narrow
                found[0, part] = _dots(a, a)
                continue
            b[:] = narrow
            found[0, part] = _dots(a, b)
            if self._metric == "cosine":
                found[1:, part] = _dots(a, a), _dots(b, b)
        products = np.empty_like(found)
        products[:, order] = found
        return products

    def _prepared(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the rows of the product: centred, with a column of ones for the squares, or directions, or as is."""
        if self._euclidean:
            rows = np.empty((len(vectors), vectors.shape[1] + 1), np.float32)
            np.subtract(vectors, self._centre, out=rows[:, :-1])
            rows[:, -1] = 1
            return rows
        if self._metric == "cosine":
            lengths = _lengths(vectors)
            return (vectors / np.where(lengths > 0, lengths, 1)[:, None].astype(np.float32)).astype(
                np.float32
            )
        return np.array(vectors)


def _dots(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``(p,)`` products of the rows of a and b; this form calls BLAS, three times as fast as ``einsum``."""
    return np.matmul(a[:, None], b[:, :, None])[:, 0, 0]


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
