"""Manifests (CSV, TSV, JSON lines, Parquet): one picture, one text or one pair of texts a row."""

import csv
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from ..errors import ArgumentError, DataError, DataWarning, nearest_name
from .manifests import MANY, open_many
from .pictures import open_files, some
from .rows import KEPT, numeric_columns, open_rows
from .sources import SPLIT_ALIASES, Opening, Source, split_names
from .texts import open_text_table

__all__ = ["open_frame", "open_table", "read_frame"]

BOX = ("x_1", "y_1", "x_2", "y_2")
FLAGS = ("is_query", "is_gallery")
SHARED = ("id", "split", *FLAGS, "category", "sequence")
# What a row is, by the column that tells: the columns that it must have, and those that it may have.
LAYOUTS = {
    "path": (("path", "label"), (*SHARED, *BOX)),
    "text": (("text",), ("label", *SHARED)),
    "anchor": (("anchor", "positive"), ("id", "split", "category")),
}
FRAME = "table"  # the name of one in memory
LONGEST_ROW = 64 * 2**20  # bytes that a reader looks at as one piece: no row can be longer
TRUE, FALSE = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no", "")


def open_table(path: Path, opening: Opening, extra: Sequence[str] | Literal["all"]) -> Source:
    """Open a manifest.

    Pictures: the columns ``path`` and ``label``; paths are relative to the folder of the manifest, or absolute.
    Texts: ``text`` and, if there are labels, ``label``. Pairs of texts: ``anchor`` and ``positive``, and any columns
    whose names start with ``negative``.
    Optional columns: ``id`` (default: the path, or the number of the row), ``split``, ``is_query``, ``is_gallery``,
    ``category``, ``sequence``, and for pictures ``x_1, y_1, x_2, y_2``, the part of the upright picture to use, in
    pixels. Other columns are an error unless `extra` names them.

    Raises:
        DataError: The file is damaged, a column is missing, unknown or holds a value that it cannot.
    """
    return _open(path, _read(path), opening, extra)


def read_frame(frame: Any, opening: Opening) -> pa.Table | None:
    """A table in memory as one of Arrow; None where it holds numbers and no column that tells what they are.

    Raises:
        DataError: It cannot be one, or has no rows.
    """
    try:
        own = hasattr(frame, "iloc")  # pandas, whose index is no column
        table = pa.Table.from_pandas(frame, preserve_index=False) if own else pa.table(frame)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"{FRAME}: columns must hold values of one type each: {error}") from error
    told = opening.label or opening.features or {"label", *LAYOUTS} & set(table.column_names)
    if not told:
        if set(numeric_columns(table, "label")) == set(table.column_names):
            return None
        raise DataError(
            f"{FRAME}: no column is called label (or path, text, anchor); got {', '.join(table.column_names)}. Name"
            " the labels' column with label=, and columns of numbers with features=."
        )
    if table.num_rows == 0:
        raise DataError(f"{FRAME}: there are no rows; expected one item a row.")
    return table


def open_frame(table: pa.Table, opening: Opening, extra: Sequence[str] | Literal["all"]) -> Source:
    """Open a table in memory as a manifest, or as rows of numbers where no column tells what else a row is.

    Raises:
        DataError: A column is missing, unknown or holds a value that it cannot.
    """
    if not opening.features and not set(LAYOUTS) & set(table.column_names):
        opening = replace(opening, features=("numeric",))
        label = opening.label or "label"
        left_out = set(table.column_names) - {label, *KEPT, *numeric_columns(table, label)}
        if left_out and label in table.column_names:
            warnings.warn(
                f"{FRAME}: columns that hold no numbers are left out: {some(sorted(left_out))}. Name the ones to use "
                "with features= to have no such warning.",
                DataWarning,
                stacklevel=4,
            )
    return _open(Path(FRAME), table, opening, extra)


def _open(path: Path, table: pa.Table, opening: Opening, extra: Sequence[str] | Literal["all"]) -> Source:
    if opening.features:
        if extra:
            raise ArgumentError(
                "columns= and features= do not go together; rows of numbers keep known columns."
            )
        return open_rows(path, table, opening)
    if opening.label not in (None, "label"):
        if opening.label not in table.column_names or "label" in table.column_names:
            raise DataError(
                f"{path}: the labels are to come from {opening.label!r}; got the columns "
                f"{', '.join(table.column_names)}{nearest_name(opening.label, table.column_names)}"
            )
        table = table.rename_columns(["label" if c == opening.label else c for c in table.column_names])
    layout = next((name for name in LAYOUTS if name in table.column_names), "path")
    kept = _check_columns(path, table, layout, extra)
    many = layout == "path" and table.num_rows >= MANY
    columns = _columns(
        path, table.drop_columns(["id"]) if many and "id" in table.column_names else table, kept
    )
    if layout != "path":
        return open_text_table(path, {name: table[name] for name in table.column_names}, columns, opening)
    boxes = _boxes(path, table)
    if many:
        return open_many(path, table, columns, boxes, opening)
    labels = _labels(path, table["label"])
    paths = _strings(path, table, "path")
    ids = columns.pop("id", np.array(_default_ids(paths, boxes)))
    full = [os.path.join(path.parent, one) for one in paths]
    return open_files(full, labels, ids, columns, opening, boxes=boxes, name=str(path))


def _columns(path: Path, table: pa.Table, kept: set[str]) -> dict[str, np.ndarray]:
    """The optional columns that are there, and the further ones that were asked for, (n,) each."""
    columns: dict[str, np.ndarray] = {}
    for name in table.column_names:
        if name == "id":
            columns[name] = np.array(_strings(path, table, name))
        elif name == "split":
            columns[name] = _splits(path, table)
        elif name in FLAGS:
            columns[name] = _flags(path, table, name)
        elif name in ("category", "sequence"):
            codes, values = _codes(table[name])
            columns[name] = np.array(values, dtype=np.str_)[codes]
        elif name in kept:
            columns[name] = table[name].to_numpy()
    return columns


def _read(path: Path) -> pa.Table:
    """The table; all CSV columns as text, so that a class "007" stays what it is."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            table = pa.parquet.read_table(path)
        elif suffix == ".jsonl":
            table = pa.json.read_json(path, pa.json.ReadOptions(block_size=LONGEST_ROW))
        else:
            delimiter = "\t" if suffix == ".tsv" else ","
            with open(path, encoding="utf-8-sig") as file:
                header = file.readline()
            names = next(csv.reader([header], delimiter=delimiter), [])
            table = pa.csv.read_csv(
                path,
                read_options=pa.csv.ReadOptions(block_size=LONGEST_ROW),
                parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
            )
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a {path.suffix[1:]} table: {error}") from error
    if table.num_rows == 0:
        raise DataError(f"{path}: the manifest has no rows; expected one item a row.")
    return table


def _check_columns(
    path: Path, table: pa.Table, layout: str, extra: Sequence[str] | Literal["all"]
) -> set[str]:
    """The further columns to keep."""
    names = table.column_names
    required, optional = LAYOUTS[layout]
    negatives = [name for name in names if layout == "anchor" and name.startswith("negative")]
    known = (*required, *optional, *negatives)
    if len(set(names)) < len(names):
        raise DataError(f"{path}: column names must be unique; got {', '.join(names)}.")
    for column in required:
        if column not in names:
            others = (
                ""
                if column != "path"
                else " (or text, for texts; or anchor and positive, for pairs of them; or features=, for numbers)"
            )
            raise DataError(
                f"{path}: the column {column!r} is missing{others}; got the columns {', '.join(names)}."
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


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """A column's different values as texts, "" for a missing one, and each row's place among them (n,)."""
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    if isinstance(encoded, pa.ChunkedArray):  # more characters than one chunk holds
        encoded = encoded.unify_dictionaries().combine_chunks()
    return encoded.indices.to_numpy(zero_copy_only=False), [
        _text(value) for value in encoded.dictionary.to_pylist()
    ]


def _splits(path: Path, table: pa.Table) -> np.ndarray:
    codes, values = _codes(table["split"])
    wrong = [
        int(np.flatnonzero(codes == place)[0])
        for place, value in enumerate(values)
        if value.lower() not in SPLIT_ALIASES
    ]
    if wrong:
        row = min(wrong)
        if not values[codes[row]]:
            raise DataError(f"{path}: row {row + 1} has no value in the column 'split'.")
        split_names([values[place] for place in codes[: row + 1]], str(path))  # says what is wrong with it
    return split_names(values, str(path))[codes]


def _flags(path: Path, table: pa.Table, name: str) -> np.ndarray:
    codes, values = _codes(table[name])
    for place, value in enumerate(values):
        if value.lower() not in TRUE and value.lower() not in FALSE:
            row = int(np.flatnonzero(codes == place)[0])
            raise DataError(
                f"{path}: row {row + 1}: {name} must be true, false, 1, 0 or empty; got {value.lower()!r}."
            )
    return np.array([value.lower() in TRUE for value in values])[codes]


def _boxes(path: Path, table: pa.Table) -> np.ndarray | None:
    if BOX[0] not in table.column_names:
        return None
    try:
        boxes = np.stack(
            [
                pc.cast(table[name], pa.float64()).combine_chunks().to_numpy(zero_copy_only=False)
                for name in BOX
            ],
            axis=1,
        )
    except (TypeError, ValueError, pa.ArrowException) as error:
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
