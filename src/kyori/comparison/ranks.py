"""Methods over several data sets: average ranks, and which of them differ.

Each data set is one observation, however many queries it has: the claim is about data sets like these (Demšar 2006).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy import stats

from .statistics import holm

__all__ = ["Ranks", "rank_methods"]


@dataclass(frozen=True)
class Ranks:
    """Average ranks over data sets, 1 for the best.

    Attributes:
        methods: The methods, the best average rank first.
        average: Their average ranks.
        datasets: Number of data sets.
        friedman: p-value that all methods are alike (Friedman 1937 in the form of Iman & Davenport 1980); NaN with
            two methods.
        critical: Difference of average ranks from which two methods differ at 5 % (Nemenyi 1963).
        p_values: Wilcoxon's signed-rank p-value of each pair, corrected by Holm.
        groups: Runs of methods, by position, that Nemenyi's test cannot tell apart: the bars of the diagram.
    """

    methods: tuple[str, ...]
    average: tuple[float, ...]
    datasets: int
    friedman: float
    critical: float
    p_values: Mapping[tuple[str, str], float]
    groups: tuple[tuple[int, int], ...]

    def differ(self, first: str, second: str) -> bool:
        """Whether the average ranks of two methods differ by more than the critical difference."""
        a, b = (self.average[self.methods.index(name)] for name in (first, second))
        return abs(a - b) > self.critical

    def named(self, names: Sequence[str]) -> Ranks:
        """Return the same ranks under other names, as a language writes them."""
        other = dict(zip(self.methods, names, strict=True))
        p_values = {(other[a], other[b]): p for (a, b), p in self.p_values.items()}
        return replace(self, methods=tuple(names), p_values=p_values)


def rank_methods(methods: Sequence[str], values: np.ndarray) -> Ranks | None:
    """Rank methods by values ``(data sets, methods)``, more is better; equal values share their ranks.

    Data sets on which a method has no value are left out; None where fewer than two data sets or methods remain.

    >>> ranks = rank_methods(["a", "b", "c"], np.array([[3, 2, 1], [3, 2, 1], [3, 1, 2.0]]))
    >>> ranks.methods, [round(rank, 2) for rank in ranks.average]
    (('a', 'b', 'c'), [1.0, 2.33, 2.67])
    """
    table = values[~np.isnan(values).any(axis=1)]
    n, k = table.shape
    if n < 2 or k < 2:
        return None
    average = stats.rankdata(-table, axis=1).mean(axis=0)
    order = np.argsort(average, kind="stable")
    names, ordered = tuple(methods[i] for i in order), average[order]
    critical = (
        float(stats.studentized_range.ppf(0.95, k, np.inf)) / math.sqrt(2) * math.sqrt(k * (k + 1) / (6 * n))
    )
    pairs = list(combinations(range(k), 2))
    corrected = holm([_wilcoxon(table[:, order[i]] - table[:, order[j]]) for i, j in pairs])
    return Ranks(
        names,
        tuple(float(rank) for rank in ordered),
        n,
        _friedman(table) if k > 2 else math.nan,
        critical,
        {(names[i], names[j]): float(p) for (i, j), p in zip(pairs, corrected, strict=True)},
        _groups(ordered, critical),
    )


def _friedman(table: np.ndarray) -> float:
    n, k = table.shape
    if (np.ptp(table, axis=1) == 0).all():
        return 1.0
    chi2 = float(stats.friedmanchisquare(*table.T).statistic)
    most = n * (k - 1)
    if chi2 >= most * (1 - 1e-12):  # all data sets agree
        return 0.0
    return float(stats.f.sf((n - 1) * chi2 / (most - chi2), k - 1, (k - 1) * (n - 1)))


def _wilcoxon(gains: np.ndarray) -> float:
    if not gains.any():
        return 1.0
    method = "exact" if len(np.unique(np.abs(gains))) == len(gains) and gains.all() else "auto"
    return float(stats.wilcoxon(gains, method=method).pvalue)


def _groups(average: np.ndarray, critical: float) -> tuple[tuple[int, int], ...]:
    """Longest runs within the critical difference, none inside another."""
    found: list[tuple[int, int]] = []
    for i, rank in enumerate(average):
        j = int(np.flatnonzero(average - rank <= critical)[-1])
        if j > i and (not found or j > found[-1][1]):
            found.append((i, j))
    return tuple(found)
