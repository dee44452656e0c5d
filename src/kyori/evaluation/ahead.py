"""Who stands before whom: the items that a query ranks before its positives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ahead", "add_at", "joined"]

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

_PASSES = 32  # a row is compared with each of so many limits, and each of its values looked up among more
_SCATTERED = 4  # items are taken one by one when fewer than one in so many matter


@dataclass(frozen=True, eq=False)
class Ahead:
    """The gallery items before each positive of a block, other positives among them.

    Most rows are lists: ``columns[starts[i] : place[p]]`` stand before positive p of row i. Rows in which a positive
    is far away are not sorted; their items are compared with ``low`` when they are asked for.

    Attributes:
        starts: ``(b + 1,)`` where the list of each row begins.
        columns: ``(e,)`` gallery columns, the closest first in each row.
        place: ``(p,)`` position in ``columns`` where those before the positive end.
        of: ``(u,)`` more of them, one by one: before which positive,
        rival: ``(u,)`` which column.
        wide: ``(w,)`` rows that are compared.
        low: ``(p,)`` an item of a wide row stands before the positive where its value is below this one.
        values: Yields the first column and the ``(b, ·)`` values of each block of columns.
    """

    starts: Counts
    columns: Counts
    place: Counts
    of: Counts
    rival: Counts
    wide: Counts
    low: NDArray[np.float32]
    values: Callable[[], Iterator[tuple[int, NDArray[np.float32]]]]

    def taken(self, order: Counts) -> "Ahead":
        """Return the same with the positives in another order."""
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return Ahead(
            self.starts,
            self.columns,
            self.place[order],
            back[self.of],
            self.rival,
            self.wide,
            self.low[order],
            self.values,
        )

    def add(self, weights: Floats, query: Counts, side: Counts, totals: Floats) -> None:
        """Add to each item what the positives behind it weigh, apart for rows of one side and of the other.

        Args:
            weights: ``(s, p)`` of each positive, for s measures.
            query: ``(p,)`` the row of each positive, ascending.
            side: ``(b,)`` 0 or 1 of each row.
            totals: ``(s, 2, m)``, to which is added.
        """
        for weight, total in zip(weights, totals, strict=True):
            self._add_listed(weight, query, side, total)
            if len(self.of):
                add_at(total, side[query[self.of]], self.rival, weight[self.of])
        if len(self.wide):
            self._add_wide(weights, query, side, totals)

    def _add_listed(self, weight: Floats, query: Counts, side: Counts, total: Floats) -> None:
        active = np.flatnonzero(weight)
        row = query[active]
        reach = self.place[active] - self.starts[row]
        lengths = np.zeros(len(self.starts) - 1, np.int64)
        np.maximum.at(lengths, row, reach)
        at = joined(self.starts[:-1], lengths)
        if len(at) == 0:
            return
        begin = (np.cumsum(lengths) - lengths)[row]
        steps = np.bincount(begin, weight[active], len(at) + 1)
        steps -= np.bincount(begin + reach, weight[active], len(at) + 1)
        add_at(total, np.repeat(side, lengths), self.columns[at], np.cumsum(steps[:-1]))

    def _add_wide(self, weights: Floats, query: Counts, side: Counts, totals: Floats) -> None:
        bounds = np.searchsorted(query, np.stack([self.wide, self.wide + 1], axis=1))
        for start, values in self.values():
            for row, (first, last) in zip(self.wide.tolist(), bounds.tolist(), strict=True):
                order = first + np.argsort(self.low[first:last])
                into = totals[:, side[row], start : start + values.shape[1]]
                for of, some in _by_depth(weights[:, order]):
                    limits = self.low[order[: some.shape[1]]]
                    items, behind = _behind(values[row], limits)
                    tails = np.zeros((len(of), len(limits) + 1))
                    np.cumsum(some[:, ::-1], axis=1, out=tails[:, -2::-1])
                    for s, tail in zip(of, tails, strict=True):
                        into[s][items] += tail.take(behind)


def add_at(total: Floats, side: Counts, units: Counts, values: Floats) -> None:
    """Add values ``(e,)`` to the units of their sides in ``total``, ``(2, m)``."""
    total += np.bincount(side * total.shape[1] + units, values, total.size).reshape(total.shape)


def _behind(values: NDArray[np.float32], limits: NDArray[np.float32]) -> tuple[Counts | slice, Counts]:
    """Return items, with all that are below a limit, and how many of the ascending limits do not lie above each."""
    below = values < limits[-1]
    items: Counts | slice = slice(None)
    if np.count_nonzero(below) * _SCATTERED < len(values):
        items = np.flatnonzero(below)
        values = values[items]
    if len(limits) > _PASSES:
        return items, np.searchsorted(limits, values, side="right")
    behind = np.zeros(len(values), np.uint8)
    for limit in limits:
        behind += values >= limit
    return items, behind.astype(np.intp)


def _by_depth(weights: Floats) -> Iterator[tuple[list[int], Floats]]:
    """Yield measures and their weights up to the last positive that weighs: the deepest ones, then the others."""
    active = weights != 0
    depth = np.where(active.any(axis=1), weights.shape[1] - np.argmax(active[:, ::-1], axis=1), 0)
    for of in (depth == depth.max(), depth < depth.max()):
        if depth[of].any():
            yield np.flatnonzero(of & (depth > 0)).tolist(), weights[of & (depth > 0), : depth[of].max()]


def joined(starts: Counts, lengths: Counts) -> Counts:
    """Return the positions ``starts[i] … starts[i] + lengths[i] − 1`` of all ranges, one after the other.

    >>> joined(np.array([5, 9]), np.array([2, 3])).tolist()
    [5, 6, 9, 10, 11]
    """
    before = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
