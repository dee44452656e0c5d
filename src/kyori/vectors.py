"""Vectors with their ids, labels and columns: what an embedder hands to everything that comes after it."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from .errors import ArgumentError, DataError, FileFormatError
from .files import write_atomic

if TYPE_CHECKING:
    import pyarrow

__all__ = ["VectorTable"]

_RESERVED = ("id", "label", "vector")  # the columns of the Parquet file that are not in `columns`
_METADATA = b"kyori"


class VectorTable:
    """``n`` vectors of ``d`` numbers with unique ids and, where known, labels and further columns.

    The arrays are taken over without a copy where they already have the right form; treat a table as a value
    and do not change them.

    Args:
        ids: ``(n,)`` unique integers or strings; ``0 … n−1`` when left out.
        vectors: ``(n, d)`` finite numbers, array or tensor; kept as float32.
        labels: ``(n,)`` integers or strings, or None where nothing is known.
        columns: Further ``(n,)`` arrays of bools, numbers or strings by name, e.g. ``{"split": ...}``.
        class_names: Names of the classes; integer labels are then positions in it, string labels members.

    Attributes:
        ids: ``(n,)`` int64 or string array.
        vectors: ``(n, d)`` float32, C-contiguous.
        labels: ``(n,)`` int64, or None.
        class_names: Tuple of strings, or None when the labels came as bare integers.
        columns: Dictionary of ``(n,)`` arrays.

    Raises:
        ArgumentError: An array has the wrong shape or type.
        DataError: A vector is not finite, an id occurs twice, or a label is not in ``class_names``.

    >>> table = VectorTable(vectors=[[0.0, 1.0], [1.0, 0.0]], labels=["cat", "dog"])
    >>> table
    VectorTable(2 vectors of 2 numbers, 2 classes)
    >>> table.ids, table.labels, table.class_names
    (array([0, 1]), array([0, 1]), ('cat', 'dog'))
    """

    def __init__(
        self,
        ids: ArrayLike | None = None,
        vectors: ArrayLike | torch.Tensor | None = None,
        labels: ArrayLike | torch.Tensor | None = None,
        columns: Mapping[str, ArrayLike] | None = None,
        class_names: Sequence[str] | None = None,
    ):
        if vectors is None:
            raise ArgumentError("vectors must be an array of shape (n, d); got None. Pass vectors=...")
        self.vectors = _float_rows(vectors)
        n = len(self.vectors)
        self.ids = np.arange(n) if ids is None else _integers_or_strings("ids", ids, n)
        _require_unique(self.ids)
        self.labels: NDArray[np.int64] | None = None
        self.class_names: tuple[str, ...] | None = None if class_names is None else _names(class_names)
        if labels is not None:
            values = _integers_or_strings("labels", labels, n)
            self.labels, self.class_names = _encode(values, self.class_names)
        self.columns = {name: _column(name, values, n) for name, values in (columns or {}).items()}

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        n, d = self.vectors.shape
        classes = "no labels" if self.labels is None else f"{len(np.unique(self.labels))} classes"
        columns = f", columns {', '.join(self.columns)}" if self.columns else ""
        return f"VectorTable({n} vectors of {d} numbers, {classes}{columns})"

    def take(self, indices: ArrayLike) -> "VectorTable":
        """Return the rows at ``indices`` (positions or a boolean mask), with the same class names.

        >>> VectorTable(vectors=[[0.0], [1.0], [2.0]]).take([2, 0]).ids
        array([2, 0])
        """
        rows = np.asarray(indices)
        if rows.size == 0:
            rows = rows.astype(np.int64)  # an empty list is an array of floats
        return VectorTable(
            ids=self.ids[rows],
            vectors=self.vectors[rows],
            labels=None if self.labels is None else self.labels[rows],
            columns={name: values[rows] for name, values in self.columns.items()},
            class_names=self.class_names,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a Parquet file, atomically.

        Columns: ``id``, ``label`` (the class name where there is one), ``vector`` as
        ``fixed_size_list<float>[d]``, then ``columns``. Polars, DuckDB, pandas and Hugging Face datasets open
        it as it is. The order of the classes stands in the schema metadata under ``kyori``.
        """
        from pyarrow import parquet

        table = self._to_arrow()
        plain = [name for name in table.column_names if name != "vector"]
        write_atomic(
            path,
            # Floats do not repeat, so a dictionary of them only costs time; the checksums find flipped bits.
            lambda file: parquet.write_table(table, file, use_dictionary=plain, write_page_checksum=True),
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "VectorTable":
        """Read a Parquet file that :meth:`save` wrote, or any with a list column ``vector``.

        Raises:
            FileNotFoundError: There is no such file.
            FileFormatError: It is damaged, is not Parquet, or its columns do not make a table.
        """
        import pyarrow
        from pyarrow import parquet

        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not a file; expected a Parquet file of vectors.")
        try:
            table = parquet.ParquetFile(path, page_checksum_verification=True).read()
            return cls._from_arrow(table)
        except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
            raise FileFormatError(f"{path} is damaged or is not a table of vectors: {error}") from error

    def _to_arrow(self) -> "pyarrow.Table":
        import pyarrow

        n, d = self.vectors.shape
        arrays: dict[str, Any] = {"id": pyarrow.array(self.ids)}
        if self.labels is not None:
            named = self.labels if self.class_names is None else np.array(self.class_names)[self.labels]
            arrays["label"] = pyarrow.array(named)
        flat = pyarrow.array(self.vectors.reshape(n * d))
        arrays["vector"] = pyarrow.FixedSizeListArray.from_arrays(flat, d)
        arrays |= {name: pyarrow.array(values) for name, values in self.columns.items()}
        metadata = json.dumps({"version": 1, "class_names": self.class_names})
        return pyarrow.table(arrays).replace_schema_metadata({_METADATA: metadata.encode()})

    @classmethod
    def _from_arrow(cls, table: "pyarrow.Table") -> "VectorTable":
        if "vector" not in table.column_names:
            raise DataError(f"expected a column 'vector', got {', '.join(table.column_names) or 'none'}.")
        metadata = json.loads((table.schema.metadata or {}).get(_METADATA, b"{}"))
        plain = {name: _from_column(table, name) for name in table.column_names if name != "vector"}
        return cls(
            ids=plain.pop("id", None),
            vectors=_from_vector_column(table["vector"]),
            labels=plain.pop("label", None),
            columns=plain,
            class_names=metadata.get("class_names"),
        )


def _float_rows(vectors: ArrayLike | torch.Tensor) -> NDArray[np.float32]:
    if isinstance(vectors, torch.Tensor):
        vectors = vectors.detach().to(device="cpu", dtype=torch.float32).numpy()
    values = np.asarray(vectors)
    if values.ndim != 2 or values.shape[1] == 0:
        raise ArgumentError(f"vectors must have shape (n, d) with d ≥ 1; got {values.shape}.")
    if values.dtype.kind not in "biuf":
        raise ArgumentError(f"vectors must be real numbers; got an array of {values.dtype}.")
    with np.errstate(over="ignore"):  # what overflows is found, and said, below
        rows = np.require(values, np.float32, ["C", "W"])  # writable, or torch complains about each use
    if not np.isfinite(rows).all():  # where they stand is asked only if there are any
        finite = np.isfinite(rows).all(axis=1)
        row = int(np.argmin(finite))
        raise DataError(
            f"vectors must be finite float32 numbers; row {row} holds {rows[row][~np.isfinite(rows[row])][0]}"
            f" ({int((~finite).sum())} of {len(rows)} rows are not finite). Drop those rows or find out why"
            " the model produced them."
        )
    return rows


def _integers_or_strings(argument: str, values: ArrayLike | torch.Tensor, n: int) -> NDArray[Any]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.shape != (n,):
        raise ArgumentError(f"{argument} must have shape ({n},), one per vector; got {array.shape}.")
    if array.dtype.kind in "biu":
        return array.astype(np.int64)
    # NumPy turns a list that mixes numbers and strings into strings without a word, so look at the items.
    if n == 0 or all(isinstance(value, str) for value in np.asarray(values, dtype=object)):
        return array.astype(np.str_)
    raise ArgumentError(f"{argument} must be integers or strings; got an array of {array.dtype}.")


def _require_unique(ids: NDArray[Any]) -> None:
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        repeated = unique[counts > 1]
        raise DataError(
            f"ids must be unique; {repeated[:1].tolist()[0]!r} occurs {counts[counts > 1][0]} times"
            f" ({len(repeated)} ids occur more than once)."
        )


def _names(class_names: Sequence[str]) -> tuple[str, ...]:
    names = tuple(str(name) for name in class_names)
    if len(set(names)) < len(names):
        raise ArgumentError("class_names must be unique.")
    return names


def _encode(
    labels: NDArray[Any], class_names: tuple[str, ...] | None
) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    """Turn labels into codes: positions in ``class_names``, or bare integers where there are no names."""
    if labels.dtype.kind == "i":
        known = None if class_names is None else len(class_names)
        if known is not None and len(labels) and not 0 <= labels.min() <= labels.max() < known:
            raise DataError(
                f"labels must lie in 0 … {known - 1}, positions in class_names;"
                f" got {labels.min()} … {labels.max()}."
            )
        return labels, class_names
    present, codes = np.unique(labels, return_inverse=True)
    if class_names is None:
        return codes.astype(np.int64), tuple(present.tolist())
    position = {name: i for i, name in enumerate(class_names)}
    unknown = [name for name in present.tolist() if name not in position]
    if unknown:
        raise DataError(
            f"labels must be members of class_names; {unknown[0]!r} is not among the {len(position)} names."
        )
    return np.array([position[name] for name in present.tolist()], np.int64)[codes], class_names


def _column(name: str, values: ArrayLike, n: int) -> NDArray[Any]:
    if name in _RESERVED:
        raise ArgumentError(f"columns must not be called {', '.join(_RESERVED)}; got {name!r}. Rename it.")
    array = np.asarray(values)
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array):
        array = array.astype(np.str_)
    if array.shape != (n,) or array.dtype.kind not in "biufU":
        raise ArgumentError(
            f"column {name!r} must be {n} bools, numbers or strings, one per vector; got an array of"
            f" {array.dtype} with shape {array.shape}."
        )
    return array


def _from_column(table: "pyarrow.Table", name: str) -> NDArray[Any]:
    column = table[name]
    if column.null_count:
        raise DataError(f"column {name!r} has {column.null_count} empty cells, expected none.")
    return column.to_numpy()


def _from_vector_column(column: "pyarrow.ChunkedArray") -> NDArray[Any]:
    if column.null_count or not hasattr(column.type, "value_type"):
        raise DataError(f"column 'vector' must hold a list of numbers in each row, got {column.type}.")
    flat = np.concatenate([np.zeros(0, np.float32), *(chunk.flatten() for chunk in column.chunks)])
    size = getattr(column.type, "list_size", None)
    if size is None:  # a type of list whose length may vary
        import pyarrow.compute

        lengths = set(pyarrow.compute.list_value_length(column).to_pylist())
        if len(lengths) != 1:
            raise DataError(f"column 'vector' must hold lists of one length, got {sorted(lengths)[:5]}.")
        size = lengths.pop()
    return flat.reshape(len(column), size)
