"""`LinearMetric`: what every learned Mahalanobis distance can do once its matrix is known."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ..errors import ArgumentError
from . import saving
from .thresholds import Strategy, best_threshold
from .tuples import check_same, check_tuples

__all__ = ["LinearMetric"]

Floats = NDArray[np.floating]
Metric = Callable[..., float]

_BLOCK_ROWS = 65_536


class LinearMetric(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base of the linear methods: D(a, b) = ‖L(a − b)‖ = √((a−b)ᵀM(a−b)) with M = LᵀL.

    A subclass learns `components_`; all else stands here. D is a pseudo-metric: never negative, symmetric, obeys the
    triangle inequality, and is 0 for a = b (and for more where L has fewer rows than columns).

    Attributes:
        components_: L, ``(d, f)`` float64: d dimensions of the new space, f features.
        n_features_in_: f.
        threshold_: Distance up to which a pair counts as the same; set by `calibrate_threshold`.
    """

    supervision: ClassVar[str] = "labels"
    """What the method learns from at its root: labels, targets, pairs, triplets, quadruplets, chunks or nothing."""

    components_: NDArray[np.float64]

    def transform(self, X: ArrayLike) -> Floats:
        """Return X·Lᵀ, ``(n, d)``: euclidean distances there are the learned ones. float32 stays float32."""
        check_is_fitted(self, "components_")
        rows = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return rows @ self.components_.T.astype(rows.dtype, copy=False)

    def encode(self, items: ArrayLike, *, batch_size: int = _BLOCK_ROWS) -> NDArray[np.float32]:
        """Return `transform` as float32 ``(n, d)``, as a `kyori.Embedder` does; ``(0, d)`` for no items.

        Args:
            items: ``(n, f)`` numbers, or a list of n vectors.
            batch_size: Items at a time, ≥ 1.
        """
        if batch_size < 1:
            raise ArgumentError(f"batch_size must be ≥ 1; got {batch_size}.")
        check_is_fitted(self, "components_")
        rows = np.asarray(items)
        vectors = np.empty((len(rows), len(self.components_)), dtype=np.float32)
        for start in range(0, len(rows), batch_size):
            block = slice(start, start + batch_size)
            vectors[block] = self.transform(rows[block])
        return vectors

    @property
    def embedding_size(self) -> int:
        """d, the size of a transformed item."""
        check_is_fitted(self, "components_")
        return len(self.components_)

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def get_mahalanobis_matrix(self) -> NDArray[np.float64]:
        """Return M = LᵀL, ``(f, f)``, symmetric and positive semi-definite."""
        check_is_fitted(self, "components_")
        return self.components_.T @ self.components_

    def get_metric(self) -> Metric:
        """Return a function ``metric(a, b, squared=False)`` of two vectors ``(f,)``, as scikit-learn's neighbours take.

        It keeps the matrix of now: fitting again does not change it.
        """
        check_is_fitted(self, "components_")
        transposed = self.components_.T.copy()

        def metric(a: ArrayLike, b: ArrayLike, squared: bool = False) -> float:
            difference = (np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)) @ transposed
            square = float(difference @ difference)
            return square if squared else square**0.5

        return metric

    def pair_distance(self, pairs: ArrayLike, X: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the learned distance of each pair, ``(n,)``.

        Args:
            pairs: ``(n, 2, f)`` numbers; or ``(n, 2)`` row numbers of ``X``.
            X: ``(m, f)`` rows that the pairs point to.
        """
        check_is_fitted(self, "components_")
        rows, index = check_tuples(self, pairs, X, size=2, name="pairs", reset=False)
        Z = rows @ self.components_.T
        return np.linalg.norm(Z[index[:, 0]] - Z[index[:, 1]], axis=1)

    def pair_score(self, pairs: ArrayLike, X: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return −`pair_distance`: larger is more alike."""
        return -self.pair_distance(pairs, X)

    def calibrate_threshold(
        self,
        pairs: ArrayLike,
        same: ArrayLike,
        strategy: Strategy = "accuracy",
        *,
        min_rate: float | None = None,
        beta: float = 1.0,
        X: ArrayLike | None = None,
    ) -> Self:
        """Set `threshold_`, the distance up to which a pair counts as the same, from pairs whose truth is known.

        Args:
            pairs: As in `pair_distance`; better not those that were learned from.
            same: ``(n,)`` booleans, or +1 and −1; both must occur.
            strategy: ``"accuracy"``; ``"f_beta"``; ``"max_tpr"``: as many same pairs accepted as possible while at
                least ``min_rate`` of the different ones are rejected; ``"max_tnr"``: the other way round.
            min_rate: For ``max_tpr`` (least true negative rate) and ``max_tnr`` (least true positive rate), in [0, 1].
            beta: For ``f_beta``, > 0.
            X: As in `pair_distance`.
        """
        distances = self.pair_distance(pairs, X)
        truth = check_same(same, len(distances))
        self.threshold_ = best_threshold(distances, truth, strategy, min_rate=min_rate, beta=beta)
        return self

    def predict_pairs(self, pairs: ArrayLike, X: ArrayLike | None = None) -> NDArray[np.bool_]:
        """Return whether each pair is the same, ``(n,)``: distance ≤ `threshold_`.

        Raises:
            NotFittedError: No threshold was calibrated (or set).
        """
        check_is_fitted(
            self, "threshold_", msg="%(name)s has no threshold_ yet; call calibrate_threshold first."
        )
        return self.pair_distance(pairs, X) <= self.threshold_

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``model.safetensors`` and ``model.json`` into ``folder``, which is made if need be; no pickle.

        Parameters, matrix, threshold and names of the features are kept.

        Raises:
            ArgumentError: A parameter is neither a number, a string, a list of them nor an array.
        """
        check_is_fitted(self, "components_")
        saving.write(self, folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote: ``kyori.linear.LinearMetric.load`` takes any method, ``NCA.load`` only NCA.

        Raises:
            FileFormatError: A file is missing, damaged, of another kind or of a newer version.
            ArgumentError: The folder holds another method.
        """
        found = saving.read(folder)
        if not isinstance(found, cls):
            raise ArgumentError(f"{folder} holds {type(found).__name__}; load it with LinearMetric.load.")
        return found

    def _check_labels(
        self, X: Any, y: Any, *, classes: int = 2
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Rows ``(n, f)`` and class numbers ``(n,)``; sets `classes_`."""
        rows, labels = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(labels)
        names, codes = np.unique(labels, return_inverse=True)
        if len(names) < classes:
            raise ArgumentError(
                f"y must hold at least {classes} classes; got {len(names)} class ({names.tolist()[0]!r})."
            )
        self.classes_ = names
        return rows, codes

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
