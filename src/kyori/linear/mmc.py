"""Mahalanobis metric for clustering."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError
from .constraints import draw_pairs, pair_count
from .metric import LinearMetric
from .scatter import Shrinkage, invertible
from .solvers import Objective, lbfgs
from .starting import generator
from .tuples import check_same, check_tuples

__all__ = ["MMC"]

Matrix = NDArray[np.float64]


class MMC(LinearMetric):
    """Mahalanobis metric for clustering (Xing et al. 2002): different pairs far apart, same pairs together near.

    Maximises Σ_different D subject to Σ_same D² ≤ 1, M ⪰ 0; convex in M. Both sides scale with M, so this is the
    maximum of log Σ_different D − ½·log Σ_same D², which needs no constraint; L-BFGS finds it in coordinates where the
    scatter of the same pairs is I. M is then scaled so that Σ_same D² = 1.

    Args:
        shrinkage: Of the scatter of the same pairs towards a multiple of I, in [0, 1]. ``"auto"``: none where it can be
            inverted, else 0.001 with a warning: where same pairs do not differ at all, D would grow without bound.
        n_pairs: With `fit`: pairs drawn of each kind; None: 20·c², at least 100, at most 20,000.
        max_iter: Iterations of L-BFGS at most.
        tol: L-BFGS stops when a step gains less than this share.
        random_state: Seed of the pairs.

    Attributes:
        components_: L, ``(f, f)``.
        objective_: Σ_different D at the end.
        n_iter_: Iterations.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> MMC().fit(X, y).transform(X).shape
        (150, 4)
    """

    supervision: ClassVar[str] = "pairs"

    def __init__(
        self,
        *,
        shrinkage: Shrinkage = "auto",
        n_pairs: int | None = None,
        max_iter: int = 1000,
        tol: float = 1e-8,
        random_state: Any = 0,
    ):
        self.shrinkage = shrinkage
        self.n_pairs = n_pairs
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from items ``(n, f)`` and labels ``(n,)``: pairs are drawn from them."""
        rows, codes = self._check_labels(X, y)
        count = pair_count(self.n_pairs, len(self.classes_))
        pairs, same = draw_pairs(codes, count, generator(self.random_state))
        return self._learn(rows, pairs, same)

    def fit_pairs(self, pairs: ArrayLike, same: ArrayLike, X: ArrayLike | None = None) -> Self:
        """Learn from pairs ``(n, 2, f)``, or row numbers ``(n, 2)`` of ``X``, and whether each is the same ``(n,)``.

        Raises:
            DataError: There are no same pairs, no different ones, or all of one kind are pairs of equal items.
        """
        rows, index = check_tuples(self, pairs, X, size=2, name="pairs")
        return self._learn(rows, index, check_same(same, len(index)))

    def _learn(self, X: Matrix, pairs: NDArray[np.int64], same: NDArray[np.bool_]) -> Self:
        V = X[pairs[:, 0]] - X[pairs[:, 1]]
        far = V[~same]
        if not same.any() or not far.any():
            raise DataError(
                "pairs must hold same ones, and different ones whose items differ; got one kind only."
            )
        scatter = invertible(V[same].T @ V[same], self.shrinkage, "scatter of the same pairs")
        C = np.linalg.inv(np.linalg.cholesky(scatter))  # CSCᵀ = I
        f = len(C)
        found = lbfgs(_log_ratio(far @ C.T), np.eye(f) / f**0.5, max_iter=self.max_iter, tol=self.tol)
        L = found.L @ C
        self.components_ = L / np.sqrt(np.sum((L @ scatter) * L))
        self.objective_ = float(np.linalg.norm(far @ self.components_.T, axis=1).sum())
        self.n_iter_ = found.iterations
        return self


def _log_ratio(far: Matrix) -> Objective:
    """log ‖A‖_F − log Σ ‖Av‖ for the different pairs v, as a function of A."""

    def objective(A: Matrix) -> tuple[float, Matrix]:
        Z = far @ A.T
        lengths = np.linalg.norm(Z, axis=1)
        total, square = lengths.sum(), np.sum(A**2)
        directions = np.divide(Z, lengths[:, None], out=np.zeros_like(Z), where=lengths[:, None] > 0)
        return 0.5 * np.log(square) - np.log(total), A / square - directions.T @ far / total

    return objective
