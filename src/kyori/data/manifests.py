"""Manifests of millions of pictures: columns stay Arrow's, and a file is looked at when it is needed."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import DataError, ItemError
from . import images
from .pictures import FileStore, common_size, warn_skipped
from .sources import Opening, Source, encode_labels
from .strings import Strings

__all__ = ["MANY", "Paths", "coded", "open_many"]

MANY = 1_000_000  # rows from which on not every file is looked at
SAMPLED = 2_048  # headers that decide the common size


class Paths(Sequence[str]):
    """Paths of a manifest, joined to its folder one by one."""

    def __init__(self, folder: Path, column: pa.ChunkedArray):
        self._folder, self._column = folder, column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, row: Any) -> Any:
        return os.path.join(self._folder, self._column[int(row)].as_py())


def coded(path: Path, column: pa.ChunkedArray, name: str) -> tuple[np.ndarray, list[Any]]:
    """A column as codes (n,) int64 and their values.

    Raises:
        DataError: A value is missing or empty.
    """
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):  # more than 2 GiB of characters
        encoded = pa.chunked_array(encoded.chunks).unify_dictionaries().combine_chunks()
    values = encoded.dictionary.to_pylist()
    indices = encoded.indices
    missing = indices.null_count
    first = int(pc.index(pc.is_null(indices), True).as_py()) if missing else -1
    if not missing and "" in values:
        at = pc.equal(indices, pa.scalar(values.index(""), indices.type))
        missing, first = int(pc.sum(at).as_py()), int(pc.index(at, True).as_py())
    if missing:
        raise DataError(
            f"{path}: row {first + 1} has no {name} ({missing} such rows); every picture needs one."
        )
    return indices.to_numpy(zero_copy_only=False).astype(np.int64), values


def open_many(
    path: Path,
    table: pa.Table,
    columns: Mapping[str, np.ndarray],
    boxes: np.ndarray | None,
    opening: Opening,
) -> Source:
    """Open a manifest of a million pictures or more in seconds.

    The headers of 2,048 files, evenly taken, decide size and channels, and no other file is looked at: one that turns
    out missing or damaged is an `ItemError` when its batch comes.

    Args:
        path: The manifest.
        table: Its columns ``path``, ``label`` and, if there is one, ``id``.
        columns: Further columns, (n,) each.
        boxes: (n, 4) or None.
        opening: How to read.

    Raises:
        DataError: A path or label is missing, ids are not unique, or none of the files that are looked at can be read.
    """
    n = table.num_rows
    codes, values = coded(path, table["label"], "label")
    places, class_names = encode_labels(
        np.array(values, dtype=object if isinstance(values[0], str) else None), len(values), str(path)
    )
    for name in ("path", "id"):
        if name in table.column_names:
            _check_filled(path, table[name], name)
    paths = Paths(path.parent, table["path"])
    size, channels = _look(path, paths, boxes, opening)
    ids = Strings(table["id" if "id" in table.column_names else "path"])
    if boxes is not None and "id" not in table.column_names:
        raise DataError(f"{path}: {n:,} rows with boxes need a column 'id', one name a row.")
    return Source(
        FileStore(paths, boxes, size, channels, opening.resize),
        rows=np.arange(n),
        ids=ids,
        labels=places[codes],
        class_names=class_names,
        columns=columns,
        name=str(path),
    )


def _check_filled(path: Path, column: pa.ChunkedArray, name: str) -> None:
    if column.null_count or pc.min(pc.binary_length(column)).as_py() == 0:
        empty = pc.fill_null(pc.equal(pc.binary_length(column), 0), True)
        raise DataError(
            f"{path}: row {pc.index(empty, True).as_py() + 1} has no value in the column {name!r}."
        )


def _look(
    path: Path, paths: Paths, boxes: np.ndarray | None, opening: Opening
) -> tuple[tuple[int, int], int]:
    """Size and channels by a sample of the files."""
    headers, bad = [], []
    for row in np.unique(np.linspace(0, len(paths) - 1, SAMPLED).astype(np.int64)).tolist():
        try:
            headers.append(images.probe(paths[row], None if boxes is None else tuple(boxes[row].tolist())))
        except ItemError as error:
            if opening.bad_items == "error":
                raise
            bad.append((error.item, error.reason))
    if not headers:
        raise DataError(
            f"{path}: none of {len(bad)} pictures looked at can be read; the first is {bad[0][0]}: {bad[0][1]}."
        )
    warn_skipped(bad, f"{path} (of {len(headers) + len(bad):,} pictures looked at)")
    size = opening.size or common_size([(one.height, one.width) for one in headers])
    grey = all(one.grey for one in headers)
    return size, (1 if grey else 3) if opening.channels == "auto" else opening.channels
