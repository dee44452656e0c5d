"""Retrieval: each query ranks the gallery, and its positives should come first.

The formulas take ``hits (q, m)``, the ranked gallery of each query with True at its positives, and ``R (q,)``, the
number of its positives.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..neighbors import distance_blocks, first_keys, order_keys
from ..results import Result
from .context import Context
from .measures import Measure
from .task import Task

__all__ = ["Retrieval", "average_precision", "ndcg", "precision", "retrieval_results", "retrieve"]

Hits = NDArray[np.bool_]
Counts = NDArray[np.int64]
Values = NDArray[np.float64]


def retrieval_results(context: Context, measures: Sequence[Measure]) -> list[Result]:
    """Measure every query and average over the queries that can be answered."""
    found = retrieve(context.task, measures, context.block_rows)
    missing = found.positives == 0
    if missing.any():
        _apply_policy(context, found, missing)
    undirected = context.task.undirected()
    results = []
    for measure in measures:
        values = found.values[measure.key]
        values[undirected] = np.nan
        n = int((~np.isnan(values)).sum())
        protocol = context.protocol | {
            "no_positive": context.no_positive,
            "skipped": len(values) - n,
            "tied_queries": found.tied,
        }
        if measure.k:
            protocol["k"] = measure.k
        mean = float(np.nanmean(values)) if n else math.nan
        interval = context.resamples.mean(values)
        results.append(Result(measure.key, mean, *interval, values.astype(np.float32), n, protocol))
    return results


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Per-query values by measure, NaN for a query that has no positive.

    Attributes:
        values: ``(q,)`` by the key of the measure.
        positives: ``(q,)`` number of positives R of each query.
        tied: Number of queries whose values depend on how ties are broken: among what was ranked, a positive and a
            negative are at exactly the same distance.
    """

    values: dict[str, Values]
    positives: Counts
    tied: int


def retrieve(task: Task, measures: Sequence[Measure], block_rows: int | None = None) -> Retrieval:
    """Rank the gallery for every query, no deeper than the measures ask, and measure each ranking."""
    q = len(task.queries)
    positives = np.bincount(task.gallery_classes, minlength=int(task.query_classes.max()) + 1)[
        task.query_classes
    ]
    positives = positives - _holds_itself(task)
    values = {measure.key: np.full(q, np.nan) for measure in measures}
    depth = max(_depth(measure, positives, len(task.gallery)) for measure in measures)
    wants_first = any(measure.family in ("recall", "mrr") for measure in measures)
    tied = 0
    for rows, distances in distance_blocks(task.queries, task.gallery, task.metric, block_rows):
        _exclude(distances, task.excluded[rows])
        ranking = _Ranking(distances, task.positives(rows), positives[rows], depth, wants_first)
        tied += ranking.tied
        answerable = positives[rows] > 0
        for measure in measures:
            values[measure.key][rows][answerable] = ranking.measure(measure)[answerable]
    return Retrieval(values, positives, tied)


class _Ranking:
    """The ranked galleries of one block of queries."""

    def __init__(
        self, distances: NDArray[np.float32], positive: Hits, positives: Counts, depth: int, wants_first: bool
    ):
        self.positives = positives
        keys = order_keys(distances)
        tied = np.zeros(len(keys), np.bool_)
        if wants_first:  # counting is cheaper than sorting when nothing else is asked
            nearest = np.where(positive, keys, np.iinfo(np.int64).max).min(axis=1, keepdims=True)
            self.first = 1 + (keys < nearest).sum(axis=1)
            tied |= ((keys >> 32 == nearest >> 32) & ~positive).any(axis=1)
        if depth:
            depth = min(depth + 1, keys.shape[1])  # one more shows a tie between the last and the next
            columns = first_keys(keys, depth)
            self.hits = np.take_along_axis(positive, columns, axis=1)
            level = keys[:, :depth] >> 32
            tied |= ((level[:, 1:] == level[:, :-1]) & (self.hits[:, 1:] != self.hits[:, :-1])).any(axis=1)
        self.tied = int((tied & (positives > 0)).sum())

    def measure(self, measure: Measure) -> Values:
        k, R = measure.k, self.positives
        match measure.family:
            case "recall":
                return (self.first <= k).astype(np.float64)
            case "mrr":
                return 1 / self.first
            case "precision":
                return precision(self.hits, np.full_like(R, k))
            case "r-precision":
                return precision(self.hits, R)
            case "map@r":
                return average_precision(self.hits, limit=R, divisor=R)
            case "map@k":
                return average_precision(self.hits, limit=np.full_like(R, k), divisor=np.minimum(k, R))
            case "map":
                return average_precision(self.hits, limit=np.full_like(R, self.hits.shape[1]), divisor=R)
            case _:
                return ndcg(self.hits, R, k)


def precision(hits: Hits, limit: Counts) -> Values:
    """Return the share of positives among the first ``limit (q,)`` answers: Precision@k, or R-Precision.

    >>> precision(np.array([[True, False, True]]), np.array([2]))
    array([0.5])
    """
    within = np.arange(hits.shape[1]) < limit[:, None]
    return (hits & within).sum(axis=1) / np.maximum(limit, 1)


def average_precision(hits: Hits, limit: Counts, divisor: Counts) -> Values:
    """Return (1/divisor) Σ_{i ≤ limit} Precision@i · hit_i of each query.

    MAP@R (Musgrave et al. 2020) has limit R and divisor R; MAP@k has limit k and divisor min(k, R), never the
    number of hits found; mAP has no limit and divisor R.

    >>> average_precision(np.array([[True, False, True]]), limit=np.array([3]), divisor=np.array([2]))
    array([0.83333333])
    """
    ranks = np.arange(1, hits.shape[1] + 1)
    hits = hits & (ranks <= limit[:, None])
    return (hits * np.cumsum(hits, axis=1) / ranks).sum(axis=1) / np.maximum(divisor, 1)


def ndcg(hits: Hits, positives: Counts, k: int) -> Values:
    """Return the discounted gain Σ_{i ≤ k} hit_i / log₂(i+1) over that of a perfect ranking.

    >>> ndcg(np.array([[False, True]]), np.array([1]), k=2)
    array([0.63092975])
    """
    gains = 1 / np.log2(np.arange(2, k + 2))
    found = hits[:, :k] @ gains[: hits.shape[1]]
    return found / np.cumsum(gains)[np.clip(positives, 1, k) - 1]


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


def _depth(measure: Measure, positives: Counts, m: int) -> int:
    """Return how many answers of each query the measure looks at; 0 where it only needs the first positive."""
    match measure.family:
        case "recall" | "mrr":
            return 0
        case "r-precision" | "map@r":
            return max(1, int(positives.max()))
        case "map":
            return m
        case _:
            return measure.k


def _holds_itself(task: Task) -> NDArray[np.bool_]:
    """Return ``(q,)``: whether the gallery's copy of the query would count as one of its positives."""
    return (task.excluded >= 0) & (task.gallery_classes[task.excluded] == task.query_classes)


def _exclude(distances: NDArray[np.float32], excluded: NDArray[np.int64]) -> None:
    """Put the query itself last; it is no positive, so wherever it stands it adds nothing."""
    rows = np.flatnonzero(excluded >= 0)
    distances[rows, excluded[rows]] = np.inf
