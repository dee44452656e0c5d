"""Verification: is this pair the same? Over all pairs, exactly, in one pass and bounded memory.

A pair is accepted when its distance is below the threshold. FAR is the share of different pairs that are accepted,
TAR the share of same pairs. Distances are counted in 2²² cells over their range, and thresholds are edges of cells:
every FAR and TAR is the exact count over all pairs at the threshold that is reported with it, and nothing is sampled.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..neighbors import distance_blocks
from .task import Task

__all__ = [
    "ItemCounts",
    "PairCounts",
    "area",
    "count_pairs",
    "equal_error_rate",
    "interpolated_tar",
    "last_within",
    "rates",
    "right_decisions",
]

_CELLS = 1 << 22
_SAMPLE_ROWS = 200  # queries that place the bins of the intervals; no value depends on them

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PairCounts:
    """How many same and different pairs there are at each distance.

    Attributes:
        thresholds: ``(t + 1,)`` ascending; ``thresholds[j]`` accepts the first j entries below and no more.
        same: ``(t,)`` same pairs at the t distances, ascending.
        different: ``(t,)`` different pairs.
    """

    thresholds: Floats
    same: NDArray[np.int64]
    different: NDArray[np.int64]

    @classmethod
    def from_pairs(cls, distances: Floats, same: NDArray[np.bool_]) -> "PairCounts":
        """Count listed pairs; each distinct distance is an entry of its own."""
        levels, position = np.unique(distances, return_inverse=True)
        counts = np.bincount(position * 2 + same, minlength=2 * len(levels)).reshape(-1, 2)
        return cls(np.append(levels, np.nextafter(levels[-1], np.inf)), counts[:, 1], counts[:, 0])

    def curve(self) -> tuple[Floats, Floats]:
        """Return FAR and TAR at each threshold, ``(t + 1,)`` each, from 0 to 1."""
        return rates(self.different), rates(self.same)

    def roc(self, points: int = 500) -> dict[str, Floats]:
        """Return far, tar and threshold at up to ``points`` thresholds, even in log FAR and even in FAR."""
        far, tar = self.curve()
        lowest = 1 / max(1, int(self.different.sum()))
        wanted = np.concatenate([np.geomspace(lowest, 1, points // 2), np.linspace(0, 1, points // 2)])
        chosen = np.unique(np.searchsorted(far, wanted, side="right") - 1)
        return {"far": far[chosen], "tar": tar[chosen], "threshold": self.thresholds[chosen]}

    def histogram(self, bins: int = 80) -> dict[str, Floats]:
        """Return edges ``(bins + 1,)`` and the densities same and different ``(bins,)`` of the distances."""
        at, limits = self.thresholds[:-1], (self.thresholds[0], self.thresholds[-1])
        same, edges = np.histogram(at, bins, limits, weights=self.same, density=True)
        different, _ = np.histogram(at, bins, limits, weights=self.different, density=True)
        return {"edges": edges, "same": same, "different": different}


@dataclass(frozen=True, eq=False)
class ItemCounts:
    """What each item contributes, for intervals; coarse bins, fine where the rates are small.

    Attributes:
        same: ``(q, bins)`` how many of the query's same pairs lie in each bin, nearest first.
        different: ``(q, bins)`` how many of its different pairs.
        accepted_same: ``(q,)`` same pairs below the given threshold.
        accepted_different: ``(q,)`` different pairs below it.
    """

    same: NDArray[np.float32]
    different: NDArray[np.float32]
    accepted_same: NDArray[np.int64]
    accepted_different: NDArray[np.int64]


def count_pairs(
    task: Task, threshold: float = 0.0, block_rows: int | None = None
) -> tuple[PairCounts, ItemCounts]:
    """Count every query with every gallery item but itself; within one table each pair counts from both ends."""
    grid = _Grid.of(task, block_rows)
    q, bins = len(task.queries), grid.bins
    cells = np.zeros(2 * _CELLS, np.int64)
    items = np.zeros((q, 2, bins), np.float32)
    accepted = np.zeros((q, 2), np.int64)
    for rows, distances in distance_blocks(task.queries, task.gallery, task.metric, block_rows):
        keep, same = _pairs(task, rows, len(distances))
        below = distances < threshold
        accepted[rows, 1] = (below & same).sum(axis=1)
        accepted[rows, 0] = (below & keep).sum(axis=1) - accepted[rows, 1]
        cell = grid.cell(distances)
        side = 2 * np.arange(len(distances))[:, None] + same
        items[rows] = _histogram((side * bins + grid.bin_of_cell[cell])[keep], (len(distances), 2, bins))
        cells += np.bincount((cell + same * _CELLS)[keep], minlength=2 * _CELLS)
    counts = grid.pair_counts(cells[_CELLS:], cells[:_CELLS])
    return counts, ItemCounts(items[:, 1], items[:, 0], accepted[:, 1], accepted[:, 0])


def area(far: Floats, tar: Floats) -> Floats:
    """Return the area under ROC curves ``(…, t)``: the chance that a same pair is closer than a different one."""
    return (np.diff(far) * (tar[..., 1:] + tar[..., :-1]) / 2).sum(axis=-1)


def equal_error_rate(far: Floats, tar: Floats) -> Floats:
    """Return the rate at which false accepts equal false rejects, on the straight line between thresholds."""
    gap = far + tar - 1  # FAR − FRR, from −1 to 1 along the curve
    after = np.argmax(gap >= 0, axis=-1)[..., None]
    (g0, g1), (f0, f1) = _around(gap, after), _around(far, after)
    return (f0 - g0 * (f1 - f0) / (g1 - g0))[..., 0]


def last_within(far: Floats, rate: float) -> int:
    """Return the index of the largest threshold of one curve ``(t,)`` with FAR ≤ ``rate``."""
    # The factor keeps a rate that is met exactly, such as 1e-3 of 1,000 pairs, from failing by rounding.
    return int(np.searchsorted(far, rate * (1 + 1e-12), side="right")) - 1


def interpolated_tar(far: Floats, tar: Floats, rate: float) -> Floats:
    """Return TAR at FAR = ``rate`` for curves ``(…, t)`` of coarse bins, on the line between thresholds."""
    after = np.minimum((far <= rate).sum(axis=-1, keepdims=True), far.shape[-1] - 1)
    (f0, f1), (t0, t1) = _around(far, after), _around(tar, after)
    share = np.divide(rate - f0, f1 - f0, out=np.ones_like(f0), where=f1 > f0)
    return (t0 + share * (t1 - t0))[..., 0]


def right_decisions(same: NDArray, different: NDArray) -> Floats:
    """Return the share of all pairs decided rightly at each of the ``(…, t + 1)`` thresholds."""
    accepted, wrong = _accumulate(same), _accumulate(different)
    total = accepted[..., -1:] + wrong[..., -1:]
    return (accepted + wrong[..., -1:] - wrong) / np.where(total > 0, total, np.nan)


def rates(counts: NDArray) -> Floats:
    """Return the share of ``(…, t)`` counts accepted at each threshold, ``(…, t + 1)`` from 0 to 1."""
    accepted = _accumulate(counts)
    total = accepted[..., -1:]
    return accepted / np.where(total > 0, total, np.nan)


@dataclass(frozen=True, eq=False)
class _Grid:
    """Cells of equal width for the counts, and the coarse bins of the intervals made of whole cells."""

    low: float
    width: float
    bin_of_cell: NDArray[np.uint16]

    @classmethod
    def of(cls, task: Task, block_rows: int | None) -> "_Grid":
        low, high = np.inf, -np.inf
        for _, distances in distance_blocks(task.queries, task.gallery, task.metric, block_rows):
            low, high = min(low, float(distances.min())), max(high, float(distances.max()))
        grid = cls(low, max(high - low, np.finfo(np.float32).tiny) / (_CELLS - 1), np.zeros(0, np.uint16))
        return cls(grid.low, grid.width, grid._place_bins(task))

    @property
    def bins(self) -> int:
        return int(self.bin_of_cell[-1]) + 1

    def cell(self, distances: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the nearest cell of each distance, so that equal distances never fall apart by rounding."""
        return ((distances - self.low) * (1 / self.width) + 0.5).astype(np.int64)

    def pair_counts(self, same: NDArray[np.int64], different: NDArray[np.int64]) -> PairCounts:
        used = np.flatnonzero(same + different)
        edges = (
            np.append(used, used[-1] + 1) - 0.5
        )  # the lower edge of the next cell in use is the largest threshold
        return PairCounts(self.low + self.width * edges, same[used], different[used])

    def _place_bins(self, task: Task) -> NDArray[np.uint16]:
        """Cut at quantiles of both kinds of pairs, dense towards the small distances where FAR is small."""
        sample = np.unique(np.linspace(0, len(task.queries) - 1, _SAMPLE_ROWS).astype(int))
        _, distances = next(distance_blocks(task.queries[sample], task.gallery, task.metric, len(sample)))
        same = task.query_classes[sample, None] == task.gallery_classes
        cell = self.cell(distances)
        even = np.linspace(0, 1, 129)
        cuts = [
            np.quantile(kind, levels)
            for kind, levels in (
                (cell[same], even),
                (cell[~same], np.concatenate([even, np.geomspace(1e-6, 0.5, 129)])),
            )
            if len(kind)
        ]
        edges = np.unique(np.concatenate(cuts).astype(np.int64))
        return np.searchsorted(edges, np.arange(_CELLS), side="right").astype(np.uint16)


def _pairs(task: Task, rows: slice, b: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return ``(b, m)`` twice: what is a pair (not a query with itself), and what is a same pair."""
    keep = np.ones((b, len(task.gallery)), np.bool_)
    known = np.flatnonzero(task.excluded[rows] >= 0)
    keep[known, task.excluded[rows][known]] = False
    return keep, task.positives(rows)


def _histogram(cells: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    return np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape)


def _accumulate(counts: NDArray) -> NDArray:
    """Return cumulative sums along the last axis, with a leading 0."""
    zero = np.zeros((*counts.shape[:-1], 1), counts.dtype)
    return np.concatenate([zero, np.cumsum(counts, axis=-1)], axis=-1)


def _around(values: Floats, after: NDArray[np.int64]) -> tuple[Floats, Floats]:
    return np.take_along_axis(values, after - 1, axis=-1), np.take_along_axis(values, after, axis=-1)
