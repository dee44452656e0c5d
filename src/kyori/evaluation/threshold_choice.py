"""Which threshold reaches a target; and how sure it is, by finding it again in resamples."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DataError
from .pair_units import PairUnits
from .verification import PairCounts, last_within

__all__ = ["Target", "accepted_pairs", "checked_target", "choose", "quotient", "resampled_threshold"]

Floats = NDArray[np.float64]
Target = tuple[str, float]  # ("far", 0.001), ("precision", 0.99) or ("f_beta", 1.0)

_BINS = 2048  # as dense as the data where few different pairs are accepted


def checked_target(far: float | None, precision: float | None, f_beta: float | None) -> Target:
    given = {"far": far, "precision": precision, "f_beta": f_beta}
    chosen = [(name, float(value)) for name, value in given.items() if value is not None]
    if len(chosen) != 1:
        got = " and ".join(name for name, _ in chosen) or "none"
        raise ArgumentError(f"calibrate needs exactly one of far, precision, f_beta; got {got}.")
    name, value = chosen[0]
    if name == "f_beta":
        if not (math.isfinite(value) and value > 0):
            raise ArgumentError(f"f_beta must be above 0; got {value:g}.")
    elif not 0 < value < 1 and not (name == "precision" and value == 1):
        raise ArgumentError(f"{name} must lie between 0 and 1; got {value:g}.")
    return name, value


def choose(counts: PairCounts, target: Target) -> int:
    name, value = target
    if name == "far":
        return last_within(counts.curve()[0], value)
    true, false = accepted_pairs(counts.same, counts.different)
    if name == "f_beta":
        return int(np.argmax(_f_measure(true, false, float(true[-1]), value)))
    precise = quotient(true, true + false)
    enough = np.flatnonzero(precise >= value * (1 - 1e-12))
    if not len(enough):
        best = float(np.nanmax(precise))
        raise DataError(
            f"no threshold reaches the precision {value:g}; the best of these {int(true[-1] + false[-1])} pairs"
            f" is {best:.4g}. Ask for less, or use a better embedding."
        )
    return int(enough[-1])


def accepted_pairs(same: NDArray[Any], different: NDArray[Any]) -> tuple[Floats, Floats]:
    return tuple(np.concatenate([[0.0], np.cumsum(kind)]) for kind in (same, different))  # type: ignore[return-value]


def _f_measure(true: Floats, false: Floats, positives: Floats | float, beta: float) -> Floats:
    square = beta * beta
    return quotient((1 + square) * true, true + false + square * positives)


def quotient(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)


def resampled_threshold(
    target: Target,
    counts: PairCounts,
    levels: Floats,
    same: NDArray[np.bool_],
    units: PairUnits,
    *,
    confidence: float,
    replicates: int,
    seed: int,
) -> tuple[float, float]:
    """Return the percentiles of the thresholds that are found in resamples.

    Args:
        target: What is to be reached.
        counts: Of the given pairs.
        levels, same: ``(m,)`` their distances, and whether they are the same.
        units: What is drawn.
        confidence: Share of the thresholds between the ends.
        replicates: Number of resamples.
        seed: Of the draws.
    """
    generator = np.random.default_rng(seed)
    starts = _bin_starts(counts)
    edges = np.append(counts.thresholds[starts], counts.thresholds[-1])
    found = []
    for drawn_different, drawn_same in _draws(
        counts, starts, edges, levels, same, units, replicates, generator
    ):
        if drawn_same.any() and drawn_different.any():
            try:
                found.append(edges[choose(PairCounts(edges, drawn_same, drawn_different), target)])
            except DataError:  # this resample does not reach the precision: nothing would be accepted
                found.append(edges[0])
    value = float(counts.thresholds[choose(counts, target)])
    if not found:
        return value, value
    tail = (1 - confidence) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return min(float(low), value), max(float(high), value)


def _bin_starts(counts: PairCounts) -> NDArray[np.int64]:
    """Return the entries at which bins start: even in both kinds, and each by itself where few are accepted."""
    parts = [np.zeros(1, np.int64)]
    for kind in (counts.same, counts.different):
        total = np.cumsum(kind)
        levels = [
            np.linspace(0, total[-1], _BINS // 4, endpoint=False),
            np.geomspace(1, total[-1], _BINS // 4),
        ]
        parts += [np.searchsorted(total, level, side="right") for level in levels]
        parts += [np.flatnonzero(kind)[: _BINS // 8]]
    starts = np.unique(np.concatenate(parts))
    return starts[starts < len(counts.same)]


def _draws(
    counts: PairCounts,
    starts: NDArray[np.int64],
    edges: Floats,
    levels: Floats,
    same: NDArray[np.bool_],
    units: PairUnits,
    replicates: int,
    generator: np.random.Generator,
) -> Iterator[tuple[NDArray[Any], ...]]:
    """Yield how many different and same pairs of a resample lie in each bin."""
    width = len(starts)
    if units.ends is None:
        real = [np.add.reduceat(kind, starts) for kind in (counts.different, counts.same)]
        for _ in range(replicates):
            yield tuple(generator.multinomial(kind.sum(), kind / kind.sum()) for kind in real)
        return
    bins = np.searchsorted(edges[:-1], levels, side="right") - 1 + same * width
    first, second = units.ends.T
    apart, n = first != second, int(units.ends.max()) + 1
    for _ in range(
        replicates
    ):  # units drawn v and w times make v·w pairs, and v within one that is drawn v times
        weights = np.bincount(generator.integers(n, size=n), minlength=n)
        drawn = np.bincount(bins, weights[first] * np.where(apart, weights[second], 1), 2 * width)
        yield drawn[:width], drawn[width:]
