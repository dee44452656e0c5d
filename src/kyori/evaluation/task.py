"""Who is compared with whom: the queries, the gallery, and the pairs that are no pairs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..distances import Distance
from ..errors import ArgumentError, DataError
from ..vectors import VectorTable

__all__ = ["Task"]

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

    @classmethod
    def from_tables(cls, table: VectorTable, gallery: VectorTable | None, metric: Distance) -> "Task":
        within = gallery is None
        gallery = table if gallery is None else gallery
        _check_tables(table, gallery)
        order = np.argsort(gallery.ids, kind="stable")
        query_labels, gallery_labels = _common_labels(table, gallery)
        _, codes = np.unique(np.concatenate([query_labels, gallery_labels]), return_inverse=True)
        return cls(
            queries=table.vectors,
            gallery=gallery.vectors[order],
            query_classes=codes[: len(table)].astype(np.int64),
            gallery_classes=codes[len(table) :][order].astype(np.int64),
            excluded=_positions(table.ids, gallery.ids[order]),
            metric=metric,
            within=within,
        )

    def positives(self, rows: slice) -> NDArray[np.bool_]:
        """Return ``(b, m)``: which gallery items are of the query's class and are not the query itself."""
        same = self.query_classes[rows, None] == self.gallery_classes
        excluded = self.excluded[rows]
        known = np.flatnonzero(excluded >= 0)
        same[known, excluded[known]] = False
        return same

    def degenerate(self) -> str | None:
        """Say in words why nothing can be measured, or return None."""
        if len(self.gallery) - (self.excluded[:1] >= 0).sum() < 1:
            return f"{len(self.queries)} items leave nothing to compare with; at least 2 are needed"
        if (
            len(np.unique(self.gallery_classes)) == 1
            and (self.query_classes == self.gallery_classes[0]).all()
        ):
            return "all items belong to one class, and so any answer would be right; at least 2 are needed"
        if _spread(np.concatenate([self.gallery, self.queries]), self.metric) <= _COLLAPSED:
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
            raise ArgumentError(f"{argument} must be a VectorTable; got {type(value).__name__}.")
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


def _spread(vectors: NDArray[np.float32], metric: Distance) -> float:
    """Return the largest range of a coordinate over the largest coordinate; 0 when all vectors are equal."""
    if metric == "cosine":
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)
    largest = np.abs(vectors).max()
    return float(np.ptp(vectors, axis=0).max() / largest) if largest > 0 else 0.0
