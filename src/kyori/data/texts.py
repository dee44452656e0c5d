"""Texts as a source: labelled texts, bare lines, and rows of anchor, positive and negatives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from ..errors import DataError, ItemError
from .kinds import Kind
from .pictures import warn_skipped
from .sources import Opening, Source, encode_labels, split_names

__all__ = ["ROLES", "TextStore", "is_texts", "open_lines", "open_text_table", "open_texts"]

#: What an item of a row is for; references are what anchors are compared with.
ROLES = ("anchor", "positive", "negative")
SHOWN = 40  # characters of a text in a message


@dataclass(frozen=True, eq=False)
class TextStore:
    """Texts in memory; ``load`` gives an array of strings (b,)."""

    texts: np.ndarray
    in_memory: bool = True

    kind: ClassVar[Kind] = "text"

    @property
    def item_shape(self) -> tuple[int, ...]:
        return ()

    def load(self, rows: np.ndarray) -> np.ndarray:
        return self.texts[rows]


def is_texts(data: Any) -> bool:
    """Whether `data` is a sequence of strings or an array of them.

    >>> is_texts(["a", "b"]), is_texts([[1.0], [2.0]])
    (True, False)
    """
    if isinstance(data, np.ndarray):
        return data.ndim == 1 and (data.dtype.kind == "U" or (data.dtype.kind == "O" and _all_strings(data)))
    return isinstance(data, (list, tuple)) and len(data) > 0 and _all_strings(data)


def _all_strings(values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def open_texts(texts: Sequence[str], labels: Any, opening: Opening, name: str = "texts") -> Source:
    """Open texts (n) with labels (n) or none; texts without a visible character are bad items."""
    codes, names = (None, ()) if labels is None else encode_labels(labels, len(texts), name)
    return _build(texts, np.arange(len(texts)), codes, names, {}, opening, name)


def open_lines(path: Path, opening: Opening) -> Source:
    """Open a text file, one text a line, without labels; blank lines are skipped silently, ids are line numbers from 1.

    Raises:
        DataError: The file is not UTF-8 or has no text.
    """
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}: line {line} is not UTF-8 ({error.reason}); convert the file, for example with iconv."
        ) from error
    kept = [number for number, line in enumerate(lines, 1) if line.strip()]
    if not kept:
        raise DataError(f"{path}: the file has no text; expected one text a line.")
    return _build([lines[k - 1] for k in kept], np.array(kept), None, (), {}, opening, str(path))


def open_text_table(
    path: Path, table: Mapping[str, pa.ChunkedArray], columns: Mapping[str, np.ndarray], opening: Opening
) -> Source:
    """Open a table with a column ``text``, or with ``anchor``, ``positive`` and any ``negative…``.

    Args:
        path: For messages.
        table: The columns by name.
        columns: Further columns that are read already, (n,) each, ``id`` and ``split`` among them.
        opening: What to do with bad items.
    """
    if "text" in table:
        return _labelled(path, table, columns, opening)
    return _rows(path, table, columns, opening)


def _labelled(
    path: Path, table: Mapping[str, pa.ChunkedArray], columns: Mapping[str, np.ndarray], opening: Opening
) -> Source:
    texts = _texts(table["text"])
    codes: np.ndarray | None = None
    names: tuple[str, ...] = ()
    if "label" in table:
        values = table["label"].to_pylist()
        missing = [row for row, value in enumerate(values, 1) if value is None or value == ""]
        if missing:
            raise DataError(f"{path}: row {missing[0]} has no label ({len(missing)} such rows).")
        codes, names = encode_labels(
            np.array(values, dtype=object if isinstance(values[0], str) else None), len(texts), str(path)
        )
    columns = dict(columns)
    ids = columns.pop("id", np.arange(len(texts)))
    return _build(texts, ids, codes, names, columns, opening, str(path))


def _rows(
    path: Path, table: Mapping[str, pa.ChunkedArray], columns: Mapping[str, np.ndarray], opening: Opening
) -> Source:
    """One item a cell: all anchors, all positives, then each column of negatives.

    Texts that are linked by a row's anchor and positive are of one class, however often they occur, so that the
    positive of one row is never the negative of another that means the same.
    """
    places = ["anchor", "positive", *(name for name in table if name.startswith("negative"))]
    cells = [_texts(table[name]) for name in places]
    n = len(cells[0])
    for column in cells[:2]:
        empty = [row for row, text in enumerate(column, 1) if not text.strip()]
        if empty:
            raise DataError(
                f"{path}: row {empty[0]} has no {places[cells.index(column)]} ({len(empty)} such rows); a row "
                "needs an anchor and a positive. A negative may be missing."
            )
    texts = [text for column in cells for text in column]
    kept = np.array([bool(text.strip()) for text in texts])
    row = np.tile(np.arange(n), len(cells))
    role = np.repeat([place if place in ROLES else "negative" for place in places], n)
    given = columns.get("id", np.arange(n)).astype(np.str_)
    further = {name: np.tile(values, len(cells)) for name, values in columns.items() if name != "id"}
    further |= {"row": row, "role": role, "is_query": role == "anchor", "is_gallery": role != "anchor"}
    ids = np.array([f"{given[r]}/{place}" for place, r in zip(np.repeat(places, n), row, strict=True)])
    codes = _linked(texts, n)
    return _build(
        texts, ids, codes, tuple(map(str, range(codes.max() + 1))), further, opening, str(path), kept
    )


def _linked(texts: Sequence[str], n: int) -> np.ndarray:
    """The connected component of each text: row i links the texts i and n + i."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    unique, codes = np.unique(np.array(texts, dtype=object), return_inverse=True)
    links = coo_matrix((np.ones(n, dtype=bool), (codes[:n], codes[n : 2 * n])), shape=(len(unique),) * 2)
    return connected_components(links, directed=False)[1][codes].astype(np.int64)


def _texts(column: pa.ChunkedArray) -> list[str]:
    return ["" if value is None else str(value) for value in column.to_pylist()]


def _build(
    texts: Sequence[str],
    ids: np.ndarray,
    codes: np.ndarray | None,
    class_names: Sequence[str],
    columns: Mapping[str, np.ndarray],
    opening: Opening,
    name: str,
    kept: np.ndarray | None = None,
) -> Source:
    """A source of the texts that say something; `kept` are those that were chosen already."""
    skipped: list[tuple[str, str]] = []
    if kept is None:
        kept = np.array([bool(text.strip()) for text in texts], dtype=bool)
        for place in np.flatnonzero(~kept).tolist():
            error = ItemError(f"text {ids[place]}", "it is empty")
            if opening.bad_items == "error":
                raise error
            skipped.append((error.item, error.reason))
    if not kept.any():
        raise DataError(f"{name}: none of the {len(texts)} texts has a visible character.")
    warn_skipped(skipped, name)
    rows = np.flatnonzero(kept)
    columns = {key: values[rows] for key, values in columns.items()}
    if "split" in columns:
        columns["split"] = split_names(columns["split"], name)
    store = np.empty(len(texts), dtype=object)  # strings of their own length: a few long ones cost no padding
    store[:] = list(texts)
    return Source(
        TextStore(store),
        rows=rows,
        ids=np.asarray(ids)[rows],
        labels=None if codes is None else codes[rows],
        class_names=class_names,
        columns=columns,
        skipped=skipped,
        name=name,
    )
