"""The nearest neighbours of one item after another, exactly, fast enough for a click on one of a million."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from ..distances import Distance
from ..neighbors import Matches, Screen

__all__ = ["Nearness"]


class Nearness:
    """Exact neighbours within one set of vectors.

    One float32 product finds who may be among the nearest, with a bound on its error; their distances are then
    computed exactly. The answer is that of :func:`kyori.neighbors.nearest`, equal distances in the order of the items.

    Args:
        vectors: ``(n, d)`` float32.
        metric: ``"euclidean"`` or ``"cosine"``.
    """

    def __init__(self, vectors: NDArray[np.float32], metric: Distance):
        self.metric = metric
        self._vectors = vectors
        self._screen: Screen | None = None
        self._lock = threading.Lock()  # the product is as large as the machine: one at a time

    def prepare(self) -> None:
        """Do now what the first question would have to wait for: seconds, of a million vectors."""
        with self._lock:
            self._prepared()

    def of(self, row: int, k: int) -> Matches:
        """Return the ``min(k, n − 1)`` items nearest to item ``row``, itself left out, as ``(1, k)`` positions."""
        n = len(self._vectors)
        k = min(k, n - 1)
        if k < 1:
            return Matches(np.empty((1, 0), np.int64), np.empty((1, 0), np.float32))
        with self._lock:
            screen = self._prepared()
            coarse = screen.block(slice(row, row + 1), slice(0, n))[0]
            coarse[row] = np.inf
            limit = np.partition(coarse, k - 1)[k - 1 : k].astype(np.float64)
            near = np.flatnonzero(coarse <= limit + 2 * screen.slack(slice(row, row + 1), limit))
            near = near[near != row]
            distances, _ = screen.exact(np.full(len(near), row), near)
        order = np.lexsort((near, distances))[:k]
        return Matches(near[order][None], distances[order][None])

    def _prepared(self) -> Screen:
        if self._screen is None:
            self._screen = Screen(self._vectors, self._vectors, self.metric)
        return self._screen
