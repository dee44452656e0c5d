"""What is explored: items with vectors, and whatever is known of them; and how a command's arguments become that."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Source, open_source
from ..errors import ArgumentError, DataError, FileFormatError, KyoriError
from ..runs import open_data, open_part, open_run, open_table, table_of
from ..vectors import VectorTable
from .looks import Looks

__all__ = ["Scene", "open_scene", "open_vectors"]


@dataclass(frozen=True, eq=False)
class Scene:
    """Items to be explored.

    Attributes:
        table: Their vectors, ids, labels and columns; at least one item.
        looks: What each looks like.
        name: What they are, for the title.
        note: Why there are no pictures, or not of all items; empty where there is nothing to say.
    """

    table: VectorTable
    looks: Looks
    name: str
    note: str = ""


def open_scene(run: Path, data: str | None = None, part: str = "auto") -> Scene:
    """Open what ``kyori explore RUN [DATA]`` names.

    Args:
        run: A run folder, or vectors that ``kyori embed`` wrote (``.parquet`` or ``.npz``).
        data: With a run folder the items to encode, in place of the run's own test vectors; with a file of vectors
            the data that its ids belong to, for the pictures.
        part: ``"train"``, ``"validation"``, ``"test"``, ``"all"`` or ``"auto"`` of ``data``.

    Raises:
        KyoriError: Nothing of that kind is there, or it holds no items.
    """
    if run.is_dir():
        table, source, note = _of_run(run, data, part)
        name = f"{run.name} · {data}" if data is not None else run.name
    else:
        table, name = open_vectors(run), run.name
        source, note = None, ""
        if data is not None:
            source = open_source(
                data, verify=False, memory_limit=0
            )  # pictures are decoded as they are looked at
    if len(table) == 0:
        raise DataError(f"{run} holds no items to explore.")
    looks = Looks(table, source)
    if source is not None and looks.known == 0:
        raise DataError(
            f"none of the {len(table):,} ids of {run} is one of {source.name}; the first of each are"
            f" {table.ids[:1].tolist()[0]!r} and {source.ids[:1].tolist()[0]!r}."
        )
    if source is not None and looks.known < len(table):
        missing = len(table) - looks.known
        note = f"{missing:,} of {len(table):,} items are not in {source.name}: their vectors are shown."
    return Scene(table, looks, name, note)


def _of_run(run: Path, data: str | None, part: str) -> tuple[VectorTable, Source | None, str]:
    if data is not None:
        opened, source, taken = open_part(run, data, part)
        kept = opened.table
        if part == "auto" and taken == "test" and kept is not None and np.array_equal(kept.ids, source.ids):
            return kept, source, ""  # the run's own test items: it has encoded them already
        return table_of(opened.embedder, source), source, ""
    opened = open_run(run)
    if opened.table is None:
        raise ArgumentError(
            f"{run} kept no test vectors; give the items to explore: kyori explore {run} DATA"
        )
    try:
        source = open_data(_trained_on(run), opened.config, late=True)
        if not Looks(opened.table, source).known:
            raise DataError(f"{source.name} has none of its test items")
    except (KyoriError, OSError) as error:
        return opened.table, None, f"no pictures, as the data of {run.name} cannot be opened again: {error}"
    return opened.table, source, ""


def _trained_on(run: Path) -> str:
    """Return how the data that a run was trained on were named."""
    try:
        return str(json.loads((run / "data.json").read_text(encoding="utf-8"))["name"])
    except (ValueError, KeyError, TypeError) as error:
        raise FileFormatError(f"{run / 'data.json'} is damaged: {error!r}") from error


def open_vectors(path: Path) -> VectorTable:
    """Open a file of vectors: Parquet, or the ``.npz`` of ``kyori embed --format numpy``.

    Raises:
        FileNotFoundError: There is no such file.
        FileFormatError: It is damaged, or something else.
        DataError: A vector is not finite, or an id occurs twice.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; expected a run folder or a file of vectors.")
    if path.suffix.lower() != ".npz":
        return open_table(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, Any] = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"{path} is damaged or is not an .npz file of arrays: {error}") from error
    if "vectors" not in arrays:
        raise FileFormatError(
            f"{path} must hold an array 'vectors', as kyori embed --format numpy writes it; got"
            f" {', '.join(arrays) or 'none'}."
        )
    names = arrays.get("class_names")
    return VectorTable(
        ids=arrays.get("ids"),
        vectors=arrays["vectors"],
        labels=arrays.get("labels"),
        class_names=None if names is None else names.tolist(),
        columns={
            name.removeprefix("column_"): values
            for name, values in arrays.items()
            if name.startswith("column_")
        },
    )
