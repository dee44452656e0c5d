"""Power: how many trainings, or queries, would decide a difference that these data cannot."""

from __future__ import annotations

import math

from scipy.special import ndtri, stdtrit

from .spread import Spread
from .statistics import Power

__all__ = ["power_of"]

_POWER = 0.8


def power_of(difference: float, spread: Spread, seeds: int, pairs: int) -> Power | None:
    """Return with how many seeds, or times the queries, a difference like this one would be decided 4 times in 5.

    Args:
        difference: The difference that was seen, taken for the true one.
        spread: Where its uncertainty comes from.
        seeds: Trainings of each method now.
        pairs: Pairs of methods that Holm's correction counts.

    Returns:
        None where the difference is zero, or nothing is known of its uncertainty.
    """
    if difference == 0 or spread.variance <= 0 or not math.isfinite(difference):
        return None
    level = 1 - 0.025 / max(pairs, 1)
    return Power(
        _seeds(abs(difference), spread, seeds, level), _factor(abs(difference), spread, seeds, level)
    )


def _seeds(difference: float, spread: Spread, seeds: int, level: float) -> int | None:
    if seeds == 1 or spread.trainings <= 0:  # one training says nothing of another
        return None
    for more in range(seeds + 1, Power.MOST_SEEDS + 1):
        trainings = spread.trainings * seeds / more
        if _reached(difference, trainings, spread.units, 2 * (more - 1), level):
            return more
    return None


def _factor(difference: float, spread: Spread, seeds: int, level: float) -> float | None:
    df = 2 * (seeds - 1) if seeds > 1 else math.inf
    factor = 1.0
    while factor <= Power.MOST_TIMES:
        factor *= 1.1
        if _reached(difference, spread.trainings, spread.units / factor, df, level):
            return factor
    return None


def _reached(difference: float, trainings: float, units: float, df: float, level: float) -> bool:
    """Whether a difference this large is found with a chance of 80 %."""
    total = trainings + units
    if total <= 0:
        return True
    freedom = df * (total / trainings) ** 2 if trainings > 0 else math.inf
    quantile = float(stdtrit(freedom, level)) if math.isfinite(freedom) else float(ndtri(level))
    return difference >= (quantile + float(ndtri(_POWER))) * math.sqrt(total)
