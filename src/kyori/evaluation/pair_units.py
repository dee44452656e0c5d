"""How sure a share of pairs is, where pairs have items or classes in common.

A share Σ top / Σ bottom over pairs changes by (top − share·bottom) / Σ bottom with each pair, and with each unit (an
item, or a class) by the sum over the pairs that it is in: the jackknife of Tukey 1958, to first order. The squares of
these sums add up to the variance of the share when units are drawn anew; what only one pair brings is in both of its
units, and so twice in the variance (Efron & Stein 1981), which errs to the safe side. Around the share stands the
exact interval of Clopper & Pearson (1934), with as many trials as have this variance (Korn & Graubard 1998). Where few
units make most of the variance it is badly known itself: its degrees of freedom follow from the fourth powers.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError

__all__ = ["Estimate", "PairUnits", "Unit", "clopper_pearson"]

Floats = NDArray[np.float64]
Unit = Literal["pairs", "items", "classes"]

_MOVED = 20  # pairs next to the threshold that tell how pairs depend on each other where all of them are on one side


@dataclass(frozen=True)
class Estimate:
    """A measured value with the ends of its interval; NaN where there was nothing to measure."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True, eq=False)
class PairUnits:
    """What is drawn anew when pairs are: the pairs themselves, their items, or whole classes.

    Attributes:
        kind: ``"pairs"``, ``"items"`` or ``"classes"``.
        ends: ``(m, 2)`` codes ``0 … u−1`` of the two units of each pair, which may be one and the same; None for pairs.
    """

    kind: Unit
    ends: NDArray[np.int64] | None

    @classmethod
    def of(cls, items: ArrayLike | None, classes: ArrayLike | None, m: int) -> "PairUnits":
        """Check the ids of ``m`` pairs.

        Raises:
            ArgumentError: Both are given, or a shape does not fit.
        """
        if items is not None and classes is not None:
            raise ArgumentError("give items or classes, what the intervals are about, not both.")
        kind: Unit = "items" if items is not None else "classes" if classes is not None else "pairs"
        ids = np.asarray(items if items is not None else classes)
        if kind == "pairs":
            return cls(kind, None)
        if ids.shape != (m, 2):
            raise ArgumentError(f"{kind} must have shape ({m}, 2), two a pair; got {ids.shape}.")
        return cls(kind, np.unique(ids, return_inverse=True)[1].reshape(m, 2).astype(np.int64))

    def share(
        self, top: ArrayLike, bottom: ArrayLike, confidence: float, gaps: Floats | None = None
    ) -> Estimate:
        """Return Σ top / Σ bottom over ``(m,)`` pairs, between 0 and 1, with its interval.

        ``gaps`` ``(m,)``, the distance of each pair from the threshold, is for a share of pairs on one side of it: if
        that is 0 or 1, those next to the threshold tell what it is like elsewhere. Else, there is then one
        trial a unit.
        """
        tops, bottoms = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
        total = float(bottoms.sum())
        if total == 0:
            return Estimate(math.nan, math.nan, math.nan)
        value = float(tops.sum()) / total
        if self.ends is None:
            return clopper_pearson(float(tops.sum()), total, confidence)
        trials, units = self._trials(tops, bottoms, confidence)
        if units < 2:
            return Estimate(value, 0.0, 1.0)
        if trials is None:
            trials = float(units)
            if gaps is not None:
                inside = np.flatnonzero(bottoms)
                moved = inside[np.argsort(gaps[inside], kind="stable")[: min(_MOVED, len(inside) // 2)]]
                tops = tops.copy()
                tops[moved] = 1 - tops[moved]
                trials = self._trials(tops, bottoms, confidence)[0] or trials
        return clopper_pearson(value * trials, trials, confidence, value)

    def _trials(self, tops: Floats, bottoms: Floats, confidence: float) -> tuple[float | None, int]:
        """Return how many independent trials know the share as well (None if all are alike), and how many units."""
        from scipy.special import ndtri, stdtrit

        total = bottoms.sum()
        value = tops.sum() / total
        sums, u = self._sums((tops - value * bottoms) / total, bottoms > 0)
        square = float(np.square(sums).sum())
        if u < 2 or not 0 < value < 1 or square == 0:
            return None, u
        excess = float((sums**4).sum()) - square**2 / u
        free = min(u - 1, 2 * square**2 / excess) if excess > 0 else u - 1
        level = (1 + confidence) / 2
        wider = float(stdtrit(free, level) / ndtri(level))
        return float(min(total, value * (1 - value) * (u - 1) / u / square / wider**2)), u

    def _sums(self, changes: Floats, counted: NDArray[np.bool_]) -> tuple[Floats, int]:
        """Return the sum of the changes of each unit's pairs ``(u,)``, and how many units have a counted pair."""
        assert self.ends is not None
        first, second = self.ends[counted].T
        twice = np.where(first == second, 0.0, changes[counted])
        size = int(self.ends.max()) + 1
        added = np.bincount(first, changes[counted], size) + np.bincount(second, twice, size)
        sums = added.astype(np.float64)
        there = np.zeros(size, bool)
        there[first] = there[second] = True
        return sums[there], int(there.sum())


def clopper_pearson(hits: float, n: float, confidence: float = 0.95, value: float | None = None) -> Estimate:
    """Return the share of hits with its exact binomial interval (Clopper & Pearson 1934); NaN for n = 0.

    Args:
        hits: Between 0 and n; no whole numbers where trials are effective ones.
        n: Trials.
        confidence: Of the interval.
        value: hits / n, where it is known better than the quotient would tell.

    >>> print(clopper_pearson(0, 1000))
    0 [0, 0.003682]
    """
    from scipy.stats import beta

    if n == 0:
        return Estimate(math.nan, math.nan, math.nan)
    tail = (1 - confidence) / 2
    share = hits / n if value is None else value
    low = 0.0 if share == 0 else float(beta.ppf(tail, hits, n - hits + 1))
    high = 1.0 if share == 1 else float(beta.ppf(1 - tail, hits + 1, n - hits))
    return Estimate(share, min(low, share), max(high, share))
