"""TAR at very small FAR over all pairs of a table: exact, in one pass and bounded memory.

A threshold with FAR ≤ 10⁻⁶ of 1.8 · 10⁹ different pairs is decided by the 1,800 closest of them. So only the closest
are kept: a sample of queries says about how far they reach, everything nearer is collected, and if that was too
little the pass is repeated farther out. Nothing is binned; distances are compared as float32 numbers.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from ..distances import Distance, check_distance
from ..errors import ArgumentError, DegenerateWarning
from ..neighbors import Screen, distance_blocks
from ..results import Result, Results
from ..vectors import VectorTable
from .bootstrap import Bootstrap, ratio, shifted_interval
from .context import Unit
from .measures import plan_measures
from .protocol import prepare
from .task import Task

__all__ = ["all_pairs"]

_SAMPLE_ROWS = 256
_MEMORY = 1 << 30


def all_pairs(
    table: VectorTable,
    *,
    gallery: VectorTable | None = None,
    metric: Distance = "euclidean",
    far: Sequence[float] = (1e-6, 1e-5, 1e-4),
    unit: Unit = "query",
    bootstrap: int = 1000,
    seed: int = 0,
    memory: int = _MEMORY,
    rules: bool = True,
) -> Results:
    """Measure TAR at small FARs over all pairs, with exact thresholds.

    ``evaluate`` knows thresholds to a millionth of the range of distances; this function to the last bit, which
    matters where only a few pairs in a million are accepted.

    Args:
        table: Labelled vectors; each unordered pair counts once (each ordered one for the asymmetric ``snr``).
        gallery: Compare with another table instead.
        metric: Distance of :mod:`kyori.distances`.
        far: False-accept rates between 0 and 1, small ones: the closest different pairs up to the largest rate are
            kept, 8 bytes each.
        unit: What is resampled for the intervals, which hold for the thresholds found: ``"query"`` (items) or
            ``"class"``.
        bootstrap: Number of resamples; 0 gives no intervals.
        seed: Of the resamples and of the sample.
        memory: Bytes that the working arrays may take, on top of the vectors.
        rules: As in :func:`evaluate`.

    Returns:
        ``tar@far=…`` with threshold, far and the number of accepted different pairs in the protocol.

    Raises:
        ArgumentError: A rate is out of range or needs more than ``memory``.
        DataError: The table has no labels or does not fit the gallery.

    >>> table = VectorTable(vectors=[[0.0], [1.0], [9.0], [7.5]], labels=["a", "a", "b", "b"])
    >>> all_pairs(table, far=[0.25], bootstrap=0)["tar@far=2.5e-1"].value
    1.0
    """
    check_distance(metric)
    plan = plan_measures(["tar"], (), far, None)
    ready = prepare(table, gallery, metric, rules)
    task, n = ready.task, len(ready.queries)
    step = max(1, min(1024, memory // (64 * len(task.gallery))))
    same, different = _totals(task, step)
    provenance = {
        "kyori": version("kyori"), "metric": metric, "seed": seed, "bootstrap": bootstrap, "unit": unit, "n": n,
        "gallery": ready.gallery, "same_pairs": same, "different_pairs": different,
    }  # fmt: skip
    if not same or not different:
        warnings.warn(
            f"all pairs need same and different ones; got {same:,} same and {different:,} different.",
            DegenerateWarning,
            stacklevel=2,
        )
        return Results([Result(m.key, math.nan, math.nan, math.nan) for m in plan], provenance=provenance)
    allowed = [int(different * measure.far * (1 + 1e-12)) for measure in plan]
    if 16 * max(allowed) + 64 * len(task.gallery) > memory:
        raise ArgumentError(
            f"the {max(allowed):,} closest of {different:,} different pairs need {16 * max(allowed):,} bytes; memory is"
            f" {memory:,}. Raise it, ask for a smaller FAR, or use evaluate(), which counts in cells."
        )
    tail = _closest(task, max(allowed) + 1, different, step, seed)
    thresholds = [float(tail[a]) if a < len(tail) else math.inf for a in allowed]
    accepted, total = _same_below(task, thresholds, step)
    resamples = Bootstrap(n, bootstrap, seed, task.query_classes if unit == "class" else None)
    results = []
    for i, measure in enumerate(plan):
        if different * measure.far * (1 + 1e-12) < 1:
            warnings.warn(
                f"{different:,} different pairs cannot resolve {measure.key}; at least {math.ceil(1 / measure.far):,}"
                " are needed. The threshold lies below all of them.",
                DegenerateWarning,
                stacklevel=2,
            )
        below = int(np.searchsorted(tail, thresholds[i]))
        value = float(accepted[i].sum() / total.sum())
        drawn = resamples.pair_sums(
            np.stack([accepted[i], total], axis=1), within=task.within, same_class=True
        )
        protocol = {
            "metric": metric, "unit": unit, "same_pairs": same, "different_pairs": different,
            "threshold": thresholds[i], "far": below / different, "accepted_different": below,
        }  # fmt: skip
        interval = shifted_interval(value, ratio(*drawn.T), (0.0, 1.0))
        results.append(Result(measure.key, value, *interval, None, same + different, protocol))
    return Results(results, provenance=provenance)


def _once(task: Task) -> bool:
    """Whether each unordered pair is met twice and should count once."""
    return task.within and task.metric != "snr"


def _totals(task: Task, step: int) -> tuple[int, int]:
    q, m = len(task.queries), len(task.gallery)
    same = int(task.positive_counts().sum())
    left_out = sum(len(task.excluded_pairs(rows)[0]) for rows in _slices(0, q, step))
    ends = 2 if _once(task) else 1
    return same // ends, (q * m - left_out - same) // ends


def _closest(task: Task, count: int, different: int, step: int, seed: int) -> NDArray[np.float32]:
    """Return the ``count`` smallest distances of different pairs, ascending, ties at the end included."""
    q = len(task.queries)
    sample = np.sort(np.random.default_rng(seed).permutation(q)[:_SAMPLE_ROWS])
    margin = 1.0
    while True:
        reach = _guess(task, sample, count / different, margin)
        tail = np.sort(np.concatenate([np.zeros(0, np.float32), *_nearer(task, reach, step)]))
        if len(tail) >= count or reach == math.inf:
            return tail
        margin *= 4


def _guess(task: Task, sample: NDArray[np.int64], share: float, margin: float) -> float:
    """Return a distance below which about the share of all different pairs lies, rather more than less."""
    _, distances = next(distance_blocks(task.queries[sample], task.gallery, task.metric, len(sample)))
    found = distances[task.query_classes[sample, None] != task.gallery_classes]
    expected = share * len(found)
    rank = int(margin * (expected + 4 * math.sqrt(expected) + 8))
    if rank >= len(found):
        return math.inf
    return float(np.partition(found, rank)[rank])


def _nearer(task: Task, reach: float, step: int) -> Iterator[NDArray[np.float32]]:
    """Yield the distances of different pairs that are at most ``reach``."""
    once = _once(task)
    for rows, start, distances in _candidates(task, reach, step):
        row, column, found = distances
        column = column + start
        keep = task.query_classes[rows][row] != task.gallery_classes[column]
        keep &= column > task.excluded[rows][row] if once else column != task.excluded[rows][row]
        if task.query_groups is not None and task.gallery_groups is not None:
            keep &= task.query_groups[rows][row] != task.gallery_groups[column]
        row, column = row[keep], column[keep]
        exact = found(rows.start + row, column) if callable(found) else found[keep]
        yield exact[exact <= reach]


def _candidates(task: Task, reach: float, step: int) -> Iterator[tuple]:
    """Yield blocks of rows, the first column, and row, column and distance (or how to get it) of near pairs."""
    q, m = len(task.queries), len(task.gallery)
    if task.metric not in Screen.METRICS:
        for rows, distances in distance_blocks(task.queries, task.gallery, task.metric, step):
            row, column = np.nonzero(distances <= reach)
            yield rows, 0, (row, column, distances[row, column])
        return
    screen = Screen(task.queries, task.gallery, task.metric)
    for rows in _slices(0, q, step):
        # Each pair is wanted once, from the end that comes first in the order of ids.
        start = int(task.excluded[rows].min()) if _once(task) else 0
        values = screen.block(rows, slice(start, m))
        limit = np.full(len(values), np.inf)
        if math.isfinite(reach):
            limit = screen.limit(rows, reach)
            limit += screen.slack(rows, limit)
        close = np.flatnonzero(values <= np.nextafter(limit.astype(np.float32), np.float32(np.inf))[:, None])
        row, column = np.divmod(close, values.shape[1])
        yield rows, start, (row, column, lambda r, c: screen.exact(r, c)[0])


def _same_below(
    task: Task, thresholds: Sequence[float], step: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each query how many of its same pairs lie below each threshold ``(t, q)``, and how many it has."""
    q, m = len(task.queries), len(task.gallery)
    total = task.positive_counts()
    accepted = np.zeros((len(thresholds), q), np.int64)
    many = int(total.sum()) * 32 > q * m
    if task.metric not in Screen.METRICS:
        for rows, distances in distance_blocks(task.queries, task.gallery, task.metric, step):
            row, column = task.positive_pairs(rows)
            _add_below(accepted[:, rows], row, distances[row, column], thresholds)
        return accepted, total
    screen = Screen(task.queries, task.gallery, task.metric)
    for rows in _slices(0, q, step):
        row, column = task.positive_pairs(rows)
        if not many:
            _add_below(accepted[:, rows], row, screen.exact(rows.start + row, column)[0], thresholds)
            continue
        values = screen.block(rows, slice(0, m))[row, column].astype(np.float64)
        for i, threshold in enumerate(thresholds):
            limit = screen.limit(rows, min(threshold, 1e18))
            slack = screen.slack(rows, limit)[row]
            limit = limit[row]
            unsure = np.flatnonzero(np.abs(values - limit) <= slack)
            below = values < limit
            below[unsure] = screen.exact(rows.start + row[unsure], column[unsure])[0] < np.float32(threshold)
            accepted[i, rows] += np.bincount(row, below, rows.stop - rows.start).astype(np.int64)
    return accepted, total


def _add_below(
    accepted: NDArray[np.int64],
    row: NDArray[np.int64],
    distances: NDArray[np.float32],
    thresholds: Sequence[float],
) -> None:
    for i, threshold in enumerate(thresholds):
        accepted[i] += np.bincount(row, distances < threshold, accepted.shape[1]).astype(np.int64)


def _slices(start: int, stop: int, step: int) -> Iterator[slice]:
    for at in range(start, stop, step):
        yield slice(at, min(at + step, stop))
