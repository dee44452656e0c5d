"""Whitening: Mahalanobis' own distance."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import validate_data

from ..errors import DataError
from .metric import LinearMetric
from .scatter import symmetric_power
from .starting import check_components

__all__ = ["Covariance"]


class Covariance(LinearMetric):
    """Mahalanobis' distance (1936): M is the inverse covariance of the items; no labels are needed.

    Directions in which the items do not vary count nothing (pseudo-inverse).

    Args:
        n_components: d ≤ f: keep the d directions of largest variance, whitened; None keeps f and turns nothing
            (L is symmetric).

    Attributes:
        components_: L, ``(d, f)``; the transformed items have covariance I (divisor n − 1).

    Example:
        >>> X = np.array([[0.0, 0], [10, 0], [0, 1], [10, 1]])
        >>> Covariance().fit(X).pair_distance([X[:2], X[::2]]).round(2).tolist()
        [1.73, 1.73]
    """

    supervision: ClassVar[str] = "nothing"

    def __init__(self, n_components: int | None = None):
        self.n_components = n_components

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Learn from items ``(n, f)``; labels are not looked at."""
        rows = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        covariance = np.atleast_2d(np.cov(rows, rowvar=False))
        if not np.trace(covariance) > 0:
            raise DataError("all items are equal; there is nothing to whiten.")
        d = check_components(self.n_components, rows.shape[1])
        if self.n_components is None:
            self.components_ = symmetric_power(covariance, -0.5)
        else:
            values, vectors = np.linalg.eigh(covariance)
            largest = slice(None, -d - 1, -1)
            weights = np.where(values > 1e-12 * values[-1], 1 / np.sqrt(np.abs(values) + 1e-300), 0.0)
            self.components_ = np.ascontiguousarray((vectors * weights).T[largest])
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        return tags
