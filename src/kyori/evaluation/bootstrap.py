"""Intervals: out of what each item adds, or by the bootstrap out of sums over items.

A resample draws items (or whole classes) with replacement; an item drawn w times weighs w. Any statistic that is
a function of sums Σᵢ wᵢ vᵢ can then be computed for all resamples at once, in one matrix product. A mean needs no
resamples: the variance that infinitely many would show is known, and around it stands an interval that holds near 0 and
1 too. Where items are queries and answers at once, what each adds is told by :mod:`kyori.evaluation.influence`.
"""

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Bootstrap",
    "influence",
    "mean_interval",
    "percentiles",
    "ratio",
    "settled",
    "share_interval",
    "shifted_interval",
]

_LEVELS = (0.025, 0.975)
_LEAST = 0.25  # of the variance is kept, however large chance seems
_LEAST_OF_CLASSES = 0.5  # they are fewer, and tell it less well
_CHUNK = 128  # resamples whose weights are held as floats at a time


class Bootstrap:
    """The same resamples for every measure of one evaluation.

    Args:
        n: Number of items.
        replicates: Number of resamples; 0 means that no interval is wanted, and every interval is NaN.
        seed: Seed of the draws.
        classes: ``(n,)`` codes ``0 … c−1``; when given, whole classes are drawn instead of items.

    Attributes:
        counts: ``(replicates, n)``, or ``(replicates, c)``: how often each item, or class, was drawn.
    """

    def __init__(self, n: int, replicates: int, seed: int, classes: NDArray[np.int64] | None = None):
        self.n = n
        self.replicates = replicates
        self.seed = seed
        self.classes = classes

    @cached_property
    def counts(self) -> NDArray[np.uint8]:
        """Drawn when a measure first asks for it: means do not."""
        units = self.n if self.classes is None else int(self.classes.max()) + 1
        return _draw(units, self.replicates, np.random.default_rng(self.seed))

    def sums(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return ``(replicates, s)`` sums Σᵢ wᵢ vᵢ of the ``(n, s)`` item values."""
        totals = np.empty((self.replicates, values.shape[1]))
        values = values.astype(np.float32)
        for start in range(0, self.replicates, _CHUNK):
            counts = self.counts[start : start + _CHUNK]
            weights = counts if self.classes is None else counts[:, self.classes]
            totals[start : start + _CHUNK] = weights.astype(np.float32) @ values
        return totals

    def pair_sums(
        self, values: NDArray[np.floating], *, within: bool, same_class: bool
    ) -> NDArray[np.float64]:
        """Return ``(replicates, s)`` sums over pairs, out of ``(n, s)`` sums over each item's pairs.

        A pair of a resample weighs wᵢ·wⱼ. Its linear part wᵢ + wⱼ − 1 gives the same variance to first order
        (Hoeffding's projection) and needs only the sums of each item. Where the queries meet a fixed gallery
        (not ``within`` one table) a pair weighs wᵢ. Two items of one class that is drawn as a whole are always
        drawn together, so that their pair weighs that class's w.
        """
        sums = self.sums(values)
        if not within or (same_class and self.classes is not None):
            return sums
        # Σ_{i,j} (wᵢ + wⱼ − 1) x_ij; where few pairs carry a cell the linear part can fall below none.
        return np.maximum(2 * sums - values.sum(axis=0, dtype=np.float64), 0)

    def mean(
        self,
        values: NDArray[np.floating],
        shares: NDArray[np.floating] | None = None,
        chance: NDArray[np.floating] | None = None,
    ) -> tuple[float, float]:
        """Return the interval of the mean of the ``(n,)`` values that are not NaN; NaN without resamples.

        Where the values depend on each other ``shares`` ``(n,)`` says what each item adds to the mean, in all its
        roles, and ``chance`` ``(n,)`` what of that is counted twice. The variance is that of infinitely many resamples,
        times u / (u − 1) for u items or classes, which a resample leaves out; the ends are those of
        :func:`share_interval` where all values lie between 0 and 1.
        """
        known = ~np.isnan(values)
        if self.replicates == 0 or not known.any():
            return math.nan, math.nan
        mean, classes = float(values[known].mean()), self.classes
        bounded = bool(values[known].min() >= 0 and values[known].max() <= 1)
        if shares is None:
            shares, classes = values[known], None if classes is None else classes[known]
        units = influence(shares[None], classes)
        left = 1.0
        if chance is not None:
            (units,), left = settled((units, chance[None]))
        return _of_units(mean, units[0], bounded=bounded, left=left)

    def around(
        self, value: float, shares: NDArray[np.floating], chance: NDArray[np.floating]
    ) -> tuple[float, float]:
        """Return the interval of a value between 0 and 1 with the ``(n,)`` shares of its items, as in `mean`."""
        (units,), left = settled((influence(shares[None], self.classes), chance[None]))
        return _of_units(value, units[0], bounded=True, left=left)


def _of_units(
    value: float, units: NDArray[np.float64], *, bounded: bool, left: float = 1.0
) -> tuple[float, float]:
    u = len(units)
    variance, df = float(units.var(ddof=1)) / u if u > 1 else 0.0, (u - 1) * left
    return share_interval(value, variance, df, u) if bounded else mean_interval(value, variance, df)


def influence(values: NDArray[np.floating], classes: NDArray[np.integer] | None) -> NDArray[np.float64]:
    """Return ``(s, u)`` values of u units whose means over units are those of the ``(s, n)`` item values.

    Units are the items themselves, or the classes, each with what it adds to the mean of all items (the
    linearised ratio of its sum to its count): their variance over u is that of the mean when units are drawn anew.

    >>> influence(np.array([[1.0, 1.0, 1.0, 0.0]]), np.array([0, 0, 0, 1]))
    array([[1.125, 0.375]])
    """
    if classes is None:
        return values.astype(np.float64)
    values = values.astype(np.float64)
    _, codes, counts = np.unique(classes, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), len(values)))
    np.add.at(sums, codes, values.T)
    means = values.mean(axis=1, keepdims=True)
    return means + (sums.T - means * counts) * (len(counts) / values.shape[1])


def settled(
    *parts: tuple[NDArray[np.float64], NDArray[np.floating]],
) -> tuple[list[NDArray[np.float64]], float]:
    """Return units drawn together about their means, until chance is once in the variance of their mean.

    Args:
        parts: The ``(s, u)`` units of s trainings with the ``(s, n)`` chance in them; two of these for the variance of
            the difference of their means. What trainings do not have in common is left as it is.

    Returns:
        The units, and the share of the variance that is left. What was taken off is known no better than what it was
        taken from, so the degrees of freedom of the rest are to be multiplied by that share.
    """
    signs = (1.0, -1.0)[: len(parts)]
    columns = sum(sign * units.mean(axis=0) for sign, (units, _) in zip(signs, parts, strict=True))
    common = sum(
        sign * chance.mean(axis=0, dtype=float) for sign, (_, chance) in zip(signs, parts, strict=True)
    )
    variance, square = float(np.var(columns)), float(np.square(common).sum())
    for units, chance in parts:
        s, u = units.shape
        if s > 1:
            own = units - units.mean(axis=0) - units.mean(axis=1, keepdims=True) + units.mean()
            variance -= float((own**2).sum()) / ((s - 1) * u * s)
            square -= float(chance.var(axis=0, ddof=1, dtype=float).sum()) / s
    n, u = parts[0][1].shape[1], parts[0][0].shape[1]
    left = 1 - max(0.0, square) * u / n**2 / variance if variance > 0 else 1.0
    means = [units.mean(axis=1, keepdims=True) for units, _ in parts]
    left = max(left, _LEAST if u == n else _LEAST_OF_CLASSES)
    drawn = math.sqrt(left)
    return [mean + drawn * (units - mean) for mean, (units, _) in zip(means, parts, strict=True)], left


def mean_interval(mean: float, variance: float, df: float) -> tuple[float, float]:
    """Return mean ± t · √variance; infinite where no degree of freedom is left."""
    if df <= 0:
        return -math.inf, math.inf
    half = _t(df) * math.sqrt(variance)
    return mean - half, mean + half


def share_interval(mean: float, variance: float, df: float, units: int) -> tuple[float, float]:
    """Return the interval of a mean of values between 0 and 1, which stays between them.

    The score interval of Wilson (1927) with the effective number of trials mean·(1 − mean) / variance and the t
    quantile (Korn & Graubard 1998; Dean & Pagano 2015). Where all units have the same value the data know no
    variance, and the number of units is taken for the number of trials, so that 200 hits of 200 do not prove 100 %.

    >>> tuple(round(end, 4) for end in share_interval(1.0, 0.0, 199, 200))
    (0.9809, 1.0)
    """
    spread = mean * (1 - mean)
    trials = spread / variance if variance > 0 and spread > 0 else float(units)
    t2 = (_t(df) if df > 0 else 1.96) ** 2
    centre = (mean + t2 / (2 * trials)) / (1 + t2 / trials)
    half = math.sqrt(t2 * (max(spread, 0.0) / trials + t2 / (4 * trials**2))) / (1 + t2 / trials)
    return max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))


def _t(df: float) -> float:
    from scipy.special import stdtrit  # not at the top: `import kyori` stays light

    return float(stdtrit(df, _LEVELS[1])) if math.isfinite(df) else 1.959963984540054


def percentiles(replicates: NDArray[np.floating]) -> tuple[float, float]:
    """Return the 2.5th and 97.5th percentile of the replicates that are not NaN; NaN where there is none."""
    known = replicates[~np.isnan(replicates)]
    if len(known) == 0:
        return math.nan, math.nan
    low, high = np.quantile(known, _LEVELS)
    return float(low), float(high)


def shifted_interval(
    value: float, replicates: NDArray[np.floating], bounds: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[float, float]:
    """Return the interval of a statistic that is no mean, within the ``bounds`` of its range.

    The percentiles are moved by the difference between the value and the mean of the replicates: the repeated
    items of a resample bias measures such as mutual information upwards.
    """
    low, high = percentiles(replicates)
    if math.isnan(low) or math.isnan(value):
        return math.nan, math.nan
    shift = value - float(np.nanmean(replicates))
    return max(bounds[0], min(value, low + shift)), min(bounds[1], max(value, high + shift))


def ratio(numerator: NDArray[np.floating], denominator: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the quotient, NaN where a resample drew nothing to divide by."""
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)


def _draw(units: int, replicates: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Return ``(replicates, units)`` counts of draws with replacement; a count above 255 does not happen."""
    counts = np.empty((replicates, units), np.uint8)
    for row in counts:
        row[:] = np.bincount(generator.integers(units, size=units), minlength=units)
    return counts
