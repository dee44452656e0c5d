"""Bootstrap intervals out of sums over items, so that a thousand resamples are one matrix product.

A resample draws items (or whole classes) with replacement; an item drawn w times weighs w. Any statistic that is
a function of sums Σᵢ wᵢ vᵢ can then be computed for all resamples at once.
"""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bootstrap", "percentiles", "ratio", "shifted_interval"]

_LEVELS = (0.025, 0.975)
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
        self.classes = classes
        units = n if classes is None else int(classes.max()) + 1
        self.counts = _draw(units, replicates, np.random.default_rng(seed))

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

    def mean(self, values: NDArray[np.floating]) -> tuple[float, float]:
        """Return the percentile interval of the mean of the ``(n,)`` values that are not NaN."""
        known = ~np.isnan(values)
        sums = self.sums(np.stack([np.where(known, values, 0), known], axis=1))
        return percentiles(ratio(sums[:, 0], sums[:, 1]))


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
