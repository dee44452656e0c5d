"""Local Fisher discriminant analysis."""

from __future__ import annotations

from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError, nearest_name
from ..neighbors import nearest
from .metric import LinearMetric
from .neighbourhood import row_blocks
from .scatter import Shrinkage, discriminant, invertible
from .starting import check_components

__all__ = ["LFDA"]

Matrix = NDArray[np.float64]
Weighting = Literal["weighted", "plain", "orthonormalized"]


class LFDA(LinearMetric):
    """Local Fisher discriminant analysis (Sugiyama 2007): LDA that keeps the several clusters of a class apart.

    Maximises tr[(L·S̃_w·Lᵀ)⁻¹·L·S̃_b·Lᵀ]; in S̃_w and S̃_b a pair of one class counts by its affinity
    A_ij = exp(−‖x_i−x_j‖² / (σ_i σ_j)), σ_i the distance to the k-th nearest of the class. Computed class by class in
    row blocks: O(Σ n_c²·f) time, O(block × n_c) memory.

    Args:
        n_components: d ≤ f; None keeps f.
        k: ≥ 1; smaller classes take their farthest item.
        weighting: ``"weighted"``: each direction times the root of its ratio (Sugiyama's advice for a metric);
            ``"plain"``: variance 1 within; ``"orthonormalized"``: an orthonormal basis of the same space.
        shrinkage: Of S̃_w towards a multiple of I, in [0, 1]. ``"auto"``: none where it can be inverted, else 0.001
            with a warning.

    Attributes:
        components_: L, ``(d, f)``.
        objective_: The maximum: the sum of the ratios.
        classes_: The labels.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> LFDA(n_components=2).fit(X, y).transform(X).shape
        (150, 2)
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        k: int = 7,
        weighting: Weighting = "weighted",
        shrinkage: Shrinkage = "auto",
    ):
        self.n_components = n_components
        self.k = k
        self.weighting = weighting
        self.shrinkage = shrinkage

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from items ``(n, f)`` and labels ``(n,)`` of at least two classes, one of them with two items."""
        rows, codes = self._check_labels(X, y)
        if self.k < 1:
            raise ArgumentError(f"k must be ≥ 1; got {self.k}.")
        if self.weighting not in get_args(Weighting):
            raise ArgumentError(
                f"unknown weighting '{self.weighting}'{nearest_name(self.weighting, get_args(Weighting))}"
            )
        d = check_components(self.n_components, rows.shape[1])
        within, between = local_scatter(rows - rows.mean(0), codes, self.k)
        within = invertible(within, self.shrinkage, "local covariance within the classes")
        L, ratios = discriminant(within, between, d)
        self.objective_ = float(ratios.sum())
        if self.weighting == "weighted":
            L = L * np.sqrt(np.maximum(ratios, 0.0))[:, None]
        elif self.weighting == "orthonormalized":
            L = np.linalg.qr(L.T)[0].T
        self.components_ = np.ascontiguousarray(L)
        return self


def local_scatter(X: Matrix, codes: NDArray[np.int64], k: int) -> tuple[Matrix, Matrix]:
    """S̃_w and S̃_b ``(f, f)`` of centred rows, by Sugiyama's sums over classes."""
    n, f = X.shape
    within, between = np.zeros((f, f)), X.T @ X
    for code in range(codes.max() + 1):
        rows = X[codes == code]
        share = len(rows) / n
        local = _affine_scatter(rows, k)
        total = rows.sum(0)
        within += local / len(rows)
        between += local / n - share * rows.T @ rows + np.outer(total, total) / n
    between -= within
    return (within + within.T) / 2, (between + between.T) / 2


def _affine_scatter(X: Matrix, k: int) -> Matrix:
    """½ Σ_ij A_ij (x_i−x_j)(x_i−x_j)ᵀ over one class; items at distance 0 to their k-th nearest have affinity 0."""
    n, f = X.shape
    found = np.zeros((f, f))
    if n < 2:
        return found
    sigma = nearest(X, X, min(k, n - 1), exclude_self=True).distances[:, -1].astype(np.float64)
    inverse = np.divide(1.0, sigma, out=np.zeros(n), where=sigma > 0)
    squares = (X**2).sum(1)
    for block in row_blocks(n, n):
        D = np.maximum(squares[block, None] + squares - 2 * X[block] @ X.T, 0.0)
        A = np.exp(-D * inverse[block, None] * inverse) * ((sigma[block, None] > 0) & (sigma > 0))
        found += (X[block] * A.sum(1)[:, None]).T @ X[block] - X[block].T @ (A @ X)
    return found
