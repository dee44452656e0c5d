"""Hubs and dimensions: is some item everybody's neighbour, and how many directions do the vectors use?"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..neighbors import nearest
from ..results import Result
from .bootstrap import ratio, shifted_interval
from .context import Context
from .measures import Measure

__all__ = ["effective_rank", "effective_rank_result", "hubness_result", "k_occurrence", "robin_hood_result"]

Floats = NDArray[np.float64]

_GROUPS = 20  # of the delete-a-group jackknife


def k_occurrence(context: Context, k: int) -> tuple[NDArray[np.int64], int]:
    """Return ``(n,)`` in how many of the others' first k neighbours each item is, and the k that was possible."""
    vectors = context.task.queries
    k = min(k, len(vectors) - 1)
    found = nearest(
        vectors, vectors, k, context.task.metric, block_rows=context.block_rows, exclude_self=True
    )
    return np.bincount(found.ids.ravel(), minlength=len(vectors)), k


def hubness_result(context: Context, measure: Measure, counts: NDArray[np.int64], k: int) -> Result:
    """Skewness of the k-occurrence (Radovanović et al. 2010): 0 for none, large where a few items are all over."""
    powers = np.stack([counts.astype(np.float64) ** p for p in range(4)], axis=1)
    value = float(_skewness(powers.sum(axis=0)[None])[0])
    drawn = _skewness(context.resamples.sums(powers))
    protocol = context.protocol | {
        "k": k,
        "never_found": int((counts == 0).sum()),
        "most_found": int(counts.max()),
    }
    return Result(measure.key, value, *shifted_interval(value, drawn), None, len(counts), protocol)


def robin_hood_result(context: Context, measure: Measure, counts: NDArray[np.int64], k: int) -> Result:
    """Share of all neighbour places that would have to move for every item to have k (Feldbauer et al. 2018)."""
    moved = np.abs(counts - k) / (2 * k)
    drawn = context.resamples.sums(np.stack([moved, np.ones(len(counts))], axis=1))
    value = float(moved.mean())
    interval = shifted_interval(value, ratio(*drawn.T), (0.0, 1.0))
    return Result(measure.key, value, *interval, None, len(counts), context.protocol | {"k": k})


def effective_rank(covariance: Floats) -> float:
    """Return exp(entropy) of the singular values of the centred vectors, as shares (Roy & Vetterli 2007).

    d for vectors that spread alike in d directions, 1 on a line; NaN where all vectors are equal.
    """
    singular = np.sqrt(np.clip(np.linalg.eigvalsh(covariance), 0, None))
    # What rounding leaves in empty directions is no spread.
    singular = singular[singular > singular.max(initial=0.0) * 1e-6]
    if not len(singular):
        return math.nan
    shares = singular / singular.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def effective_rank_result(context: Context) -> Result:
    """Measure the queries; the interval is that of a delete-a-group jackknife over items, or over classes."""
    vectors: NDArray[np.floating] = context.task.queries
    if context.task.metric == "cosine":
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.where(norms > 0, norms, 1)
    n, d = vectors.shape
    classes = context.resamples.classes
    units = np.arange(n) if classes is None else classes
    groups = min(_GROUPS, int(units.max()) + 1)
    order = np.random.default_rng(context.seed).permutation(int(units.max()) + 1) % groups
    middle = vectors.mean(axis=0, dtype=np.float64)
    moments = [_moments(vectors, np.flatnonzero(order[units] == g), middle) for g in range(groups)]
    n_all: Any = sum(part[0] for part in moments)
    sums: Any = sum(part[1] for part in moments)
    products: Any = sum(part[2] for part in moments)
    value = effective_rank(_covariance(n_all, sums, products))
    low = high = math.nan
    if context.resamples.replicates and groups > 2 and not math.isnan(value):
        left = np.array(
            [effective_rank(_covariance(n_all - k, sums - s, products - p)) for k, s, p in moments]
        )
        spread = math.sqrt((groups - 1) / groups * float(((left - left.mean()) ** 2).sum()))
        low, high = max(1.0, value - 2.09 * spread), min(float(d), value + 2.09 * spread)  # t of 19 degrees
    return Result("effective-rank", value, low, high, None, n, context.protocol | {"dimensions": d})


def _moments(
    vectors: NDArray[np.float32], rows: NDArray[np.int64], middle: Floats
) -> tuple[float, Floats, Floats]:
    centred = vectors[rows] - middle
    return float(len(rows)), centred.sum(axis=0), centred.T @ centred


def _covariance(n: float, sums: Floats, products: Floats) -> Floats:
    return products / n - np.outer(sums, sums) / n**2


def _skewness(powers: Floats) -> Floats:
    """Return the third standardised moment out of sums of the powers 0 … 3, ``(r, 4)``; 0 where nothing varies."""
    n, first, second, third = powers.T
    mean = first / n
    variance = second / n - mean**2
    centred = third / n - 3 * mean * second / n + 2 * mean**3
    return np.divide(
        centred, np.maximum(variance, 0) ** 1.5, out=np.zeros(len(powers)), where=variance > 1e-12
    )
