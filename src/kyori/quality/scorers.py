"""How strange is a vector? The raw scores of :mod:`kyori.quality.outliers`, larger for stranger."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..distances import Distance
from ..errors import ArgumentError, DataError, nearest_name
from ..neighbors import Matches, nearest

__all__ = ["SCORERS", "LocalOutlierFactor", "Mahalanobis", "NeighborDistance", "Scorer"]

_METRICS = ("euclidean", "squared_euclidean", "cosine", "manhattan")  # symmetric and never negative
_LONGEST_DENSITY = 1e-10  # added to a mean distance, so that more than k copies have a density


class Scorer(Protocol):
    """Fitted on ``(n, d)`` vectors, scores others, or each of its own among the rest."""

    def fit(self, vectors: NDArray[np.float32], labels: NDArray[np.int64] | None) -> None: ...

    def score(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]: ...

    def among_themselves(self) -> NDArray[np.float64]: ...


class NeighborDistance:
    """Mean distance to the k nearest reference items."""

    def __init__(self, k: int, metric: Distance):
        _check_neighbors(k, metric)
        self.k, self.metric = k, metric

    def fit(self, vectors: NDArray[np.float32], labels: NDArray[np.int64] | None) -> None:
        _require_neighbors(len(vectors), self.k)
        self.vectors = vectors

    def score(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        return _means(nearest(vectors, self.vectors, self.k, self.metric))

    def among_themselves(self) -> NDArray[np.float64]:
        return _means(nearest(self.vectors, self.vectors, self.k, self.metric, exclude_self=True))


class LocalOutlierFactor:
    """Mean density of the k nearest reference items over one's own (Breunig et al. 2000); about 1 inside a cluster.

    Density is 1 over the mean reachability: the distance to a neighbour, or that neighbour's own k-th distance
    where it is larger. The scores are those of scikit-learn's class of the same name.
    """

    def __init__(self, k: int, metric: Distance):
        _check_neighbors(k, metric)
        self.k, self.metric = k, metric

    def fit(self, vectors: NDArray[np.float32], labels: NDArray[np.int64] | None) -> None:
        _require_neighbors(len(vectors), self.k)
        self.vectors = vectors
        self._own = nearest(vectors, vectors, self.k, self.metric, exclude_self=True)
        self._radius = self._own.distances[:, -1]
        self._density = self._densities(self._own)

    def score(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        return self._factors(nearest(vectors, self.vectors, self.k, self.metric))

    def among_themselves(self) -> NDArray[np.float64]:
        return self._factors(self._own)

    def _densities(self, found: Matches) -> NDArray[np.float64]:
        reach = np.maximum(found.distances, self._radius[found.ids])
        return 1 / (reach.mean(axis=1, dtype=np.float64) + _LONGEST_DENSITY)

    def _factors(self, found: Matches) -> NDArray[np.float64]:
        return self._density[found.ids].mean(axis=1) / self._densities(found)


class Mahalanobis:
    """Distance to the nearest class centre in units of the spread of that class (after Lee et al. 2018).

    A class of more than ``d`` items has its own covariance, the others share the one within classes. Both are shrunk
    towards a multiple of the identity (Ledoit & Wolf 2004), and have an inverse also where a dimension is constant.
    """

    def __init__(self, k: int, metric: Distance):
        _check_neighbors(k, metric)

    def fit(self, vectors: NDArray[np.float32], labels: NDArray[np.int64] | None) -> None:
        if len(vectors) < 2:
            raise DataError(f"a covariance needs at least 2 reference items; got {len(vectors)}.")
        codes = np.zeros(len(vectors), int) if labels is None else np.unique(labels, return_inverse=True)[1]
        counts = np.bincount(codes)
        centres = np.zeros((len(counts), vectors.shape[1]))
        np.add.at(centres, codes, vectors.astype(np.float64))
        centres /= counts[:, None]
        residuals = vectors - centres[codes]
        common, varies = _whitening(residuals)
        if not varies:
            raise DataError(
                "mahalanobis needs items that differ within their classes; all vectors of each class are the same."
                " Use method='knn'."
            )
        own = {
            c: _whitening(residuals[codes == c]) for c in np.flatnonzero(counts > vectors.shape[1]).tolist()
        }
        self._spaces = [(centres[[c]], whiten) for c, (whiten, varies) in own.items() if varies]
        rest = [c for c in range(len(counts)) if c not in own or not own[c][1]]
        if rest:
            self._spaces.append((centres[rest], common))
        self._vectors = vectors

    def score(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        closest = np.full(len(vectors), np.inf)
        for centres, whiten in self._spaces:
            origin = centres.mean(axis=0)  # float32 keeps more digits near zero
            found = nearest((vectors - origin) @ whiten, (centres - origin) @ whiten, 1)
            closest = np.minimum(closest, found.distances[:, 0])
        return closest

    def among_themselves(self) -> NDArray[np.float64]:
        return self.score(self._vectors)


def _whitening(residuals: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Return the ``(d, d)`` map to unit covariance, and whether there is any variance."""
    from sklearn.covariance import ledoit_wolf

    covariance = ledoit_wolf(residuals, assume_centered=True)[0]
    values, directions = np.linalg.eigh(covariance)
    if values[-1] <= 0:
        return directions, False
    return directions / np.sqrt(np.maximum(values, 1e-9 * values[-1])), True


def _means(found: Matches) -> NDArray[np.float64]:
    return found.distances.mean(axis=1, dtype=np.float64)


def _check_neighbors(k: int, metric: str) -> None:
    if k < 1:
        raise ArgumentError(f"k must be at least 1; got {k}.")
    if metric not in _METRICS:
        raise ArgumentError(
            f"metric must be one of {', '.join(_METRICS)}; got {metric!r}{nearest_name(metric, _METRICS)}"
        )


def _require_neighbors(items: int, k: int) -> None:
    if items <= k:
        raise ArgumentError(
            f"k must be below the number of reference items, {items}; got {k}. Give a smaller k."
        )


SCORERS: dict[str, Callable[[int, Distance], Scorer]] = {
    "knn": NeighborDistance,
    "lof": LocalOutlierFactor,
    "mahalanobis": Mahalanobis,
}
