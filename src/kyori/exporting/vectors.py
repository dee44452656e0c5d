"""Vectors in the formats of other tools."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import parquet

from ..errors import ArgumentError
from ..files import write_atomic
from ..neighbors import nearest
from ..report.projection import project
from ..vectors import VectorTable

__all__ = ["VECTOR_FORMATS", "VectorFormat", "write_vectors"]

VectorFormat = Literal["parquet", "numpy", "projector", "atlas"]
_NEIGHBOURS = 15
_DRAWN = 20_000  # points that t-SNE lays out; more are drawn by PCA


def write_vectors(table: VectorTable, path: str | os.PathLike[str], format: VectorFormat = "parquet") -> None:
    """Write vectors for another tool.

    | format | what is written | who opens it |
    |---|---|---|
    | ``parquet`` | a file: id, label, vector, columns | Polars, DuckDB, pandas, `VectorTable.load` |
    | ``numpy`` | an ``.npz``: ids, vectors, labels, class_names, columns; nothing pickled | ``numpy.load`` |
    | ``projector`` | a folder: vectors.tsv, metadata.tsv, projector_config.pbtxt | TensorBoard's projector |
    | ``atlas`` | a Parquet file with x, y and neighbors | ``embedding-atlas FILE --x x --y y --neighbors neighbors`` |

    Args:
        table: The vectors.
        path: The file, or for ``projector`` the folder.
        format: As above.

    Raises:
        ArgumentError: The format is unknown, or the path is of the wrong kind.

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> write_vectors(VectorTable(vectors=[[0.0, 1.0]], labels=["cat"]), folder, "projector")
    >>> (folder / "vectors.tsv").read_text(), (folder / "metadata.tsv").read_text()
    ('0.0\\t1.0\\n', 'id\\tlabel\\n0\\tcat\\n')
    """
    path = Path(path)
    if format not in VECTOR_FORMATS:
        raise ArgumentError(f"format must be one of {', '.join(VECTOR_FORMATS)}; got {format!r}.")
    if format == "projector" and path.exists() and not path.is_dir():
        raise ArgumentError(f"{path} is a file; the format projector writes a folder.")
    if format != "projector" and path.is_dir():
        raise ArgumentError(f"{path} is a folder; the format {format} writes a file.")
    VECTOR_FORMATS[format](table, path)


def _parquet(table: VectorTable, path: Path) -> None:
    table.save(path)


def _numpy(table: VectorTable, path: Path) -> None:
    arrays: dict[str, NDArray[Any]] = {"ids": table.ids, "vectors": table.vectors}
    if table.labels is not None:
        arrays["labels"] = table.labels
    if table.class_names is not None:
        arrays["class_names"] = np.array(table.class_names, dtype=np.str_)
    for name, values in table.columns.items():
        arrays[f"column_{name}"] = values.astype(np.str_) if values.dtype == object else values
    write_atomic(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def _projector(table: VectorTable, path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    rows = ("\t".join(map(str, row)) for row in table.vectors.tolist())
    _write_lines(path / "vectors.tsv", rows)
    columns = {"id": table.ids.tolist(), **_named_labels(table)}
    columns |= {name: values.tolist() for name, values in table.columns.items()}
    lines = ["\t".join(_plain(value) for value in row) for row in zip(*columns.values(), strict=True)]
    # TensorBoard takes the first line of a single column for an item, not for its name.
    header = ["\t".join(map(_plain, columns))] if len(columns) > 1 else []
    _write_lines(path / "metadata.tsv", header + lines)
    config = 'embeddings {\n  tensor_path: "vectors.tsv"\n  metadata_path: "metadata.tsv"\n}'
    _write_lines(path / "projector_config.pbtxt", [config])


def _atlas(table: VectorTable, path: Path) -> None:
    if len(table) == 0:
        raise ArgumentError("the format atlas needs at least one vector; got none.")
    method: Literal["tsne", "pca"] = "tsne" if len(table) <= _DRAWN else "pca"
    points = project(table.vectors, method=method, max_items=len(table)).points
    found = nearest(table.vectors, table.vectors, min(_NEIGHBOURS, max(1, len(table) - 1)), exclude_self=True)
    neighbours = [
        {"ids": ids, "distances": distances} if ids[0] >= 0 else {"ids": [], "distances": []}
        for ids, distances in zip(found.ids.tolist(), found.distances.tolist(), strict=True)
    ]
    kind = pyarrow.struct(
        [("ids", pyarrow.list_(pyarrow.int64())), ("distances", pyarrow.list_(pyarrow.float32()))]
    )
    size = table.vectors.shape[1]
    taken = {"id", "label", "vector", "x", "y", "neighbors"}
    columns: dict[str, Any] = {
        "id": pyarrow.array(table.ids),
        **{name: pyarrow.array(values) for name, values in _named_labels(table).items()},
        "x": pyarrow.array(points[:, 0]),
        "y": pyarrow.array(points[:, 1]),
        "neighbors": pyarrow.array(neighbours, kind),
        "vector": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(table.vectors.ravel()), size),
    }
    clash = taken & set(table.columns)
    if clash:
        raise ArgumentError(
            f"the format atlas writes the column {min(clash)!r} itself; rename that of the table."
        )
    columns |= {name: pyarrow.array(values) for name, values in table.columns.items()}
    written = pyarrow.table(columns)
    write_atomic(path, lambda file: parquet.write_table(written, file))


def _named_labels(table: VectorTable) -> dict[str, list[Any]]:
    if table.labels is None:
        return {}
    labels = table.labels.tolist()
    return {"label": [table.class_names[label] for label in labels] if table.class_names else labels}


def _plain(value: Any) -> str:
    """Return a value as one cell of a table without quotes: what would end the cell becomes a space."""
    return " ".join(str(value).split("\t")).replace("\r", " ").replace("\n", " ")


def _write_lines(path: Path, lines: Any) -> None:
    text = "".join(f"{line}\n" for line in lines)
    write_atomic(path, lambda file: file.write(text.encode()))


#: What writes each format.
VECTOR_FORMATS: dict[str, Callable[[VectorTable, Path], None]] = {
    "parquet": _parquet,
    "numpy": _numpy,
    "projector": _projector,
    "atlas": _atlas,
}
