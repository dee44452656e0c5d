"""How sure a difference is: paired bootstrap over seeds and queries, permutation test, Holm's correction.

Every cell of a board answers the same queries, so methods are compared query by query. An interval holds two
sources of chance at once: which queries were asked (resampled with replacement, the same ones for both methods)
and which seed the training got (resampled too).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["Difference", "Estimate", "difference", "estimate", "holm", "unpaired_estimate"]

_REPEATS = 2000
_BLOCK = 250


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A mean difference with its 95 % interval and the p-value of no difference."""

    value: float
    low: float
    high: float
    p_value: float


def estimate(per_query: np.ndarray, *, seed: int = 0) -> Estimate:
    """Average values ``(s, q)`` over seeds and queries, with a two-level bootstrap interval.

    Args:
        per_query: Values of s seeds on the same q queries; NaN where a query was skipped (in all seeds).
        seed: Seed of the resampling.

    >>> estimate(np.array([[1.0, 0.0, 1.0, 1.0]])).value
    0.75
    """
    values = _answered(per_query)
    if values.size == 0:
        return Estimate(np.nan, np.nan, np.nan)
    means = _bootstrap_means(values, seed)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high))


def difference(per_query: np.ndarray, *, seed: int = 0) -> Difference:
    """Average paired differences ``(s, q)``; interval by two-level bootstrap, p-value by sign flips of queries.

    With a single query column (a measure that has no per-query values) the seeds are the only unit: a paired
    t-test and its interval are used instead, and with one seed neither exists (infinite interval, p = 1).
    """
    values = _answered(per_query)
    if values.shape[1] <= 1:
        return _seed_difference(values[:, 0] if values.size else np.array([]))
    found = estimate(values, seed=seed)
    return Difference(found.value, found.low, found.high, _sign_flip(values.mean(axis=0), seed))


def unpaired_estimate(intervals: Sequence[tuple[float, float, float]]) -> Estimate:
    """Average ``(value, low, high)`` of several seeds where no per-query values exist.

    The half-widths of the interval add in squares: the mean one over queries, and 1.96 standard errors over seeds.
    """
    values, lows, highs = np.array(intervals, dtype=float).T
    mean = float(values.mean())
    between = 1.96 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    below = np.sqrt(np.mean((values - lows) ** 2) + between**2)
    above = np.sqrt(np.mean((highs - values) ** 2) + between**2)
    return Estimate(mean, float(mean - below), float(mean + above))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Correct p-values for their number (Holm 1979): step-down, monotone, at most 1.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def _answered(per_query: np.ndarray) -> np.ndarray:
    values = np.atleast_2d(np.asarray(per_query, dtype=float))
    return values[:, ~np.isnan(values).any(axis=0)]


def _bootstrap_means(values: np.ndarray, seed: int) -> np.ndarray:
    """Means ``(repeats,)`` under resampled seeds and queries; the weights are drawn in blocks to bound memory."""
    generator = np.random.default_rng(seed)
    s, q = values.shape
    means = []
    for _ in range(_REPEATS // _BLOCK):
        queries = generator.multinomial(q, np.full(q, 1 / q), size=_BLOCK) / q
        seeds = generator.multinomial(s, np.full(s, 1 / s), size=_BLOCK) / s
        means.append(((queries @ values.T) * seeds).sum(axis=1))
    return np.concatenate(means)


def _sign_flip(differences: np.ndarray, seed: int) -> float:
    """Two-sided p-value of a mean difference of zero when the sign of each query's difference is arbitrary."""
    generator = np.random.default_rng(seed)
    observed = abs(differences.mean())
    extreme = 0
    for _ in range(_REPEATS // _BLOCK):
        signs = generator.integers(0, 2, size=(_BLOCK, len(differences)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ differences) / len(differences) >= observed - 1e-15).sum())
    return (extreme + 1) / (_REPEATS + 1)


def _seed_difference(gains: np.ndarray) -> Difference:
    if len(gains) == 0:
        return Difference(np.nan, np.nan, np.nan, 1.0)
    mean = float(gains.mean())
    if len(gains) == 1:
        return Difference(mean, -np.inf, np.inf, 1.0)
    error = gains.std(ddof=1) / np.sqrt(len(gains))
    if error == 0:
        return Difference(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    half = stats.t.ppf(0.975, len(gains) - 1) * error
    p_value = 2 * stats.t.sf(abs(mean) / error, len(gains) - 1)
    return Difference(mean, mean - float(half), mean + float(half), float(p_value))
