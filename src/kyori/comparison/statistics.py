"""How sure a difference is: paired bootstrap over seeds and queries, permutation test, Holm's correction.

Every cell of a board answers the same queries, so methods are compared query by query. An interval holds two
sources of chance at once: which queries were asked (resampled with replacement, the same ones for both methods)
and which seed the training got (resampled too).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

__all__ = [
    "Comparison",
    "Difference",
    "Estimate",
    "Row",
    "difference",
    "estimate",
    "holm",
    "unpaired_estimate",
]

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


@dataclass(frozen=True)
class Row:
    """One method, averaged over its seeds.

    Attributes:
        method: Name of the method.
        measures: Mean over seeds with its 95 % interval, by measure.
        per_seed: The value of each seed, by measure.
        seconds: Mean training time in seconds.
        parameters: Trained parameters of the embedder.
    """

    method: str
    measures: Mapping[str, Estimate]
    per_seed: Mapping[str, Sequence[float]]
    seconds: float
    parameters: int


@dataclass(frozen=True)
class Comparison:
    """How sure it is that ``better`` beats ``worse`` on the board's measure.

    Attributes:
        better: The method with the higher mean.
        worse: The other one.
        difference: Mean difference (positive).
        low: Lower end of its 95 % interval over seeds and queries.
        high: Upper end.
        p_value: Sign-flip permutation test over queries, corrected by Holm for the number of comparisons.
        seeds_won: Seeds in which ``better`` had the higher value.
        seeds: Seeds compared.
    """

    better: str
    worse: str
    difference: float
    low: float
    high: float
    p_value: float
    seeds_won: int
    seeds: int

    @property
    def decided(self) -> bool:
        """Whether the data tell the two methods apart: interval above zero and p < 0.05."""
        return self.low > 0 and self.p_value < 0.05


def estimate(per_query: np.ndarray, *, groups: np.ndarray | None = None, seed: int = 0) -> Estimate:
    """Average values ``(s, q)`` over seeds and queries, with a two-level bootstrap interval.

    Args:
        per_query: Values of s seeds on the same q queries; NaN where a query was skipped (in all seeds).
        groups: Class of each query ``(q,)``: whole classes are resampled, for claims about unseen classes. None
            resamples single queries.
        seed: Seed of the resampling.

    >>> estimate(np.array([[1.0, 0.0, 1.0, 1.0]])).value
    0.75
    """
    units = _Units.of(per_query, groups)
    if units.counts.size == 0:
        return Estimate(np.nan, np.nan, np.nan)
    low, high = np.quantile(_bootstrap_means(units, seed), [0.025, 0.975])
    return Estimate(units.mean, float(low), float(high))


def difference(per_query: np.ndarray, *, groups: np.ndarray | None = None, seed: int = 0) -> Difference:
    """Average paired differences ``(s, q)``; interval by two-level bootstrap, p-value by sign flips of the units.

    With a single query column (a measure that has no per-query values) the seeds are the only unit: a paired
    t-test and its interval are used instead, and with one seed neither exists (infinite interval, p = 1).
    """
    values = np.atleast_2d(np.asarray(per_query, dtype=float))
    if values.shape[1] == 1:
        return _seed_difference(values[:, 0])
    found = estimate(values, groups=groups, seed=seed)
    return Difference(found.value, found.low, found.high, _sign_flip(_Units.of(values, groups), seed))


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


class _Units(NamedTuple):
    """What is resampled, queries or classes: sums ``(s, u)`` over the queries of each, their counts ``(u,)``."""

    sums: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, per_query: np.ndarray, groups: np.ndarray | None) -> _Units:
        values = np.atleast_2d(np.asarray(per_query, dtype=float))
        answered = ~np.isnan(values).any(axis=0)
        values = values[:, answered]
        if groups is None:
            return cls(values, np.ones(values.shape[1]))
        _, codes, counts = np.unique(groups[answered], return_inverse=True, return_counts=True)
        sums = np.zeros((len(values), len(counts)))
        np.add.at(sums.T, codes, values.T)
        return cls(sums, counts.astype(float))

    @property
    def mean(self) -> float:
        return float(self.sums.mean(axis=0).sum() / self.counts.sum())


def _bootstrap_means(units: _Units, seed: int) -> np.ndarray:
    """Means ``(repeats,)`` under resampled seeds and units; the weights are drawn in blocks to bound memory."""
    generator = np.random.default_rng(seed)
    s, u = units.sums.shape
    means = []
    for _ in range(_REPEATS // _BLOCK):
        drawn = generator.multinomial(u, np.full(u, 1 / u), size=_BLOCK)
        seeds = generator.multinomial(s, np.full(s, 1 / s), size=_BLOCK) / s
        means.append(((drawn @ units.sums.T) * seeds).sum(axis=1) / (drawn @ units.counts))
    return np.concatenate(means)


def _sign_flip(units: _Units, seed: int) -> float:
    """Two-sided p-value of a mean difference of zero when the sign of each unit's difference is arbitrary."""
    generator = np.random.default_rng(seed)
    differences = units.sums.mean(axis=0)
    observed = abs(differences.sum())
    extreme = 0
    for _ in range(_REPEATS // _BLOCK):
        signs = generator.integers(0, 2, size=(_BLOCK, len(differences)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ differences) >= observed * (1 - 1e-12)).sum())
    return (extreme + 1) / (_REPEATS + 1)


def _seed_difference(gains: np.ndarray) -> Difference:
    mean = float(gains.mean())
    if len(gains) == 1:
        return Difference(mean, -np.inf, np.inf, 1.0)
    error = gains.std(ddof=1) / np.sqrt(len(gains))
    if error == 0:
        return Difference(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    half = stats.t.ppf(0.975, len(gains) - 1) * error
    p_value = 2 * stats.t.sf(abs(mean) / error, len(gains) - 1)
    return Difference(mean, mean - float(half), mean + float(half), float(p_value))
