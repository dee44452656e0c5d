"""Scatter matrices and their eigenproblems: the closed forms behind LDA, LFDA, RCA and whitening."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from ..errors import ArgumentError, DataError, DegenerateWarning

__all__ = [
    "ROWS",
    "Moments",
    "Shrinkage",
    "check_shrinkage",
    "class_moments",
    "discriminant",
    "invertible",
    "root_of",
    "symmetric_power",
    "within_covariance",
]

Matrix = NDArray[np.float64]
Shrinkage = float | str

ROWS = 50_000  # whose differences are held at a time, so that memory does not grow with n
_RANK = 1e-12  # eigenvalues below this share of the largest are rounding
_AUTO = 1e-3  # what "auto" adds to a covariance that cannot be inverted


class Moments(NamedTuple):
    """Covariances ``(f, f)``, all divided by n: total = within + between."""

    within: Matrix
    between: Matrix


def class_moments(X: Matrix, codes: NDArray[np.int64]) -> Moments:
    """Covariance of the items around their class means, and of the class means around the mean."""
    counts, means = _class_means(X, codes)
    outer = (means - X.mean(0)) * np.sqrt(counts)[:, None]
    return Moments(_around(X, codes, means), outer.T @ outer / len(X))


def within_covariance(X: Matrix, codes: NDArray[np.int64]) -> Matrix:
    """Covariance ``(f, f)`` of the items around their class means, divided by n."""
    return _around(X, codes, _class_means(X, codes)[1])


def _class_means(X: Matrix, codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], Matrix]:
    counts = np.bincount(codes)
    means = np.zeros((len(counts), X.shape[1]))
    np.add.at(means, codes, X)
    return counts, means / counts[:, None]


def _around(X: Matrix, codes: NDArray[np.int64], means: Matrix) -> Matrix:
    total = np.zeros((X.shape[1], X.shape[1]))
    for start in range(0, len(X), ROWS):
        inner = X[start : start + ROWS] - means[codes[start : start + ROWS]]
        total += inner.T @ inner
    return total / len(X)


def check_shrinkage(shrinkage: Shrinkage) -> None:
    """Raise `ArgumentError` unless it is ``"auto"`` or a share in [0, 1]."""
    if isinstance(shrinkage, str):
        if shrinkage != "auto":
            raise ArgumentError(f"shrinkage must be 'auto' or a share in [0, 1]; got {shrinkage!r}.")
    elif not 0 <= shrinkage <= 1:
        raise ArgumentError(f"shrinkage must be 'auto' or a share in [0, 1]; got {shrinkage}.")


def invertible(S: Matrix, shrinkage: Shrinkage, what: str) -> Matrix:
    """Shrink a covariance towards a multiple of the identity: (1 − s)·S + s·(tr S / f)·I.

    ``"auto"`` leaves what can be inverted as it is, and else takes s = 0.001 with a `DegenerateWarning`.

    Raises:
        DataError: S is zero, or cannot be inverted and shrinkage is 0.
    """
    check_shrinkage(shrinkage)
    f = len(S)
    scale = float(np.trace(S)) / f
    if not scale > 0:
        raise DataError(f"the {what} is zero: nothing varies. Check the features and the labels.")
    values = np.linalg.eigvalsh(S)
    singular = values[0] <= _RANK * values[-1]
    if shrinkage == "auto":
        shrinkage = _AUTO if singular else 0.0
        if singular:
            rank = int((values > _RANK * values[-1]).sum())
            warnings.warn(
                f"the {what} has rank {rank} of {f} and cannot be inverted; shrunk by {_AUTO:g} towards the identity. "
                "Reduce the features (PCA), or set shrinkage.",
                DegenerateWarning,
                stacklevel=4,
            )
    elif singular and shrinkage == 0:
        raise DataError(
            f"the {what} cannot be inverted; set shrinkage='auto' or above 0, or reduce the features (PCA)."
        )
    return (1 - float(shrinkage)) * S + float(shrinkage) * scale * np.eye(f)


def discriminant(within: Matrix, between: Matrix, d: int) -> tuple[Matrix, NDArray[np.float64]]:
    """Directions ``(d, f)`` with the largest between/within ratio, within-variance 1 each, and the ratios ``(d,)``.

    Features that are constant within all classes are given a variance of 1e-12 of the mean one.
    """
    scale = np.trace(within) / len(within)
    ridge = _RANK * (scale if scale > 0 else 1.0)
    values, vectors = eigh(between, within + ridge * np.eye(len(within)))
    return np.array(vectors[:, ::-1][:, :d].T, order="C"), values[::-1][:d]


def symmetric_power(S: Matrix, power: float) -> Matrix:
    """S to a power, on the space where S is not zero (so −1 is the pseudo-inverse)."""
    values, vectors = np.linalg.eigh((S + S.T) / 2)
    kept = values > _RANK * max(values[-1], 0.0)
    return (vectors[:, kept] * values[kept] ** power) @ vectors[:, kept].T


def root_of(M: Matrix) -> Matrix:
    """L ``(r, f)`` with LᵀL = M, r the rank of M: rows in the order of falling eigenvalues."""
    values, vectors = np.linalg.eigh((M + M.T) / 2)
    kept = values > _RANK * max(values[-1], 0.0)
    return np.array((vectors[:, kept] * np.sqrt(values[kept])).T[::-1], order="C")
