"""Retrieval: each query ranks the gallery, and its positives should come first.

All measures follow from the ranks of a query's positives. The formulas take ``rank (p,)``, ascending for each query,
``query (p,)``, whose rank it is, and ``R (b,)``, the number of positives of each query.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..results import Result
from .ahead import Ranks
from .context import Context, Unit
from .influence import Effects, EffectSums, influences
from .measures import Measure
from .per_query import PerQueryFile
from .ranking import rank_blocks
from .task import Task

__all__ = ["Retrieval", "average_precision", "ndcg", "precision", "retrieval_results", "retrieve"]

Counts = NDArray[np.int64]
Values = NDArray[np.float64]


def retrieval_results(context: Context, measures: Sequence[Measure]) -> list[Result]:
    """Measure every query and average over the queries that can be answered."""
    found = context.retrieval
    if found is None:
        found = retrieve(
            context.task,
            measures,
            context.block_rows,
            memory=context.memory,
            stream=context.per_query,
            effects=context.effects,
        )
    missing = found.positives == 0
    if missing.any():
        _apply_policy(context, found, missing)
    undirected = context.task.undirected()
    for values in found.values.values():
        values[undirected] = np.nan
    shares = _influences(context, found)
    results = []
    for measure in measures:
        values, (influence, chance) = found.values[measure.key], shares.get(measure.key) or (None, None)
        n = int((~np.isnan(values)).sum())
        protocol = context.protocol | {
            "no_positive": context.no_positive,
            "skipped": len(values) - n,
            "tied_queries": found.tied,
        }
        if measure.k:
            protocol["k"] = measure.k
        mean = float(np.nanmean(values)) if n else math.nan
        interval = context.resamples.mean(values, influence, chance)
        per_query = values.astype(np.float32)
        results.append(Result(measure.key, mean, *interval, per_query, n, protocol, influence, chance))
    return results


def _influences(
    context: Context, found: "Retrieval"
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]] | None]:
    if found.effects is None:
        return {}
    shares = influences(
        context.task,
        found.values,
        found.effects,
        unit_class=context.effects == "class",
        zero=context.no_positive == "zero",
    )
    # Rounded before intervals are drawn from them: then they do not depend on the blocks in which they were added up.
    return {
        key: None if of is None else (of[0].astype(np.float32), of[1].astype(np.float32))
        for key, of in shares.items()
    }


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Per-query values by measure, NaN for a query that has no positive.

    Attributes:
        values: ``(q,)`` by the key of the measure.
        positives: ``(q,)`` number of positives R of each query.
        tied: Number of queries whose values depend on how ties are broken: among what was ranked, a positive and a
            negative are at exactly the same distance.
        effects: What the measures would gain without each item, or class; None where that was not asked.
    """

    values: dict[str, Values]
    positives: Counts
    tied: int
    effects: Effects | None = None


def retrieve(
    task: Task,
    measures: Sequence[Measure],
    block_rows: int | None = None,
    *,
    rows: slice | None = None,
    memory: int | None = None,
    stream: PerQueryFile | None = None,
    effects: Unit | None = None,
) -> Retrieval:
    """Rank the gallery for every query (of ``rows``), no deeper than the measures ask, and measure each ranking.

    With ``effects`` also ask what each measure would be without each item, or without each class.
    """
    rows = slice(0, len(task.queries)) if rows is None else rows
    n = rows.stop - rows.start
    values = {measure.key: np.full(n, np.nan) for measure in measures}
    counts = np.zeros(n, np.int64)
    depth = max(_depth(measure, task, effects) for measure in measures)
    tied = 0
    sums = None if effects is None else EffectSums(task, measures, classes=effects == "class")
    asked = {"ahead": effects is not None, "listed": effects == "class"}

    def use(ranks: Ranks) -> tuple[Ranks, dict[str, Values]]:
        if sums is not None:
            sums.add(ranks)
        of = {measure.key: _measure(ranks, measure) for measure in measures}
        return replace(ranks, ahead=None), of

    for ranks, of in rank_blocks(task, depth, use, rows=rows, block_rows=block_rows, memory=memory, **asked):
        at = slice(ranks.rows.start - rows.start, ranks.rows.stop - rows.start)
        counts[at] = ranks.positives
        tied += int(ranks.tied.sum())
        answerable = ranks.positives > 0
        for key, found in of.items():
            values[key][at][answerable] = found[answerable]
        if stream is not None:
            stream.write(ranks.rows, {"positives": counts[at]} | {key: of[at] for key, of in values.items()})
    return Retrieval(values, counts, tied, None if sums is None else sums.effects())


def _measure(ranks: Ranks, measure: Measure) -> Values:
    rank, query, R, k = ranks.rank, ranks.query, ranks.positives, measure.k
    match measure.family:
        case "recall" | "mrr" | "mrr@k":
            first = np.full(len(R), np.inf)
            first[query[::-1]] = rank[::-1]  # the last to be written is the first of each query
            if measure.family == "recall":
                return (first <= k).astype(np.float64)
            return 1 / first if measure.family == "mrr" else np.where(first <= k, 1 / first, 0.0)
        case "precision":
            return precision(rank, query, np.full_like(R, k))
        case "r-precision":
            return precision(rank, query, R)
        case "map@r":
            return average_precision(rank, query, limit=R, divisor=R)
        case "map@k":
            return average_precision(rank, query, limit=np.full_like(R, k), divisor=np.minimum(k, R))
        case "map":
            return average_precision(rank, query, limit=np.full_like(R, np.iinfo(np.int64).max), divisor=R)
        case _:
            return ndcg(rank, query, R, k)


def precision(rank: Counts, query: Counts, limit: Counts) -> Values:
    """Return the share of positives among the first ``limit (b,)`` answers: Precision@k, or R-Precision.

    >>> precision(np.array([1, 3]), np.array([0, 0]), np.array([2]))
    array([0.5])
    """
    return np.bincount(query, rank <= limit[query], len(limit)) / np.maximum(limit, 1)


def average_precision(rank: Counts, query: Counts, limit: Counts, divisor: Counts) -> Values:
    """Return (1/divisor) Σ_{i ≤ limit} Precision@i · hit_i of each query.

    MAP@R (Musgrave et al. 2020) has limit R and divisor R; MAP@k has limit k and divisor min(k, R), never the
    number of hits found; mAP has no limit and divisor R.

    >>> average_precision(np.array([1, 3]), np.array([0, 0]), limit=np.array([3]), divisor=np.array([2]))
    array([0.83333333])
    """
    counts = np.bincount(query, minlength=len(limit))
    nth = np.arange(1, len(rank) + 1) - np.repeat(np.cumsum(counts) - counts, counts)
    hits = np.where(rank <= limit[query], nth / rank, 0.0)
    return np.bincount(query, hits, len(limit)) / np.maximum(divisor, 1)


def ndcg(rank: Counts, query: Counts, positives: Counts, k: int) -> Values:
    """Return the discounted gain Σ_{i ≤ k} hit_i / log₂(i+1) over that of a perfect ranking.

    >>> ndcg(np.array([2]), np.array([0]), np.array([1]), k=2)
    array([0.63092975])
    """
    gains = np.where(rank <= k, 1 / np.log2(rank + 1.0), 0.0)
    ideal = np.cumsum(1 / np.log2(np.arange(2, k + 2)))
    return np.bincount(query, gains, len(positives)) / ideal[np.clip(positives, 1, k) - 1]


def _apply_policy(context: Context, found: Retrieval, missing: NDArray[np.bool_]) -> None:
    what = f"{int(missing.sum())} of {len(missing)} queries have no positive in the gallery"
    if context.no_positive == "error":
        raise DataError(
            f"{what}, the first is row {int(np.argmax(missing))}. Leave them out or pass no_positive=."
        )
    if context.no_positive == "zero":
        for values in found.values.values():
            values[missing] = 0
    else:
        context.notes.append(f"{what}; they are skipped (no_positive='skip').")


def _depth(measure: Measure, task: Task, effects: Unit | None) -> int:
    """Return how many answers of each query the measure looks at; 0 where it only needs the first positive."""
    if effects is not None:  # what it is without a positive depends on all of them, or on the second
        shallow = effects == "query" and measure.family in ("recall", "precision")
        return min(measure.k, len(task.gallery)) if shallow else len(task.gallery)
    match measure.family:
        case "recall" | "mrr" | "mrr@k":
            return 0
        case "r-precision" | "map@r":
            return max(1, int(task.positive_counts().max()))
        case "map":
            return len(task.gallery)
        case _:
            return measure.k
