"""Information-theoretic metric learning."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError, DataError, DegenerateWarning
from .constraints import draw_pairs, pair_count
from .logdet import Loss, Prior, minimise, prior_matrix
from .metric import LinearMetric
from .starting import check_positive, generator
from .tuples import check_same, check_tuples

__all__ = ["ITML"]

Matrix = NDArray[np.float64]
_SAMPLED = 20_000  # pairs of rows from which the bounds are read


class ITML(LinearMetric):
    """Information-theoretic metric learning (Davis et al. 2007): near a prior, pairs on their side of a bound.

    Minimises D_ld(M, M₀) + γ·Σ_c D_ld(ξ_c, ξ⁰_c) where pairs of the same class have D² ≤ ξ_c with ξ⁰ = u, and others
    D² ≥ ξ_c with ξ⁰ = l. D_ld(A, B) = tr(AB⁻¹) − log det(AB⁻¹) − f. For a given M the best slack is
    ξ = max(D², u), or min(D², l), which leaves a smooth convex function of M; L-BFGS minimises it over all pairs at
    once, where the paper's projections take one pair after the other to the same minimum.

    Args:
        gamma: γ > 0, the price of a violated bound.
        prior: M₀: ``"identity"``, ``"covariance"`` (the inverse one of the items) or a positive definite ``(f, f)``.
        bounds: (u, l), bounds of the **squared** distance; by default the 5th and 95th percentile of the squared
            distances under the prior between 20,000 random pairs of the items (of all pairs, if there are fewer).
        n_pairs: With `fit`: pairs drawn of each kind; None: 20·c², at least 100, at most 20,000.
        max_iter: Iterations of L-BFGS at most.
        tol: L-BFGS stops when a step gains less than this share.
        random_state: Seed of the pairs and of the sample for the bounds.

    Attributes:
        components_: L, ``(f, f)``.
        bounds_: (u, l).
        objective_: The minimum.
        n_iter_: Iterations.

    Example:
        >>> pairs = np.array([[[0.0, 0], [0, 1]], [[0, 0], [1, 0]], [[0, 1], [1, 0]]])
        >>> metric = ITML().fit_pairs(pairs, [True, False, False])
        >>> d = metric.pair_distance(pairs)
        >>> bool(d[0] < d[1])
        True
    """

    supervision: ClassVar[str] = "pairs"

    def __init__(
        self,
        gamma: float = 1.0,
        *,
        prior: Prior = "identity",
        bounds: tuple[float, float] | None = None,
        n_pairs: int | None = None,
        max_iter: int = 1000,
        tol: float = 1e-7,
        random_state: Any = 0,
    ):
        self.gamma = gamma
        self.prior = prior
        self.bounds = bounds
        self.n_pairs = n_pairs
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from items ``(n, f)`` and labels ``(n,)``: pairs are drawn from them."""
        rows, codes = self._check_labels(X, y)
        rng = generator(self.random_state)
        pairs, same = draw_pairs(codes, pair_count(self.n_pairs, len(self.classes_)), rng)
        return self._learn(rows, pairs, same, rng)

    def fit_pairs(self, pairs: ArrayLike, same: ArrayLike, X: ArrayLike | None = None) -> Self:
        """Learn from pairs ``(n, 2, f)``, or row numbers ``(n, 2)`` of ``X``, and whether each is the same ``(n,)``."""
        rows, index = check_tuples(self, pairs, X, size=2, name="pairs")
        return self._learn(rows, index, check_same(same, len(index)), generator(self.random_state))

    def _learn(
        self, X: Matrix, pairs: NDArray[np.int64], same: NDArray[np.bool_], rng: np.random.Generator
    ) -> Self:
        check_positive(gamma=self.gamma)
        prior = prior_matrix(self.prior, X)
        upper, lower = self.bounds_ = self._find_bounds(X, prior, rng)
        V = X[pairs[:, 0]] - X[pairs[:, 1]]
        equal = ~same & ~V.any(1)
        if equal.any():
            warnings.warn(
                f"{equal.sum()} pairs of equal items are said to be different, which no distance can do; left out.",
                DegenerateWarning,
                stacklevel=3,
            )
            V, same = V[~equal], same[~equal]
        bounds = np.where(same, upper, lower)
        found = minimise(
            prior,
            lambda C: _slack_loss(V @ C, same, bounds, self.gamma),
            max_iter=self.max_iter,
            tol=self.tol,
        )
        self.components_, self.objective_, self.n_iter_ = found.L, found.value, found.iterations
        return self

    def _find_bounds(self, X: Matrix, prior: Matrix, rng: np.random.Generator) -> tuple[float, float]:
        if self.bounds is None:
            rows = X @ np.linalg.cholesky(prior)
            n = len(rows)
            first, second = np.triu_indices(n, 1) if n <= 200 else rng.integers(0, n, (2, _SAMPLED))
            squares = ((rows[first] - rows[second]) ** 2).sum(1)
            squares = squares[squares > 0]
            if len(squares) == 0:
                raise DataError("all items are equal; there is no distance to learn.")
            upper, lower = np.percentile(squares, (5, 95))
            return float(upper), float(lower)
        values = np.asarray(self.bounds, dtype=np.float64)
        if values.shape != (2,) or not (values > 0).all() or not np.isfinite(values).all():
            raise ArgumentError(
                f"bounds must be two squared distances (u, l), both > 0; got {self.bounds!r}."
            )
        return float(values[0]), float(values[1])


def _slack_loss(V: Matrix, same: NDArray[np.bool_], bounds: NDArray[np.float64], gamma: float) -> Loss:
    """γ·Σ g(ξ/ξ⁰) with g(r) = r − log r − 1 and ξ the slack that the pair's D² asks for."""

    def loss(L: Matrix) -> tuple[float, Matrix]:
        squares = ((V @ L.T) ** 2).sum(1)
        violated = np.where(same, squares > bounds, squares < bounds)
        ratio = np.where(violated, np.maximum(squares, 1e-300) / bounds, 1.0)
        value = gamma * float(np.sum(ratio - np.log(ratio) - 1))
        slope = gamma * (1 - 1 / ratio) / bounds
        return value, (V * slope[:, None]).T @ V

    return loss
