"""Problems with a LogDet term: min over M ≻ 0 of tr(M M₀⁻¹) − log det M + (a convex loss of M), M₀ the prior.

With M = LᵀL and L square, the log det keeps L invertible, so that a stationary L is the one minimum of the convex
problem. In coordinates where the prior is I the start is I and L-BFGS needs few steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, nearest_name
from .scatter import invertible
from .solvers import lbfgs

__all__ = ["LogDetSolution", "Prior", "logdet_divergence", "minimise", "prior_matrix"]

Matrix = NDArray[np.float64]
Prior = str | NDArray[np.floating]
Loss = Callable[[Matrix], tuple[float, Matrix]]
"""From L (in the prior's coordinates) to the value and ∂/∂M."""


class LogDetSolution(NamedTuple):
    """L ``(f, f)``, the whole objective (0 at the prior without a loss), and the iterations."""

    L: Matrix
    value: float
    iterations: int


def prior_matrix(prior: Prior, X: Matrix) -> Matrix:
    """M₀ ``(f, f)``: ``"identity"``, ``"covariance"`` (the inverse covariance of X), or a positive definite matrix."""
    f = X.shape[1]
    if not isinstance(prior, str):
        given = np.array(prior, dtype=np.float64)
        if given.shape != (f, f) or not np.isfinite(given).all() or not np.allclose(given, given.T):
            raise ArgumentError(
                f"prior must be a symmetric finite matrix ({f}, {f}) or a name; got {given.shape}."
            )
        if np.linalg.eigvalsh(given)[0] <= 0:
            raise ArgumentError("prior must be positive definite: all its eigenvalues above 0.")
        return given
    if prior == "identity":
        return np.eye(f)
    if prior == "covariance":
        covariance = np.atleast_2d(np.cov(X, rowvar=False, bias=True))
        return np.asarray(
            np.linalg.inv(invertible(covariance, "auto", "covariance of the items")), dtype=np.float64
        )
    raise ArgumentError(f"unknown prior '{prior}'{nearest_name(prior, ['identity', 'covariance'])}")


def minimise(prior: Matrix, loss: Callable[[Matrix], Loss], *, max_iter: int, tol: float) -> LogDetSolution:
    """Minimise LogDet divergence to the prior plus a loss.

    Args:
        prior: M₀ ``(f, f)``.
        loss: Given C with CCᵀ = M₀, the loss in coordinates Cᵀx: vectors v become Cᵀv there.
        max_iter: Iterations at most.
        tol: Of L-BFGS.
    """
    C = np.asarray(np.linalg.cholesky(prior), dtype=np.float64)
    whitened = loss(C)
    f = len(prior)

    def objective(L: Matrix) -> tuple[float, Matrix]:
        sign, logdet = np.linalg.slogdet(L)
        if sign == 0:
            return np.inf, np.zeros_like(L)
        value, slope = whitened(L)
        barrier = float(np.sum(L**2)) - 2 * logdet - f
        return value + barrier, 2 * (L - np.linalg.inv(L).T + L @ slope)

    found = lbfgs(objective, np.eye(f), max_iter=max_iter, tol=tol)
    return LogDetSolution(found.L @ C.T, found.value, found.iterations)


def logdet_divergence(M: Matrix, prior: Matrix) -> float:
    """tr(M M₀⁻¹) − log det(M M₀⁻¹) − f ≥ 0, and 0 only for M = M₀.

    >>> logdet_divergence(np.eye(3), np.eye(3))
    0.0
    """
    ratio = np.linalg.solve(prior, M)
    return float(np.trace(ratio) - np.linalg.slogdet(ratio)[1] - len(M))
