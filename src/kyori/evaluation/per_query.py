"""Per-query values streamed to a Parquet file, block after block, so that they need not fit into memory."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ..vectors import VectorTable

if TYPE_CHECKING:
    from pyarrow import parquet

__all__ = ["PerQueryFile"]


class PerQueryFile:
    """A Parquet file with one row a query: id, label, positives and every retrieval measure (null where skipped).

    A context manager; the file has its name only when everything was written.

    Args:
        path: The file.
        table: The queries, for their ids and labels.
    """

    def __init__(self, path: str | os.PathLike[str], table: VectorTable):
        self._path = Path(path)
        self._temporary = self._path.with_name(f".{self._path.name}.{secrets.token_hex(6)}.tmp")
        self._table = table
        self._writer: parquet.ParquetWriter | None = None

    def __enter__(self) -> "PerQueryFile":
        return self

    def write(self, rows: slice, values: Mapping[str, NDArray[Any]]) -> None:
        """Append the values ``(b,)`` of the queries at ``rows``."""
        import pyarrow
        from pyarrow import parquet

        columns: dict[str, Any] = {"id": pyarrow.array(self._table.ids[rows])}
        if self._table.labels is not None:
            labels = self._table.labels[rows]
            names = self._table.class_names
            columns["label"] = pyarrow.array(labels if names is None else [names[code] for code in labels])
        columns |= {name: pyarrow.array(array, from_pandas=True) for name, array in values.items()}
        block = pyarrow.table(columns)
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._temporary, block.schema, write_page_checksum=True)
        self._writer.write_table(block)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
            if kind is None:
                os.replace(self._temporary, self._path)
        self._temporary.unlink(missing_ok=True)
