"""CSV and Parquet manifests: one picture a row, with its label and further columns."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ..errors import DataError, nearest_name
from .pictures import open_files
from .sources import Opening, Source, split_names

__all__ = ["open_table"]

REQUIRED = ("path", "label")
BOX = ("x_1", "y_1", "x_2", "y_2")
FLAGS = ("is_query", "is_gallery")
OPTIONAL = ("id", "split", *FLAGS, "category", "sequence", *BOX)
TRUE, FALSE = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no", "")


def open_table(path: Path, opening: Opening, extra: Sequence[str] | Literal["all"]) -> Source:
    """Open a manifest with the columns ``path`` and ``label``.

    Paths are relative to the folder of the manifest, or absolute. Optional columns: ``id`` (default: the path),
    ``split``, ``is_query``, ``is_gallery``, ``category``, ``sequence``, and ``x_1, y_1, x_2, y_2``, the part of
    the upright picture to use, in pixels. Other columns are an error unless `extra` names them.

    Raises:
        DataError: The file is damaged, a column is missing, unknown or holds a value that it cannot.
    """
    table = _read(path)
    kept = _check_columns(path, table, extra)
    labels = _labels(path, table["label"])
    paths = _strings(path, table, "path")
    boxes = _boxes(path, table)
    columns: dict[str, np.ndarray] = {}
    for name in table.column_names:
        if name == "split":
            columns[name] = split_names(_strings(path, table, name), str(path))
        elif name in FLAGS:
            columns[name] = _flags(path, table, name)
        elif name in ("category", "sequence"):
            columns[name] = np.array([_text(value) for value in table[name].to_pylist()], dtype=np.str_)
        elif name in kept:
            columns[name] = table[name].to_numpy()
    ids = _strings(path, table, "id") if "id" in table.column_names else _default_ids(paths, boxes)
    full = [os.path.join(path.parent, one) for one in paths]
    return open_files(full, labels, np.array(ids), columns, opening, boxes=boxes, name=str(path))


def _read(path: Path) -> pa.Table:
    """The table; all CSV columns as text, so that a class "007" stays what it is."""
    try:
        if path.suffix.lower() == ".parquet":
            table = pa.parquet.read_table(path)
        else:
            with open(path, encoding="utf-8-sig") as file:
                header = file.readline()
            names = next(csv.reader([header]), [])
            options = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
            table = pa.csv.read_csv(path, convert_options=options)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a {path.suffix[1:]} table: {error}") from error
    if table.num_rows == 0:
        raise DataError(f"{path}: the manifest has no rows; expected one picture a row.")
    return table


def _check_columns(path: Path, table: pa.Table, extra: Sequence[str] | Literal["all"]) -> set[str]:
    """The further columns to keep."""
    names = table.column_names
    known = (*REQUIRED, *OPTIONAL)
    if len(set(names)) < len(names):
        raise DataError(f"{path}: column names must be unique; got {', '.join(names)}.")
    for required in REQUIRED:
        if required not in names:
            raise DataError(
                f"{path}: the column {required!r} is missing; got the columns {', '.join(names)}."
            )
    if 0 < len(set(BOX) & set(names)) < len(BOX):
        raise DataError(f"{path}: a box needs all of the columns {', '.join(BOX)}; got {', '.join(names)}.")
    wanted = set(names) - set(known) if extra == "all" else set(extra)
    for name in sorted(wanted - set(names)):
        raise DataError(f"{path}: columns= names {name!r}, which is not there{nearest_name(name, names)}")
    for name in names:
        if name not in known and name not in wanted:
            raise DataError(
                f"{path}: unknown column {name!r}{nearest_name(name, known)} "
                f'To keep it as it is, open with columns=["{name}"] or columns="all".'
            )
    return wanted


def _labels(path: Path, column: pa.ChunkedArray) -> np.ndarray:
    values = column.to_pylist()
    for row, value in enumerate(values):
        if value is None or value == "":
            raise DataError(f"{path}: row {row + 1} has no label; every picture needs one.")
    return np.array(values, dtype=object if isinstance(values[0], str) else None)


def _strings(path: Path, table: pa.Table, name: str) -> list[str]:
    values = [_text(value) for value in table[name].to_pylist()]
    for row, value in enumerate(values):
        if not value:
            raise DataError(f"{path}: row {row + 1} has no value in the column {name!r}.")
    return values


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _flags(path: Path, table: pa.Table, name: str) -> np.ndarray:
    texts = [_text(value).lower() for value in table[name].to_pylist()]
    for row, text in enumerate(texts):
        if text not in TRUE and text not in FALSE:
            raise DataError(
                f"{path}: row {row + 1}: {name} must be true, false, 1, 0 or empty; got {text!r}."
            )
    return np.array([text in TRUE for text in texts])


def _boxes(path: Path, table: pa.Table) -> np.ndarray | None:
    if BOX[0] not in table.column_names:
        return None
    try:
        boxes = np.array([table[name].to_pylist() for name in BOX], dtype=np.float64).T
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: {', '.join(BOX)} must be numbers (pixels): {error}") from error
    wrong = ~(np.isfinite(boxes).all(1) & (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3]))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{path}: row {row + 1}: a box needs x_1 < x_2 and y_1 < y_2; got {boxes[row].tolist()} "
            f"({wrong.sum()} such rows)."
        )
    return boxes


def _default_ids(paths: list[str], boxes: np.ndarray | None) -> list[str]:
    """The path, and the box where several boxes of one picture are items of their own."""
    if boxes is None or len(set(paths)) == len(paths):
        return paths
    return [f"{path}#{','.join(f'{edge:g}' for edge in box)}" for path, box in zip(paths, boxes, strict=True)]
