"""Measures by class or by category: where the mean hides who is served badly."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ArgumentError
from ..results import Results
from .bootstrap import mean_interval, share_interval

__all__ = ["break_down"]


def break_down(
    results: Results, groups: ArrayLike, measures: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Return one row a group with its size and, for each measure of queries, the mean and its 95 % interval.

    Args:
        results: Of :func:`evaluate`.
        groups: ``(q,)`` the class or category of each query, in the order of the table.
        measures: Which; all that have per-query values when left out.

    Returns:
        Rows with ``group``, ``n`` and ``NAME``, ``NAME low``, ``NAME high`` for each measure, worst first by the
        first measure; NaN for a group whose queries were all skipped. Intervals resample the queries of the group.

    Raises:
        ArgumentError: The number of groups is not that of the queries, or a measure has no per-query values.

    >>> from kyori.vectors import VectorTable
    >>> from kyori.evaluation import evaluate
    >>> table = VectorTable(vectors=[[0.0], [1.0], [9.0], [2.0]], labels=["a", "a", "b", "b"])
    >>> rows = break_down(evaluate(table, measures=["recall@1"]), ["a", "a", "b", "b"])
    >>> [(row["group"], row["n"], row["recall@1"]) for row in rows]
    [('b', 2, 0.5), ('a', 2, 1.0)]
    """
    names = np.asarray(groups)
    if measures is None:
        measures = [name for name, result in results.items() if result.per_query is not None]
    values = {}
    for name in measures:
        per_query = results[name].per_query
        if per_query is None:
            raise ArgumentError(f"{name} has no value of each query, and so none of each group.")
        if names.shape != per_query.shape:
            raise ArgumentError(
                f"groups must have shape {per_query.shape}, one per query; got {names.shape}."
            )
        values[name] = per_query
    if not values:
        raise ArgumentError(
            "none of the measures has per-query values; measure recall or map@r, for example."
        )
    present, codes = np.unique(names, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes))
    rows = []
    for group, end, size in zip(present.tolist(), ends, np.bincount(codes), strict=True):
        row: dict[str, Any] = {"group": group, "n": int(size)}
        for name, per_query in values.items():
            part = per_query[order[end - size : end]].astype(np.float64)
            row[name], row[f"{name} low"], row[f"{name} high"] = _mean(part[~np.isnan(part)])
        rows.append(row)
    first = next(iter(values))
    return sorted(rows, key=lambda row: (math.isnan(row[first]), row[first]))


def _mean(values: np.ndarray) -> tuple[float, float, float]:
    n = len(values)
    if n == 0:
        return math.nan, math.nan, math.nan
    mean = float(values.mean())
    variance = float(values.var(ddof=1)) / n if n > 1 else 0.0
    if values.min() < 0 or values.max() > 1:
        return (mean, *mean_interval(mean, variance, n - 1)) if n > 1 else (mean, math.nan, math.nan)
    return mean, *share_interval(mean, variance, n - 1, n)
