"""Two ways down: L-BFGS on the whole sum, Adam on mini-batches of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ..errors import ArgumentError, TrainingError
from .starting import check_positive

__all__ = ["Objective", "Solution", "adam", "batch_count", "check_batches", "lbfgs"]

Matrix = NDArray[np.float64]
Objective = Callable[[Matrix], tuple[float, Matrix]]

Stochastic = Callable[[Matrix, NDArray[np.int64]], tuple[float, Matrix]]

_BETAS = (0.9, 0.99)
_SCALES = 2.0 ** np.arange(2, -11, -1)


class Solution(NamedTuple):
    """Where a solver stopped: the matrix, the value there, and the iterations (≥ 1)."""

    L: Matrix
    value: float
    iterations: int


def lbfgs(
    objective: Objective, start: Matrix, *, max_iter: int, tol: float, lower: float | None = None
) -> Solution:
    """Minimise a function of a matrix that gives (value, gradient), by SciPy's L-BFGS-B.

    Args:
        objective: The function.
        start: Where to begin.
        max_iter: Iterations at most, ≥ 1.
        tol: Stops when a step lowers the value by less than this share, or no entry of the gradient is larger.
        lower: Lower bound of all entries.

    Raises:
        TrainingError: The value at the start is not finite.
    """
    check_positive(max_iter=max_iter, tol=tol)
    shape = start.shape
    first: bool = True

    def flat(x: Matrix) -> tuple[float, Matrix]:
        nonlocal first
        value, gradient = objective(x.reshape(shape))
        if first and not math.isfinite(value):
            raise TrainingError(
                f"the objective is {value} at the start; standardize the features, or choose another init."
            )
        first = False
        return value, gradient.ravel()

    bounds = None if lower is None else [(lower, None)] * start.size
    found = minimize(
        flat,
        start.ravel(),
        method="L-BFGS-B",
        jac=True,
        tol=tol,
        bounds=bounds,
        options={"maxiter": max_iter, "maxfun": 20 * max_iter},
    )
    return Solution(found.x.reshape(shape), float(found.fun), max(1, int(found.nit)))


def check_batches(batch_size: int | None, epochs: int, learning_rate: float, smallest: int) -> None:
    """Raise `ArgumentError` for mini-batch options out of range."""
    if batch_size is not None and batch_size < smallest:
        raise ArgumentError(f"batch_size must be None (all rows) or ≥ {smallest}; got {batch_size}.")
    check_positive(epochs=epochs, learning_rate=learning_rate)


def batch_count(n: int, batch_size: int) -> int:
    """Batches of an epoch: the last one takes what would make a batch too small."""
    return max(1, n // batch_size)


def adam(
    objective: Stochastic,
    start: Matrix,
    n: int,
    *,
    batch_size: int,
    epochs: int,
    learning_rate: float,
    rng: np.random.Generator,
) -> Solution:
    """Minimise a sum over n rows by Adam on random batches of them.

    The start is first scaled by the power of 2 that is best on one batch: features come in any unit, and the steps are
    relative to the size of the start, ‖L₀‖_F/√d. They fall to 0 along half a cosine. Each row is seen once an epoch.

    Returns:
        The last matrix, the mean value over the last epoch's batches, and the steps.
    """
    L = _scaled(objective, start, np.sort(rng.permutation(n)[:batch_size]))
    mean, square = np.zeros_like(L), np.zeros_like(L)
    rate = learning_rate * float(np.linalg.norm(L)) / math.sqrt(len(L))
    count = batch_count(n, batch_size)
    step, steps = 0, count * epochs
    value = math.inf
    for _ in range(epochs):
        total = 0.0
        for rows in np.array_split(rng.permutation(n), count):
            found, gradient = objective(L, np.sort(rows))
            total += found
            step += 1
            mean += (1 - _BETAS[0]) * (gradient - mean)
            square += (1 - _BETAS[1]) * (gradient**2 - square)
            slope = (mean / (1 - _BETAS[0] ** step)) / (np.sqrt(square / (1 - _BETAS[1] ** step)) + 1e-12)
            L -= rate * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps)) * slope
        value = total / count
        if not math.isfinite(value):
            raise TrainingError(
                f"the objective became {value}; lower learning_rate or standardize the features."
            )
    return Solution(L, value, steps)


def _scaled(objective: Stochastic, start: Matrix, rows: NDArray[np.int64]) -> Matrix:
    values = [objective(scale * start, rows)[0] for scale in _SCALES]
    return start * _SCALES[int(np.nanargmin(values))]
