"""Re-ranking: a second look at the first neighbours, with what the neighbours say of each other or a model of pairs.

All are written for the metric of the index; all cost a look-up of the first neighbours' vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from ..neighbors import Matches, distance_blocks
from .store import Metric

__all__ = ["KReciprocal", "PairModel", "QueryExpansion", "Rerank", "k_reciprocal", "rerank"]

Find = Callable[[NDArray[np.float32], int], Matches]
Ids = NDArray[np.object_] | NDArray[np.int64]
VectorsOf = Callable[[Ids], tuple[NDArray[np.float32], NDArray[np.bool_]]]
_PAIRS = 50_000  # that a model measures at a time


@dataclass(frozen=True)
class QueryExpansion:
    """α query expansion (Radenović, Tolias & Chum 2019): ask again with a mean of the query and its neighbours.

    ``q' = (q + Σ wᵢ fᵢ) / (1 + Σ wᵢ)`` over the first ``top`` neighbours fᵢ, ``wᵢ = max(0, cos(q, fᵢ))^α``. The paper
    divides by the length instead, which ranks unit vectors the same. Distances are those to ``q'``.

    Attributes:
        top: How many neighbours are taken, ≥ 1.
        alpha: α ≥ 0; 0 is the plain mean.
    """

    top: int = 10
    alpha: float = 3.0

    def __post_init__(self) -> None:
        if self.top < 1 or not 0 <= self.alpha < np.inf:
            raise ArgumentError(
                f"query expansion needs top ≥ 1 and α ≥ 0; got top={self.top}, alpha={self.alpha}."
            )


@dataclass(frozen=True)
class KReciprocal:
    """k-reciprocal re-ranking (Zhong, Zheng, Cao & Li 2017) of the ``first`` neighbours of each query.

    Inside the set S of a query and its first neighbours, with distances d divided by the largest in S (so that the
    result does not depend on their unit), and N(p, k) = p and its k nearest in S:

    - ``R(p, k) = {g ∈ N(p, k) : p ∈ N(g, k)}``
    - ``R*(p) = R(p, k1) ∪ R(g, k1/2)`` for each g ∈ R(p, k1) with ``|R(p, k1) ∩ R(g, k1/2)| ≥ ⅔ |R(g, k1/2)|``
    - ``V(p, g) = exp(−d(p, g))`` for g ∈ R*(p), else 0; then V(p) is the mean of V over the k2 first of N(p, k2)
      (p itself is the first)
    - ``d_J(p, g) = 1 − Σ min(V(p), V(g)) / Σ max(V(p), V(g))``
    - ``d* = (1 − λ) d_J + λ d``

    With ``first`` at least the size of the index this is the paper's definition for that query; the authors' program
    also scales each row of V and of d by itself, and counts the other queries as gallery. Distances are d*, in [0, 1];
    neighbours behind the first follow in their old order, with their old distance and the largest d* added.

    Attributes:
        k1: Neighbourhood, ≥ 1.
        k2: Neighbourhood of the local expansion, ≥ 1; 1 leaves it out.
        weight: λ in [0, 1].
        first: How many neighbours are looked at again, ≥ 2.
    """

    k1: int = 20
    k2: int = 6
    weight: float = 0.3
    first: int = 100

    def __post_init__(self) -> None:
        if self.k1 < 1 or self.k2 < 1 or self.first < 2 or not 0 <= self.weight <= 1:
            raise ArgumentError(
                "k-reciprocal re-ranking needs k1 ≥ 1, k2 ≥ 1, first ≥ 2 and a weight in [0, 1]; got"
                f" k1={self.k1}, k2={self.k2}, first={self.first}, weight={self.weight}."
            )


@runtime_checkable
class PairModel(Protocol):
    """Anything that measures pairs anew, such as :class:`kyori.recognition.PairwiseReranker`.

    Attributes:
        first: How many neighbours are looked at again, ≥ 1.
    """

    first: int

    def measure(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the new distance ``(p,)`` of each row of ``a`` ``(p, d)`` to the same row of ``b`` ``(p, d)``."""
        ...


Rerank = QueryExpansion | KReciprocal | PairModel


def rerank(
    how: Rerank,
    queries: NDArray[np.float32],
    k: int,
    metric: Metric,
    find: Find,
    vectors_of: VectorsOf,
) -> Matches:
    """Search with re-ranking.

    Args:
        how: Which, with its settings.
        queries: ``(q, d)``.
        k: Neighbours a query.
        metric: The index's.
        find: Searches: vectors ``(q, d)`` and a count give matches.
        vectors_of: The vectors of those of ids ``(m,)`` that are still there, in their order, and ``(m,)`` which are.
            The others are left out.
    """
    if isinstance(how, QueryExpansion):
        return find(_expanded(how, queries, metric, find, vectors_of), k)
    if not isinstance(how, PairModel | KReciprocal):
        raise ArgumentError(
            "rerank must be QueryExpansion(...), KReciprocal(...), a model of pairs (with first and measure) or None;"
            f" got {how!r}."
        )
    return _reordered(how, queries, k, metric, find, vectors_of)


def _reordered(
    how: KReciprocal | PairModel,
    queries: NDArray[np.float32],
    k: int,
    metric: Metric,
    find: Find,
    vectors_of: VectorsOf,
) -> Matches:
    """Order the first neighbours anew; those behind them follow as they came."""
    found = find(queries, max(k, how.first))
    ids, distances = found.ids.copy(), found.distances.copy()
    for rows, there, vectors in _first_vectors(found, how.first, vectors_of):
        again = np.full(there.shape, np.inf, np.float32)
        if there.any():
            again[there] = _measured(how, queries[rows], vectors, there.sum(axis=1), metric)
        order = np.argsort(again, axis=1, kind="stable")
        ids[rows, : how.first] = np.take_along_axis(ids[rows, : how.first], order, axis=1)
        distances[rows, : how.first] = np.take_along_axis(again, order, axis=1)
    _push_behind(distances, how.first)
    missing = np.isinf(distances)
    ids[missing] = -1 if ids.dtype.kind == "i" else None
    order = np.argsort(missing, axis=1, kind="stable")[:, :k]
    return Matches(np.take_along_axis(ids, order, axis=1), np.take_along_axis(distances, order, axis=1))


def _first_vectors(
    found: Matches, first: int, vectors_of: VectorsOf
) -> Iterator[tuple[slice, NDArray[np.bool_], NDArray[np.float32]]]:
    """Look up the first neighbours of some queries at a time.

    Yields:
        Which queries, which of their first neighbours are still there ``(q, first)``, and the vectors ``(p, d)`` of
        these, query after query.
    """
    step = max(1, _PAIRS // first)
    for start in range(0, len(found.ids), step):
        rows = slice(start, start + step)
        there = np.isfinite(found.distances[rows, :first])
        if not there.any():
            continue
        unique, place = np.unique(found.ids[rows, :first][there], return_inverse=True)
        vectors, kept = vectors_of(unique)
        there[there] = kept[place]
        yield rows, there, vectors[(np.cumsum(kept) - 1)[place[kept[place]]]]


def _measured(
    how: KReciprocal | PairModel,
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    counts: NDArray[np.int64],
    metric: Metric,
) -> NDArray[np.float32]:
    """Return the new distances ``(p,)`` of queries ``(q, d)`` to ``counts`` ``(q,)`` of the vectors ``(p, d)`` each."""
    if not isinstance(how, KReciprocal):
        return how.measure(np.repeat(queries, counts, axis=0), vectors)
    parts = np.split(vectors, np.cumsum(counts)[:-1])
    around = [np.concatenate([query[None], part]) for query, part in zip(queries, parts, strict=True)]
    return np.concatenate([k_reciprocal(each, how, metric) for each in around])


def _push_behind(distances: NDArray[np.float32], first: int) -> None:
    """Let distances go on rising, in the new unit: what was not looked at again lies behind what was."""
    seen = distances[:, :first]
    worst = np.max(seen, axis=1, initial=0.0, where=np.isfinite(seen), keepdims=True)
    distances[:, first:] += worst


def _expanded(
    how: QueryExpansion, queries: NDArray[np.float32], metric: Metric, find: Find, vectors_of: VectorsOf
) -> NDArray[np.float32]:
    expanded = queries.copy()
    for rows, there, vectors in _first_vectors(find(queries, how.top), how.top, vectors_of):
        parts = np.split(vectors, np.cumsum(there.sum(axis=1))[:-1])
        expanded[rows] = [
            _mean_around(query, neighbours, how.alpha, metric)
            for query, neighbours in zip(queries[rows], parts, strict=True)
        ]
    return expanded


def _mean_around(
    query: NDArray[np.float32], neighbours: NDArray[np.float32], alpha: float, metric: Metric
) -> NDArray[np.float32]:
    """Return q' ``(d,)`` of a query ``(d,)`` and its neighbours ``(m, d)``; the query itself where there are none."""
    lengths = np.linalg.norm(neighbours, axis=1) * np.linalg.norm(query)
    cosines = np.divide(neighbours @ query, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    weights = np.maximum(cosines, 0) ** alpha
    mean = (query + weights @ neighbours) / (1 + weights.sum())
    length = np.linalg.norm(mean)
    return mean / length if metric == "cosine" and length > 0 else mean


def k_reciprocal(around: NDArray[np.float32], how: KReciprocal, metric: Metric) -> NDArray[np.float32]:
    """Return d* ``(m,)`` of the first row of ``around`` ``(m + 1, d)`` to each of the others."""
    n = len(around)
    d = np.concatenate([block for _, block in distance_blocks(around, around, metric)]).astype(np.float64)
    np.fill_diagonal(d, -1.0)  # each is its own first neighbour, before its duplicates too
    ranks = np.argsort(d, axis=1, kind="stable")
    np.fill_diagonal(d, 0.0)
    d /= d.max() or 1.0
    wide, half = _reciprocal(ranks, how.k1), _reciprocal(ranks, max(1, round(how.k1 / 2)))
    common = wide.astype(np.int32) @ half.T.astype(np.int32)  # |R(p, k1) ∩ R(g, k1/2)|
    joins = wide & (3 * common >= 2 * half.sum(axis=1)[None])
    reached = wide | ((joins.astype(np.int32) @ half.astype(np.int32)) > 0)
    V = np.where(reached, np.exp(-d), 0.0)
    if how.k2 > 1:
        V = V[ranks[:, : how.k2]].mean(axis=1)
    least = np.minimum(V[0], V).sum(axis=1)
    most = np.maximum(V[0], V).sum(axis=1)
    jaccard = 1 - least / most  # most > 0: each row holds itself
    result = (1 - how.weight) * jaccard + how.weight * d[0]
    return result[1:n].astype(np.float32)


def _reciprocal(ranks: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    near = np.zeros(ranks.shape, bool)
    np.put_along_axis(near, ranks[:, : k + 1], True, axis=1)
    return near & near.T
