"""Where an iterative method starts: the first transformation L, and seeds."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.utils import check_random_state

from ..errors import ArgumentError, nearest_name
from .scatter import class_moments, discriminant

__all__ = ["Init", "check_components", "check_positive", "first_transformation", "generator"]

Init = Literal["auto", "pca", "lda", "identity", "random"]


def generator(random_state: Any) -> np.random.Generator:
    """Return a generator from a seed ≥ 0, a ``RandomState``, or None (unforeseeable)."""
    if random_state is None or (isinstance(random_state, int | np.integer) and random_state >= 0):
        return np.random.default_rng(random_state)
    return np.random.default_rng(check_random_state(random_state).randint(2**31))


def check_components(n_components: int | None, limit: int, reason: str = "features") -> int:
    """Return d: ``n_components``, or ``limit`` where it is None."""
    if n_components is None:
        return limit
    if isinstance(n_components, bool) or not isinstance(n_components, int | np.integer):
        raise ArgumentError(f"n_components must be a whole number or None; got {n_components!r}.")
    if not 1 <= n_components <= limit:
        raise ArgumentError(f"n_components must be between 1 and the {limit} {reason}; got {n_components}.")
    return int(n_components)


def check_positive(**values: float) -> None:
    """Raise `ArgumentError` unless all values are above 0."""
    for name, value in values.items():
        if not value > 0:
            raise ArgumentError(f"{name} must be > 0; got {value}.")


def first_transformation(
    init: Init | NDArray[np.floating],
    X: NDArray[np.float64],
    codes: NDArray[np.int64] | None,
    n_components: int | None,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return L ``(d, f)`` to start from.

    Args:
        init: ``"pca"``: the first principal directions, of length 1; ``"lda"``: the discriminant directions;
            ``"identity"``: the first d features; ``"random"``: normal numbers; ``"auto"``: lda if d < classes, else
            pca if d < f, else identity (scikit-learn's rule); or a matrix ``(d, f)``.
        X: ``(n, f)``.
        codes: Class numbers ``(n,)``; None for regression, which knows no lda.
        n_components: d, or None for f (or for the rows of a given matrix).
        rng: For ``"random"``.
    """
    n, f = X.shape
    if not isinstance(init, str):
        return _given(np.array(init, dtype=np.float64), n_components, f)
    if init not in get_args(Init):
        raise ArgumentError(f"unknown init '{init}'{nearest_name(init, get_args(Init))}")
    d = check_components(n_components, f)
    classes = 0 if codes is None else int(codes.max()) + 1
    if init == "auto":
        init = "lda" if d <= min(f, classes - 1) else "pca" if d < min(f, n) else "identity"
    if init == "identity":
        return np.eye(d, f)
    if init == "random":
        return rng.standard_normal((d, f))
    if init == "pca":
        if d > min(n, f):
            raise ArgumentError(f"init='pca' gives at most min(n, f) = {min(n, f)} components; got {d}.")
        return PCA(n_components=d, svd_solver="full").fit(X).components_.astype(np.float64)
    if codes is None or d > classes - 1:
        raise ArgumentError(
            f"init='lda' gives at most classes − 1 = {classes - 1} components; got n_components {d}. Use 'pca'."
            if codes is not None
            else "init='lda' needs classes, and y holds numbers to predict; use 'pca'."
        )
    moments = class_moments(X, codes)
    return discriminant(moments.within, moments.between, d)[0]


def _given(matrix: NDArray[np.float64], n_components: int | None, f: int) -> NDArray[np.float64]:
    if matrix.ndim != 2 or matrix.shape[1] != f or not 1 <= len(matrix) <= f or not np.isfinite(matrix).all():
        raise ArgumentError(
            f"init must be a finite matrix (d, {f}) with 1 ≤ d ≤ {f}, or a name; got shape {matrix.shape}."
        )
    if n_components is not None and n_components != len(matrix):
        raise ArgumentError(f"n_components is {n_components}, but init has {len(matrix)} rows.")
    return matrix
