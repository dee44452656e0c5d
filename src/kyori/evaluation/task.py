"""Who is compared with whom: the queries, the gallery, and the pairs that are no pairs."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..distances import Distance
from ..errors import ArgumentError, DataError
from ..vectors import VectorTable

__all__ = ["Task"]

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]

_ROWS = 1024
_COLLAPSED = 1e-6  # a spread of 8 float32 steps or less is rounding, not information


@dataclass(frozen=True, eq=False)
class Task:
    """Queries against a gallery; both are the same items when ``within``.

    Attributes:
        queries: ``(q, d)`` float32, in the order of the table.
        gallery: ``(m, d)`` float32, in the order of the ids, so that ties fall by id.
        query_classes: ``(q,)`` codes ``0 … c−1`` over both tables.
        gallery_classes: ``(m,)`` codes.
        excluded: ``(q,)`` the gallery column that holds the query itself, −1 where none does.
        query_groups: ``(q,)`` codes of the sequence (camera, video) of each query, or None without such a rule.
        gallery_groups: ``(m,)`` codes; a query is not compared with the items of its own group.
        metric: Name of the distance.
        within: Whether the gallery is the table of the queries.
    """

    queries: NDArray[np.float32]
    gallery: NDArray[np.float32]
    query_classes: NDArray[np.int64]
    gallery_classes: NDArray[np.int64]
    excluded: NDArray[np.int64]
    metric: Distance
    within: bool
    query_groups: NDArray[np.int64] | None = None
    gallery_groups: NDArray[np.int64] | None = None

    @classmethod
    def from_tables(
        cls, table: VectorTable, gallery: VectorTable | None, metric: Distance, sequence: str | None = None
    ) -> "Task":
        within = gallery is None
        gallery = table if gallery is None else gallery
        _check_tables(table, gallery)
        groups = _groups(table, gallery, sequence)
        order = np.argsort(gallery.ids, kind="stable")
        ascending = bool((order == np.arange(len(order))).all())  # spares a copy of the vectors
        query_labels, gallery_labels = _common_labels(table, gallery)
        _, codes = np.unique(np.concatenate([query_labels, gallery_labels]), return_inverse=True)
        return cls(
            queries=table.vectors,
            gallery=gallery.vectors if ascending else gallery.vectors[order],
            query_classes=codes[: len(table)].astype(np.int64),
            gallery_classes=codes[len(table) :][order].astype(np.int64),
            excluded=_positions(table.ids, gallery.ids[order]),
            metric=metric,
            within=within,
            query_groups=None if groups is None else groups[: len(table)],
            gallery_groups=None if groups is None else groups[len(table) :][order],
        )

    def positive_pairs(self, rows: slice) -> Pairs:
        """Return the row in the block and the gallery column of each positive of a block, ``(p,)`` each.

        Rows ascend, and so do the columns of one row. The query itself and its own group are left out.
        """
        row, column = self._classes.pairs(self.query_classes[rows])
        kept = column != self.excluded[rows][row]
        if self.query_groups is not None and self.gallery_groups is not None:
            kept &= self.query_groups[rows][row] != self.gallery_groups[column]
        return row[kept], column[kept]

    def excluded_pairs(self, rows: slice) -> Pairs:
        """Return row and column of what a block of queries must not be compared with, each pair once."""
        known = np.flatnonzero(self.excluded[rows] >= 0)
        row, column = known, self.excluded[rows][known]
        if self._sequences is None or self.query_groups is None:
            return row, column
        more = self._sequences.pairs(self.query_groups[rows])
        others = more[1] != self.excluded[rows][more[0]]
        return np.concatenate([row, more[0][others]]), np.concatenate([column, more[1][others]])

    @cached_property
    def _classes(self) -> "_Members":
        return _Members.of(
            self.gallery_classes, int(max(self.query_classes.max(), self.gallery_classes.max())) + 1
        )

    @cached_property
    def _sequences(self) -> "_Members | None":
        if self.query_groups is None or self.gallery_groups is None:
            return None
        return _Members.of(
            self.gallery_groups, int(max(self.query_groups.max(), self.gallery_groups.max())) + 1
        )

    def positives(self, rows: slice) -> NDArray[np.bool_]:
        """Return ``(b, m)``: which gallery items are of the query's class and are not the query itself."""
        same = self.query_classes[rows, None] == self.gallery_classes
        same[self.excluded_pairs(rows)] = False
        return same

    def positive_counts(self) -> NDArray[np.int64]:
        """Return ``(q,)`` number of positives R of each query."""
        sizes = np.bincount(self.gallery_classes, minlength=int(self.query_classes.max()) + 1)
        counts = sizes[self.query_classes]
        if self.query_groups is None or self.gallery_groups is None:
            itself = (self.excluded >= 0) & (self.gallery_classes[self.excluded] == self.query_classes)
            return counts - itself
        for start in range(0, len(counts), _ROWS):
            rows = slice(start, start + _ROWS)
            counts[rows] = np.bincount(self.positive_pairs(rows)[0], minlength=len(counts[rows]))
        return counts

    def degenerate(self) -> str | None:
        """Say in words why nothing can be measured, or return None."""
        if len(self.gallery) - (self.excluded[:1] >= 0).sum() < 1:
            return f"{len(self.queries)} items leave nothing to compare with; at least 2 are needed"
        if (
            len(np.unique(self.gallery_classes)) == 1
            and (self.query_classes == self.gallery_classes[0]).all()
        ):
            return "all items belong to one class, and so any answer would be right; at least 2 are needed"
        if _collapsed(self.gallery, self.queries, self.metric):
            return "all vectors are equal to float32 rounding (collapsed), and so their order means nothing"
        return None

    def undirected(self) -> NDArray[np.bool_]:
        """Return ``(q,)``: which queries are zero vectors where only directions count."""
        if self.metric != "cosine":
            return np.zeros(len(self.queries), np.bool_)
        return np.logical_not(self.queries.any(axis=1))


def _check_tables(table: VectorTable, gallery: VectorTable) -> None:
    for argument, value in (("table", table), ("gallery", gallery)):
        if not isinstance(value, VectorTable):
            raise ArgumentError(
                f"{argument} must be a VectorTable, such as VectorTable(vectors=X, labels=y); got"
                f" {type(value).__name__}."
            )
        if len(value) == 0:
            raise DataError(f"{argument} holds no vectors; at least 2 are needed.")
        if value.labels is None:
            raise DataError(f"{argument} has no labels; evaluation needs them. Build it with labels=...")
    if table.vectors.shape[1] != gallery.vectors.shape[1]:
        raise DataError(
            f"table and gallery must hold vectors of one length; got {table.vectors.shape[1]} and"
            f" {gallery.vectors.shape[1]}."
        )
    if table.ids.dtype.kind != gallery.ids.dtype.kind:
        raise DataError("table and gallery must both have integer ids or both string ids.")
    if (table.class_names is None) != (gallery.class_names is None):
        raise DataError("table and gallery must both have class names or both bare integer labels.")


def _common_labels(table: VectorTable, gallery: VectorTable) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return labels that mean the same in both tables: names where the tables number them differently."""
    labels = np.asarray(table.labels), np.asarray(gallery.labels)
    if table.class_names == gallery.class_names:
        return labels
    return np.array(table.class_names)[labels[0]], np.array(gallery.class_names)[labels[1]]


def _positions(ids: NDArray[Any], sorted_ids: NDArray[Any]) -> NDArray[np.int64]:
    """Return the position of each id among the sorted ones, −1 where it is not."""
    found = np.searchsorted(sorted_ids, ids)
    found[found == len(sorted_ids)] = 0
    return np.where(sorted_ids[found] == ids, found, -1)


def _collapsed(gallery: NDArray[np.float32], queries: NDArray[np.float32], metric: Distance) -> bool:
    """Return whether all vectors are equal to rounding, without a look at all of them where a few differ already."""
    few = np.concatenate([gallery[:_ROWS], queries[:_ROWS]])
    return (
        _spread(few, metric) <= _COLLAPSED
        and _spread(np.concatenate([gallery, queries]), metric) <= _COLLAPSED
    )


def _spread(vectors: NDArray[np.float32], metric: Distance) -> float:
    """Return the largest range of a coordinate over the largest coordinate; 0 when all vectors are equal."""
    if metric == "cosine":
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)
    largest = np.abs(vectors).max()
    return float(np.ptp(vectors, axis=0).max() / largest) if largest > 0 else 0.0


@dataclass(frozen=True, eq=False)
class _Members:
    """The gallery columns of each class (or sequence), so that the pairs of a block can be listed.

    Attributes:
        columns: ``(m,)`` sorted by class, ascending in each.
        starts: ``(c,)`` where each class begins.
        sizes: ``(c,)`` items of each class.
    """

    columns: NDArray[np.int64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, codes: NDArray[np.int64], classes: int) -> "_Members":
        sizes = np.bincount(codes, minlength=classes)
        return cls(np.argsort(codes, kind="stable"), np.cumsum(sizes) - sizes, sizes)

    def pairs(self, codes: NDArray[np.int64]) -> Pairs:
        """Return row and column of every member of the class of each of the ``(b,)`` codes."""
        counts = self.sizes[codes]
        row = np.repeat(np.arange(len(codes)), counts)
        before = np.cumsum(counts) - counts
        return row, self.columns[np.arange(len(row)) + np.repeat(self.starts[codes] - before, counts)]


def _groups(table: VectorTable, gallery: VectorTable, sequence: str | None) -> NDArray[np.int64] | None:
    if sequence is None:
        return None
    for argument, value in (("table", table), ("gallery", gallery)):
        if sequence not in value.columns:
            raise DataError(
                f"{argument} has no column {sequence!r} for the rule that items of one sequence are not compared;"
                f" it has {', '.join(value.columns) or 'none'}."
            )
    both = np.concatenate([table.columns[sequence], gallery.columns[sequence]])
    return np.unique(both, return_inverse=True)[1].astype(np.int64)
