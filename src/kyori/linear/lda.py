"""Linear discriminant analysis."""

from __future__ import annotations

from typing import Self

from numpy.typing import ArrayLike

from .metric import LinearMetric
from .scatter import Shrinkage, class_moments, discriminant, invertible
from .starting import check_components

__all__ = ["LDA"]


class LDA(LinearMetric):
    """Linear discriminant analysis (Fisher 1936, Rao 1948): large between the classes, small within them.

    Maximises tr[(L·S_w·Lᵀ)⁻¹·L·S_b·Lᵀ] with L·S_w·Lᵀ = I: distances are counted in deviations within a class.

    Args:
        n_components: d ≤ min(c − 1, f); None takes that.
        shrinkage: Of S_w towards a multiple of I, in [0, 1]. ``"auto"``: none where S_w can be inverted, else 0.001
            with a warning.

    Attributes:
        components_: L, ``(d, f)``.
        objective_: The maximum: the sum of the ratios between/within of the directions.
        classes_: The labels.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> LDA().fit(X, y).transform(X).shape
        (150, 2)
    """

    def __init__(self, n_components: int | None = None, *, shrinkage: Shrinkage = "auto"):
        self.n_components = n_components
        self.shrinkage = shrinkage

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from items ``(n, f)`` and labels ``(n,)`` of at least two classes."""
        rows, codes = self._check_labels(X, y)
        limit = min(len(self.classes_) - 1, rows.shape[1])
        d = check_components(self.n_components, limit, "directions, min(classes − 1, features)")
        moments = class_moments(rows, codes)
        within = invertible(moments.within, self.shrinkage, "covariance within the classes")
        self.components_, ratios = discriminant(within, moments.between, d)
        self.objective_ = float(ratios.sum())
        return self
