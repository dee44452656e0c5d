"""How far two partitions of the same items agree, and how far clusters agree with classes."""

import numpy as np
from numpy.typing import NDArray

from ..evaluation.clustering import Contingency, adjusted_rand

__all__ = ["b_cubed", "rand_agreement", "with_singles"]


def b_cubed(classes: NDArray[np.int64], clusters: NDArray[np.int64]) -> float:
    """Return the B-cubed F of ``(n,)`` clusters, in [0, 1] (Bagga & Baldwin 1998).

    The precision of an item is the share of its cluster that is of its class, itself included; the recall is the share
    of its class that is in its cluster. F is the harmonic mean of the two means over items.

    >>> round(b_cubed(np.array([0, 0, 1]), np.array([0, 0, 0])), 4)
    0.7143
    """
    cells = Contingency.of(*(np.unique(codes, return_inverse=True)[1] for codes in (classes, clusters)))
    of_class, of_cluster = cells.margins
    square = cells.counts.astype(np.float64) ** 2
    precision = (square / of_cluster[cells.clusters]).sum() / len(classes)
    recall = (square / of_class[cells.classes]).sum() / len(classes)
    return float(2 * precision * recall / (precision + recall))


def rand_agreement(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Return the adjusted Rand index of two ``(n,)`` partitions: 1 for the same, 0 as by chance.

    >>> rand_agreement(np.array([0, 0, 1, 1]), np.array([5, 5, 3, 3]))
    1.0
    """
    return float(
        adjusted_rand(
            Contingency.of(*(np.unique(codes, return_inverse=True)[1] for codes in (first, second)))
        )
    )


def with_singles(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give each item without a cluster, −1, a cluster of its own.

    >>> with_singles(np.array([0, -1, 0, -1]))
    array([0, 1, 0, 2])
    """
    codes = codes.copy()
    alone = codes < 0
    codes[alone] = codes.max(initial=-1) + 1 + np.arange(alone.sum())
    return codes
