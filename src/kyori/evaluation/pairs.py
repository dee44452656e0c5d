"""Verification measures with intervals: of all pairs of a task, or of pairs that are given one by one."""

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError, DataError, DegenerateWarning, nearest_name
from ..results import Result, Results
from .bootstrap import percentiles, ratio, shifted_interval
from .context import Context, unknown
from .measures import VERIFICATION, Measure, plan_measures
from .pair_influence import Kinds, Statistic, signs_of, with_influence
from .verification import (
    ItemCounts,
    PairCounts,
    area,
    count_pairs,
    equal_error_rate,
    interpolated_tar,
    last_within,
    rates,
    right_decisions,
)

__all__ = ["check_pairs", "evaluate_pairs", "verification_results"]

_BINS = 512


def evaluate_pairs(
    distances: ArrayLike,
    same: ArrayLike,
    *,
    threshold: float = 0.5,
    measures: Sequence[str] = ("accuracy", "best-accuracy", "auc", "eer", "tar"),
    far: Sequence[float] = (1e-3, 1e-2),
    bootstrap: int = 1000,
    seed: int = 0,
) -> Results:
    """Measure decisions on listed pairs: a pair counts as the same when its distance is below the threshold.

    Args:
        distances: ``(p,)`` distances of the pairs.
        same: ``(p,)`` bools, whether the two items of the pair are of one class.
        threshold: Distance below which a pair counts as the same, for a bare ``accuracy``.
        measures: Names out of ``accuracy accuracy@0.5 best-accuracy auc eer tar tar@far=1e-3``.
        far: The false-accept rates of a bare ``tar``.
        bootstrap: Number of resamples of the pairs; 0 gives no intervals (NaN).
        seed: Seed of the resamples.

    Returns:
        The results, with the curves ``"roc"`` and ``"histogram"``. Accuracy, under ``"accuracy@0.5"`` or what
        the threshold is, has one value a pair. Where all pairs are of one kind everything else is NaN, with a
        warning.

    Raises:
        ArgumentError: The shapes differ or an option is out of range.
        DataError: There are no pairs, or a distance is NaN.

    >>> results = evaluate_pairs([0.1, 0.2, 0.7, 0.9], [True, True, True, False], threshold=0.5)
    >>> results["accuracy@0.5"].value, results["auc"].value
    (0.75, 1.0)
    """
    levels, kinds = check_pairs(distances, same)
    plan = plan_measures(measures, (), far, threshold)
    for measure in plan:
        if measure.family not in VERIFICATION:
            raise ArgumentError(
                f"pairs have no measure {measure.key!r}{nearest_name(measure.key, VERIFICATION)}"
            )
    generator = np.random.default_rng(seed)
    kinds_of_pairs = {"same_pairs": int(kinds.sum()), "different_pairs": int((~kinds).sum())}
    protocol: dict[str, Any] = {"unit": "pair", **kinds_of_pairs}
    provenance = {"kyori": version("kyori"), "seed": seed, "bootstrap": bootstrap, **kinds_of_pairs}
    found: dict[str, Result] = {}
    for measure in plan:
        if measure.family == "accuracy":
            found[measure.key] = _pair_accuracy(measure, levels, kinds, bootstrap, generator, protocol)
    if kinds.all() or not kinds.any():
        warnings.warn(
            f"all {len(kinds)} pairs are {'the same' if kinds.all() else 'different'}; only accuracy has a value.",
            DegenerateWarning,
            stacklevel=2,
        )
        return Results([found.get(measure.key, unknown(measure)) for measure in plan], provenance=provenance)
    counts = PairCounts.from_pairs(levels, kinds)
    drawn = _draw_pairs(counts, bootstrap, generator)
    for measure in plan:
        if measure.family != "accuracy":
            result = _curve_result(measure, counts, protocol)
            found[measure.key] = _resampled(result, _statistic(measure, *drawn))
    curves = {"roc": counts.roc(), "histogram": counts.histogram()}
    return Results([found[measure.key] for measure in plan], curves=curves, provenance=provenance)


def verification_results(context: Context, measures: Sequence[Measure]) -> list[Result]:
    """Measure all pairs of a task.

    The intervals leave out items, or resample them where the gallery is another table: not pairs, as an item's pairs
    stand and fall together.
    """
    task, resamples = context.task, context.resamples
    thresholds = [measure.threshold for measure in measures if measure.family == "accuracy"]
    signs = None if context.effects is None else signs_of(resamples)
    counts, items = count_pairs(task, thresholds, context.block_rows, signs)
    ends = 2 if task.within else 1  # within one table each pair was counted from both its ends
    pairs = int(counts.same.sum()) // ends, int(counts.different.sum()) // ends
    if 0 in pairs:
        context.notes.append(
            f"verification needs same and different pairs; got {pairs[0]} same and {pairs[1]} different."
        )
        return [unknown(measure) for measure in measures]
    context.curves.update(roc=counts.roc(), histogram=counts.histogram())
    protocol = context.protocol | {"same_pairs": pairs[0], "different_pairs": pairs[1]}
    curve = _Counted.of(context, items, lambda of: (of.same, of.different))
    found = []
    for measure in measures:
        if measure.family == "accuracy":
            found.append(_accuracy(context, items, thresholds.index(measure.threshold), measure, protocol))
        else:
            result = _curve_result(measure, counts, protocol)
            found.append(curve.with_interval(result, functools.partial(_statistic, measure)))
    return found


@dataclass(frozen=True, eq=False)
class _Counted:
    """What some measures of a table need of each item's pairs, and so how sure they are."""

    context: Context
    kinds: Kinds
    signed: Kinds | None

    @classmethod
    def of(cls, context: Context, items: ItemCounts, chosen: Callable[[ItemCounts], Kinds]) -> "_Counted":
        return cls(context, chosen(items), None if items.signed is None else chosen(items.signed))

    def with_interval(self, result: Result, statistic: Statistic) -> Result:
        """Out of what each item adds to the measure; by resamples where the gallery is another table."""
        known = None
        if self.signed is not None:
            known = with_influence(self.context, result, statistic, self.kinds, self.signed)
        return _resampled(result, statistic(*self._drawn)) if known is None else known

    @functools.cached_property
    def _drawn(self) -> Kinds:
        draw = functools.partial(self.context.resamples.pair_sums, within=self.context.task.within)
        return draw(self.kinds[0], same_class=True), draw(self.kinds[1], same_class=False)


def _resampled(result: Result, drawn: NDArray[Any]) -> Result:
    low, high = shifted_interval(result.value, drawn, (0.0, 1.0))
    return replace(result, low=low, high=high)


def _statistic(measure: Measure, same: NDArray[Any], different: NDArray[Any]) -> NDArray[Any]:
    """Return the measure of each row of counts ``(…, bins)``, coarse ones."""
    match measure.family:
        case "auc":
            return area(same, different)
        case "eer":
            return equal_error_rate(rates(different), rates(same))
        case "tar":
            return interpolated_tar(rates(different), rates(same), measure.far)
        case _:
            return right_decisions(same, different).max(axis=-1)


def _accuracy(
    context: Context, items: ItemCounts, at: int, measure: Measure, protocol: dict[str, Any]
) -> Result:
    decided = _Counted.of(context, items, functools.partial(_decided, at=at))
    right, wrong = (decided.kinds[0] + decided.kinds[1]).T
    total = right + wrong
    value = float(right.sum(dtype=np.float64) / total.sum(dtype=np.float64))
    n = protocol["same_pairs"] + protocol["different_pairs"]
    per_query = (right / total).astype(np.float32)
    protocol = protocol | {"threshold": measure.threshold}
    result = Result(measure.key, value, math.nan, math.nan, per_query, n, protocol)

    def share(same: NDArray[Any], different: NDArray[Any]) -> NDArray[Any]:
        both = same + different
        return ratio(both[:, 0], both.sum(axis=1))

    return decided.with_interval(result, share)


def _decided(items: ItemCounts, at: int) -> Kinds:
    """Return how many pairs of each item are decided rightly and wrongly, ``(q, 2)`` for either kind."""
    same, different = items.accepted_same[at], items.accepted_different[at]
    rejected = items.same.sum(axis=1) - same, items.different.sum(axis=1) - different
    return np.stack([same, rejected[0]], axis=1), np.stack([rejected[1], different], axis=1)


def _curve_result(measure: Measure, counts: PairCounts, protocol: dict[str, Any]) -> Result:
    """Return the value that follows from the ROC of all pairs."""
    far, tar = counts.curve()
    extra: dict[str, float] = {}
    match measure.family:
        case "auc":
            value = area(counts.same, counts.different)
        case "eer":
            value = equal_error_rate(far, tar)
            extra = {"threshold": float(counts.thresholds[np.argmax(far + tar >= 1)])}
        case "tar":
            at = last_within(far, measure.far)
            value = tar[at]
            extra = {"threshold": float(counts.thresholds[at]), "far": float(far[at])}
        case _:
            right = right_decisions(counts.same, counts.different)
            value = right.max()
            extra = {"threshold": float(counts.thresholds[np.argmax(right)])}
    n = protocol["same_pairs"] + protocol["different_pairs"]
    return Result(measure.key, float(value), math.nan, math.nan, None, n, protocol | extra)


def _pair_accuracy(
    measure: Measure,
    distances: NDArray[np.float64],
    same: NDArray[np.bool_],
    replicates: int,
    generator: np.random.Generator,
    protocol: dict[str, Any],
) -> Result:
    right = (distances < measure.threshold) == same
    value = float(right.mean())
    drawn = generator.binomial(len(right), value, replicates) / len(
        right
    )  # what resampling the pairs amounts to
    protocol = protocol | {"threshold": measure.threshold}
    return Result(measure.key, value, *percentiles(drawn), right.astype(np.float32), len(right), protocol)


def check_pairs(distances: ArrayLike, same: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return ``(p,)`` float64 distances and bools of listed pairs, or say what is wrong with them."""
    levels, kinds = np.asarray(distances, np.float64), np.asarray(same)
    if levels.ndim != 1 or levels.shape != kinds.shape:
        raise ArgumentError(
            f"distances and same must both have shape (p,); got {levels.shape} and {kinds.shape}."
        )
    if kinds.dtype.kind != "b" and not np.isin(kinds, (0, 1)).all():
        raise ArgumentError("same must hold bools, or 1 for the same and 0 for different.")
    if len(levels) == 0:
        raise DataError("there are no pairs; at least 1 is needed.")
    unknown_rows = np.flatnonzero(~np.isfinite(levels))
    if len(unknown_rows):
        raise DataError(
            f"distances must be finite; {len(unknown_rows)} are not, the first is pair {unknown_rows[0]}."
        )
    return levels, kinds.astype(np.bool_)


def _draw_pairs(
    counts: PairCounts, replicates: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw pairs with replacement: ``(replicates, bins)`` counts of same and of different ones."""
    both = np.cumsum(counts.same + counts.different)
    starts = np.unique(np.searchsorted(both, np.linspace(0, both[-1], _BINS, endpoint=False), side="right"))
    cells = np.concatenate([np.add.reduceat(kind, starts) for kind in (counts.same, counts.different)])
    drawn = generator.multinomial(both[-1], cells / both[-1], size=replicates)
    return drawn[:, : len(starts)], drawn[:, len(starts) :]
