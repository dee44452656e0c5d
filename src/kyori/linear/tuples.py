"""Pairs, triplets and quadruplets as they come in: vectors, or row numbers of a table of vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import validate_data

from ..errors import ArgumentError

__all__ = ["check_same", "check_tuples"]


def check_tuples(
    estimator: Any, tuples: ArrayLike, X: ArrayLike | None, *, size: int, name: str, reset: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Turn tuples into rows ``(m, f)`` and row numbers ``(n, size)``.

    Args:
        estimator: Whose number of features is checked, or with ``reset`` set.
        tuples: ``(n, size, f)`` numbers; or, with ``X``, ``(n, size)`` row numbers.
        X: ``(m, f)`` rows that the tuples point to.
        size: 2 for pairs, 3 for triplets, 4 for quadruplets.
        name: How the caller calls the tuples.
        reset: Whether this is a fit.

    Raises:
        ArgumentError: Another shape, no tuples, or row numbers out of range.
    """
    if X is None:
        array = np.asarray(tuples, dtype=np.float64)
        if array.ndim != 3 or array.shape[1] != size or len(array) == 0:
            raise ArgumentError(
                f"{name} must have shape (n, {size}, f) with n ≥ 1; got {array.shape}. "
                f"For row numbers (n, {size}) give the rows as X=."
            )
        rows = validate_data(estimator, array.reshape(-1, array.shape[2]), reset=reset, dtype=np.float64)
        return rows, np.arange(len(rows)).reshape(-1, size)
    rows = validate_data(estimator, X, reset=reset, dtype=np.float64)
    index = np.asarray(tuples)
    if index.ndim != 2 or index.shape[1] != size or len(index) == 0 or index.dtype.kind not in "iu":
        raise ArgumentError(
            f"{name} must be whole numbers of shape (n, {size}) with n ≥ 1 when X is given; "
            f"got {index.dtype} of shape {index.shape}."
        )
    if index.min() < 0 or index.max() >= len(rows):
        raise ArgumentError(
            f"{name} must be row numbers of X, 0 to {len(rows) - 1}; got {index.min()} to {index.max()}."
        )
    return rows, index.astype(np.int64)


def check_same(same: ArrayLike, n: int) -> NDArray[np.bool_]:
    """Turn booleans, 1 and 0, or +1 and −1 into booleans ``(n,)``.

    >>> check_same([1, -1], 2)
    array([ True, False])
    """
    array = np.asarray(same)
    if array.shape != (n,):
        raise ArgumentError(f"same must have shape ({n},), one per pair; got {array.shape}.")
    if array.dtype == bool:
        return array
    if not np.isin(array, (-1, 0, 1)).all() or (np.isin(-1, array) and np.isin(0, array)):
        raise ArgumentError("same must hold booleans, 1 and 0, or +1 (same) and -1 (different).")
    return array == 1
