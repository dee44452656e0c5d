"""Groups of what hangs together, found pair by pair in memory for the items and not for the pairs."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Groups"]

_WAITING = 2_000_000  # pairs kept until they are worked in


class Groups:
    """The connected components of ``n`` items under the pairs that were joined so far.

    >>> groups = Groups(5)
    >>> groups.join(np.array([4, 1]), np.array([2, 4]))
    >>> groups.numbers()
    array([-1,  0,  0, -1,  0])
    """

    def __init__(self, n: int):
        self._component = np.arange(n)
        self._pairs: list[NDArray[np.int64]] = []
        self._waiting = 0

    def join(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
        """Put the items at positions ``first`` and ``second``, each ``(p,)``, into one group pair by pair."""
        pairs = self._component[np.stack([first, second])]
        pairs = pairs[:, pairs[0] != pairs[1]]
        self._pairs.append(pairs)
        self._waiting += pairs.shape[1]
        if self._waiting > _WAITING:
            self._work_in()

    def numbers(self) -> NDArray[np.int64]:
        """Return ``(n,)`` group numbers in the order of their first items, −1 for an item that is alone."""
        self._work_in()
        first, member, sizes = np.unique(
            self._component, return_index=True, return_inverse=True, return_counts=True
        )[1:]
        by_position = np.argsort(first)
        together = sizes[by_position] > 1
        number = np.full(len(first), -1, np.int64)
        number[by_position[together]] = np.arange(together.sum())
        return number[member]

    def _work_in(self) -> None:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if self._waiting == 0:
            return
        n = len(self._component)
        first, second = np.concatenate(self._pairs, axis=1)
        graph = coo_array((np.ones(len(first), np.float32), (first, second)), shape=(n, n))
        _, component = connected_components(graph, directed=False)
        self._component = component[self._component].astype(np.int64)
        self._pairs, self._waiting = [], 0
