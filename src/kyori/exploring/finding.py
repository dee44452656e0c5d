"""Items by a piece of their id, label or text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..report.sections import class_name
from ..vectors import VectorTable
from .looks import Looks

__all__ = ["Finder"]


class Finder:
    """Looks a piece of text up in ids, labels and texts, whatever its case.

    Args:
        table: The items.
        looks: Their texts, where they are texts.
    """

    def __init__(self, table: VectorTable, looks: Looks):
        self._table, self._looks = table, looks
        self._ids: list[str] | None = None
        self._texts: list[str] | None = None

    def rows(self, wanted: str) -> NDArray[np.int64]:
        """Return the rows of the items found: that of this very id first, then the others in their order."""
        wanted = wanted.strip().lower()
        if not wanted:
            return np.empty(0, np.int64)
        if self._ids is None:
            self._ids = [str(id_).lower() for id_ in self._table.ids.tolist()]
            self._texts = [text.lower() for text in self._looks.texts() or ()]
        found = np.fromiter((wanted in id_ for id_ in self._ids), np.bool_, len(self._ids))
        found |= self._labelled(wanted)
        if self._texts:
            found |= np.fromiter((wanted in text for text in self._texts), np.bool_, len(self._ids))
        rows = np.flatnonzero(found)
        same = np.array([self._ids[row] == wanted for row in rows], np.bool_)
        return np.concatenate([rows[same], rows[~same]])

    def _labelled(self, wanted: str) -> NDArray[np.bool_]:
        table = self._table
        if table.labels is None:
            return np.zeros(len(table), np.bool_)
        codes = np.unique(table.labels)
        names = [class_name(table, code) for code in codes.tolist()]
        return np.isin(table.labels, codes[[wanted in name.lower() for name in names]])
