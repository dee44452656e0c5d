"""How sure a mean and a difference are: intervals over trainings and units, paired tests, Holm's correction, effects.

The population is *all* trainings of the method on data like these and *all* queries (or classes) like those asked: an
interval says where another reader's mean would lie who trains anew and asks anew. With one training of each method
nothing is known of the luck of training, and the interval speaks of those very trainings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import erfc, stdtr

from ..evaluation.bootstrap import influence, mean_interval, settled, share_interval
from .spread import Spread, of_difference, of_mean, over_datasets, over_folds

__all__ = [
    "Block",
    "Comparison",
    "Difference",
    "Estimate",
    "Power",
    "Row",
    "difference",
    "estimate",
    "higher_is_better",
    "holm",
    "is_share",
    "sign_flips",
]

_REPEATS = 4999
_EXACT = 12  # units up to which all sign flips are tried
_MANY = 1000  # units above which the flips' distribution is normal to three digits
_LOWER = ("eer", "distance-ratio", "alignment", "uniformity")
_SHARES = (
    "recall",
    "precision",
    "r-precision",
    "map",
    "ndcg",
    "mrr",
    "auc",
    "eer",
    "tar",
    "accuracy",
    "best-accuracy",
)


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A mean difference, first minus second.

    Attributes:
        value: The mean difference.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p_value: p-value of no difference; ``test`` says of which test.
        effect: Cohen's d_z: the mean over the standard deviation of the units' differences, averaged over seeds.
        test: ``"t"`` over trainings and units, or ``"sign flips"`` of the units where each method was trained once.
        p_given_seeds: Sign flips of the units for these very trainings, whatever another training would bring.
        spread: Where the uncertainty comes from.
    """

    value: float
    low: float
    high: float
    p_value: float
    effect: float
    test: str
    p_given_seeds: float
    spread: Spread


@dataclass(frozen=True)
class Row:
    """One method, averaged over its cells: seeds, folds, data sets.

    Attributes:
        method: Name of the method.
        measures: Mean with its 95 % interval, by measure.
        per_seed: The value of each cell (data set by data set, fold by fold, seed by seed), by measure.
        seconds: Mean training time in seconds.
        parameters: Trained parameters of the embedder.
        memory_bytes: Highest peak memory of a training; None where it was not measured.
        trials: Trials of the hyper-parameter search before each training.
    """

    method: str
    measures: Mapping[str, Estimate]
    per_seed: Mapping[str, Sequence[float]]
    seconds: float
    parameters: int
    memory_bytes: int | None = None
    trials: int = 0


@dataclass(frozen=True)
class Comparison:
    """How sure it is that ``better`` beats ``worse`` on the board's measure.

    Attributes:
        better: The method with the better mean.
        worse: The other one.
        difference: Mean difference in favour of ``better`` (never negative).
        low: Lower end of its 95 % interval.
        high: Upper end.
        p_value: Corrected by Holm for all pairs of methods on the board, because the best was chosen by these data.
        seeds_won: Trainings (seed by seed, in each fold and data set) in which ``better`` had the better value.
        seeds: Trainings compared.
        effect: Cohen's d_z over the units.
        test: ``"t"`` or ``"sign flips"``: see :class:`Difference`.
        p_given_seeds: Uncorrected sign-flip p-value for these very trainings.
        power: With what an undecided difference would be decided; None where it is decided.
    """

    better: str
    worse: str
    difference: float
    low: float
    high: float
    p_value: float
    seeds_won: int
    seeds: int
    effect: float = math.nan
    test: str = "t"
    p_given_seeds: float = math.nan
    power: Power | None = None

    @property
    def decided(self) -> bool:
        """Whether the data tell the two methods apart: interval above zero and p < 0.05."""
        return self.low > 0 and self.p_value < 0.05


@dataclass(frozen=True)
class Power:
    """With what the difference that was seen, if it is the true one, would be decided in 4 of 5 repetitions.

    Attributes:
        seeds: Trainings of each method, with the same queries; None where more of them alone would not do.
        factor: How many times the queries (or classes), with the same trainings; None where they alone would not do.
    """

    MOST_SEEDS: ClassVar[int] = 100
    MOST_TIMES: ClassVar[int] = 1000

    seeds: int | None
    factor: float | None


@dataclass(frozen=True)
class Block:
    """What one method did on one fold of one data set.

    Attributes:
        values: ``(s, q)`` of s trainings on q queries, NaN where a query was skipped (where queries are each other's
            answers, the influence of each, :attr:`kyori.results.Result.influence`); or ``(s, 1)``, one value a
            training, for a measure of the whole table.
        groups: Class ``(q,)`` of each query where classes are the unit.
        dataset: Name of the data set; blocks of one data set are its folds.
        around: ``(low, high)`` mean half-widths of the intervals over items, for a measure of the whole table.
        chance: ``(s, q)`` what in the influences is counted twice; None where it is nothing.
    """

    values: np.ndarray
    groups: np.ndarray | None = None
    dataset: str = ""
    around: tuple[float, float] | None = None
    chance: np.ndarray | None = None


def is_share(measure: str) -> bool:
    """Whether a measure lies between 0 and 1, and a hundredth of it is a point.

    >>> is_share("recall@10"), is_share("tar@far=1e-3"), is_share("uniformity")
    (True, True, False)
    """
    return measure.partition("@")[0] in _SHARES


def higher_is_better(measure: str) -> bool:
    """Whether more of the measure is better; less is for error rates, alignment, uniformity and distance ratio."""
    return measure not in _LOWER


def estimate(blocks: Sequence[Block], *, share: bool = False) -> Estimate:
    """Average over trainings, queries, folds and data sets, with a 95 % interval over trainings and units.

    Each training weighs the same in its fold, each fold in its data set, each data set in the whole.

    Args:
        blocks: One for each fold of each data set.
        share: Whether values lie between 0 and 1; the interval then does too.

    >>> estimate([Block(np.array([[1.0, 0.0, 1.0, 1.0]]))]).value
    0.75
    """
    units = [_units(block) for block in blocks]
    if not blocks or any(u.shape[1] == 0 or np.isnan(u).any() for u, _ in units):
        return Estimate(math.nan, math.nan, math.nan)
    value, spread = _combine(
        blocks, [float(u.mean()) for u, _ in units], [of_mean(u, left=left) for u, left in units]
    )
    around = [block.around for block in blocks if block.around is not None]
    if around:
        return _around(value, spread, around)
    if share:
        ends = share_interval(value, spread.variance, spread.df, spread.count)
    else:
        ends = mean_interval(value, spread.variance, spread.df)
    return Estimate(value, *ends)


def difference(
    first: Sequence[Block],
    second: Sequence[Block],
    *,
    share: bool = False,
    flips: bool = True,
    seed: int = 0,
) -> Difference:
    """Compare two methods on the same folds, query by query (or class by class).

    The interval and, where a method was trained more than once, the p-value are those of t with the variance and
    the degrees of freedom of :mod:`kyori.comparison.spread`. Where both were trained once the p-value is that of
    flipping the signs of the units' differences, all flips or 4,999 of them.

    Args:
        first: Blocks of one method.
        second: Blocks of the other, of the same data sets and folds, with the same queries.
        share: Whether values lie between 0 and 1.
        flips: Whether ``p_given_seeds`` is wanted; NaN without, where the test does not need it.
        seed: Seed of the sign flips.
    """
    pairs = [_paired(a, b) for a, b in zip(first, second, strict=True)]
    if not pairs or any(a.shape[1] == 0 for a, _, _ in pairs):
        nothing = Spread(0.0, 0.0, 0.0, 0.0, 0)
        return Difference(math.nan, math.nan, math.nan, 1.0, math.nan, "none", 1.0, nothing)
    means = [float(a.mean() - b.mean()) for a, b, _ in pairs]
    value, spread = _combine(first, means, [of_difference(a, b, left=left) for a, b, left in pairs])
    gains = [a.mean(axis=0) - b.mean(axis=0) for a, b, _ in pairs]
    once = all(len(a) == len(b) == 1 for a, b, _ in pairs) and len(pairs) == 1
    test = "sign flips" if once and spread.count > 1 else "t"
    given = sign_flips(_weighted(first, gains), seed=seed) if flips or test == "sign flips" else math.nan
    if spread.df <= 0:
        return Difference(value, -math.inf, math.inf, 1.0, _effect(gains), test, given, spread)
    if spread.variance > 0:
        low, high = mean_interval(value, spread.variance, spread.df)
        p_value = 2 * float(stdtr(spread.df, -abs(value) / math.sqrt(spread.variance)))
    else:  # all units differ by the same; 3 / n, the rule of three, is what n of them leave open
        half = 1 - 0.025 ** (1 / spread.count) if share else 0.0
        low, high, p_value = value - half, value + half, 1.0 if value == 0 else 0.0
    if share:
        low, high = max(low, -1.0), min(high, 1.0)
    return Difference(
        value, low, high, given if test == "sign flips" else p_value, _effect(gains), test, given, spread
    )


def sign_flips(differences: np.ndarray, *, seed: int = 0) -> float:
    """Return the two-sided p-value of a sum of zero when the sign of each of the ``(u,)`` differences is arbitrary.

    All 2ᵘ flips are tried up to 12 differences, 4,999 random ones up to 1,000; beyond, their distribution is normal.

    >>> sign_flips(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    0.0625
    """
    values = differences[differences != 0]
    observed = abs(values.sum()) * (1 - 1e-12)
    if len(values) == 0:
        return 1.0
    if len(values) > _MANY:
        return float(erfc(observed / math.sqrt(2 * float(values @ values))))
    if len(values) <= _EXACT:
        signs = 2 * (np.arange(2 ** len(values))[:, None] >> np.arange(len(values)) & 1) - 1
        return float((np.abs(signs @ values) >= observed).mean())
    signs = np.random.default_rng(seed).integers(0, 2, size=(_REPEATS, len(values)), dtype=np.int8) * 2 - 1
    extreme = int((np.abs(signs @ values) >= observed).sum())
    return (extreme + 1) / (_REPEATS + 1)


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


def _units(block: Block) -> tuple[np.ndarray, float]:
    """Values of the units ``(s, u)``, and the share of their variance that is left without what counts twice.

    Queries that were skipped in any training do not count.
    """
    values = np.atleast_2d(np.asarray(block.values, dtype=float))
    if values.shape[1] == 1:
        return values, 1.0
    answered = ~np.isnan(values).any(axis=0)
    if not answered.any():
        return np.empty((len(values), 0)), 1.0
    units = influence(values[:, answered], None if block.groups is None else block.groups[answered])
    if block.chance is None:
        return units, 1.0
    (units,), left = settled((units, block.chance))
    return units, left


def _paired(first: Block, second: Block) -> tuple[np.ndarray, np.ndarray, float]:
    """Units of both, of the queries that both answered, and the share of the variance of their difference that is left.

    One mean a training where the queries differ.
    """
    a, b = (np.atleast_2d(np.asarray(block.values, dtype=float)) for block in (first, second))
    if a.shape[1] != b.shape[1]:
        return np.nanmean(a, axis=1, keepdims=True), np.nanmean(b, axis=1, keepdims=True), 1.0
    answered = ~(np.isnan(a).any(axis=0) | np.isnan(b).any(axis=0))
    groups = None if first.groups is None or a.shape[1] == 1 else first.groups[answered]
    if not answered.any():
        return a[:, :0], b[:, :0], 1.0
    units = influence(a[:, answered], groups), influence(b[:, answered], groups)
    if first.chance is None or second.chance is None:
        return *units, 1.0
    (one, other), left = settled((units[0], first.chance), (units[1], second.chance))
    return one, other, left


def _combine(
    blocks: Sequence[Block], means: Sequence[float], spreads: Sequence[Spread]
) -> tuple[float, Spread]:
    """Average folds to data sets and data sets to one mean."""
    names = list(dict.fromkeys(block.dataset for block in blocks))
    values, joined = [], []
    for name in names:
        at = [i for i, block in enumerate(blocks) if block.dataset == name]
        values.append(float(np.mean([means[i] for i in at])))
        joined.append(over_folds([means[i] for i in at], [spreads[i] for i in at]))
    return float(np.mean(values)), over_datasets(joined)


def _around(value: float, spread: Spread, around: Iterable[tuple[float, float]]) -> Estimate:
    """Add the trainings' chance, in squares, to the half-widths of the intervals over items."""
    halves = np.array(list(around), dtype=float)
    below, above = np.sqrt((halves**2).sum(axis=0)) / len(halves)
    low, _ = mean_interval(0.0, spread.variance, spread.df) if spread.variance > 0 else (0.0, 0.0)
    return Estimate(value, value - math.hypot(below, low), value + math.hypot(above, low))


def _weighted(blocks: Sequence[Block], gains: Sequence[np.ndarray]) -> np.ndarray:
    """What each unit adds to the mean over all blocks."""
    sizes = {name: sum(block.dataset == name for block in blocks) for name in {b.dataset for b in blocks}}
    return np.concatenate(
        [gain / (gain.size * sizes[block.dataset]) for block, gain in zip(blocks, gains, strict=True)]
    )


def _effect(gains: Sequence[np.ndarray]) -> float:
    """Cohen's d_z; infinite where all units gain the same, NaN where there is one."""
    values = np.concatenate(gains)
    if values.size < 2:
        return math.nan
    deviation, mean = float(values.std(ddof=1)), float(values.mean())
    if deviation > 0:
        return mean / deviation
    return 0.0 if mean == 0 else math.copysign(math.inf, mean)
