"""The ranks of a block of queries by a float32 product, and by exact distances where rounding could turn them.

About the exact value of each positive lies a window in which the product cannot tell what is closer; where windows
meet they are one. What lies before a window is closer for sure, and is counted: in a row whose positives are all near
by sorting it, in a far row by going through all its values. What lies in the window is computed exactly and sorted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..neighbors import Screen, row_keys
from .ahead import Ahead, Far, Ranks, joined
from .task import Task

__all__ = ["BLOCK_WIDTH", "screened"]

BLOCK_WIDTH = 65_536  # gallery items of one product

Counts = NDArray[np.int64]
Values = NDArray[np.float32]

_CROWDED = 64  # the screen is left when, besides the positives, one in so many pairs is within a window
_SORTED = 24  # the share of a row that is sorted rather than counted
_FEW = 64  # which are sorted anyway
_SAMPLED = 16  # one in so many items tells how many there are
_PASSES = 60  # a row is gone through for each of so many windows; with more, values are looked up among them
_CACHED = 262_144  # values that are looked at several times


def screened(
    task: Task, screen: Screen, rows: slice, room: Values, *, ahead: bool, listed: bool
) -> Ranks | None:
    """Return the ranks of a block, or None where too much is too close for the screen.

    Args:
        task: Who is compared with whom.
        screen: Of the task.
        rows: The block.
        room: Where its values are written to, and what stands ahead is read from.
        ahead: Whether it is wanted what stands before each positive.
        listed: Whether every row is sorted, however far its positives are.
    """
    windows = _Windows.of(task, screen, rows)
    product = _Product(task, screen, rows, room)
    scan = _Scan(windows, product, listed)
    most = windows.positives + (rows.stop - rows.start) * len(task.gallery) // _CROWDED
    if not scan.run(most):
        return None
    columns, starts, window, at = scan.sorted()
    sizes = np.bincount(window, minlength=len(windows.row))
    unsure = np.flatnonzero(sizes[window] > 1)
    if len(unsure) > most:
        return None
    exact = np.zeros(len(window), np.float32)
    exact[unsure] = screen.exact(rows.start + windows.row[window[unsure]], columns[at[unsure]])[0]
    order = _order(row_keys(window, exact), columns[at])  # each stays in its window
    columns[at], exact = columns[at[order]], exact[order]
    same = task.gallery_classes[columns[at]] == task.query_classes[rows][windows.row[window]]
    equal = (window[1:] == window[:-1]) & (exact[1:] == exact[:-1])
    tied = np.zeros(rows.stop - rows.start, np.bool_)
    tied[windows.row[window[1:][equal & (same[1:] != same[:-1])]]] = True

    positive = np.flatnonzero(same)
    of, place = window[positive], at[positive]
    query = windows.row[of]
    rank = scan.before[of] + positive - (np.cumsum(sizes) - sizes)[of] + 1
    stands = None
    if ahead:
        b = len(tied)
        far = np.flatnonzero(scan.far[windows.row])  # each of their windows is a list of its own
        lists = np.where(scan.far[query], b + np.searchsorted(far, of), query)
        stands = Ahead(
            columns,
            starts,
            np.concatenate([np.arange(b), windows.row[far]]),
            lists,
            place,
            Far(np.flatnonzero(scan.far), of - windows.first[query], scan.levels) if len(far) else None,
        )
    return Ranks(rows, query, rank, np.bincount(query, minlength=len(tied)), tied, columns[place], stands)


@dataclass(frozen=True, eq=False)
class _Windows:
    """Where the product cannot tell what is closer than a positive.

    Attributes:
        row: ``(c,)`` whose windows they are, ascending; those of a row ascend and do not meet.
        edges: ``(c, 2)`` what lies below the first is closer than every positive of the window; the second is the least
            value that is farther.
        first: ``(b + 1,)`` where the windows of each row begin.
        limit: ``(b,)`` nothing above it matters to the row.
        positives: How many there are in all windows.
    """

    row: Counts
    edges: Values
    first: Counts
    limit: Values
    positives: int

    @classmethod
    def of(cls, task: Task, screen: Screen, rows: slice) -> "_Windows":
        row, column = task.positive_pairs(rows)
        value = screen.exact(rows.start + row, column)[1]
        order = np.lexsort((value, row))
        row, value = row[order], value[order]
        slack = screen.slack(rows.start + row, value)
        low, high = _rounded(value - slack, -1), _rounded(value + slack, 1)
        first = np.ones(len(row), np.bool_)
        first[1:] = (row[1:] != row[:-1]) | (low[1:] > high[:-1])
        last = np.append(first[1:], True)[: len(row)]
        row, high = row[first], high[last]
        edges = np.stack([low[first], np.nextafter(high, np.float32(np.inf))], axis=1)
        b = rows.stop - rows.start
        limit = np.full(b, np.finfo(np.float32).min)  # a query without a positive needs nobody
        np.maximum.at(limit, row, high)
        return cls(row, edges, np.searchsorted(row, np.arange(b + 1)), limit, len(value))

    def levels(
        self, row: int, values: Values
    ) -> tuple[NDArray[np.unsignedinteger], NDArray[np.bool_], Counts]:
        """Return ``(w,)`` how many of the row's windows begin at or below each value, and whether it lies in one.

        And ``(k,)`` how many values lie before each window.
        """
        edges = self.edges[self.first[row] : self.first[row + 1]]
        if len(edges) > _PASSES:
            above = np.searchsorted(edges.ravel(), values, side="right")
            before = np.cumsum(np.bincount(above, minlength=edges.size))[:-1:2]
            return (above + 1 >> 1).view(np.uint64), (above & 1) == 1, before
        begun, ended = (np.greater_equal(values, edge) for edge in edges[0])
        beyond = [np.count_nonzero(begun)]
        begun, ended = begun.view(np.uint8), ended.view(np.uint8)
        after = np.empty(len(values), np.bool_)
        more = after.view(np.uint8)
        for begin, end in edges[1:].tolist():
            np.greater_equal(values, begin, out=after)
            np.add(begun, more, out=begun)
            beyond.append(np.count_nonzero(after))
            np.greater_equal(values, end, out=after)
            np.add(ended, more, out=ended)
        return begun, begun != ended, len(values) - np.array(beyond)


class _Product:
    """The values of a block, one block of columns after the other, infinite where a pair is no pair.

    Attributes:
        whole: Whether it is one block of columns, which is kept.
    """

    def __init__(self, task: Task, screen: Screen, rows: slice, room: Values):
        self._screen, self._rows, self._room = screen, rows, room
        self._items = len(task.gallery)
        self._excluded = task.excluded_pairs(rows)
        self.whole = self._items <= BLOCK_WIDTH

    def blocks(self) -> Iterator[tuple[int, Values]]:
        """Yield the first column and ``(b, w)`` values."""
        for start in range(0, self._items, BLOCK_WIDTH):
            columns = slice(start, min(start + BLOCK_WIDTH, self._items))
            b, w = self._rows.stop - self._rows.start, columns.stop - start
            values = self._screen.block(self._rows, columns, self._room[: b * w].reshape(b, w))
            row, column = self._excluded
            inside = (column >= start) & (column < columns.stop)
            values[row[inside], column[inside] - start] = np.inf
            yield start, values

    def kept(self) -> Values:
        """Return the ``(b, m)`` values of the one block, or what was written over them."""
        b = self._rows.stop - self._rows.start
        return self._room[: b * self._items].reshape(b, self._items)


class _Scan:
    """Goes through the values of a block.

    Attributes:
        before: ``(c,)`` how many items lie before each window.
        far: ``(b,)`` the rows that are counted.
    """

    def __init__(self, windows: _Windows, product: _Product, listed: bool):
        b = len(windows.limit)
        self._windows, self._product, self._listed = windows, product, listed
        self.before = np.zeros(len(windows.row), np.int64)
        self.far = np.zeros(b, np.bool_)
        none = np.zeros(0, np.int64)
        self._close = [(none, none)]  # of close rows, up to their limits: keys and columns
        # What lies in the windows of far rows: row, levels and columns.
        self._hits: list[tuple[int, NDArray[np.unsignedinteger], Counts]] = []
        self._level = np.min_scalar_type(int(np.diff(windows.first).max(initial=0)))

    def run(self, most: int) -> bool:
        """Look at every value; stop and return False where more than ``most`` lie in windows of far rows."""
        for start, values in self._product.blocks():
            step = max(1, _CACHED // values.shape[1])
            for top in range(0, len(values), step):
                self._look(top, start, values[top : top + step])
            if sum(len(columns) for _, _, columns in self._hits) > most:
                return False
        return True

    def _look(self, top: int, start: int, values: Values) -> None:
        part = slice(top, top + len(values))
        limit = self._windows.limit[part, None]
        if start == 0 and not self._listed:
            sample = values[:, ::_SAMPLED] <= limit
            counts = np.array([np.count_nonzero(row) for row in sample])
            self.far[part] = counts * _SAMPLED > max(values.shape[1] // _SORTED, _FEW)
        for i in np.flatnonzero(self.far[part]).tolist():
            self._count(top + i, start, values[i])
        near = np.flatnonzero(~self.far[part])
        if len(near) == 0:
            return
        close = values <= limit
        close[self.far[part]] = False
        flat = np.flatnonzero(close)
        row, column = np.divmod(flat, values.shape[1])
        self._close.append((row_keys(row + top, values.ravel()[flat]), column + start))

    def _count(self, row: int, start: int, values: Values) -> None:
        levels, within, before = self._windows.levels(row, values)
        first = self._windows.first[row]
        self.before[first : first + len(before)] += before
        inside = np.flatnonzero(within)
        self._hits.append((row, levels[inside], inside + start))
        self._write(levels, values)

    def _write(self, levels: NDArray[np.unsignedinteger], values: Values) -> None:
        """Write levels to where the values were."""
        values.view(self._level)[: len(values)] = levels

    def levels(self) -> Iterator[tuple[int, NDArray[np.unsignedinteger]]]:
        """Yield the first column and ``(b, w)``, in far rows: how many windows begin at or before each item."""
        if self._product.whole:
            kept = self._product.kept()
            yield 0, kept.view(self._level)[:, : kept.shape[1]]
            return
        for start, values in self._product.blocks():
            for row in np.flatnonzero(self.far).tolist():
                self._write(self._windows.levels(row, values[row])[0], values[row])
            yield start, values.view(self._level)[:, : values.shape[1]]

    def sorted(self) -> tuple[Counts, Counts, Counts, Counts]:
        """Return lists, and what of them lies in windows.

        Returns:
            Columns, list after list; where the list of each row, then of each window of a far row begins; and of each
            item in a window, by window: which one, and its position among the columns.
        """
        windows = self._windows
        keys, columns = _in_order(*(np.concatenate(of) for of in zip(*self._close, strict=True)))
        starts = np.searchsorted(keys, np.arange(len(self.far)) << 32)
        near = np.flatnonzero(~self.far[windows.row])
        from_ = np.searchsorted(keys, row_keys(windows.row[near], windows.edges[near, 0]))
        widths = np.searchsorted(keys, row_keys(windows.row[near], windows.edges[near, 1])) - from_
        self.before[near] = from_ - starts[windows.row[near]]

        hit, column = _in_order(*self._in_windows())
        far = np.flatnonzero(self.far[windows.row])
        starts = np.concatenate([starts, len(columns) + np.searchsorted(hit, far)])
        window = np.concatenate([np.repeat(near, widths), hit])
        at = np.concatenate([joined(from_, widths), len(columns) + np.arange(len(hit))])
        order = np.argsort(window, kind="stable")
        return np.concatenate([columns, column]), starts, window[order], at[order]

    def _in_windows(self) -> tuple[Counts, Counts]:
        """Return the windows and the columns of what lies in the windows of far rows."""
        if not self._hits:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        row, levels, columns = zip(*self._hits, strict=True)
        first = np.repeat(self._windows.first[list(row)], [len(of) for of in columns])
        return first + np.concatenate(levels).astype(np.int64) - 1, np.concatenate(columns)


def _in_order(keys: Counts, columns: Counts) -> tuple[Counts, Counts]:
    """Return the keys, sorted, and their columns."""
    order = np.argsort(keys, kind="stable")
    return keys[order], columns[order]


def _order(keys: Counts, columns: Counts) -> Counts:
    """Return the order of keys, and of columns where they are equal, which is rare."""
    order = np.argsort(keys)
    ordered = keys[order]
    return np.lexsort((columns, keys)) if (ordered[1:] == ordered[:-1]).any() else order


def _rounded(values: NDArray[np.float64], direction: int) -> Values:
    """Return the float32 at or beyond each value, towards +∞ (1) or −∞ (−1)."""
    near = values.astype(np.float32)
    beyond = np.nextafter(near, np.float32(direction * np.inf))
    return np.where((near - values) * direction < 0, beyond, near).astype(np.float32)
