"""Probabilities of the likeliest classes of each item: never an N × C matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError, DataError

__all__ = ["ClassProbabilities"]

_LIKELIEST = 8
_TINY = 1e-9  # probabilities below are rounding
_POWERS = (0.01, 2.0)


@dataclass(frozen=True, eq=False)
class ClassProbabilities:
    """The ``m`` likeliest classes of each item, and the probability of the label it was given.

    Attributes:
        classes: ``(n, m)`` int64 labels, the likeliest first.
        values: ``(n, m)`` float32 probabilities; what the row lacks to 1 belongs to the classes that are not listed.
        own: ``(n,)`` float32 probability of the given label.
    """

    classes: NDArray[np.int64]
    values: NDArray[np.float32]
    own: NDArray[np.float32]

    @classmethod
    def from_dense(
        cls,
        probabilities: ArrayLike,
        labels: ArrayLike,
        *,
        classes: ArrayLike | None = None,
        keep: int = _LIKELIEST,
    ) -> ClassProbabilities:
        """Keep the likeliest classes of ``(n, c)`` probabilities.

        For many classes call it on blocks of rows and join them with :meth:`concatenate`.

        Args:
            probabilities: ``(n, c)`` numbers ≥ 0, rows with sum 1.
            labels: ``(n,)`` given labels, integers.
            classes: ``(c,)`` label of each column; 0 … c − 1 when left out. A label that is not among them has
                probability 0.
            keep: How many classes are kept.

        Raises:
            ArgumentError: Shapes that do not fit.
            DataError: A probability below 0, NaN, or a row whose sum is not 1.

        >>> ClassProbabilities.from_dense([[0.1, 0.9], [0.5, 0.5]], [0, 1]).own
        array([0.1, 0.5], dtype=float32)
        """
        dense, given = np.asarray(probabilities, np.float32), np.asarray(labels)
        names = np.arange(dense.shape[1]) if classes is None else np.asarray(classes, np.int64)
        if dense.ndim != 2 or given.shape != (len(dense),) or names.shape != (dense.shape[1],):
            raise ArgumentError(
                f"probabilities must have shape (n, c) with n labels and c classes; got {dense.shape},"
                f" {given.shape} labels and {names.shape} classes."
            )
        if not (dense >= 0).all() or not np.allclose(dense.sum(axis=1), 1, atol=1e-3):
            raise DataError("probabilities must be at least 0 with sum 1 in each row.")
        order = np.argsort(-dense, axis=1, kind="stable")[:, :keep]
        place = np.searchsorted(names, given).clip(0, len(names) - 1)
        known = names[place] == given
        own = np.where(known, dense[np.arange(len(dense)), place], np.float32(0))
        return cls(names[order], np.take_along_axis(dense, order, axis=1), own)

    @classmethod
    def concatenate(cls, parts: Sequence[ClassProbabilities]) -> ClassProbabilities:
        """Join blocks of items."""
        return cls(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("classes", "values", "own")
            )
        )

    def take(self, rows: ArrayLike) -> ClassProbabilities:
        """Return the rows at these positions."""
        index = np.asarray(rows)
        return ClassProbabilities(self.classes[index], self.values[index], self.own[index])

    def calibrated(self) -> ClassProbabilities:
        """Raise all probabilities to the power that makes the given labels likeliest, 1/T, and let them sum to 1.

        A head with a steep scale is far too sure of itself, and its word would drown all others'. The classes that
        are not listed are left out of the sum. Guo et al., "On calibration of modern neural networks", ICML 2017.

        >>> sure = ClassProbabilities.from_dense([[1e-9, 1]] * 10, [0] + [1] * 9)
        >>> sure.calibrated().own.round(2)[:2]
        array([0.1, 0.9], dtype=float32)
        """
        from scipy.optimize import minimize_scalar

        unlisted = (self.own[:, None] != self.values).all(axis=1)
        known = np.where(self.classes >= 0, np.maximum(self.values, _TINY, dtype=np.float64), 0)
        with np.errstate(divide="ignore"):
            listed = np.log(known)
        own = np.log(np.maximum(self.own, _TINY, dtype=np.float64))

        def total(power: float) -> NDArray[np.float64]:
            return np.exp(power * listed).sum(axis=1) + unlisted * np.exp(power * own)

        def loss(power: float) -> float:
            return float(np.mean(np.log(total(power)) - power * own))

        best = minimize_scalar(loss, bounds=_POWERS, method="bounded").x
        scale = total(best)
        values = np.exp(best * listed) / scale[:, None]
        return ClassProbabilities(
            self.classes, values.astype(np.float32), (np.exp(best * own) / scale).astype(np.float32)
        )

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return plain columns, for a table on disk."""
        columns: dict[str, NDArray[Any]] = {"probability": self.own}
        for i in range(self.classes.shape[1]):
            columns |= {f"class_{i}": self.classes[:, i], f"probability_{i}": self.values[:, i]}
        return columns

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[Any]]) -> ClassProbabilities | None:
        """Read back what :meth:`to_columns` made; None where there is nothing of it."""
        if "probability" not in columns:
            return None
        count = sum(name.startswith("class_") for name in columns)
        classes = np.stack([columns[f"class_{i}"] for i in range(count)], axis=1).astype(np.int64)
        values = np.stack([columns[f"probability_{i}"] for i in range(count)], axis=1).astype(np.float32)
        return cls(classes, values, columns["probability"].astype(np.float32))
