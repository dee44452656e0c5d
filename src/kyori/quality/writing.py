"""Tables of findings on disk: CSV for spreadsheets, Parquet for everything else."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..errors import ArgumentError
from ..files import write_atomic

__all__ = ["check_table_path", "write_columns"]


def check_table_path(path: str | os.PathLike[str]) -> None:
    """Raise `ArgumentError` where the name does not say which kind of table is meant."""
    if Path(path).suffix not in (".csv", ".parquet"):
        raise ArgumentError(
            f"a table is written as .csv or .parquet; got {os.fspath(path)!r}. Name the file so."
        )


def write_columns(columns: Mapping[str, NDArray[Any] | list[Any]], path: str | os.PathLike[str]) -> None:
    """Write columns of ``n`` values each to a ``.csv`` or ``.parquet`` file, atomically.

    A column may be a list of n lists: lists in Parquet, JSON in CSV.

    Raises:
        ArgumentError: The name ends in something else.

    >>> import numpy as np, tempfile, pathlib
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "found.csv"
    >>> write_columns({"id": np.array(["a", "b"]), "score": np.array([0.5, 1.0])}, target)
    >>> print(target.read_text(), end="")
    "id","score"
    "a",0.5
    "b",1
    """
    import pyarrow
    from pyarrow import csv, parquet

    check_table_path(path)
    plain = Path(path).suffix == ".csv"
    if plain:
        columns = {
            name: [json.dumps(value, ensure_ascii=False) for value in values]
            if isinstance(values, list)
            else values
            for name, values in columns.items()
        }
    table = pyarrow.table({name: pyarrow.array(values) for name, values in columns.items()})
    write = csv.write_csv if plain else parquet.write_table
    write_atomic(path, lambda file: write(table, file))
