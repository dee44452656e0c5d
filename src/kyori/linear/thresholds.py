"""The distance up to which a pair counts as the same, chosen on pairs whose truth is known."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, nearest_name

__all__ = ["Strategy", "best_threshold"]

Strategy = Literal["accuracy", "f_beta", "max_tpr", "max_tnr"]


def best_threshold(
    distances: NDArray[np.float64],
    same: NDArray[np.bool_],
    strategy: Strategy = "accuracy",
    *,
    min_rate: float | None = None,
    beta: float = 1.0,
) -> float:
    """Return the threshold that is best by ``strategy``; pairs with a distance ≤ it count as the same.

    Thresholds lie half-way between neighbouring distances, so that rounding moves no pair across. Of equally good
    ones the smallest is taken (for ``max_tpr`` and ``max_tnr`` the one with the best other rate).

    Raises:
        ArgumentError: Unknown strategy, pairs of one kind only, or a rate out of range.

    >>> best_threshold(np.array([1.0, 2.0, 5.0]), np.array([True, True, False]))
    3.5
    """
    if strategy not in get_args(Strategy):
        raise ArgumentError(f"unknown strategy '{strategy}'{nearest_name(strategy, get_args(Strategy))}")
    if same.all() or not same.any():
        raise ArgumentError(
            f"pairs must be of both kinds to choose a threshold; got {same.sum()} same and {(~same).sum()} different."
        )
    thresholds, accepted_same, accepted = _candidates(distances, same)
    positives, negatives = same.sum(), (~same).sum()
    tpr = accepted_same / positives
    tnr = 1 - (accepted - accepted_same) / negatives
    if strategy == "accuracy":
        score = accepted_same + tnr * negatives
    elif strategy == "f_beta":
        if beta <= 0:
            raise ArgumentError(f"beta must be > 0; got {beta}.")
        score = (1 + beta**2) * accepted_same / (beta**2 * positives + np.maximum(accepted, 1))
    else:
        if min_rate is None or not 0 <= min_rate <= 1:
            raise ArgumentError(f"min_rate must be in [0, 1] for strategy '{strategy}'; got {min_rate}.")
        wanted, other = (tpr, tnr) if strategy == "max_tpr" else (tnr, tpr)
        score = np.where(other >= min_rate, wanted + 1e-6 * other, -1.0)
    return float(thresholds[int(np.argmax(score))])


def _candidates(
    distances: NDArray[np.float64], same: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Thresholds from "nothing is the same" to "everything is", and what each accepts: same pairs, and all."""
    order = np.argsort(distances, kind="stable")
    ordered = distances[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # of each run of equal distances
    middles = np.append((ordered[last[:-1]] + ordered[last[:-1] + 1]) / 2, ordered[-1])
    accepted = np.append(0, last + 1)
    accepted_same = np.append(0, np.cumsum(same[order])[last])
    lowest = ordered[0] / 2 if ordered[0] > 0 else -1.0
    return np.append(lowest, middles), accepted_same, accepted
