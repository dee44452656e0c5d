"""What an item looks like: its picture, text or numbers from the data, else its vector."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Source
from ..errors import KyoriError
from ..report.page import Markup
from ..report.thumbnails import thumbnail
from ..vectors import VectorTable

__all__ = ["Looks"]

_LONGEST = 20_000  # characters of a text that are sent to the page


class Looks:
    """How the items of a table look.

    Args:
        table: The items.
        source: The data that they come from, in any order; None shows the vectors themselves.

    Attributes:
        known: How many items of the table are in ``source``.
    """

    def __init__(self, table: VectorTable, source: Source | None):
        self._table, self._source = table, source
        self._rows = np.full(len(table), -1) if source is None else _places(table.ids, source.ids)
        self.known = int((self._rows >= 0).sum())

    def thumbnail(self, row: int, name: str) -> Markup:
        """Return a small picture of an item as markup; of one that cannot be read, what is wrong with it."""
        try:
            item = self._item(row)
        except (KyoriError, OSError) as error:
            return thumbnail(str(error), name)
        return thumbnail(item, name)

    def text(self, row: int) -> str | None:
        """Return the text of an item, at most 20,000 characters of it; None where it is no text."""
        if self._source is None or self._source.kind != "text" or self._rows[row] < 0:
            return None
        text = str(self._item(row))
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"

    def texts(self) -> list[str] | None:
        """Return all texts in the order of the table; None where items are no texts."""
        if self._source is None or self._source.kind != "text":
            return None
        there = self._rows >= 0
        texts = np.full(len(self._rows), "", dtype=object)
        texts[there] = self._source.load(self._rows[there])
        return [str(text) for text in texts]

    def _item(self, row: int) -> Any:
        place = int(self._rows[row])
        return self._table.vectors[row] if self._source is None or place < 0 else self._source.read(place)


def _places(ids: NDArray[Any], known: Any) -> NDArray[np.int64]:
    """Return where each id stands among the known ones, −1 where it does not.

    >>> _places(np.array([4, 7, 5]), np.array([5, 4]))
    array([ 1, -1,  0])
    """
    place = {id_: i for i, id_ in enumerate(known.tolist())}
    if len(ids) and not any(id_ in place for id_ in ids.tolist()):
        place = {str(id_): i for id_, i in place.items()}  # a file of vectors may keep numbers as text
        ids = ids.astype(np.str_)
    return np.array([place.get(id_, -1) for id_ in ids.tolist()], np.int64)
