"""Rows of a table with numbers in some columns: each row is a vector."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import DataError, nearest_name
from .sources import ArrayStore, Opening, Source, encode_labels, split_names

__all__ = ["KEPT", "numeric_columns", "open_rows"]

KEPT = ("id", "split", "category", "sequence")  # what they mean in every manifest


def open_rows(path: Path, table: pa.Table, opening: Opening) -> Source:
    """Open the rows of a table as vectors of the columns ``opening.features``, in that order.

    ``"numeric"`` stands for all columns that hold numbers only, in the order of the file, without the label, ``id``,
    ``split``, ``category`` and ``sequence``. Other columns are left out.

    Raises:
        DataError: A column is missing, holds something else than numbers, or lacks values: none are made up.
    """
    names = table.column_names
    label = opening.label or "label"
    if opening.label is not None and label not in names:
        raise DataError(f"{path}: there is no column {label!r} for the labels{nearest_name(label, names)}")
    wanted = _wanted(path, table, opening, label)
    columns = [_numbers(path, table[name], name) for name in wanted]
    vectors = np.stack(columns, axis=1).astype(np.float32)
    bad = ~np.isfinite(vectors)
    if bad.any():
        row, place = (int(one) for one in np.argwhere(bad)[0])
        raise DataError(
            f"{path}: row {row + 1}: {wanted[place]!r} is infinite or NaN (as float32); {int(bad.sum())} such values."
        )
    codes: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    if label in names:
        codes, class_names = encode_labels(_labels(path, table[label], label), len(vectors), str(path))
    texts = {name: _texts(table[name]) for name in KEPT if name in names and name not in wanted}
    ids = texts.pop("id", np.arange(len(vectors)))
    if "split" in texts:
        texts["split"] = split_names(texts["split"], str(path))
    return Source(
        ArrayStore(vectors),
        rows=np.arange(len(vectors)),
        ids=ids,
        labels=codes,
        class_names=class_names,
        columns=texts,
        name=str(path),
    )


def _wanted(path: Path, table: pa.Table, opening: Opening, label: str) -> list[str]:
    names = table.column_names
    if opening.features == ("numeric",):
        found = numeric_columns(table, label)
        if not found:
            raise DataError(f"{path}: no column holds numbers only; got the columns {', '.join(names)}.")
        return found
    for name in opening.features:
        if name not in names:
            raise DataError(f"{path}: features names {name!r}, which is not there{nearest_name(name, names)}")
    twice = [name for name in opening.features if opening.features.count(name) > 1]
    if twice or label in opening.features:
        raise DataError(
            f"{path}: features must be different columns without the label; got {', '.join(opening.features)}."
        )
    return list(opening.features)


def numeric_columns(table: pa.Table, label: str) -> list[str]:
    """The columns that hold numbers only, in order, without the label and those with a meaning of their own."""
    return [name for name in table.column_names if name not in (label, *KEPT) and _is_numeric(table[name])]


def _filled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column with empty texts as missing ones."""
    if not pa.types.is_string(column.type):
        return column
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def _is_numeric(column: pa.ChunkedArray) -> bool:
    filled = _filled(column)
    try:
        pc.cast(filled, pa.float64())
    except pa.ArrowException:
        return False
    return filled.null_count < len(filled)


def _numbers(path: Path, column: pa.ChunkedArray, name: str) -> np.ndarray:
    filled = _filled(column)
    if filled.null_count:
        row = pc.index(pc.is_null(filled), True).as_py() + 1
        raise DataError(
            f"{path}: row {row} has no value in the column {name!r} ({filled.null_count} such rows). Fill them, with "
            "the median for example, or leave the rows or the column out; nothing is made up here."
        )
    try:
        return np.asarray(pc.cast(filled, pa.float64()).to_numpy())
    except pa.ArrowException:
        for row, value in enumerate(filled.to_pylist(), 1):
            if not _is_number(value):
                raise DataError(f"{path}: row {row}: {name!r} must be a number; got {value!r}.") from None
        raise


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _labels(path: Path, column: pa.ChunkedArray, name: str) -> np.ndarray:
    filled = _filled(column)
    if filled.null_count:
        row = pc.index(pc.is_null(filled), True).as_py() + 1
        raise DataError(f"{path}: row {row} has no label in {name!r} ({filled.null_count} such rows).")
    values = filled.to_pylist()
    return np.array(values, dtype=object if isinstance(values[0], str) else None)


def _texts(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(["" if value is None else str(value) for value in column.to_pylist()], dtype=np.str_)
