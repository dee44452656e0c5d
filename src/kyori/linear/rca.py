"""Relevant components analysis."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import validate_data

from ..errors import ArgumentError, DataError
from .constraints import draw_chunks
from .metric import LinearMetric
from .scatter import Shrinkage, class_moments, discriminant, invertible, symmetric_power
from .starting import check_components, generator

__all__ = ["RCA"]


class RCA(LinearMetric):
    """Relevant components analysis (Shental et al. 2002): whiten what varies among items that belong together.

    M = C⁻¹ with C the covariance of the items around the means of their chunks. It minimises Σ_i D²(x_i, m_i) over all
    M with a given determinant.

    Args:
        n_components: d ≤ f: first keep the d directions with the largest total/inner ratio; None keeps f.
        n_chunks: With `fit`: chunks drawn; None takes each class as one chunk.
        chunk_size: Items of a drawn chunk, ≥ 2.
        shrinkage: Of C towards a multiple of I, in [0, 1]. ``"auto"``: none where C can be inverted, else 0.001 with a
            warning.
        random_state: Seed of the chunks.

    Attributes:
        components_: L, ``(d, f)``.

    Example:
        >>> X = np.array([[0.0, 0], [0, 2], [5, 1], [6, 3]])
        >>> metric = RCA().fit_chunks(X, [0, 0, 1, 1])
        >>> metric.get_mahalanobis_matrix().round(6).tolist()
        [[16.0, -4.0], [-4.0, 2.0]]
    """

    supervision: ClassVar[str] = "chunks"

    def __init__(
        self,
        n_components: int | None = None,
        *,
        n_chunks: int | None = None,
        chunk_size: int = 2,
        shrinkage: Shrinkage = "auto",
        random_state: Any = 0,
    ):
        self.n_components = n_components
        self.n_chunks = n_chunks
        self.chunk_size = chunk_size
        self.shrinkage = shrinkage
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from items ``(n, f)`` and labels ``(n,)``."""
        rows, codes = self._check_labels(X, y, classes=1)
        return self._learn(
            rows, draw_chunks(codes, self.n_chunks, self.chunk_size, generator(self.random_state))
        )

    def fit_chunks(self, X: ArrayLike, chunks: ArrayLike) -> Self:
        """Learn from items ``(n, f)`` and the whole number of the chunk of each ``(n,)``, −1 for none."""
        rows = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        given = np.asarray(chunks)
        if given.shape != (len(rows),) or given.dtype.kind not in "iu":
            raise ArgumentError(
                f"chunks must be whole numbers of shape ({len(rows)},), −1 for none; got {given.dtype} of shape "
                f"{given.shape}."
            )
        return self._learn(rows, given)

    def _learn(self, X: NDArray[np.float64], chunks: NDArray[np.int64]) -> Self:
        d = check_components(self.n_components, X.shape[1])
        names, codes, counts = np.unique(chunks[chunks >= 0], return_inverse=True, return_counts=True)
        if len(names) == 0 or counts.max() < 2:
            raise DataError("there must be a chunk of at least 2 items; every item is alone or in no chunk.")
        moments = class_moments(X[chunks >= 0], codes)
        inner = invertible(moments.within, self.shrinkage, "covariance within the chunks")
        if d == X.shape[1]:
            self.components_ = symmetric_power(inner, -0.5)
        else:
            self.components_ = discriminant(inner, moments.within + moments.between, d)[0]
        return self
