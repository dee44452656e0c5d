"""Which pairs and queries to show: the first ones, and those that went most wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..neighbors import distance_blocks, nearest

__all__ = ["Pair", "Query", "confused_pairs", "first_pairs", "worst_queries"]


@dataclass(frozen=True)
class Pair:
    """Two items with their distance."""

    first: int
    second: int
    same: bool
    distance: float


@dataclass(frozen=True)
class Query:
    """An item with its nearest neighbours.

    Attributes:
        item: The item that asks.
        score: Its value in the measure that ranks queries.
        neighbors: The k nearest other items, nearest first.
        distances: Their distances.
        hits: Whether each has the class of the query.
    """

    item: int
    score: float
    neighbors: np.ndarray
    distances: np.ndarray
    hits: np.ndarray


def first_pairs(vectors: np.ndarray, labels: np.ndarray, count: int = 6) -> tuple[list[Pair], list[Pair]]:
    """Return the first pairs of the same and of different classes, in the order of the items.

    Each item is paired with the next one that fits, and shown once in each list: a sample that nobody chose.

    >>> same, different = first_pairs(np.eye(4), np.array([0, 1, 0, 1]))
    >>> [(p.first, p.second) for p in same], [(p.first, p.second) for p in different]
    ([(0, 2), (1, 3)], [(0, 1), (2, 3)])
    """
    return _first(vectors, labels, True, count), _first(vectors, labels, False, count)


def _first(vectors: np.ndarray, labels: np.ndarray, same: bool, count: int) -> list[Pair]:
    pairs: list[Pair] = []
    free = np.ones(len(labels), dtype=bool)
    for first in range(len(labels)):
        if len(pairs) == count:
            break
        if not free[first]:
            continue
        fits = free & ((labels == labels[first]) == same)
        fits[: first + 1] = False
        if fits.any():
            second = int(fits.argmax())
            free[[first, second]] = False
            pairs.append(_pair(vectors, labels, first, second))
    return pairs


def confused_pairs(vectors: np.ndarray, labels: np.ndarray, count: int = 6) -> tuple[list[Pair], list[Pair]]:
    """Return the most distant pairs of one class, and the closest pairs of different classes.

    All n² / 2 pairs are looked at, in blocks. An item is shown once in each list, with its worst partner, so that a
    single outlier does not fill the list.

    Args:
        vectors: Vectors ``(n, d)`` float32, compared with the euclidean distance.
        labels: Classes ``(n,)``.
        count: Length of each list at most.
    """
    far, near = np.full(len(labels), -np.inf), np.full(len(labels), np.inf)
    far_partner, near_partner = np.zeros((2, len(labels)), dtype=int)
    for rows, found in distance_blocks(vectors, vectors):
        same = labels[rows, None] == labels[None, :]
        different = np.where(same, np.inf, found)
        same[np.arange(len(same)), np.arange(rows.start, rows.stop)] = False
        together = np.where(same, found, -np.inf)
        far[rows], far_partner[rows] = together.max(axis=1), together.argmax(axis=1)
        near[rows], near_partner[rows] = different.min(axis=1), different.argmin(axis=1)
    apart = [(i, int(far_partner[i])) for i in np.argsort(-far, kind="stable") if np.isfinite(far[i])]
    close = [(i, int(near_partner[i])) for i in np.argsort(near, kind="stable") if np.isfinite(near[i])]
    return _unused(vectors, labels, apart, count), _unused(vectors, labels, close, count)


def _unused(vectors: np.ndarray, labels: np.ndarray, ranked: list[tuple[int, int]], count: int) -> list[Pair]:
    used: set[int] = set()
    pairs: list[Pair] = []
    for i, j in ranked:
        if len(pairs) == count:
            break
        if not used & {i, j}:
            used |= {i, j}
            pairs.append(_pair(vectors, labels, *sorted((i, j))))
    return pairs


def _pair(vectors: np.ndarray, labels: np.ndarray, first: int, second: int) -> Pair:
    distance = float(np.linalg.norm(vectors[first].astype(np.float64) - vectors[second]))
    return Pair(int(first), int(second), bool(labels[first] == labels[second]), distance)


def worst_queries(
    vectors: np.ndarray,
    labels: np.ndarray,
    *,
    scores: np.ndarray | None = None,
    count: int = 6,
    k: int = 8,
) -> list[Query]:
    """Return the queries with the lowest score, each with its first neighbours.

    Among equal scores those come first whose nearest neighbour is wrong and closest: sure of what is not so.

    Args:
        vectors: Vectors ``(n, d)``; every item asks all others.
        labels: Classes ``(n,)``.
        scores: Value of each query ``(n,)``, NaN where it was not asked; None takes the share of hits among the k
            nearest.
        count: Number of queries.
        k: Number of neighbours.
    """
    k = min(k, len(labels) - 1)
    if k < 1:
        return []
    matches = nearest(vectors, vectors, k, exclude_self=True)
    neighbors, distances = np.asarray(matches.ids), np.asarray(matches.distances)
    hits = labels[neighbors] == labels[:, None]
    scores = hits.mean(axis=1) if scores is None else np.asarray(scores, dtype=float)
    order = np.lexsort((distances[:, 0], hits[:, 0], scores))
    asked = [i for i in order if not np.isnan(scores[i])][:count]
    return [Query(int(i), float(scores[i]), neighbors[i], distances[i], hits[i]) for i in asked]
