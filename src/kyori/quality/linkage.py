"""Average linkage: merge the two closest clusters, again and again, and cut the tree at a distance.

The distance of two clusters is the mean squared Euclidean distance over their pairs, which on directions is twice the
mean cosine distance. It follows from the size, the mean and the spread of each, so that the tree may start from small
clusters instead of items: that is how a million vectors are linked.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Dendrogram", "average_linkage"]


@dataclass(frozen=True, eq=False)
class Dendrogram:
    """The merges of ``m`` leaves, lowest first.

    Attributes:
        merges: ``(m−1, 2)`` one leaf of each of the two clusters that are merged.
        heights: ``(m−1,)`` mean squared distances, never falling.
    """

    merges: NDArray[np.int64]
    heights: NDArray[np.float64]

    def cut(self, height: float) -> NDArray[np.int64]:
        """Return the ``(m,)`` clusters after all merges up to ``height``, numbered by first leaf."""
        return self.after(int(np.searchsorted(self.heights, height, side="right")))

    def after(self, merges: int) -> NDArray[np.int64]:
        """Return the ``(m,)`` clusters after so many merges."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        leaves = len(self.heights) + 1
        first, second = self.merges[:merges].T
        graph = coo_array((np.ones(merges, np.float32), (first, second)), shape=(leaves, leaves))
        return connected_components(graph, directed=False)[1].astype(np.int64)


def average_linkage(
    centres: NDArray[np.floating], counts: NDArray[np.int64], spreads: NDArray[np.floating]
) -> Dendrogram:
    """Link ``m`` leaves by a chain of nearest neighbours (Murtagh 1983): m²/2 distances in memory, O(m²) time.

    Args:
        centres: ``(m, d)`` means of the leaves.
        counts: ``(m,)`` items in each.
        spreads: ``(m,)`` mean squared distance of a leaf's items to its mean.

    >>> tree = average_linkage(np.array([[0.0], [1.0], [5.0]]), np.ones(3, int), np.zeros(3))
    >>> tree.heights
    array([ 1. , 20.5])
    >>> tree.cut(2.0)
    array([0, 0, 1])
    """
    D = _mean_squares(centres, spreads)
    sizes = counts.astype(np.float64)
    merges, heights = np.empty((len(D) - 1, 2), np.int64), np.empty(len(D) - 1)
    waiting = np.ones(len(D), bool)
    chain: list[int] = []
    for step in range(len(heights)):
        if not chain:
            chain = [int(waiting.argmax())]
        a, b = _mutual_neighbors(D, chain)
        merges[step], heights[step] = (a, b), D[a, b]
        D[a] = (sizes[a] * D[a] + sizes[b] * D[b]) / (sizes[a] + sizes[b])
        D[a, a] = D[b] = D[:, b] = np.inf
        D[:, a] = D[a]
        sizes[a] += sizes[b]
        waiting[b] = False
    order = np.argsort(heights, kind="stable")
    return Dendrogram(merges[order], np.maximum.accumulate(heights[order]))


def _mutual_neighbors(D: NDArray[np.float32], chain: list[int]) -> tuple[int, int]:
    """Follow nearest neighbours until two are each other's, and take them off the chain."""
    while True:
        row = D[chain[-1]]
        closest = int(row.argmin())
        if len(chain) > 1 and row[chain[-2]] <= row[closest]:
            return chain.pop(), chain.pop()
        chain.append(closest)


def _mean_squares(centres: NDArray[np.floating], spreads: NDArray[np.floating]) -> NDArray[np.float32]:
    centred = centres - centres.mean(axis=0, dtype=np.float64)
    square = np.einsum("md,md->m", centred, centred) + spreads
    D = centred @ centred.T
    D *= -2
    D += square[:, None]
    D += square
    np.fill_diagonal(D, np.inf)
    return np.maximum(D, 0).astype(np.float32)
