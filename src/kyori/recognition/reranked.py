"""What re-ranking gains and costs: the same queries with and without it, exactly."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DataError
from ..index import Rerank, reranking
from ..neighbors import Matches, nearest
from ..vectors import VectorTable
from .identities import labels_of

__all__ = ["Gain", "measure_reranking"]

_REPLICATES = 1_000


@dataclass(frozen=True)
class Gain:
    """One measure of one way of re-ranking.

    Attributes:
        rerank: Its name; ``"none"`` for the plain search.
        measure: ``"recall@1"`` or ``"map@r"``.
        value: Mean over the queries.
        gain: Value less that of the plain search.
        low: Lower end of the 95 % interval of the gain (paired bootstrap over queries).
        high: Upper end.
        queries: How many counted: those with another item of their class.
        milliseconds: Of a query, search included.
    """

    rerank: str
    measure: str
    value: float
    gain: float
    low: float
    high: float
    queries: int
    milliseconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


def measure_reranking(
    table: VectorTable,
    ways: Mapping[str, Rerank],
    *,
    metric: Any = "euclidean",
    queries: int = 1_000,
    seed: int = 0,
) -> list[Gain]:
    """Measure Recall@1 and MAP@R with and without re-ranking, each item against all others, exactly.

    Args:
        table: Labelled vectors; not those that a pairwise model was trained on.
        ways: Re-rankers by name.
        metric: ``"euclidean"`` or ``"cosine"``.
        queries: How many items ask at most, drawn with the seed; all are in the gallery.
        seed: Of the queries and the intervals.

    Raises:
        ArgumentError: ``queries`` is below 1.
        DataError: No labels, or no two items of one class.
    """
    if queries < 1:
        raise ArgumentError(f"queries must be at least 1; got {queries}.")
    codes = np.unique(labels_of(table).astype(str), return_inverse=True)[1]
    relevant = np.bincount(codes)[codes] - 1
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(np.flatnonzero(relevant > 0))[:queries])
    if not len(rows):
        raise DataError("re-ranking is measured on queries with another item of their class; there are none.")
    search = _Search(table.vectors, rows, metric)
    depth = int(relevant[rows].max())
    gains: list[Gain] = []
    plain: dict[str, NDArray[np.float64]] = {}
    for name, way in {"none": None, **ways}.items():
        start = time.perf_counter()
        found = search.run(way, depth)
        cost = 1e3 * (time.perf_counter() - start) / len(rows)
        hits = (codes[np.maximum(found.ids, 0)] == codes[rows, None]) & (found.ids >= 0)
        values = {"recall@1": hits[:, 0].astype(np.float64), "map@r": _map_at_r(hits, relevant[rows])}
        for measure, per_query in values.items():
            plain.setdefault(measure, per_query)
            low, high, gain = _paired(per_query - plain[measure], rng)
            gains.append(Gain(name, measure, float(per_query.mean()), gain, low, high, len(rows), cost))
    return gains


class _Search:
    """Exact search in which no query finds itself."""

    def __init__(self, vectors: NDArray[np.float32], rows: NDArray[np.int64], metric: Any):
        self.vectors, self.rows, self.metric = vectors, rows, metric

    def run(self, way: Rerank | None, k: int) -> Matches:
        if way is None:
            return self._find(self.vectors[self.rows], k)
        return reranking.rerank(
            way,
            self.vectors[self.rows],
            k,
            self.metric,
            self._find,
            lambda ids: (self.vectors[ids.astype(np.int64)], np.ones(len(ids), bool)),
        )

    def _find(self, queries: NDArray[np.float32], k: int) -> Matches:
        found = nearest(queries, self.vectors, k + 1, self.metric)
        # An item that lies behind k others has fewer than k + 1 before it: then the last one goes.
        keep = found.ids != self.rows[:, None]
        keep &= np.cumsum(keep, axis=1) <= k
        return Matches(found.ids[keep].reshape(-1, k), found.distances[keep].reshape(-1, k))


def _map_at_r(hits: NDArray[np.bool_], relevant: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return MAP@R (Musgrave, Belongie & Lim 2020) of each query."""
    places = np.arange(1, hits.shape[1] + 1)
    counted = hits & (places <= relevant[:, None])
    return (counted * np.cumsum(hits, axis=1) / places).sum(axis=1) / relevant


def _paired(difference: NDArray[np.float64], rng: np.random.Generator) -> tuple[float, float, float]:
    n = len(difference)
    drawn = np.array([difference[rng.integers(n, size=n)].mean() for _ in range(_REPLICATES)])
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high), float(difference.mean())
