"""Least squared-residual metric learning."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError
from .constraints import draw_quadruplets, pair_count
from .logdet import Loss, Prior, minimise, prior_matrix
from .metric import LinearMetric
from .starting import generator
from .tuples import check_tuples

__all__ = ["LSML"]

Matrix = NDArray[np.float64]


class LSML(LinearMetric):
    """Least squared-residual metric learning (Liu et al. 2012): from "a is nearer to b than c is to d".

    Minimises Σ_q w_q·[D(a,b) − D(c,d)]₊² + tr(M M₀⁻¹) − log det M, with weights that add up to 1; convex in M.

    Args:
        prior: M₀: ``"identity"``, ``"covariance"`` (the inverse one of the items) or a positive definite ``(f, f)``.
        n_pairs: With `fit`: quadruplets drawn, each a pair of one class and a pair of two; None: 20·c², at least
            100, at most 20,000.
        max_iter: Iterations of L-BFGS at most.
        tol: L-BFGS stops when a step gains less than this share.
        random_state: Seed of the quadruplets.

    Attributes:
        components_: L, ``(f, f)``.
        objective_: The minimum, counted from the prior: without violations it is 0.
        n_iter_: Iterations.

    Example:
        >>> a, b, c = [0.0, 0], [2, 0], [0, 1]
        >>> metric = LSML().fit_quadruplets([[a, b, a, c]])
        >>> metric.pair_distance([[a, b], [a, c]]).round(2).tolist()
        [1.48, 1.17]
    """

    supervision: ClassVar[str] = "quadruplets"

    def __init__(
        self,
        *,
        prior: Prior = "identity",
        n_pairs: int | None = None,
        max_iter: int = 1000,
        tol: float = 1e-7,
        random_state: Any = 0,
    ):
        self.prior = prior
        self.n_pairs = n_pairs
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from items ``(n, f)`` and labels ``(n,)``: quadruplets are drawn from them."""
        rows, codes = self._check_labels(X, y)
        count = pair_count(self.n_pairs, len(self.classes_))
        index = draw_quadruplets(codes, count, generator(self.random_state))
        return self._learn(rows, index, np.ones(len(index)))

    def fit_quadruplets(
        self, quadruplets: ArrayLike, weights: ArrayLike | None = None, X: ArrayLike | None = None
    ) -> Self:
        """Learn from (a, b, c, d) with D(a, b) < D(c, d).

        Args:
            quadruplets: ``(n, 4, f)`` numbers, or row numbers ``(n, 4)`` of ``X``.
            weights: ``(n,)``, ≥ 0 and not all 0; by default all alike.
            X: ``(m, f)`` rows.
        """
        rows, index = check_tuples(self, quadruplets, X, size=4, name="quadruplets")
        given = np.ones(len(index)) if weights is None else np.asarray(weights, dtype=np.float64)
        if given.shape != (len(index),) or not (given >= 0).all() or not 0 < given.sum() < np.inf:
            raise ArgumentError(
                f"weights must have shape ({len(index)},), ≥ 0 and not all 0; got {given.shape}."
            )
        return self._learn(rows, index, given)

    def _learn(self, X: Matrix, index: NDArray[np.int64], weights: NDArray[np.float64]) -> Self:
        prior = prior_matrix(self.prior, X)
        near, far = (X[index[:, i]] - X[index[:, i + 1]] for i in (0, 2))
        weights = weights / weights.sum()
        found = minimise(
            prior, lambda C: _residuals(near @ C, far @ C, weights), max_iter=self.max_iter, tol=self.tol
        )
        self.components_, self.objective_, self.n_iter_ = found.L, found.value, found.iterations
        return self


def _residuals(near: Matrix, far: Matrix, weights: NDArray[np.float64]) -> Loss:
    """Σ w·[D(a,b) − D(c,d)]₊² and its derivative by M; 0 for the side whose two items are equal."""

    def loss(L: Matrix) -> tuple[float, Matrix]:
        d_near, d_far = (np.sqrt(((V @ L.T) ** 2).sum(1)) for V in (near, far))
        gap = np.maximum(d_near - d_far, 0.0)
        pull = weights * np.divide(gap, d_near, out=np.zeros_like(gap), where=d_near > 0)
        push = weights * np.divide(gap, d_far, out=np.zeros_like(gap), where=d_far > 0)
        slope = (near * pull[:, None]).T @ near - (far * push[:, None]).T @ far
        return float(weights @ gap**2), slope

    return loss
