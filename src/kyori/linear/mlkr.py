"""Metric learning for kernel regression."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import validate_data
from torch import Tensor

from ..errors import ArgumentError
from .metric import LinearMetric
from .neighbourhood import Rows, Weigh, soft_neighbours
from .solvers import Solution, adam, check_batches, lbfgs
from .starting import Init, first_transformation, generator

__all__ = ["MLKR"]

Matrix = NDArray[np.float64]


class MLKR(LinearMetric):
    """Metric learning for kernel regression (Weinberger & Tesauro 2007): the distance that predicts numbers best.

    Minimises Σ_i (y_i − ŷ_i)² with ŷ_i = Σ_j p_ij y_j and p_ij as in NCA: the squared leave-one-out error of a
    Gaussian kernel regression. Numbers y are used as they are; the optimum does not depend on their unit.

    Args:
        n_components: d ≤ f; None keeps f.
        init: ``"auto"``, ``"pca"``, ``"identity"``, ``"random"`` or a matrix ``(d, f)``; no classes, so no lda.
        max_iter: Iterations of L-BFGS at most, over all rows.
        tol: L-BFGS stops when a step gains less than this share.
        batch_size: As in NCA.
        epochs: Times that each row is seen, with ``batch_size``.
        learning_rate: Of Adam, relative to the start; falls to 0.
        random_state: Seed of ``"random"`` and of the batches.

    Attributes:
        components_: L, ``(d, f)``.
        objective_: The sum above at the end (with batches: n times the mean over the last epoch's batches).
        n_iter_: Iterations, or steps of Adam.

    Example:
        >>> X = np.random.default_rng(0).normal(size=(100, 3))
        >>> metric = MLKR().fit(X, X[:, 0])
        >>> M = metric.get_mahalanobis_matrix()
        >>> bool(M[0, 0] > 10 * M[1, 1])
        True
    """

    supervision: ClassVar[str] = "targets"

    def __init__(
        self,
        n_components: int | None = None,
        *,
        init: Init | NDArray[np.floating] = "auto",
        max_iter: int = 200,
        tol: float = 1e-5,
        batch_size: int | None = None,
        epochs: int = 10,
        learning_rate: float = 0.01,
        random_state: Any = 0,
    ):
        self.n_components = n_components
        self.init = init
        self.max_iter = max_iter
        self.tol = tol
        self.batch_size = batch_size
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from items ``(n, f)`` and the numbers to predict ``(n,)``, which must not all be equal."""
        rows, targets = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2, y_numeric=True)
        targets = targets.astype(np.float64)
        if np.ptp(targets) == 0:
            raise ArgumentError(f"y must hold at least 2 different numbers; got only {targets[0]}.")
        check_batches(self.batch_size, self.epochs, self.learning_rate, 2)
        rng = generator(self.random_state)
        start = first_transformation(self.init, rows, None, self.n_components, rng)
        scale = float(targets.std())
        found = self._solve(start, rows, (targets - targets.mean()) / scale, rng)
        self.components_, self.n_iter_ = found.L, found.iterations
        self.objective_ = found.value * scale**2
        return self

    def _solve(self, start: Matrix, X: Matrix, y: NDArray[np.float64], rng: np.random.Generator) -> Solution:
        if self.batch_size is None or self.batch_size >= len(X):
            rows, weigh = Rows(X), _squared_errors(y)
            return lbfgs(
                lambda L: soft_neighbours(L, rows, weigh), start, max_iter=self.max_iter, tol=self.tol
            )
        n = len(X)

        def batch(L: Matrix, chosen: NDArray[np.int64]) -> tuple[float, Matrix]:
            value, gradient = soft_neighbours(L, Rows(X[chosen], narrow=True), _squared_errors(y[chosen]))
            return value * n / len(chosen), gradient * (n / len(chosen))

        return adam(
            batch,
            start,
            n,
            batch_size=self.batch_size,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            rng=rng,
        )


def _squared_errors(targets: NDArray[np.float64]) -> Weigh:
    """Σ_i (ŷ_i − y_i)², and ∂/∂D²: 2(ŷ_i − y_i)·p_ij·(ŷ_i − y_j)."""
    y = torch.from_numpy(targets)

    def weigh(P: Tensor, block: slice) -> tuple[float, Tensor]:
        numbers = y.to(P.dtype)
        predicted = P @ numbers
        error = predicted - numbers[block]
        W = P.mul_(torch.addmm((2 * error * predicted)[:, None], error[:, None], numbers[None], alpha=-2.0))
        return float(error.square().sum(dtype=torch.float64)), W

    return weigh
