"""Sparse compositional metric learning."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import KMeans

from ..errors import ArgumentError, DataError
from ..neighbors import nearest
from .constraints import draw_triplets
from .metric import LinearMetric
from .scatter import class_moments, discriminant, invertible, root_of
from .solvers import lbfgs
from .starting import generator
from .tuples import check_tuples

__all__ = ["SCML", "sparse_weights"]

Matrix = NDArray[np.float64]
Indices = NDArray[np.int64]

_NEIGHBOURS = (10, 20)  # items of each class in a local discriminant, at two scales
_LOCAL_SHRINKAGE = 0.1
_ROUNDINGS = (1.0, 0.1, 0.01, 0.001)  # widths of the smoothed hinge, one after the other


class SCML(LinearMetric):
    """Sparse compositional metric learning (Shi et al. 2014): M = Σ_k w_k·b_k b_kᵀ with few w_k above 0.

    Minimises the mean over triplets (a, p, n) of [1 + D²(a,p) − D²(a,n)]₊ + β·Σ_k w_k over w ≥ 0: a linear programme in
    w. L-BFGS-B solves it over all triplets with the corner of the hinge rounded, less and less (width 1 to 0.001).
    Memory is 8 bytes × triplets × basis.

    The basis: with labels, discriminant directions around k-means centres at two scales (10 and 20 nearest items of
    each class, covariance shrunk by 0.1); with triplets, eigenvectors of Σ (v_n v_nᵀ − v_p v_pᵀ) over random
    groups of f triplets, positive eigenvalues only. All of length 1.

    Args:
        beta: β ≥ 0, the price of weights.
        basis: None for the above, or ``(k, f)`` directions.
        n_basis: Size of the basis; None: 20·f.
        n_triplets: With `fit`: triplets drawn at most, of an anchor, one of its 3 nearest of the class and one of its
            10 nearest of other classes (by the euclidean distance of the input).
        max_iter: Iterations of L-BFGS at most, for each rounding.
        tol: L-BFGS stops when a step gains less than this share.
        random_state: Seed of the triplets, k-means and the groups.

    Attributes:
        components_: L, ``(r, f)``, r ≤ f the rank of M.
        weights_: w, ``(k,)``.
        basis_: ``(k, f)``.
        objective_: The minimum, with the sharp hinge.
        n_iter_: Iterations over all roundings.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> metric = SCML(beta=0.01).fit(X, y)
        >>> bool((metric.weights_ > 0).sum() < 20)
        True
    """

    supervision: ClassVar[str] = "triplets"

    def __init__(
        self,
        beta: float = 1e-5,
        *,
        basis: NDArray[np.floating] | None = None,
        n_basis: int | None = None,
        n_triplets: int = 10_000,
        max_iter: int = 500,
        tol: float = 1e-6,
        random_state: Any = 0,
    ):
        self.beta = beta
        self.basis = basis
        self.n_basis = n_basis
        self.n_triplets = n_triplets
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from items ``(n, f)`` and labels ``(n,)``: triplets are drawn from them."""
        rows, codes = self._check_labels(X, y)
        if self.n_triplets < 1:
            raise ArgumentError(f"n_triplets must be ≥ 1; got {self.n_triplets}.")
        rng = generator(self.random_state)
        index = draw_triplets(rows, codes, self.n_triplets, rng)
        wanted = self._basis_size(rows.shape[1])
        basis = self._given_basis(rows.shape[1])
        return self._learn(
            rows, index, _local_discriminants(rows, codes, wanted, rng) if basis is None else basis
        )

    def fit_triplets(self, triplets: ArrayLike, X: ArrayLike | None = None) -> Self:
        """Learn from (a, p, n) with D(a, p) < D(a, n): ``(n, 3, f)``, or row numbers ``(n, 3)`` of ``X``."""
        rows, index = check_tuples(self, triplets, X, size=3, name="triplets")
        wanted = self._basis_size(rows.shape[1])
        basis = self._given_basis(rows.shape[1])
        if basis is None:
            basis = _triplet_directions(rows, index, wanted, generator(self.random_state))
        return self._learn(rows, index, basis)

    def _basis_size(self, f: int) -> int:
        if self.n_basis is not None and self.n_basis < 1:
            raise ArgumentError(f"n_basis must be ≥ 1 or None; got {self.n_basis}.")
        return self.n_basis or 20 * f

    def _given_basis(self, f: int) -> Matrix | None:
        if self.basis is None:
            return None
        given = np.array(self.basis, dtype=np.float64)
        if given.ndim != 2 or given.shape[1] != f or len(given) == 0 or not np.isfinite(given).all():
            raise ArgumentError(f"basis must be finite, of shape (k, {f}) with k ≥ 1; got {given.shape}.")
        return given

    def _learn(self, X: Matrix, index: Indices, basis: Matrix) -> Self:
        if not self.beta >= 0:
            raise ArgumentError(f"beta must be ≥ 0; got {self.beta}.")
        B = X @ basis.T
        gaps = (B[index[:, 0]] - B[index[:, 1]]) ** 2 - (B[index[:, 0]] - B[index[:, 2]]) ** 2
        weights, self.objective_, self.n_iter_ = sparse_weights(gaps, self.beta, self.max_iter, self.tol)
        if not weights.any():
            raise DataError(
                f"no direction of the basis brings p nearer than n: all weights are 0. Lower beta ({self.beta:g}), or "
                "give another basis."
            )
        self.basis_, self.weights_ = basis, weights
        self.components_ = root_of((basis * weights[:, None]).T @ basis)
        return self


def sparse_weights(
    gaps: Matrix, beta: float, max_iter: int, tol: float
) -> tuple[NDArray[np.float64], float, int]:
    """Minimise mean [1 + gaps·w]₊ + β·Σw over w ≥ 0.

    Args:
        gaps: D²(a,p) − D²(a,n) along each direction of the basis, ``(t, k)``.
        beta: β.
        max_iter: Iterations for each rounding of the hinge.
        tol: Of L-BFGS-B.

    Returns:
        w ``(k,)``, the minimum, and the iterations.
    """
    t, k = gaps.shape
    unit = float(np.abs(gaps).mean())
    if unit == 0:
        return np.zeros(k), 1.0, 1
    w, iterations = np.zeros((1, k)), 0
    for width in _ROUNDINGS:

        def objective(w: Matrix, width: float = width) -> tuple[float, Matrix]:
            s = 1.0 + (gaps @ w[0]) / unit
            inside = np.clip(s / width, 0.0, 1.0)
            value = np.sum(inside * (s - 0.5 * width * inside)) / t + beta / unit * w.sum()
            return float(value), (inside @ gaps)[None] / (unit * t) + beta / unit

        found = lbfgs(objective, w, max_iter=max_iter, tol=tol, lower=0.0)
        w, iterations = found.L, iterations + found.iterations
    weights = w[0] / unit
    sharp = float(np.maximum(1.0 + gaps @ weights, 0.0).mean() + beta * weights.sum())
    return weights, sharp, iterations


def _local_discriminants(X: Matrix, codes: Indices, wanted: int, rng: np.random.Generator) -> Matrix:
    classes = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    d = min(len(classes) - 1, X.shape[1])
    clusters = min(len(X), -(-wanted // (d * len(_NEIGHBOURS))))
    seed = int(rng.integers(2**31))
    sample = X if len(X) <= 20_000 else X[rng.choice(len(X), 20_000, replace=False)]
    distinct = len(np.unique(sample, axis=0))
    centres = KMeans(min(clusters, distinct), n_init=1, random_state=seed).fit(sample).cluster_centers_
    near = [
        members[nearest(centres, X[members], min(_NEIGHBOURS[-1], len(members))).ids] for members in classes
    ]
    basis = []
    for size in _NEIGHBOURS:
        for i in range(len(centres)):
            chosen = np.concatenate([members[i, :size] for members in near])
            moments = class_moments(X[chosen], codes[chosen])
            if np.trace(moments.within) > 0:
                within = invertible(moments.within, _LOCAL_SHRINKAGE, "local covariance")
                basis.append(discriminant(within, moments.between, d)[0])
    if not basis:
        raise DataError("the items do not vary within their classes, so there are no local discriminants.")
    found = np.concatenate(basis)[:wanted]
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def _triplet_directions(X: Matrix, index: Indices, wanted: int, rng: np.random.Generator) -> Matrix:
    V_p, V_n = X[index[:, 0]] - X[index[:, 1]], X[index[:, 0]] - X[index[:, 2]]
    group = min(X.shape[1], len(index))
    basis: list[Matrix] = []
    while sum(map(len, basis)) < wanted:
        chosen = rng.choice(len(index), group, replace=False)
        values, vectors = np.linalg.eigh(V_n[chosen].T @ V_n[chosen] - V_p[chosen].T @ V_p[chosen])
        positive = values > 1e-12 * np.abs(values).max()
        positive[-1] = True  # at least one, so that the search ends
        basis.append(vectors[:, positive].T[::-1])
    return np.concatenate(basis)[:wanted]
