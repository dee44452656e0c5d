"""Verification: is this pair the same? Over all pairs, in one pass and bounded memory; nothing is sampled.

A pair is accepted when its distance is below the threshold. FAR is the share of different pairs that are accepted,
TAR the share of same pairs. Distances are counted in 2²⁰ cells over their range, so that thresholds are known to a
millionth of the range, and FAR and TAR are counts of all pairs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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

_CELLS = 1 << 20
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
        accepted_same: ``(thresholds, q)`` same pairs below each given threshold.
        accepted_different: ``(thresholds, q)`` different pairs below it.
        signed: The same numbers with each pair counted by the sign of its gallery item; None where none was given.
    """

    same: NDArray[np.float32]
    different: NDArray[np.float32]
    accepted_same: NDArray[np.int64]
    accepted_different: NDArray[np.int64]
    signed: "ItemCounts | None" = None

    @classmethod
    def of_sides(cls, items: NDArray[np.float32], accepted: NDArray[np.int64]) -> "ItemCounts":
        """Join counts of different and same pairs ``(2, q, s, bins)`` and ``(2, t, q, s)``, for each of s signs."""
        if items.shape[2] == 1:
            return cls(items[1, :, 0], items[0, :, 0], accepted[1, ..., 0], accepted[0, ..., 0])
        (less, more), (fewer, others) = np.moveaxis(items, 2, 0), np.moveaxis(accepted, 3, 0)
        signed, sums, decided = more - less, more + less, fewer + others
        turned = cls(signed[1], signed[0], others[1] - fewer[1], others[0] - fewer[0])
        return cls(sums[1], sums[0], decided[1], decided[0], turned)


def count_pairs(
    task: Task,
    thresholds: Sequence[float] = (),
    block_rows: int | None = None,
    signs: NDArray[np.int64] | None = None,
) -> tuple[PairCounts, ItemCounts]:
    """Count every query with every gallery item but itself; within one table each pair counts from both ends.

    With ``signs`` ``(m,)`` of −1 and 1 the gallery items of either sign are counted apart.
    """
    grid = _Grid.of(task, block_rows)
    same_cells, different_cells = np.zeros((2, _CELLS), np.int64)
    sides = 1 if signs is None else 2
    side = np.zeros(len(task.gallery), np.int64) if signs is None else (signs > 0).astype(np.int64)
    items = np.zeros((2, len(task.queries), sides, grid.bins), np.float32)
    accepted = np.zeros((2, len(thresholds), len(task.queries), sides), np.int64)
    for rows, distances in distance_blocks(task.queries, task.gallery, task.metric, block_rows):
        cell = grid.cell(distances)
        # All pairs at once, then what is no different pair taken off again: cheaper than to tell each pair's kind.
        different_cells += np.bincount(cell.ravel(), minlength=_CELLS)
        shape = items[0, rows].shape
        items[0, rows] = grid.binned(np.arange(len(cell))[:, None], side, cell, shape)
        pairs, itself = task.positive_pairs(rows), task.excluded_pairs(rows)
        np.add.at(same_cells, cell[pairs], 1)
        items[1, rows] = grid.binned(pairs[0], side[pairs[1]], cell[pairs], shape)
        items[0, rows] -= items[1, rows] + grid.binned(itself[0], side[itself[1]], cell[itself], shape)
        for taken in (pairs, itself):
            np.subtract.at(different_cells, cell[taken], 1)
        distances[itself] = np.inf
        for i, threshold in enumerate(thresholds):
            below = distances < threshold
            of_side = np.bincount(pairs[0] * sides + side[pairs[1]], below[pairs], len(cell) * sides)
            accepted[1, i, rows] = of_side.reshape(-1, sides)
            all_below = np.stack([below[:, side == s].sum(axis=1) for s in range(sides)], axis=1)
            accepted[0, i, rows] = all_below - accepted[1, i, rows]
    counts = grid.pair_counts(same_cells, different_cells)
    return counts, ItemCounts.of_sides(items, accepted)


def area(same: NDArray[Any], different: NDArray[Any]) -> Floats:
    """Return the area under the ROC of counts ``(…, t)``: the chance that a same pair is closer than a different.

    Pairs in one entry count one half.
    """
    closer = _accumulate(same.astype(np.float64))
    pairs = closer[..., -1] * different.sum(axis=-1)
    won = (different * (closer[..., 1:] + closer[..., :-1])).sum(axis=-1) / 2
    return won / np.where(pairs > 0, pairs, np.nan)


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


def right_decisions(same: NDArray[Any], different: NDArray[Any]) -> Floats:
    """Return the share of all pairs decided rightly at each of the ``(…, t + 1)`` thresholds."""
    accepted, wrong = _accumulate(same), _accumulate(different)
    total = accepted[..., -1:] + wrong[..., -1:]
    return (accepted + wrong[..., -1:] - wrong) / np.where(total > 0, total, np.nan)


def rates(counts: NDArray[Any]) -> Floats:
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
        low, high = _range(task, block_rows)
        width = max(high - low, float(np.finfo(np.float32).tiny)) / (_CELLS - 1)
        grid = cls(low, width, np.zeros(0, np.uint16))
        return cls(low, width, grid._place_bins(task))

    @property
    def bins(self) -> int:
        return int(self.bin_of_cell[-1]) + 1

    def cell(self, distances: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the nearest cell of each distance, so that equal distances never fall apart by rounding."""
        return ((distances - self.low) * (1 / self.width) + 0.5).astype(np.int64)

    def binned(
        self, row: NDArray[np.int64], side: NDArray[np.int64], cell: NDArray[np.int64], shape: tuple[int, ...]
    ) -> NDArray[np.int64]:
        """Return how many cells lie in each bin for each row and side, in an array of ``shape (rows, sides, bins)``."""
        place = self.bin_of_cell[cell] + row * (self.bins * shape[1])
        if shape[1] > 1:
            place += side * self.bins
        return np.bincount(place.ravel(), minlength=math.prod(shape)).reshape(shape)

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
        return np.cumsum(np.bincount(edges, minlength=_CELLS)).astype(np.uint16)


def _range(task: Task, block_rows: int | None) -> tuple[float, float]:
    """Return bounds of the distances: from the triangle inequality where it holds, else by looking at them all."""
    if task.metric in ("euclidean", "squared_euclidean"):
        centre = task.gallery.mean(axis=0, dtype=np.float64)
        reach = sum(np.linalg.norm(side - centre, axis=1).max() for side in (task.queries, task.gallery))
        high = float(reach) * (1 + 1e-6)  # what float32 rounding may add
        return 0.0, high if task.metric == "euclidean" else high**2
    low, high = math.inf, -math.inf
    for _, distances in distance_blocks(task.queries, task.gallery, task.metric, block_rows):
        low, high = min(low, float(distances.min())), max(high, float(distances.max()))
    return low, high


def _accumulate(counts: NDArray[Any]) -> NDArray[Any]:
    """Return cumulative sums along the last axis, with a leading 0."""
    zero = np.zeros((*counts.shape[:-1], 1), counts.dtype)
    return np.concatenate([zero, np.cumsum(counts, axis=-1)], axis=-1)


def _around(values: Floats, after: NDArray[np.int64]) -> tuple[Floats, Floats]:
    return np.take_along_axis(values, after - 1, axis=-1), np.take_along_axis(values, after, axis=-1)
