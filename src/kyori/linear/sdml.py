"""Sparse distance metric learning."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError, DegenerateWarning
from .constraints import draw_pairs, pair_count
from .logdet import Prior, prior_matrix
from .metric import LinearMetric
from .scatter import root_of
from .starting import check_positive, generator
from .tuples import check_same, check_tuples

__all__ = ["SDML", "sparse_logdet"]

Matrix = NDArray[np.float64]


class SDML(LinearMetric):
    """Sparse distance metric learning (Qi et al. 2009): a prior, pairs, and few entries off the diagonal.

    Minimises tr(S·M) − log det M + λ·Σ_{i≠j} |M_ij| with S = M₀⁻¹ + η·(mean of vvᵀ over the same pairs − mean of vvᵀ
    over the different ones), v the difference of a pair. There is a minimum where S is positive definite; where
    it is not, η is halved until it is, with a `DegenerateWarning`.

    Args:
        balance: η ≥ 0, the weight of the pairs beside the prior.
        sparsity: λ ≥ 0; the penalty depends on the units of the features, so standardize them.
        prior: M₀: ``"covariance"`` (the inverse covariance of the items, so that M₀⁻¹ is the covariance),
            ``"identity"`` or a positive definite ``(f, f)``.
        n_pairs: With `fit`: pairs drawn of each kind; None: 20·c², at least 100, at most 20,000.
        max_iter: Iterations of the splitting method (ADMM) at most.
        tol: It stops when the two copies of M, and two steps, differ by less than this share.
        random_state: Seed of the pairs.

    Attributes:
        components_: L, ``(f, f)``.
        balance_: η that was used.
        objective_: The minimum.
        n_iter_: Iterations.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> SDML().fit(X, y).get_mahalanobis_matrix().shape
        (4, 4)
    """

    supervision: ClassVar[str] = "pairs"

    def __init__(
        self,
        balance: float = 0.1,
        sparsity: float = 0.01,
        *,
        prior: Prior = "covariance",
        n_pairs: int | None = None,
        max_iter: int = 2000,
        tol: float = 1e-6,
        random_state: Any = 0,
    ):
        self.balance = balance
        self.sparsity = sparsity
        self.prior = prior
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
        """Learn from pairs ``(n, 2, f)``, or row numbers ``(n, 2)`` of ``X``, and whether each is the same ``(n,)``."""
        rows, index = check_tuples(self, pairs, X, size=2, name="pairs")
        return self._learn(rows, index, check_same(same, len(index)))

    def _learn(self, X: Matrix, pairs: NDArray[np.int64], same: NDArray[np.bool_]) -> Self:
        check_positive(max_iter=self.max_iter, tol=self.tol)
        for name in ("balance", "sparsity"):
            if not getattr(self, name) >= 0:
                raise ArgumentError(f"{name} must be ≥ 0; got {getattr(self, name)}.")
        base = np.asarray(np.linalg.inv(prior_matrix(self.prior, X)), dtype=np.float64)
        V = X[pairs[:, 0]] - X[pairs[:, 1]]
        pull = np.zeros_like(base)
        for kind, sign in ((same, 1.0), (~same, -1.0)):
            if kind.any():
                pull += sign * V[kind].T @ V[kind] / kind.sum()
        self.balance_ = self._possible_balance(base, pull)
        S = base + self.balance_ * pull
        M, self.objective_, self.n_iter_ = sparse_logdet(S, self.sparsity, self.max_iter, self.tol)
        self.components_ = root_of(M)
        return self

    def _possible_balance(self, base: Matrix, pull: Matrix) -> float:
        balance = float(self.balance)
        floor = 1e-6 * float(np.linalg.eigvalsh(base)[0])
        while np.linalg.eigvalsh(base + balance * pull)[0] <= floor:
            balance /= 2
        if balance != self.balance:
            warnings.warn(
                f"balance {self.balance:g} has no minimum with these pairs; lowered to {balance:g}.",
                DegenerateWarning,
                stacklevel=4,
            )
        return balance


def sparse_logdet(S: Matrix, sparsity: float, max_iter: int, tol: float) -> tuple[Matrix, float, int]:
    """Minimise tr(SM) − log det M + λ·Σ_{i≠j}|M_ij| for S ≻ 0: the graphical lasso, by ADMM (Boyd et al. 2011, §6.5).

    Returns:
        M ``(f, f)``, the minimum, and the iterations.
    """
    f = len(S)
    scale = np.sqrt(np.diag(S))  # coordinates in which the diagonal of S is 1 need one penalty ρ only
    S = S / np.outer(scale, scale)
    penalty = sparsity / np.outer(scale, scale) * (1 - np.eye(f))
    rho, Z, U = 1.0, np.eye(f), np.zeros((f, f))
    M, step = Z, 0
    for step in range(1, max_iter + 1):
        values, Q = np.linalg.eigh(rho * (Z - U) - S)
        M = (Q * ((values + np.sqrt(values**2 + 4 * rho)) / (2 * rho))) @ Q.T
        before, target = Z, M + U
        Z = np.sign(target) * np.maximum(np.abs(target) - penalty / rho, 0.0)
        U = U + M - Z
        apart, moved = np.linalg.norm(M - Z), rho * np.linalg.norm(Z - before)
        if apart <= tol * np.linalg.norm(Z) and moved <= tol * rho * np.linalg.norm(Z):
            break
        if step % 10 == 0 and (apart > 10 * moved or moved > 10 * apart):
            factor = 2.0 if apart > moved else 0.5
            rho, U = rho * factor, U / factor
    best = Z if np.linalg.eigvalsh(Z)[0] > 0 else M
    value = np.sum(S * best) - np.linalg.slogdet(best)[1] + np.sum(penalty * np.abs(best))
    value += 2 * np.log(scale).sum()
    return best / np.outer(scale, scale), float(value), step
