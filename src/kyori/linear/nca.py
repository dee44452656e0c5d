"""Neighbourhood components analysis."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .classes import ClassRuns
from .coordinates import Coordinates, even_coordinates
from .metric import LinearMetric
from .near import Listed, NearPairs
from .neighbourhood import Rows, Weigh, differences_gradient, soft_neighbours, transformed
from .scatter import within_covariance
from .solvers import Solution, adam, check_batches, lbfgs
from .starting import Init, first_transformation, generator

__all__ = ["NCA"]

Matrix = NDArray[np.float64]

_FEW = 2_000  # rows: in so few, a direction of little variance is chance as often as not, and must not be stretched


class NCA(LinearMetric):
    """Neighbourhood components analysis (Goldberger et al. 2004): maximise the expected leave-one-out accuracy.

    Σ_i Σ_{j: y_j = y_i} p_ij with p_ij = exp(−‖Lx_i − Lx_j‖²) / Σ_{k≠i} exp(−‖Lx_i − Lx_k‖²). It is not convex: the
    start, and the coordinates in which steps are taken, decide which optimum is found. Up to 2,000 rows these are the
    given ones, as in scikit-learn; with more, those in which the items vary alike in all directions around the means of
    their classes, which saves up to half of the steps. An item that is alone in its class only takes part as a
    neighbour of others.

    Args:
        n_components: d ≤ f; None keeps f.
        init: Where to start: ``"auto"``, ``"pca"``, ``"lda"``, ``"identity"``, ``"random"`` or a matrix ``(d, f)``.
        max_iter: Iterations of L-BFGS at most, over all rows.
        tol: L-BFGS stops when a step gains less than this share.
        batch_size: None sums over all n² pairs in row blocks. A number ≥ 2 goes down by Adam on batches of so many
            rows, each its own neighbourhood, in O(batch²) memory and O(n · batch) time an epoch.
        epochs: Times that each row is seen, with ``batch_size``.
        learning_rate: Of Adam, relative to the start; falls to 0.
        random_state: Seed of ``"random"`` and of the batches.

    Attributes:
        components_: L, ``(d, f)``.
        objective_: The sum above at the end (with batches: n times the mean over the last epoch's batches).
        n_iter_: Iterations, or steps of Adam.
        classes_: The labels.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> metric = NCA(n_components=2).fit(X, y)
        >>> metric.transform(X).shape, metric.objective_ > 145
        ((150, 2), True)
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        init: Init | NDArray[np.floating] = "auto",
        max_iter: int = 50,
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
        """Learn from items ``(n, f)`` and labels ``(n,)`` of at least two classes."""
        rows, codes = self._check_labels(X, y)
        check_batches(self.batch_size, self.epochs, self.learning_rate, 2)
        rng = generator(self.random_state)
        start = first_transformation(self.init, rows, codes, self.n_components, rng)
        even = _coordinates(rows, codes)
        found = self._solve(start @ even.back, rows, even.to, codes, rng)
        self.components_ = found.L @ even.to
        self.objective_, self.n_iter_ = -found.value, found.iterations
        return self

    def _solve(
        self, start: Matrix, X: Matrix, to: Matrix, codes: NDArray[np.int64], rng: np.random.Generator
    ) -> Solution:
        order = np.argsort(codes, kind="stable")  # a class is one run of columns
        codes = codes[order]
        if self.batch_size is None or self.batch_size >= len(X):
            total = ShareSum(Rows(X[order] @ to), codes)
            return lbfgs(total, start, max_iter=self.max_iter, tol=self.tol)
        n = len(X)

        def batch(L: Matrix, chosen: NDArray[np.int64]) -> tuple[float, Matrix]:
            rows = Rows(X[order[chosen]] @ to, narrow=True)
            value, gradient = soft_neighbours(L, rows, own_share(codes[chosen]))
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


def _coordinates(X: Matrix, codes: NDArray[np.int64]) -> Coordinates:
    if len(X) <= _FEW:
        return Coordinates.as_given(X.shape[1])
    return even_coordinates(within_covariance(X, codes))


class ShareSum:
    """−Σ_i p_i over all rows, with its gradient by L; over near pairs where float32 cannot tell the difference.

    A pair farther than the nearest by τ = log n + 17 in D² has p_ij < e^−τ. All such of a row add up to less than
    4·10⁻⁸, half the rounding of float32. See `kyori.linear.near`.

    Args:
        rows: n rows.
        codes: Their classes, ``(n,)``, in rising order.
    """

    def __init__(self, rows: Rows, codes: NDArray[np.int64]):
        n = len(codes)
        self.rows, self.share = rows, own_share(codes)
        self.codes = torch.from_numpy(codes.astype(np.float32))  # compared pair by pair, in place
        self.beyond = math.log(n) + 17.0
        self.near = NearPairs(rows, n, torch.arange(n), _blank_self)
        self._same = torch.empty(0)

    @torch.no_grad()
    def __call__(self, L: Matrix) -> tuple[float, Matrix]:
        """Value and gradient ``(d, f)``."""
        Z, X = transformed(L, self.rows)
        if Z.dtype != torch.float32:
            return soft_neighbours(L, self.rows, self.share)
        near = self.near.listed(Z)
        if near is None or not self.near.complete(L, self._reach(near).double().sqrt()):
            near = self.near.search(L, Z, lambda D, _: D.amin(1) + self.beyond)
            if near is None:
                return soft_neighbours(L, self.rows, self.share)
            pairs = near.pairs
            own = self.codes.index_select(0, pairs.anchors)
            self._same = torch.eq(own, self.codes.index_select(0, pairs.columns), out=own)
        return self._over_near(L, X, near)

    def _reach(self, near: Listed) -> Tensor:
        return near.pairs.least(near.distances).add_(self.beyond)

    def _over_near(self, L: Matrix, X: Tensor, near: Listed) -> tuple[float, Matrix]:
        pairs, D = near
        nearest = pairs.least(D)
        P = nearest.index_select(0, pairs.anchors).sub_(D).exp_()
        P.div_(pairs.sums(P).index_select(0, pairs.anchors))
        own = P * self._same
        right = pairs.sums(own)
        W = own.sub_(P.mul_(right.index_select(0, pairs.anchors)))  # rows add up to 0
        S = X.T @ pairs.product(W, X)
        value = -float(right.sum(dtype=torch.float64))
        return value, differences_gradient(L, self.rows.wide, pairs.column_sums(W, len(X)), S.double())


def _blank_self(D: Tensor, block: slice) -> None:
    D.diagonal(block.start).fill_(torch.inf)


def own_share(codes: NDArray[np.int64]) -> Weigh:
    """−Σ_i p_i with p_i = Σ_{j: y_j = y_i} p_ij, and ∂/∂D²: p_ij·(1[same] − p_i); ``codes`` in rising order."""
    classes = ClassRuns(codes)

    def weigh(P: Tensor, block: slice) -> tuple[float, Tensor]:
        run, same = classes.same(block)
        own = P[:, run] * same
        right = own.sum(1, keepdim=True)
        W = P.mul_(-right)
        W[:, run] += own
        return -float(right.sum(dtype=torch.float64)), W

    return weigh
