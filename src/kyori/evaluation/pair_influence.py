"""What each item adds to a measure of pairs, and what of that is counted with both items of a pair.

Without an item all its pairs are gone: the jackknife of U-statistics (Arvesen 1969), which for the AUC is that of
DeLong (1988) for pairs that share items. What one pair alone brings, and neither of its items elsewhere, is then in
both (Efron & Stein 1981). How much that is can be told without a list of pairs: if each item's pairs are added up with
a sign drawn for the other item, what they have in common cancels, and the square of the sum is on average that of what
they have alone.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..results import Result
from .bootstrap import Bootstrap
from .context import Context
from .influence import shared_by_classes

__all__ = ["Kinds", "Statistic", "signs_of", "with_influence"]

#: Counts ``(q, ·)`` of the same and of the different pairs of each item.
Kinds = tuple[NDArray[Any], NDArray[Any]]
Statistic = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
Floats = NDArray[np.float64]

_SIGN_SEED = 20
_UNITS = 2048  # items, or classes, left out at a time
_STEP = 1e-6  # of all pairs, by which a count is changed to see what it does


def signs_of(resamples: Bootstrap) -> NDArray[np.int64]:
    """Return a sign for each item ``(n,)``, one for all items of a class where classes are drawn as a whole.

    As many of one as of the other, and the same for every table of so many: what two embeddings of it have in common
    stays so.
    """
    units = resamples.n if resamples.classes is None else int(resamples.classes.max()) + 1
    drawn = 2 * np.random.default_rng(_SIGN_SEED).permutation(np.arange(units) % 2) - 1
    return drawn if resamples.classes is None else drawn[resamples.classes]


def with_influence(
    context: Context, result: Result, statistic: Statistic, kinds: Kinds, signed: Kinds
) -> Result | None:
    """Say what each item adds to a statistic of counts of pairs, and take the interval from that.

    Args:
        context: The evaluation.
        result: The measure.
        statistic: Of counts of same and of different pairs, ``(u, ·)`` each.
        kinds: What the items' pairs are.
        signed: The same with each pair counted by the sign of its other item.

    Returns:
        None where there is nothing to measure without some item.
    """
    classes = context.resamples.classes
    _, members = np.unique(np.arange(len(kinds[0])) if classes is None else classes, return_inverse=True)
    without, loose = _left_out(statistic, kinds, signed, members, within=classes is not None)
    if len(without) < 2 or np.isnan(without).any():
        return None
    sizes = np.bincount(members)
    shares = shared_by_classes(result.value, without, members, sizes).astype(np.float32)
    # A pair is in the sums of both its units, so that half of their squares is that of all pairs.
    chance = (len(members) * math.sqrt(0.5) * loose / np.sqrt(sizes))[members].astype(np.float32)
    low, high = context.resamples.around(result.value, shares, chance)
    return replace(result, low=low, high=high, influence=shares, chance=chance)


def _left_out(
    statistic: Statistic, kinds: Kinds, signed: Kinds, members: NDArray[np.int64], *, within: bool
) -> tuple[Floats, Floats]:
    """Return ``(u,)`` the statistic without each unit, and what its pairs with other units do to it by their signs.

    ``within``: a unit has same pairs of its own, and only those; they were counted from both ends when it is summed.
    """
    sizes = np.bincount(members)
    u, order, starts = len(sizes), np.argsort(members, kind="stable"), np.cumsum(sizes) - sizes
    totals = kinds[0].sum(axis=0, dtype=np.float64), kinds[1].sum(axis=0, dtype=np.float64)
    pulls = _gradient(statistic, totals)
    without, loose = np.empty(u), np.zeros(u)
    for first in range(0, u, _UNITS):
        part = slice(first, first + _UNITS)
        rows = order[starts[part][0] : starts[part][-1] + sizes[part][-1]]
        at = starts[part] - starts[part][0]
        summed = [
            np.add.reduceat(counts[rows].astype(np.float64), at, axis=0) for counts in (*kinds, *signed)
        ]
        same, different = (1 if within else 2) * summed[0], 2 * summed[1]
        without[part] = statistic(totals[0] - same, totals[1] - different)
        for kind in (1,) if within else (0, 1):
            loose[part] += 2 * summed[2 + kind] @ pulls[kind]
    return without, loose


def _gradient(statistic: Statistic, totals: tuple[Floats, Floats]) -> list[Floats]:
    """Return what one more pair in each of the ``(·,)`` counts does to the statistic, for either kind of pairs.

    Less what one more pair of that kind does on average: how many there are of a kind is no chance of a pair.
    """
    now = statistic(totals[0][None], totals[1][None])[0]
    found = []
    for kind, total in enumerate(totals):
        step = _STEP * total.sum()
        changed = [totals[0][None], totals[1][None]]
        changed[kind] = total + step * np.eye(len(total))
        pull = (statistic(changed[0], changed[1]) - now) / step
        found.append(pull - (pull @ total) / total.sum())
    return found
